//! A cluster with the shipped objects, Azure, and replicas as Pods.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_emulator::{Config, Listen, Step};
use pullpass_test_support::{
    Azure, ControlPlane, Login, PodNetwork, Webhook, end_to_end_wanted, shipped, wait_for,
};
use serde_json::{Value, json};

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);
/// Where Pods are made.
pub const NAMESPACE: &str = "apps";
pub const OWN_NAMESPACE: &str = "pullpass-system";
const LOGINS: usize = 3;

pub struct World {
    // In the order in which they are to be dropped.
    pub azure: Azure,
    pub cluster: ControlPlane,
    logins: Vec<Login>,
}

/// What was minted up to some moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Minting {
    pub tokens: u64,
    pub exchanges: u64,
    pub written: u64,
}

/// A replica, and the network of its Pod.
pub struct Replica {
    // In the order in which they are to be dropped.
    pub webhook: Webhook,
    pub network: PodNetwork,
}

impl World {
    /// A cluster where nobody serves yet. A webhook that does not answer is an error there (`failurePolicy: Fail`).
    pub fn start(change: impl FnOnce(&mut Config)) -> Result<Self, Box<dyn Error>> {
        end_to_end_wanted()?;
        let cluster = ControlPlane::builder()
            .controller_manager(false)
            // Pods are not on the host's loopback.
            .api_server_argument("--bind-address=0.0.0.0")
            .api_server_argument("--enable-aggregator-routing=true")
            .start()?;
        let logins: Vec<_> = (1..=LOGINS)
            .map(|number| Login::new(&format!("registry{number}"), number))
            .collect();
        let azure = Azure::with(&logins, |config| {
            config.listen = Listen {
                tls: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                ..Listen::default()
            };
            change(config);
        })?;
        let world = Self {
            azure,
            cluster,
            logins,
        };
        let mut objects = shipped(&world.cluster, "cluster-wide")?;
        for object in &mut objects {
            for webhook in list(object, "/webhooks") {
                if let Some(policy) = webhook.pointer_mut("/failurePolicy") {
                    *policy = json!("Fail");
                }
            }
        }
        apply(&world.cluster, &objects)?;
        world.add_namespace(NAMESPACE, &json!({}))?;
        Ok(world)
    }

    /// One of the registries, from 1.
    pub fn login(&self, number: usize) -> Result<&Login, Box<dyn Error>> {
        Ok(self.logins.get(number - 1).ok_or("there is no such registry")?)
    }

    /// Attaches a registry.
    pub fn attach(&self, login: &Login) -> Test {
        apply(
            &self.cluster,
            &[login.secret(&login.password), login.acr_registry()],
        )
    }

    /// Waits until the credential of a registry is minted.
    pub fn wait_until_minted(&self, login: &Login) -> Result<Value, Box<dyn Error>> {
        Ok(wait_for(&format!("{} to be minted", login.name), SOON, || {
            let object = self
                .cluster
                .get_json(&["acrregistry", &login.name])
                .map_err(|error| error.to_string())?;
            if text(&object, "/status/conditions/0/reason") == "Minted" {
                Ok(object)
            } else {
                Err(object.to_string())
            }
        })?)
    }

