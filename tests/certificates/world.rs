//! A cluster with the shipped objects, replicas, and what stands in for their Service.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{ControlPlane, Webhook, end_to_end_wanted, shipped, wait_for};
use serde_json::{Value, json};

use crate::service::Service;

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);
/// Where Pods are made.
pub const NAMESPACE: &str = "apps";
pub const OWN_NAMESPACE: &str = "pullpass-system";
/// What replicas are to the API server.
pub const ACCOUNT: &str = "system:serviceaccount:pullpass-system:pullpass";
const CONFIGURATION: &str = "mutatingwebhookconfiguration";

pub struct World {
    // In the order in which they are to be dropped.
    pub replicas: Vec<Webhook>,
    pub service: Service,
    pub cluster: ControlPlane,
}

impl World {
    /// A cluster with the shipped objects, and nobody who calls or serves yet.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        end_to_end_wanted()?;
        let cluster = ControlPlane::builder().controller_manager(false).start()?;
        let service = Service::start()?;
        let world = Self {
            replicas: Vec::new(),
            service,
            cluster,
        };
        world.apply_shipped()?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": NAMESPACE},
        });
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pullpass", "namespace": OWN_NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, account, service]});
        world.cluster.apply(&list.to_string())?;
        Ok(world)
    }

    /// Runs `kubectl apply` on what is shipped, with another port and `failurePolicy: Fail`, which shows every failure.
    /// Returns the warnings.
    pub fn apply_shipped(&self) -> Result<String, Box<dyn Error>> {
        let mut objects = shipped(&self.cluster, "cluster-wide")?;
        for object in &mut objects {
            for webhook in object
                .get_mut("webhooks")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                for (path, value) in [
                    ("/clientConfig/service/port", json!(self.service.port())),
                    ("/failurePolicy", json!("Fail")),
                ] {
                    let place = webhook
                        .pointer_mut(path)
                        .ok_or("the shipped webhook is another")?;
                    *place = value;
                }
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        Ok(self.cluster.apply(&list.to_string())?.stderr)
    }

    /// Starts so many replicas at the same time.
    pub fn start_replicas(&mut self, count: usize, flags: &[&str]) -> Test {
        let kubeconfig = self
            .cluster
            .service_account_kubeconfig(OWN_NAMESPACE, "pullpass")?;
        let flags: Vec<OsString> = flags.iter().map(Into::into).collect();
        let started = thread::scope(|scope| {
            let starts: Vec<_> = (0..count)
                .map(|_| scope.spawn(|| start(&kubeconfig, &flags)))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().map_err(|_| "a start panicked".to_owned())?)
                .collect::<Result<Vec<_>, String>>()
        })?;
        for replica in started {
            self.service.add(replica.port());
            self.replicas.push(replica);
        }
        Ok(())
    }

    /// Creates a Pod on a registry, so that pullpass is asked.
    pub fn admit(&self) -> Test {
        self.cluster.run_with_input(
            &["create", "--dry-run=server", "--filename", "-"],
            &pod(NAMESPACE).to_string(),
        )?;
        Ok(())
    }

    /// Waits until a Pod is admitted: the API server acts on a configuration a moment after it changed.
    pub fn wait_until_admitted(&self) -> Test {
        wait_for("a Pod to be admitted", SOON, || {
            self.admit().map_err(|error| error.to_string())
        })?;
        Ok(())
    }

    /// The Secret, if it is there.
    pub fn secret(&self) -> Result<Option<Value>, Box<dyn Error>> {
        let list = self.cluster.get_json(&[
            "secrets",
            "--namespace",
            OWN_NAMESPACE,
            "--field-selector",
            "metadata.name=webhook-certificate",
        ])?;
        Ok(list.pointer("/items/0").cloned())
    }

    /// Waits until the Secret passes a check.
    pub fn wait_for_secret(
        &self,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, Box<dyn Error>> {
        Ok(wait_for(&format!("the Secret: {what}"), SOON, || {
            match self.secret() {
                Ok(Some(secret)) if is_so(&secret) => Ok(secret),
                // Its content is nobody's business, here neither.
                Ok(Some(secret)) => Err(format!("it has {:?}", entries(&secret))),
                Ok(None) => Err("there is none".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })?)
    }

    /// The `caBundle` of each webhook.
    pub fn bundles(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let configuration = self.configuration()?;
        let webhooks = configuration.get("webhooks").and_then(Value::as_array);
        webhooks
            .into_iter()
            .flatten()
            .map(|webhook| decoded(webhook, "/clientConfig/caBundle"))
            .collect()
    }

    pub fn configuration(&self) -> Result<Value, Box<dyn Error>> {
        Ok(self
            .cluster
            .get_json(&[CONFIGURATION, "pullpass", "--show-managed-fields"])?)
    }

    /// Waits until every webhook has the bundle that the Secret asks for, and returns it.
    pub fn wait_until_published(&self) -> Result<String, Box<dyn Error>> {
        Ok(wait_for("the bundle to be published", SOON, || {
            let look = || {
                let secret = self.secret()?.ok_or("there is no Secret")?;
                let wanted = bundle(&secret)?;
                let bundles = self.bundles()?;
                if !bundles.is_empty() && bundles.iter().all(|bundle| *bundle == wanted) {
                    Ok(wanted)
                } else {
                    Err(format!("{wanted} is not {bundles:?}").into())
                }
            };
            look().map_err(|error: Box<dyn Error>| error.to_string())
        })?)
    }

    /// Patches the configuration as an administrator.
    pub fn patch_configuration(&self, patch: &Value) -> Test {
        self.cluster.run(&[
            "patch",
            CONFIGURATION,
            "pullpass",
            "--type=json",
            "--patch",
            &patch.to_string(),
        ])?;
        Ok(())
    }

    /// Patches the Secret as an administrator, by a merge patch.
    pub fn patch_secret(&self, patch: &Value) -> Test {
        self.cluster.run(&[
            "patch",
            "secret",
            "webhook-certificate",
            "--namespace",
            OWN_NAMESPACE,
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])?;
        Ok(())
    }

    pub fn delete_secret(&self) -> Test {
        self.cluster.run(&[
            "delete",
            "secret",
            "webhook-certificate",
            "--namespace",
            OWN_NAMESPACE,
        ])?;
        Ok(())
    }

    /// Which replica leads.
    pub fn wait_for_leader(&self, among: &[usize]) -> Result<usize, Box<dyn Error>> {
        Ok(wait_for("a replica to lead", SOON, || {
            among.iter().copied().find(|&index| {
                self.replicas
                    .get(index)
                    .and_then(|replica| replica.metrics().ok())
                    .is_some_and(|metrics| metrics.lines().any(|line| line == "pullpass_leader 1"))
            })
        })?)
    }

    /// Everything that the replicas logged.
    pub fn logs(&mut self) -> Result<String, Box<dyn Error>> {
        let mut logs = String::new();
        for replica in &mut self.replicas {
            logs += &std::fs::read_to_string(replica.process().stderr())?;
        }
        Ok(logs)
    }
}

fn start(kubeconfig: &Path, flags: &[OsString]) -> Result<Webhook, String> {
    let binary = Path::new(env!("CARGO_BIN_EXE_pullpass"));
    Webhook::start_in_cluster(binary, OWN_NAMESPACE, kubeconfig, flags).map_err(|error| error.to_string())
}

/// A Pod that pullpass is asked about.
pub fn pod(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"containers": [{"name": "web", "image": "myregistry.azurecr.io/web:1"}]},
    })
}

/// The bundle that a Secret asks for.
pub fn bundle(secret: &Value) -> Result<String, Box<dyn Error>> {
    let mut bundle = String::new();
    for entry in ["next-ca.crt", "ca.crt", "previous-ca.crt"] {
        bundle += &decoded(secret, &format!("/data/{entry}"))?;
    }
    Ok(bundle)
}

pub fn decoded(value: &Value, pointer: &str) -> Result<String, Box<dyn Error>> {
    let text = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    Ok(String::from_utf8(STANDARD.decode(text)?)?)
}

pub fn entry<'a>(secret: &'a Value, key: &str) -> &'a str {
    let entry = secret.get("data").and_then(|data| data.get(key));
    entry.and_then(Value::as_str).unwrap_or_default()
}

fn entries(secret: &Value) -> Vec<&String> {
    let data = secret.get("data").and_then(Value::as_object);
    data.into_iter().flat_map(|data| data.keys()).collect()
}
