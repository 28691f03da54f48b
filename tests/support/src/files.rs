use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pullpass_emulator::RsaSigner;
use serde_json::json;

use crate::error::Error;
use crate::kubeconfig::{self, Credential};
use crate::loopback;
use crate::pki::{Authority, Identity};
use crate::wait::free_port;

/// The addresses of Services, and the API server's own among them: the first.
const SERVICES: (&str, &str) = ("10.0.0.0/24", "10.0.0.1");
/// The same in a network without IPv4.
const IPV6_SERVICES: (&str, &str) = ("fd00:10:96::/108", "fd00:10:96::1");

/// Signs service account tokens: with RSA, since Entra ID trusts no other issuer.
const ACCOUNT_KEY: RsaSigner = RsaSigner::SECOND;

/// What turns workloads into Pods, cleans up after them, keeps the promises that Pods and RBAC rely
/// on, and computes disruption budgets. There are no nodes, so nothing that cares for those.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,cronjob-controller,daemonset-controller,\
deployment-controller,disruption-controller,garbage-collector-controller,job-controller,\
namespace-controller,replicaset-controller,replicationcontroller-controller,resourcequota-controller,\
root-ca-certificate-publisher-controller,serviceaccount-controller,serviceaccount-token-controller,\
statefulset-controller,validatingadmissionpolicy-status-controller";

/// The files that the processes are given, and the command lines that name them.
pub(crate) struct Files<'a> {
    directory: &'a Path,
    pub(crate) authority: Authority,
    authority_file: PathBuf,
    server_certificate: PathBuf,
    server_key: PathBuf,
    account_private_key: PathBuf,
    account_public_key: PathBuf,
    audit_policy: PathBuf,
}