    /// A namespace in which Pods can be made.
    pub fn add_namespace(&self, name: &str, labels: &Value) -> Test {
        apply(
            &self.cluster,
            &[
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
                json!({
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "default", "namespace": name},
                }),
            ],
        )
    }

    /// Starts a replica and waits until it is ready, as a rolling update does before the next step.
    pub fn start_replica(&self, flags: &[&str]) -> Result<Replica, Box<dyn Error>> {
        let network = PodNetwork::new()?;
        let kubeconfig = self
            .cluster
            .service_account_kubeconfig(OWN_NAMESPACE, "pullpass")?;
        let mut content: Value = serde_json::from_str(&fs::read_to_string(&kubeconfig)?)?;
        let cluster = content
            .pointer_mut("/clusters/0/cluster")
            .ok_or("there is no cluster in it")?;
        let url = self.cluster.url();
        let gateway = network.gateway().to_string();
        // The certificate is for the host's loopback, and the Pod reaches the host by its own gateway.
        *cluster = json!({
            "server": url.replace("127.0.0.1", &gateway),
            "tls-server-name": "127.0.0.1",
            "certificate-authority-data": cluster.get("certificate-authority-data"),
        });
        let file = self.cluster.directory().join(format!("pod-{gateway}.kubeconfig"));
        fs::write(&file, content.to_string())?;
        let azure = network.node_gateway().to_string();
        let flags: Vec<OsString> = self
            .azure
            .flags()
            .iter()
            .map(|flag| flag.replace("0.0.0.0", &azure).into())
            .chain(flags.iter().map(Into::into))
            .collect();
        let binary = Path::new(env!("CARGO_BIN_EXE_pullpass"));
        let webhook = Webhook::start_in_pod(binary, OWN_NAMESPACE, &file, &flags, &network)?;
        Ok(Replica { webhook, network })
    }

    /// Writes who the Service's ready endpoints are, as the controller does.
    pub fn publish(&self, replicas: &[&Replica]) -> Test {
        let endpoints: Vec<_> = replicas
            .iter()
            .map(|replica| json!({"addresses": [replica.network.address()], "conditions": {"ready": true}}))
            .collect();
        apply(
            &self.cluster,
            &[json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "pullpass-1",
                    "namespace": OWN_NAMESPACE,
                    "labels": {"kubernetes.io/service-name": "pullpass"},
                },
                "addressType": "IPv4",
                "ports": [{"name": "webhook", "port": 8443, "protocol": "TCP"}],
                "endpoints": endpoints,
            })],
        )
    }

    /// Replaces the failure policy, on which the API server acts a moment later.
    pub fn set_failure_policy(&self, policy: &str) -> Test {
        let patch = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": policy}]);
        self.cluster.run(&[
            "patch",
            "mutatingwebhookconfiguration",
            "pullpass",
            "--type=json",
            "--patch",
            &patch.to_string(),
        ])?;
        Ok(())
    }

    /// Creates a Pod with an image of a registry, and returns it as it was admitted.
    pub fn create_pod(&self, namespace: &str, login: &Login) -> Result<Value, Box<dyn Error>> {
        let created = self.cluster.run_with_input(
            &["create", "--output", "json", "--filename", "-"],
            &pod(namespace, login).to_string(),
        )?;
        Ok(serde_json::from_str(&created.stdout)?)
    }

    /// Waits until a Pod is admitted and injected: the API server acts on a change a moment later.
    pub fn wait_until_injected(&self, login: &Login) -> Test {
        wait_for("a Pod to be admitted and injected", SOON, || {
            match self.create_pod(NAMESPACE, login) {
                Ok(pod) if is_injected(&pod, login) => Ok(()),
                Ok(pod) => Err(pod.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(())
    }

    /// The certificate authorities that the API server trusts.
    pub fn bundle(&self) -> Result<String, Box<dyn Error>> {
        let configuration = self
            .cluster
            .get_json(&["mutatingwebhookconfiguration", "pullpass"])?;
        let bundle = STANDARD.decode(text(&configuration, "/webhooks/0/clientConfig/caBundle"))?;
        Ok(String::from_utf8(bundle)?)
    }

    /// How often Entra ID and the registries were asked for these registries' credentials, and how many credentials these
    /// replicas have written.
    pub fn minting(&self, logins: [&Login; 2], replicas: [&Replica; 2]) -> Result<Minting, Box<dyn Error>> {
        let calls = self.calls(logins);
        let mut written = 0;
        for replica in replicas {
            written += u64::try_from(self.credentials_written_by(replica)?.len())?;
        }
        Ok(Minting { written, ..calls })
    }

    /// The same, without what was written: that takes no time.
    pub fn calls(&self, logins: [&Login; 2]) -> Minting {
        let counts = self.azure.counts();
        let mut calls = Minting::default();
        for login in logins {
            calls.tokens += counts.calls_at(Step::EntraToken, &login.tenant);
            calls.exchanges += counts.calls_at(Step::Exchange, &login.host);
        }
        calls
    }

    /// Waits until as many credentials were written since then as calls were made: a replica that minted without leading
    /// made a call more, which nothing makes up for.
    pub fn wait_until_all_is_written(
        &self,
        since: &Minting,
        logins: [&Login; 2],
        replicas: [&Replica; 2],
    ) -> Test {
        let look = || -> Result<(), Box<dyn Error>> {
            let now = self.minting(logins, replicas)?;
            let tokens = now.tokens - since.tokens;
            let calls = (tokens, now.exchanges - since.exchanges);
            let written = now.written - since.written;
            // A refresh that is under way makes the two differ for a moment.
            let is_quiet = self.minting(logins, replicas)? == now;
            (is_quiet && calls == (written, written))
                .then_some(())
                .ok_or_else(|| format!("{calls:?} calls for {written} credentials").into())
        };
        wait_for("every call to be written", SOON, || {
            look().map_err(|error| error.to_string())
        })?;
        Ok(())
    }

    /// Which minted credentials were written from a replica's address, as the API server's audit log has it.
    pub fn credentials_written_by(&self, replica: &Replica) -> Result<Vec<String>, Box<dyn Error>> {
        let address = replica.network.address().to_string();
        let events = self.cluster.audit_events()?;
        Ok(events
            .iter()
            .filter(|event| text(event, "/sourceIPs/0") == address)
            .filter(|event| ["create", "update", "patch", "delete"].contains(&text(event, "/verb")))
            .map(|event| text(event, "/objectRef/name").to_owned())
            .filter(|name| name.starts_with("credential-"))
            .collect())
    }
}

impl Replica {
    /// Whether it acts as the leader.
    pub fn leads(&self) -> Result<bool, Box<dyn Error>> {
        let metrics = self.webhook.metrics()?;
        Ok(metrics.lines().any(|line| line == "pullpass_leader 1"))
    }

    /// How many reviews it has answered.
    pub fn answered(&self) -> Result<u64, Box<dyn Error>> {
        let metrics = self.webhook.metrics()?;
        let of_reviews = |line: &str| line.starts_with("pullpass_admission_requests_total{");
        Ok(sum_of(&metrics, of_reviews))
    }

    pub fn wait_until_it_leads(&self) -> Test {
        self.wait_until(true)
    }

    pub fn wait_until_it_does_not_lead(&self) -> Test {
        self.wait_until(false)
    }

    fn wait_until(&self, wanted: bool) -> Test {
        wait_for(&format!("pullpass_leader to be {wanted}"), SOON, || {
            match self.leads() {
                Ok(leads) if leads == wanted => Ok(()),
                Ok(leads) => Err(format!("it is {leads}")),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(())
    }
}

/// The sum of these series of counters.
pub fn sum_of(metrics: &str, are_of_it: impl Fn(&str) -> bool) -> u64 {
    let series = metrics.lines().filter(|line| are_of_it(line));
    let counts = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// A Pod that pullpass is asked about.
pub fn pod(namespace: &str, login: &Login) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": namespace},
        "spec": {"containers": [{"name": "web", "image": format!("{}/web:1", login.host)}]},
    })
}

/// Whether a Pod names the pull secret of a registry.
pub fn is_injected(pod: &Value, login: &Login) -> bool {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    let name = format!("pullpass-{}", login.name);
    secrets
        .into_iter()
        .flatten()
        .any(|secret| text(secret, "/name") == name)
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn apply(cluster: &ControlPlane, objects: &[Value]) -> Test {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    cluster.run_with_input(&arguments, &list.to_string())?;
    Ok(())
}

fn list<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.pointer_mut(path).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}
