mod registration;

use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

pub use self::registration::{FailurePolicy, shipped};
use self::registration::{Registration, apply, kind, namespace_object, with_account};
use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::wait::wait_for;
use crate::webhook::{READY, Source, Webhook};

const OWN_NAMESPACE: &str = "pullpass-system";
/// The shipped service account.
const ACCOUNT: &str = "pullpass";

/// What of `manifests/base` a pullpass outside of the cluster, which is registered on its own, stands in for.
const STOOD_IN_FOR: [&str; 3] = ["MutatingWebhookConfiguration", "Deployment", "Service"];

/// What an [`Installation`] is made of.
#[derive(Debug)]
pub struct Builder<'a> {
    control_plane: &'a ControlPlane,
    binary: PathBuf,
    flags: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    manifests: Vec<String>,
    failure_policy: FailurePolicy,
    labels: Vec<(String, String)>,
    whole_cluster: Option<String>,
    in_cluster: bool,
    kubeconfig: Option<PathBuf>,
    overlay: String,
    custom_domains: String,
    namespace_selector: Vec<Value>,
}

impl<'a> Builder<'a> {
    /// Adds a flag of `pullpass serve`, as in `--unattached=deny`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
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

    /// Adds a label to [`Installation::namespace`], and to the one in which it is seen whether it is asked.
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

    /// Registers for every namespace and under the names that are shipped, as the only installation there;
    /// [`Installation::namespace`] has this name.
    #[must_use]
    pub fn whole_cluster(mut self, namespace: &str) -> Self {
        self.whole_cluster = Some(namespace.to_owned());
        self
    }

    /// Has its objects from the cluster, as the service account and with the rights that are shipped. Several such
    /// installations on one control plane are replicas: each is asked about namespaces of its own.
    #[must_use]
    pub fn in_cluster(mut self) -> Self {
        self.in_cluster = true;
        self
    }

    /// Has it reach the API server as this kubeconfig says, where it has its objects from the cluster.
    #[must_use]
    pub fn kubeconfig(mut self, kubeconfig: impl Into<PathBuf>) -> Self {
        self.kubeconfig = Some(kubeconfig.into());
        self
    }

    /// Registers as another of `manifests/overlays` says.
    #[must_use]
    pub fn overlay(mut self, name: &str) -> Self {
        name.clone_into(&mut self.overlay);
        self
    }

    /// Has the API server ask about Pods with images on these domains too, as the component custom-domains does.
    #[must_use]
    pub fn custom_domains(mut self, domains: &[&str]) -> Self {
        self.custom_domains = domains.join(",");
        self
    }

    /// Has the API server ask only about Pods of namespaces that meet these requirements too, as the chart's value
    /// does.
    #[must_use]
    pub fn namespace_selector(mut self, expressions: &[Value]) -> Self {
        self.namespace_selector = expressions.to_vec();
        self
    }

    /// Starts pullpass, registers it, and waits until the API server asks it.
    pub fn start(mut self) -> Result<Installation<'a>, Error> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let id = format!("pullpass-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let whole_cluster = self.whole_cluster.is_some();
        let name = if whole_cluster {
            "pullpass".to_owned()
        } else {
            id.clone()
        };
        let own_namespace = if whole_cluster || self.in_cluster {
            OWN_NAMESPACE.to_owned()
        } else {
            format!("{id}-system")
        };
        let namespace = self.whole_cluster.unwrap_or_else(|| format!("{id}-0"));
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let object = namespace_object(&namespace, &name, &labels);
        self.manifests.push(object.to_string());

