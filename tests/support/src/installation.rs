use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::files::write;
use crate::http;
use crate::mounted_secret::MountedSecret;
use crate::pki::{Authority, Identity};
use crate::process::Supervised;
use crate::scratch::Scratch;
use crate::wait::{free_port, wait_for};

/// On the namespaces of an installation, so that several on one control plane don't meet.
const LABEL: &str = "pullpass.dev/installation";
/// Generous, since it only bounds how long a broken start takes to be noticed.
const READY: Duration = Duration::from_secs(30);
/// What a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What the webhook configuration says about a webhook that does not answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FailurePolicy {
    /// As shipped: the Pod is admitted.
    #[default]
    Ignore,
    /// The Pod is refused, which shows that it was asked for.
    Fail,
}

impl FailurePolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "Ignore",
            Self::Fail => "Fail",
        }
    }
}

/// What an [`Installation`] is made of.
#[derive(Debug)]
pub struct Builder<'a> {
    control_plane: &'a ControlPlane,
    binary: PathBuf,
    flags: Vec<OsString>,
    manifests: Vec<String>,
    failure_policy: FailurePolicy,
    labels: Vec<(String, String)>,
    whole_cluster: bool,
}

impl<'a> Builder<'a> {
    /// Adds a flag of `pullpass serve`, as in `--unattached=deny`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds objects in YAML to those that pullpass takes for the cluster's.
    #[must_use]
    pub fn manifest(mut self, yaml: impl Into<String>) -> Self {
        self.manifests.push(yaml.into());
        self
    }

    /// Attaches a registry under its own name.
    #[must_use]
    pub fn registry(self, name: &str) -> Self {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "AcrRegistry",
            "metadata": {"name": name},
            "spec": {"loginServer": format!("{name}.azurecr.io"), "identity": {"managedIdentity": {}}},
        });
        self.manifest(object.to_string())
    }

    /// Adds a label to [`Installation::namespace`].
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the failure policy of every webhook.
    #[must_use]
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.failure_policy = policy;
        self
    }

    /// Registers for every namespace, under the names that are shipped: the only installation there.
    #[must_use]
    pub fn whole_cluster(mut self) -> Self {
        self.whole_cluster = true;
        self
    }

    /// Starts pullpass, registers it, and waits until the API server asks it.
    pub fn start(self) -> Result<Installation<'a>, Error> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let id = format!("pullpass-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let (name, own_namespace) = if self.whole_cluster {
            ("pullpass".to_owned(), "pullpass-system".to_owned())
        } else {
            (id.clone(), format!("{id}-system"))
        };
        let scratch = Scratch::new()?;
        let authority = Authority::new()?;
        let service = format!("pullpass.{own_namespace}.svc");
        let serving = authority.server(&[&service, "localhost"])?;
        let certificate = MountedSecret::new(
            scratch.path().join("tls"),
            &[(CERTIFICATE, &serving.certificate), (KEY, &serving.key)],
        )?;
        let manifests = scratch.path().join("manifests");
        fs::create_dir(&manifests).map_err(Error::io(format!("making {}", manifests.display())))?;
        for (index, manifest) in self.manifests.iter().enumerate() {
            write(&manifests.join(format!("{index}.yaml")), manifest)?;
        }
        let namespace = format!("{id}-0");
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let object = namespace_object(&namespace, &name, &labels);
        write(&manifests.join("namespace.yaml"), &object.to_string())?;

        let (port, metrics_port) = (free_port()?, free_port()?);
        let audit_log = scratch.path().join("audit.jsonl");
        let mut command = Command::new(self.binary);
        command.args(["serve", "--reload-interval=0.1", "--shutdown-delay=0"]);
        command.arg("--namespace").arg(&own_namespace);
        command.arg("--manifests").arg(&manifests);
        command.arg("--tls-cert").arg(certificate.path(CERTIFICATE));
        command.arg("--tls-key").arg(certificate.path(KEY));
        command.arg("--audit-log").arg(&audit_log);
        command.arg(format!("--listen=127.0.0.1:{port}"));
        command.arg(format!("--metrics-listen=127.0.0.1:{metrics_port}"));
        command.args(self.flags);
        // Whoever tries a setting in their shell does not mean the tests.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PULLPASS_") {
                command.env_remove(variable);
            }
        }
        let process = Supervised::spawn("pullpass", &command, scratch.path())?;

        let mut installation = Installation {
            registration: Registration {
                control_plane: self.control_plane,
                name,
            },
            process,
            scratch,
            authority,
            certificate,
            service,
            audit_log,
            port,
            metrics_port,
            namespace,
            namespaces: AtomicU32::new(1),
            id,
        };
        let mut objects = account_objects(object, &installation.namespace);
        objects.extend(installation.registration.objects(
            &own_namespace,
            port,
            installation.authority.pem(),
            self.failure_policy,
            self.whole_cluster,
        )?);
        apply(self.control_plane, &objects)?;
        installation.wait_until_asked()?;
        Ok(installation)
    }
}

