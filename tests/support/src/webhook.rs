use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;
use crate::files::write;
use crate::http;
use crate::loopback;
use crate::mounted_secret::MountedSecret;
use crate::pki::{Authority, Identity};
use crate::pod_network::PodNetwork;
use crate::process::Supervised;
use crate::scratch::Scratch;
use crate::wait::{free_port, wait_for};

/// Generous, since it only bounds how long a broken start takes to be noticed.
pub(crate) const READY: Duration = Duration::from_mins(2);
/// What a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where pullpass has its objects from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// From files with these manifests.
    Manifests(&'a [String]),
    /// From the cluster of this kubeconfig.
    Cluster(&'a Path),
    /// The same, and it manages its certificate itself.
    ClusterWithCertificate(&'a Path),
    /// The same, in a Pod's network.
    Pod(&'a Path, &'a PodNetwork),
}

/// The shipped ports.
const POD_PORTS: (u16, u16) = (8443, 8080);

/// `pullpass serve` as a process on loopback or in a Pod's network, with a certificate authority of its own.
#[derive(Debug)]
pub struct Webhook {
    // In the order in which they are to be dropped.
    process: Supervised,
    scratch: Scratch,
    authority: Authority,
    certificate: MountedSecret,
    host: String,
    address: SocketAddr,
    metrics_address: SocketAddr,
}

/// Has a process read its objects from there, and nothing else of the environment that these tests run in.
fn give_source(command: &mut Command, source: &Source<'_>, scratch: &Scratch) -> Result<(), Error> {
    // A setting of the shell is not meant for this process.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("PULLPASS_") || name.starts_with("AZURE_") {
            command.env_remove(variable);
        }
    }
    match source {
        Source::Manifests(manifests) => {
            let directory = manifests_in(scratch);
            fs::create_dir(&directory).map_err(Error::io(format!("making {}", directory.display())))?;
            for (index, manifest) in manifests.iter().enumerate() {
                write(&directory.join(format!("{index}.yaml")), manifest)?;
            }
            command.arg("--manifests").arg(directory);
        }
        Source::Cluster(kubeconfig)
        | Source::ClusterWithCertificate(kubeconfig)
        | Source::Pod(kubeconfig, _) => {
            command.env("KUBECONFIG", kubeconfig);
            for variable in [
                "HTTPS_PROXY",
                "https_proxy",
                "HTTP_PROXY",
                "http_proxy",
                "ALL_PROXY",
                "all_proxy",
            ] {
                command.env_remove(variable);
            }
        }
    }
    Ok(())
}

impl Webhook {
    /// Starts `binary` with these flags more, for a namespace of its own and with these manifests, and waits until it
    /// is ready.
    pub fn start(
        binary: &Path,
        own_namespace: &str,
        manifests: &[String],
        flags: &[OsString],
    ) -> Result<Self, Error> {
        Self::serve(binary, own_namespace, Source::Manifests(manifests), flags, &[])
    }

    /// Starts `binary` with these flags more as a replica in the cluster of this kubeconfig, without a certificate: it
    /// manages one itself. Waits until it is ready.
    pub fn start_in_cluster(
        binary: &Path,
        own_namespace: &str,
        kubeconfig: &Path,
        flags: &[OsString],
    ) -> Result<Self, Error> {
        let source = Source::ClusterWithCertificate(kubeconfig);
        Self::serve(binary, own_namespace, source, flags, &[])
    }

    /// The same in a Pod's network, where it listens everywhere and on the ports that are shipped.
    pub fn start_in_pod(
        binary: &Path,
        own_namespace: &str,
        kubeconfig: &Path,
        flags: &[OsString],
        network: &PodNetwork,
    ) -> Result<Self, Error> {
        let source = Source::Pod(kubeconfig, network);
        Self::serve(binary, own_namespace, source, flags, &[])
    }