impl<'a> Files<'a> {
    pub(crate) fn write(directory: &'a Path) -> Result<Self, Error> {
        let authority = Authority::new()?;
        let address = loopback::address().to_string();
        let hosts = [
            address.as_str(),
            "localhost",
            services().1,
            "kubernetes.default.svc",
        ];
        let server: Identity = authority.server(&hosts)?;
        // Pods, for the annotations that webhooks leave in the audit log; Secrets, for who reads them; and who asks for tokens.
        let audit_policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                {
                    "level": "Metadata",
                    "verbs": ["create", "update", "patch", "delete"],
                    "resources": [{"group": "", "resources": ["pods", "pods/ephemeralcontainers", "pods/eviction"]}],
                },
                {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
                {
                    "level": "Metadata",
                    "verbs": ["create"],
                    "resources": [{"group": "", "resources": ["serviceaccounts/token"]}],
                },
                {"level": "None"},
            ],
        });
        let file = |name: &str, content: &str| write(&directory.join(name), content);
        Ok(Self {
            directory,
            authority_file: file("ca.crt", authority.pem())?,
            server_certificate: file("kube-apiserver.crt", &server.certificate)?,
            server_key: file("kube-apiserver.key", &server.key)?,
            account_private_key: file("service-accounts.key", ACCOUNT_KEY.pem())?,
            account_public_key: file("service-accounts.pub", &ACCOUNT_KEY.public_pem()?)?,
            audit_policy: file("audit-policy.json", &audit_policy.to_string())?,
            authority,
        })
    }

    pub(crate) fn etcd(&self, binary: PathBuf, client_url: &str) -> Result<Command, Error> {
        let peer_url = format!("http://{}", loopback::at(free_port()?));
        let mut command = Command::new(binary);
        command.arg("--name=test");
        flag(&mut command, "data-dir", etcd_directory(self.directory));
        flag(&mut command, "listen-client-urls", client_url);
        flag(&mut command, "advertise-client-urls", client_url);
        flag(&mut command, "listen-peer-urls", &peer_url);
        flag(&mut command, "initial-advertise-peer-urls", &peer_url);
        flag(&mut command, "initial-cluster", format!("test={peer_url}"));
        // Nothing here is worth surviving a power cut, and there are no peers to wait for in an election.
        command.args([
            "--unsafe-no-fsync",
            "--heartbeat-interval=20",
            "--election-timeout=200",
        ]);
        command.args(["--logger=zap", "--log-level=warn"]);
        Ok(command)
    }

    pub(crate) fn api_server(&self, binary: PathBuf, port: u16, etcd_url: &str) -> Command {
        let mut command = Command::new(binary);
        let address = loopback::address().to_string();
        flag(&mut command, "bind-address", &address);
        flag(&mut command, "advertise-address", &address);
        // It would publish the address above as an endpoint, which may not be a loopback address.
        command.arg("--endpoint-reconciler-type=none");
        flag(&mut command, "secure-port", port.to_string());
        flag(&mut command, "cert-dir", self.directory.join("kube-apiserver"));
        flag(&mut command, "tls-cert-file", &self.server_certificate);
        flag(&mut command, "tls-private-key-file", &self.server_key);
        flag(&mut command, "client-ca-file", &self.authority_file);
        flag(&mut command, "etcd-servers", etcd_url);
        flag(&mut command, "service-cluster-ip-range", services().0);
        flag(&mut command, "service-account-key-file", &self.account_public_key);
        flag(
            &mut command,
            "service-account-signing-key-file",
            &self.account_private_key,
        );
        command.arg("--service-account-issuer=https://kubernetes.default.svc");
        command.args([
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--allow-privileged=true",
        ]);
        flag(&mut command, "audit-policy-file", &self.audit_policy);
        flag(&mut command, "audit-log-path", audit_log(self.directory));
        // A test that has its answer may look for the event immediately.
        command.args(["--audit-log-mode=blocking"]);
        command
    }

    pub(crate) fn controller_manager(&self, binary: PathBuf, port: u16) -> Result<Command, Error> {
        const USER: &str = "system:kube-controller-manager";
        let identity = self.authority.client(USER, None)?;
        let kubeconfig = self.kubeconfig("kube-controller-manager.kubeconfig", port, USER, &identity)?;
        let mut command = Command::new(binary);
        flag(&mut command, "kubeconfig", kubeconfig);
        flag(&mut command, "root-ca-file", &self.authority_file);
        flag(
            &mut command,
            "service-account-private-key-file",
            &self.account_private_key,
        );
        flag(&mut command, "controllers", CONTROLLERS);
        // Pods then come from the same users as in a real cluster.
        command.arg("--use-service-account-credentials=true");
        command.args(["--leader-elect=false", "--secure-port=0"]);
        // The default is 20 requests a second, which tests that make many objects would wait for.
        command.args(["--kube-api-qps=1000", "--kube-api-burst=1000"]);
        Ok(command)
    }

    /// The kubeconfig of a cluster administrator, and who that is.
    pub(crate) fn admin(&self, port: u16) -> Result<(PathBuf, Identity), Error> {
        const USER: &str = "admin";
        let identity = self.authority.client(USER, Some("system:masters"))?;
        let kubeconfig = self.kubeconfig("admin.kubeconfig", port, USER, &identity)?;
        Ok((kubeconfig, identity))
    }

    fn kubeconfig(&self, name: &str, port: u16, user: &str, identity: &Identity) -> Result<PathBuf, Error> {
        let credential = Credential::Certificate(identity);
        let content = kubeconfig::render(&url(port), self.authority.pem(), user, &credential);
        write(&self.directory.join(name), &content)
    }
}

/// The range of the addresses of Services, and the API server's own.
fn services() -> (&'static str, &'static str) {
    if loopback::address().is_ipv4() {
        SERVICES
    } else {
        IPV6_SERVICES
    }
}

fn flag(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(value);
    command.arg(argument);
}

pub(crate) fn url(port: u16) -> String {
    format!("https://{}", loopback::at(port))
}

pub(crate) fn audit_log(directory: &Path) -> PathBuf {
    directory.join("audit.log")
}

pub(crate) fn etcd_directory(directory: &Path) -> PathBuf {
    directory.join("etcd")
}

pub(crate) fn write(path: &Path, content: &str) -> Result<PathBuf, Error> {
    fs::write(path, content).map_err(Error::io(format!("writing {}", path.display())))?;
    Ok(path.to_path_buf())
}
