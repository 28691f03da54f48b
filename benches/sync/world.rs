//! A cluster with an Azure and a pullpass, and who else works in it.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pullpass::api::names::{OWN_NAMESPACE, minted_credential, pull_secret};
use pullpass::sync::held_credential::HeldCredential;
use pullpass_emulator::Step;
use pullpass_test_support::{Azure, ControlPlane, Installation, InstallationBuilder, Login, wait_for};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{Result, memory};

/// How many objects are made concurrently.
const CONCURRENCY: usize = 16;
/// How long pullpass may take for what it is waited for.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(5);
/// Longer than any run: what pullpass does now and then shall not be in some rounds and not in others.
const RESYNC: &str = "--resync-interval=86400";
/// How long a leader waits for slow replicas: there are none, and nobody waits for minutes.
const EMPTIED: &str = "--emptied-interval=5";
/// The shipped service account.
const ACCOUNT: &str = "pullpass";
/// Both read the limits of a namespace from the API server itself for each Pod, which takes longer than all else; there are
/// none.
pub(crate) const WITHOUT_LIMITS: &str = "--disable-admission-plugins=LimitRanger,ResourceQuota";

/// The registry that all is about.
pub(crate) fn login() -> Login {
    Login::new("registry1", 1)
}

/// A pullpass for the whole cluster, under the shipped rights.
pub(crate) fn start_pullpass<'a>(cluster: &'a ControlPlane, azure: &Azure) -> Result<Installation<'a>> {
    start(
        Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass")).whole_cluster("first"),
        azure,
    )
}

/// A replica that the API server asks about no namespace of others.
pub(crate) fn start_replica<'a>(cluster: &'a ControlPlane, azure: &Azure) -> Result<Installation<'a>> {
    start(
        Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass")),
        azure,
    )
}

/// Starts a pullpass that does nothing now and then during a run.
fn start<'a>(builder: InstallationBuilder<'a>, azure: &Azure) -> Result<Installation<'a>> {
    let mut builder = builder.in_cluster().flag(RESYNC).flag(EMPTIED);
    for flag in azure.flags() {
        builder = builder.flag(flag);
    }
    Ok(builder.start()?)
}

/// Whether the process leads, as its metrics say.
pub(crate) fn leads(metrics: &str) -> bool {
    metrics.lines().any(|line| line == "pullpass_leader 1")
}

/// Prepares a control plane without controllers for a pullpass that is asked about all of it.
pub(crate) fn prepare(cluster: &ControlPlane) -> Result<()> {
    cluster.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: default}}")?;
    Ok(())
}

/// Attaches the registry, and waits until its credential is minted.
pub(crate) fn attach(cluster: &ControlPlane, login: &Login) -> Result<()> {
    cluster.apply(&login.secret(&login.password).to_string())?;
    cluster.apply(&login.acr_registry().to_string())?;
    wait_for("the registry to be ready", READY_TIMEOUT, || {
        let object = cluster
            .get_json(&["acrregistry", &login.name])
            .map_err(|error| error.to_string())?;
        let reason = object
            .pointer("/status/conditions/0/reason")
            .and_then(Value::as_str);
        (reason == Some("Minted"))
            .then_some(())
            .ok_or_else(|| object.to_string())
    })?;
    Ok(())
}

/// A client of pullpass' service account.
pub(crate) fn account_kubeconfig(cluster: &ControlPlane) -> Result<std::path::PathBuf> {
    Ok(cluster.service_account_kubeconfig(OWN_NAMESPACE, ACCOUNT)?)
}

/// A client made as pullpass makes its own.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Who makes namespaces and Pods, and rotates the password.
pub(crate) struct Administrator {
    /// The client.
    pub(crate) client: Client,
    login: Login,
}

impl Administrator {
    /// One for this registry.
    pub(crate) fn new(client: Client, login: Login) -> Self {
        Self { client, login }
    }

    /// Makes namespaces in which Pods are accepted.
    pub(crate) async fn make_namespaces(&self, names: &[String]) -> Result<()> {
        all(names, |name| self.make_namespace(name)).await
    }

    async fn make_namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = object(json!({"metadata": {"name": name}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), name);
        let account = object(json!({"metadata": {"name": "default"}}))?;
        accounts.create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// Makes a Pod in each of these namespaces.
    pub(crate) async fn run_pods(&self, namespaces: &[String]) -> Result<()> {
        all(namespaces, |namespace| self.run_pod(namespace)).await
    }

    /// Makes a Pod that needs the registry, and looks that it names the pull secret.
    pub(crate) async fn run_pod(&self, namespace: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let image = format!("{}/app:v1", self.login.host);
        let pod = object(json!({
            "metadata": {"name": "app"},
            "spec": {"containers": [{"name": "app", "image": image}]},
        }))?;
        let made = pods.create(&PostParams::default(), &pod).await?;
        let expected = pull_secret(&self.login.name);
        let is_named = made
            .spec
            .iter()
            .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
            .any(|secret| secret.name == expected);
        if is_named {
            Ok(())
        } else {
            Err(format!("the Pod in {namespace} does not name {expected}").into())
        }
    }

    /// Gives the application another password, which makes pullpass mint again immediately.
    pub(crate) async fn rotate(&self, azure: &Azure, password: &str) -> Result<()> {
        azure.rotate_secret(&self.login.client, password)?;
        let patch = Patch::Merge(json!({"stringData": {"password": password}}));
        self.own_secrets()
            .patch_metadata(&self.login.password_secret(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// The credential that pullpass minted last.
    pub(crate) async fn minted(&self) -> Result<HeldCredential> {
        let secret = self
            .own_secrets()
            .get(&minted_credential(&self.login.name))
            .await?;
        HeldCredential::parse(&secret).ok_or_else(|| "the minted credential can't be read".into())
    }

    fn own_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), OWN_NAMESPACE)
    }
}

fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

async fn all<'a, F: Future<Output = Result<()>>>(
    names: &'a [String],
    make: impl Fn(&'a str) -> F,
) -> Result<()> {
    stream::iter(names)
        .map(|name| make(name))
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// Waits until the leader counts so many namespaces as served.
pub(crate) fn wait_for_served(pullpass: &Installation<'_>, login: &Login, count: usize) -> Result<()> {
    let line = format!(
        "pullpass_namespaces{{registry=\"{}\",state=\"served\"}} {count}",
        login.name
    );
    wait_for(&line, READY_TIMEOUT, || {
        let metrics = pullpass.metrics().map_err(|error| error.to_string())?;
        let served = metrics.lines().find(|line| line.contains("state=\"served\""));
        (served == Some(line.as_str()))
            .then_some(())
            .ok_or_else(|| format!("{served:?}"))
    })?;
    Ok(())
}

/// Calls to Entra ID and to the registry so far.
pub(crate) fn azure_calls(azure: &Azure, login: &Login) -> (u64, u64) {
    let counts = azure.counts();
    let registry =
        [Step::Challenge, Step::Exchange, Step::Token].map(|step| counts.calls_at(step, &login.host));
    (counts.calls(Step::EntraToken), registry.into_iter().sum())
}

/// Resident and peak memory of pullpass, in KiB.
pub(crate) fn memory_of(pullpass: &mut Installation<'_>) -> Result<(f64, f64)> {
    let pid = pullpass.process().pid();
    Ok((memory(pid, "VmRSS")?, memory(pid, "VmHWM")?))
}