        let webhook = if self.in_cluster {
            let mut objects = shipped(self.control_plane, &self.overlay)?;
            objects.retain(|object| !STOOD_IN_FOR.contains(&kind(object)));
            apply(self.control_plane, &objects)?;
            let kubeconfig = match self.kubeconfig {
                Some(kubeconfig) => kubeconfig,
                None => self
                    .control_plane
                    .service_account_kubeconfig(OWN_NAMESPACE, ACCOUNT)?,
            };
            Webhook::serve(
                &self.binary,
                &own_namespace,
                Source::Cluster(&kubeconfig),
                &self.flags,
                &self.environment,
            )?
        } else {
            Webhook::serve(
                &self.binary,
                &own_namespace,
                Source::Manifests(&self.manifests),
                &self.flags,
                &self.environment,
            )?
        };
        let registration = Registration {
            control_plane: self.control_plane,
            name,
            overlay: self.overlay,
            custom_domains: self.custom_domains,
            namespace_selector: self.namespace_selector,
        };
        let mut objects =
            registration.objects(&own_namespace, &webhook, self.failure_policy, whole_cluster)?;
        objects.extend(with_account(object, &namespace));
        apply(self.control_plane, &objects)?;
        let mut installation = Installation {
            registration,
            webhook,
            namespace,
            namespaces: AtomicU32::new(1),
            id,
        };
        let probed = if whole_cluster {
            "default".to_owned()
        } else {
            installation.new_namespace(&labels)?
        };
        installation.wait_until_asked(&probed)?;
        Ok(installation)
    }
}

/// pullpass as a process outside of the cluster, registered with the API server as it is shipped: the configuration of
/// `manifests/base` with another port and, unless it is for the whole cluster, for the namespaces of this value only.
///
/// Everything ends when this value is dropped, except for its namespaces, which go with the control plane.
#[derive(Debug)]
pub struct Installation<'a> {
    // In the order in which they are to be dropped: nobody is asked who is gone.
    registration: Registration<'a>,
    webhook: Webhook,
    namespace: String,
    namespaces: AtomicU32,
    id: String,
}

/// It is a webhook, with more around it.
impl Deref for Installation<'_> {
    type Target = Webhook;

    fn deref(&self) -> &Webhook {
        &self.webhook
    }
}

impl DerefMut for Installation<'_> {
    fn deref_mut(&mut self) -> &mut Webhook {
        &mut self.webhook
    }
}

impl<'a> Installation<'a> {
    /// One that runs this binary.
    pub fn builder(control_plane: &'a ControlPlane, binary: impl Into<PathBuf>) -> Builder<'a> {
        Builder {
            control_plane,
            binary: binary.into(),
            flags: Vec::new(),
            environment: Vec::new(),
            manifests: Vec::new(),
            failure_policy: FailurePolicy::default(),
            labels: Vec::new(),
            whole_cluster: None,
            in_cluster: false,
            kubeconfig: None,
            overlay: "cluster-wide".to_owned(),
            custom_domains: String::new(),
            namespace_selector: Vec::new(),
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
        self.add_namespace(&name, labels)?;
        Ok(name)
    }

    /// The same, under a name of the caller's choosing.
    pub fn add_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        let object = namespace_object(name, &self.registration.name, labels);
        apply(self.registration.control_plane, &with_account(object, name))
    }

    /// The name of its webhook configuration.
    pub fn configuration(&self) -> &str {
        &self.registration.name
    }

    /// The API server takes about a second to act on a new configuration.
    fn wait_until_asked(&mut self, namespace: &str) -> Result<(), Error> {
        let control_plane = self.registration.control_plane;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": namespace},
            "spec": {"containers": [{"name": "probe", "image": "pullpassprobe.azurecr.io/probe"}]},
        });
        wait_for("the API server to ask the webhook", READY, || {
            // Nothing comes of waiting for a process that is gone.
            if let Err(ended) = self.webhook.process().check_running() {
                return Ok(Err(ended));
            }
            let created = control_plane.run_with_input(
                &["create", "--dry-run=server", "--filename", "-"],
                &pod.to_string(),
            );
            let records = self.records_in(namespace).map_err(|error| error.to_string())?;
            if records.is_empty() {
                return Err(format!("{created:?}; {}", self.webhook.process().log_tail()));
            }
            Ok(Ok(()))
        })?
    }
}