/// pullpass as a process outside of the cluster, registered with the API server as it is shipped: the configuration of
/// `manifests/base` with another port and, unless it is for the whole cluster, for the namespaces of this value only.
///
/// Everything ends when this value is dropped, but for its namespaces, which go with the control plane.
#[derive(Debug)]
pub struct Installation<'a> {
    // In the order in which they are to be dropped: nobody is asked who is gone.
    registration: Registration<'a>,
    process: Supervised,
    scratch: Scratch,
    authority: Authority,
    certificate: MountedSecret,
    service: String,
    audit_log: PathBuf,
    port: u16,
    metrics_port: u16,
    namespace: String,
    namespaces: AtomicU32,
    id: String,
}

impl<'a> Installation<'a> {
    /// One that runs this binary.
    pub fn builder(control_plane: &'a ControlPlane, binary: impl Into<PathBuf>) -> Builder<'a> {
        Builder {
            control_plane,
            binary: binary.into(),
            flags: Vec::new(),
            manifests: Vec::new(),
            failure_policy: FailurePolicy::default(),
            labels: Vec::new(),
            whole_cluster: false,
        }
    }

    /// The namespace that it started with, whose labels both the API server and pullpass know.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes another namespace that it is asked about. pullpass reads its namespaces from files, and learns nothing of
    /// this one; the API server knows the labels.
    pub fn new_namespace(&self, labels: &[(&str, &str)]) -> Result<String, Error> {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.id);
        let object = namespace_object(&name, &self.registration.name, labels);
        apply(self.registration.control_plane, &account_objects(object, &name))?;
        Ok(name)
    }

    /// The name of its webhook configuration.
    pub fn configuration(&self) -> &str {
        &self.registration.name
    }

    /// The process.
    pub fn process(&mut self) -> &mut Supervised {
        &mut self.process
    }

    /// Ends the process; the API server is not told.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.process.stop(GRACE).map(drop)
    }

    /// Where its files are; others may be put there.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The authority that the API server trusts for the webhook.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The host that the API server calls, and that the serving certificate is for.
    pub fn host(&self) -> &str {
        &self.service
    }

    /// Where the webhook listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives pullpass another certificate, as a kubelet does when the Secret has changed.
    pub fn mount_certificate(&self, identity: &Identity) -> Result<(), Error> {
        self.certificate
            .replace(&[(CERTIFICATE, &identity.certificate), (KEY, &identity.key)])
    }

    /// Gives pullpass another certificate by writing one file after the other where it is.
    pub fn overwrite_certificate(&self, identity: &Identity) -> Result<(), Error> {
        self.certificate.overwrite(CERTIFICATE, &identity.certificate)?;
        self.certificate.overwrite(KEY, &identity.key)
    }

    /// The metrics in the Prometheus text format.
    pub fn metrics(&self) -> Result<String, Error> {
        http::get(self.metrics_port, "/metrics")
    }

    /// The audit log so far.
    pub fn records(&self) -> Result<Vec<Value>, Error> {
        let text = fs::read_to_string(&self.audit_log)
            .map_err(Error::io(format!("reading {}", self.audit_log.display())))?;
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

    /// The API server takes about a second to act on a new configuration.
    fn wait_until_asked(&mut self) -> Result<(), Error> {
        let namespace = self.new_namespace(&[])?;
        let control_plane = self.registration.control_plane;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": namespace},
            "spec": {"containers": [{"name": "probe", "image": "pullpassprobe.azurecr.io/probe"}]},
        });
        wait_for("the API server to ask the webhook", READY, || {
            // Nothing comes of waiting for a process that is gone.
            if let Err(ended) = self.process.check_running() {
                return Ok(Err(ended));
            }
            let created = control_plane.run_with_input(
                &["create", "--dry-run=server", "--filename", "-"],
                &pod.to_string(),
            );
            let records = self.records_in(&namespace).map_err(|error| error.to_string())?;
            if records.is_empty() {
                return Err(format!("{created:?}; {}", self.process.log_tail()));
            }
            Ok(Ok(()))
        })?
    }
}