    pub(crate) fn serve(
        binary: &Path,
        own_namespace: &str,
        source: Source<'_>,
        flags: &[OsString],
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let authority = Authority::new()?;
        let host = format!("pullpass.{own_namespace}.svc");
        let serving = authority.server(&[&host, "localhost"])?;
        let certificate = MountedSecret::new(
            scratch.path().join("tls"),
            &[(CERTIFICATE, &serving.certificate), (KEY, &serving.key)],
        )?;
        let (reached, listens, port, metrics_port, mut command) = match source {
            Source::Pod(_, network) => {
                let (port, metrics_port) = POD_PORTS;
                let command = network.command(binary);
                (
                    network.node_address().into(),
                    Ipv4Addr::UNSPECIFIED.into(),
                    port,
                    metrics_port,
                    command,
                )
            }
            _ => {
                let local = loopback::address();
                // Without IPv4 nothing else listens: it is on the hosts that are shipped.
                let listens = match local {
                    IpAddr::V4(_) => local,
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                (local, listens, free_port()?, free_port()?, Command::new(binary))
            }
        };
        command.args(["serve", "--reload-interval=0.1"]);
        if !flags
            .iter()
            .any(|flag| flag.to_string_lossy().starts_with("--shutdown-delay="))
        {
            command.arg("--shutdown-delay=0");
        }
        command.arg("--own-namespace").arg(own_namespace);
        if !matches!(source, Source::ClusterWithCertificate(_) | Source::Pod(..)) {
            command.arg("--tls-cert").arg(certificate.path(CERTIFICATE));
            command.arg("--tls-key").arg(certificate.path(KEY));
        }
        let elsewhere = |flag: &OsString| flag.to_string_lossy().starts_with("--audit-log=");
        if !flags.iter().any(elsewhere) {
            command.arg("--audit-log").arg(audit_log_in(&scratch));
        }
        command.arg(format!("--listen={}", SocketAddr::new(listens, port)));
        command.arg(format!(
            "--metrics-listen={}",
            SocketAddr::new(listens, metrics_port)
        ));
        command.args(flags);
        give_source(&mut command, &source, &scratch)?;
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let address = SocketAddr::from((reached, port));
        let metrics_address = SocketAddr::from((reached, metrics_port));
        let mut process = Supervised::spawn("pullpass", &command, scratch.path())?;
        wait_for("pullpass to be ready", READY, || {
            // Nothing comes of waiting for a process that is gone.
            match process.check_running() {
                Ok(()) => http::get(metrics_address, "/readyz").map(|_| Ok(())),
                Err(ended) => Ok(Err(ended)),
            }
        })??;
        Ok(Self {
            process,
            scratch,
            authority,
            certificate,
            host,
            address,
            metrics_address,
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Supervised {
        &mut self.process
    }

    /// Ends the process; its clients are not told.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.process.stop(GRACE).map(drop)
    }

    /// Where its files are; others may be put there.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The authority that its clients trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The host that the API server calls it by, which the serving certificate is for; `localhost` is another.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it is reached from here: on loopback, or from the node of its Pod.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/readyz` says; it is an error when it is not ready.
    pub fn readyz(&self) -> Result<String, Error> {
        http::get(self.metrics_address, "/readyz")
    }

    /// Gives it another certificate, as a kubelet does when the Secret has changed.
    pub fn mount_certificate(&self, identity: &Identity) -> Result<(), Error> {
        self.certificate
            .replace(&[(CERTIFICATE, &identity.certificate), (KEY, &identity.key)])
    }

    /// Gives it another certificate by writing one file after the other where it is.
    pub fn overwrite_certificate(&self, identity: &Identity) -> Result<(), Error> {
        self.certificate.overwrite(CERTIFICATE, &identity.certificate)?;
        self.certificate.overwrite(KEY, &identity.key)
    }

    /// The metrics in the Prometheus text format.
    pub fn metrics(&self) -> Result<String, Error> {
        http::get(self.metrics_address, "/metrics")
    }

    /// The audit log so far, unless the flags put it elsewhere.
    pub fn records(&self) -> Result<Vec<Value>, Error> {
        let path = audit_log_in(&self.scratch);
        let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
        // The last line may be half written.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|source| Error::Record {
                    line: line.to_owned(),
                    source,
                })
            })
            .collect()
    }

    /// The audit log so far, as far as it is about a namespace.
    pub fn records_in(&self, namespace: &str) -> Result<Vec<Value>, Error> {
        let mut records = self.records()?;
        records.retain(|record| record.get("namespace").and_then(Value::as_str) == Some(namespace));
        Ok(records)
    }

    /// Waits for so many records about a namespace; more are an error. A record is written a moment after the answer.
    pub fn wait_for_records(&self, namespace: &str, count: usize) -> Result<Vec<Value>, Error> {
        let what = format!("{count} audit records about {namespace}");
        let records = wait_for(&what, READY, || {
            let records = self.records_in(namespace).map_err(|error| error.to_string())?;
            if records.len() < count {
                return Err(format!("there are {}", records.len()));
            }
            Ok(records)
        })?;
        if records.len() > count {
            return Err(Error::TooMany { what, records });
        }
        Ok(records)
    }
}

fn manifests_in(scratch: &Scratch) -> PathBuf {
    scratch.path().join("manifests")
}

fn audit_log_in(scratch: &Scratch) -> PathBuf {
    scratch.path().join("audit.jsonl")
}