/// The webhook configuration in the cluster.
#[derive(Debug)]
struct Registration<'a> {
    control_plane: &'a ControlPlane,
    name: String,
}

impl Registration<'_> {
    /// The objects that `manifests/base` says that there are in a cluster with pullpass, changed as little as needed.
    fn objects(
        &self,
        own_namespace: &str,
        port: u16,
        ca_pem: &str,
        failure_policy: FailurePolicy,
        whole_cluster: bool,
    ) -> Result<Vec<Value>, Error> {
        let mut configuration = shipped(self.control_plane)?
            .into_iter()
            .find(|object| {
                object.get("kind").and_then(Value::as_str) == Some("MutatingWebhookConfiguration")
            })
            .ok_or_else(|| Error::Shipped("there is no MutatingWebhookConfiguration".to_owned()))?;
        set(&mut configuration, "/metadata/name", json!(self.name))?;
        let webhooks = configuration
            .pointer_mut("/webhooks")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| Error::Shipped("there are no webhooks".to_owned()))?;
        for webhook in webhooks {
            set(webhook, "/clientConfig/service/namespace", json!(own_namespace))?;
            set(webhook, "/clientConfig/service/port", json!(port))?;
            set(webhook, "/failurePolicy", json!(failure_policy.as_str()))?;
            set(webhook, "/clientConfig/caBundle", json!(base64(ca_pem)))?;
            if !whole_cluster {
                let narrowed = json!({"key": LABEL, "operator": "In", "values": [self.name]});
                webhook
                    .pointer_mut("/namespaceSelector/matchExpressions")
                    .and_then(Value::as_array_mut)
                    .ok_or_else(|| Error::Shipped("a webhook has no namespaceSelector".to_owned()))?
                    .push(narrowed);
            }
        }
        // The API server sends the port on to this name, so that the webhook can be outside and the configuration can
        // name a Service all the same.
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pullpass", "namespace": own_namespace},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
        });
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own_namespace}});
        Ok(vec![namespace, service, configuration])
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // Where it fails, the control plane is gone, and the configuration with it.
        let _ = self.control_plane.run(&[
            "delete",
            "mutatingwebhookconfiguration",
            &self.name,
            "--ignore-not-found",
        ]);
    }
}

/// The objects of `manifests/base`.
fn shipped(control_plane: &ControlPlane) -> Result<Vec<Value>, Error> {
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/base");
    let yaml = control_plane.run(&["kustomize", base])?.stdout;
    serde_saphyr::from_multiple(&yaml).map_err(|error| Error::Shipped(error.to_string()))
}

fn set(object: &mut Value, path: &str, value: Value) -> Result<(), Error> {
    let missing = || Error::Shipped(format!("{path} has nowhere to be set"));
    let (parent, key) = path.rsplit_once('/').ok_or_else(missing)?;
    let parent = object
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .ok_or_else(missing)?;
    parent.insert(key.to_owned(), value);
    Ok(())
}

fn namespace_object(name: &str, installation: &str, labels: &[(&str, &str)]) -> Value {
    let labels: Map<String, Value> = labels
        .iter()
        .copied()
        .chain([(LABEL, installation)])
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A namespace and its service account, without which no Pod is admitted: the controller would make it a moment later.
fn account_objects(namespace: Value, name: &str) -> Vec<Value> {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
    });
    vec![namespace, account]
}

fn apply(control_plane: &ControlPlane, objects: &[Value]) -> Result<(), Error> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--validate=strict", "--filename", "-"];
    control_plane
        .run_with_input(&arguments, &list.to_string())
        .map(drop)
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
