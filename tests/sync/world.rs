//! A cluster, Azure, and a pullpass between them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_emulator::{Config, Registry, RepositoryScope, ScopedToken};
use pullpass_test_support::{
    Azure, ControlPlane, Installation, InstallationBuilder, KubectlOutput, Login, end_to_end_wanted, wait_for,
};
use serde_json::{Value, json};

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);
/// How often pullpass looks at everything.
pub const RESYNC: &str = "--resync-interval=2";
/// How long the emptied credential of a detached registry is kept.
pub const KEPT: &str = "--emptied-interval=1";
/// How many tests can have a registry of their own in the shared world.
const LOGINS: usize = 96;

pub struct World<'a> {
    // In the order in which they are to be dropped.
    pub pullpass: Installation<'a>,
    pub azure: Azure,
    pub cluster: &'a ControlPlane,
    logins: Vec<Login>,
    given: AtomicUsize,
}

/// The world that most tests share.
pub fn shared() -> Result<&'static World<'static>, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    static WORLD: OnceLock<Result<World<'static>, String>> = OnceLock::new();
    end_to_end_wanted()?;
    let cluster = CLUSTER.get_or_init(|| ControlPlane::start().map_err(|error| error.to_string()));
    let cluster = cluster.as_ref().map_err(String::as_str)?;
    let world =
        WORLD.get_or_init(|| World::start(cluster, LOGINS, |_| {}).map_err(|error| error.to_string()));
    Ok(world.as_ref().map_err(String::as_str)?)
}

/// A cluster for what can't be shared. Nobody tidies up in it, and nobody makes Pods.
pub fn cluster_of_its_own() -> Result<ControlPlane, Box<dyn Error>> {
    end_to_end_wanted()?;
    Ok(ControlPlane::builder().controller_manager(false).start()?)
}

impl<'a> World<'a> {
    pub fn start(
        cluster: &'a ControlPlane,
        logins: usize,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Box<dyn Error>> {
        Self::with_pullpass(cluster, logins, change, |builder| builder.flag(RESYNC).flag(KEPT))
    }

    /// The same, but `settle` says how often pullpass looks at everything, and what else differs.
    pub fn with_pullpass(
        cluster: &'a ControlPlane,
        logins: usize,
        change: impl FnOnce(&mut Config),
        settle: impl FnOnce(InstallationBuilder<'a>) -> InstallationBuilder<'a>,
    ) -> Result<Self, Box<dyn Error>> {
        let logins: Vec<_> = (1..=logins)
            .map(|number| Login::new(&format!("registry{number}"), number))
            .collect();
        let azure = Azure::with(&logins, change)?;
        let pullpass = settle(replica_builder(cluster, &azure)).start()?;
        Ok(Self {
            pullpass,
            azure,
            cluster,
            logins,
            given: AtomicUsize::new(0),
        })
    }

    /// A world with an Azure that was there before, and a pullpass that starts now.
    pub fn with_replica(
        cluster: &'a ControlPlane,
        azure: Azure,
        start: impl FnOnce(&'a ControlPlane, &Azure) -> Result<Installation<'a>, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            pullpass: start(cluster, &azure)?,
            azure,
            cluster,
            logins: Vec::new(),
            given: AtomicUsize::new(0),
        })
    }

    /// A registry that nobody else has.
    pub fn login(&self) -> Result<Login, Box<dyn Error>> {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        Ok(self
            .logins
            .get(number)
            .cloned()
            .ok_or("there are no registries left")?)
    }

    /// Attaches a registry of the caller's own, and waits until its credential is minted.
    pub fn attached(&self, spec: &Value) -> Result<Login, Box<dyn Error>> {
        let login = self.login()?;
        self.attach(&login, &login.password, spec)?;
        self.wait_for_reason(&login, "Minted")?;
        Ok(login)
    }

    /// Attaches a registry with a password and with these fields more in its spec.
    pub fn attach(&self, login: &Login, password: &str, spec: &Value) -> Test {
        self.cluster.apply(&login.secret(password).to_string())?;
        self.attach_with(login, spec)
    }

    /// Attaches a registry with these fields in its spec, in place of the usual ones.
    pub fn attach_with(&self, login: &Login, spec: &Value) -> Test {
        let mut object = login.acr_registry();
        let fields = object.pointer_mut("/spec").and_then(Value::as_object_mut);
        if let (Some(fields), Some(more)) = (fields, spec.as_object()) {
            fields.extend(more.clone());
        }
        self.cluster.apply(&object.to_string())?;
        Ok(())
    }

    /// Gives a registry repository-scoped tokens with these passwords, which may pull everything.
    pub fn put_tokens(&self, login: &Login, tokens: &[(&str, String)]) -> Test {
        let mut registry = Registry::new(&login.tenant, &login.host);
        let everything = || RepositoryScope {
            repository: "*".to_owned(),
            actions: vec!["pull".to_owned()],
        };
        let token = |(name, password): &(&str, String)| ScopedToken {
            name: (*name).to_owned(),
            passwords: vec![password.clone()],
            scopes: vec![everything()],
            ..ScopedToken::default()
        };
        registry.tokens = tokens.iter().map(token).collect();
        self.azure.put_registry(registry)?;
        Ok(())
    }

    pub fn detach(&self, login: &Login) -> Test {
        self.cluster.run(&["delete", "acrregistry", &login.name])?;
        Ok(())
    }

    /// Waits for the reason of the condition `Ready`, and returns the registry as it is then.
    pub fn wait_for_reason(&self, login: &Login, reason: &str) -> Result<Value, Box<dyn Error>> {
        let what = format!("{} to be {reason}", login.name);
        let object = wait_for(&what, SOON, || {
            let object = self.registry(login).map_err(|error| error.to_string())?;
            if text(&object, "/status/conditions/0/reason") == reason {
                Ok(object)
            } else {
                Err(format!("{object:#}"))
            }
        })?;
        let is_ready = text(&object, "/status/conditions/0/status") == "True";
        assert_eq!(is_ready, reason == "Minted", "{object:#}");
        Ok(object)
    }

    /// Waits for the reason of the condition `Distributed`, and returns the registry as it is then.
    pub fn wait_for_distribution(&self, login: &Login, reason: &str) -> Result<Value, Box<dyn Error>> {
        let what = format!("the secrets of {} to be {reason}", login.name);
        Ok(wait_for(&what, SOON, || {
            let object = self.registry(login).map_err(|error| error.to_string())?;
            if text(&object, "/status/conditions/1/reason") == reason {
                Ok(object)
            } else {
                Err(format!("{object:#}"))
            }
        })?)
    }

    pub fn registry(&self, login: &Login) -> Result<Value, Box<dyn Error>> {
        Ok(self.cluster.get_json(&["acrregistry", &login.name])?)
    }

    /// Waits until the status counts so many namespaces.
    pub fn wait_for_served(&self, login: &Login, count: u64) -> Result<Value, Box<dyn Error>> {
        let what = format!("{} to be served in {count} namespaces", login.name);
        Ok(wait_for(&what, SOON, || {
            let object = self.registry(login).map_err(|error| error.to_string())?;
            let served = object
                .pointer("/status/namespaces/served")
                .and_then(Value::as_u64);
            if served == Some(count) {
                Ok(object)
            } else {
                Err(object.to_string())
            }
        })?)
    }

    /// A namespace with a Pod that needs the registry.
    pub fn namespace_in_need(&self, login: &Login) -> Result<String, Box<dyn Error>> {
        let namespace = self.pullpass.new_namespace(&[])?;
        self.run_pod(&namespace, login)?;
        Ok(namespace)
    }

    /// A registry that only one namespace may use, which needs it: a namespace of another test that is labelled
    /// always-inject has the pull secrets of all others.
    pub fn attached_to_one(&self, team: &str) -> Result<(Login, String), Box<dyn Error>> {
        let login = self.attached(&json!({"namespaces": {"matchLabels": {"team": team}}}))?;
        let namespace = self.pullpass.new_namespace(&[("team", team)])?;
        self.run_pod(&namespace, &login)?;
        Ok((login, namespace))
    }

    /// Creates a Pod with an image of the registry, which then names the pull secret.
    pub fn run_pod(&self, namespace: &str, login: &Login) -> Test {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "app-", "namespace": namespace},
            "spec": {"containers": [{"name": "app", "image": format!("{}/app:v1", login.host)}]},
        });
        let created: KubectlOutput = self.cluster.run_with_input(
            &["create", "--output", "json", "--filename", "-"],
            &pod.to_string(),
        )?;
        let pod: Value = serde_json::from_str(&created.stdout)?;
        assert_eq!(
            text(&pod, "/spec/imagePullSecrets/0/name"),
            pull_secret(login),
            "{pod:#}"
        );
        Ok(())
    }

    /// A Secret, if it is there.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<Option<Value>, Box<dyn Error>> {
        let list = self.cluster.get_json(&[
            "secrets",
            "--namespace",
            namespace,
            "--field-selector",
            &format!("metadata.name={name}"),
        ])?;
        Ok(list.pointer("/items/0").cloned())
    }

    /// Waits for the pull secret of a registry.
    pub fn wait_for_secret(&self, namespace: &str, login: &Login) -> Result<Value, Box<dyn Error>> {
        self.wait_for_secret_that(namespace, login, "be there", |_| true)
    }

    /// Waits until the pull secret of a registry passes a check.
    pub fn wait_for_secret_that(
        &self,
        namespace: &str,
        login: &Login,
        what: &str,
        mut is_so: impl FnMut(&Value) -> bool,
    ) -> Result<Value, Box<dyn Error>> {
        let what = format!("the pull secret of {} in {namespace} to {what}", login.name);
        Ok(wait_for(&what, SOON, || {
            let secret = self
                .secret(namespace, &pull_secret(login))
                .map_err(|error| error.to_string())?;
            match secret {
                Some(secret) if is_so(&secret) => Ok(secret),
                other => Err(format!("{other:?}")),
            }
        })?)
    }

    /// Waits until a namespace has no pull secret of a registry.
    pub fn wait_for_no_secret(&self, namespace: &str, login: &Login) -> Test {
        let what = format!("the pull secret of {} in {namespace} to go", login.name);
        wait_for(&what, SOON, || {
            match self.secret(namespace, &pull_secret(login)) {
                Ok(None) => Ok(()),
                Ok(Some(secret)) => Err(secret.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(())
    }

    /// The namespaces that have a pull secret of a registry, or its minted credential.
    pub fn namespaces_with_secrets(&self, login: &Login) -> Result<Vec<String>, Box<dyn Error>> {
        let selector = format!("pullpass.dev/registry={}", login.name);
        let list = self
            .cluster
            .get_json(&["secrets", "--all-namespaces", "--selector", &selector])?;
        Ok(namespaces_of(&list).collect())
    }

    /// Waits until so many namespaces have the pull secret of a registry.
    pub fn wait_for_secrets(&self, login: &Login, count: usize) -> Test {
        let what = format!("{count} namespaces to have the pull secret of {}", login.name);
        wait_for(&what, SOON, || {
            let there = self
                .namespaces_with_secrets(login)
                .map_err(|error| error.to_string())?;
            // The minted credential is one more.
            if there.len() == count + 1 {
                Ok(())
            } else {
                Err(format!("{} Secrets are there", there.len()))
            }
        })?;
        Ok(())
    }

    /// Waits until no Secret of a registry is left anywhere, be it a pull secret or the minted credential.
    pub fn wait_until_nothing_is_left(&self, login: &Login) -> Test {
        let what = format!("all Secrets of {} to go", login.name);
        // The last sweep takes ten namespaces a second, where nothing else is to be done: a world of few is right for it.
        wait_for(&what, SOON, || {
            let left = self
                .namespaces_with_secrets(login)
                .map_err(|error| error.to_string())?;
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{} are left, as in {:?}", left.len(), left.first()))
            }
        })?;
        Ok(())
    }

    /// Waits until the pull secrets of a registry that is detached are deleted, and its credential is emptied.
    pub fn wait_until_swept(&self, login: &Login) -> Result<Value, Box<dyn Error>> {
        let what = format!("the namespaces to be swept of {}", login.name);
        let emptied = wait_for(&what, SOON, || {
            let secret = self.secret("pullpass-system", &format!("credential-{}", login.name));
            let secret = secret.map_err(|error| error.to_string())?.unwrap_or_default();
            let swept = text(&secret, "/metadata/annotations/pullpass.dev~1pull-secrets");
            if swept == "deleted" {
                Ok(secret)
            } else {
                Err(text(&secret, "/metadata/annotations").to_owned())
            }
        })?;
        assert_eq!(Self::docker_config(&emptied)?, "{}");
        Ok(emptied)
    }

    /// The docker config of a pull secret.
    pub fn docker_config(secret: &Value) -> Result<String, Box<dyn Error>> {
        let data = text(secret, "/data/.dockerconfigjson");
        Ok(String::from_utf8(STANDARD.decode(data)?)?)
    }
}

/// Waits until pullpass has looked at everything some times more.
pub fn wait_for_looks(world: &World) -> Test {
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    for _ in 0..3 {
        let secret = world.wait_for_secret(&namespace, &login)?;
        let uid = text(&secret, "/metadata/uid").to_owned();
        world.cluster.run(&[
            "delete",
            "secret",
            "--namespace",
            &namespace,
            &pull_secret(&login),
        ])?;
        world.wait_for_secret_that(&namespace, &login, "be put back", |secret| {
            text(secret, "/metadata/uid") != uid
        })?;
    }
    Ok(())
}

/// Makes so many namespaces of a team together, which nobody is asked about.
pub fn make_namespaces(cluster: &ControlPlane, team: &str, count: usize) -> Test {
    let items: Vec<_> = (0..count)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": format!("{team}-{number}"), "labels": {"team": team},
            }})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.run_with_input(&["create", "--filename", "-"], &list.to_string())?;
    Ok(())
}

/// A Pod that names the pull secret of a registry, in a namespace that the API server may ask nobody about.
pub fn pod_that_names(cluster: &ControlPlane, namespace: &str, login: &Login) -> Test {
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "by-hand", "namespace": namespace}, "spec": {
            // As pullpass' own namespace demands.
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": format!("{}/app:v1", login.host),
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
            "imagePullSecrets": [{"name": pull_secret(login)}],
        }},
    ]});
    cluster.apply(&objects.to_string())?;
    Ok(())
}

/// The spec of a registry that gives every namespace of a team the secret ahead of time.
pub fn eager_for(team: &str) -> Value {
    json!({"provision": "Eager", "namespaces": {"matchLabels": {"team": team}}})
}

/// Where a kubelet would put the token for workload identity.
pub fn federated_token_file(azure: &Azure) -> PathBuf {
    azure.directory().join("federated-token")
}

/// A pullpass that is led to this Azure.
pub fn replica<'a>(cluster: &'a ControlPlane, azure: &Azure) -> Result<Installation<'a>, Box<dyn Error>> {
    replica_that_keeps(cluster, azure, KEPT)
}

/// One that reaches the API server by another way.
pub fn replica_by_way<'a>(
    cluster: &'a ControlPlane,
    azure: &Azure,
    kubeconfig: &Path,
) -> Result<Installation<'a>, Box<dyn Error>> {
    Ok(builder(cluster, azure, KEPT).kubeconfig(kubeconfig).start()?)
}

/// The same with another time for which it keeps emptied credentials.
pub fn replica_that_keeps<'a>(
    cluster: &'a ControlPlane,
    azure: &Azure,
    kept: &str,
) -> Result<Installation<'a>, Box<dyn Error>> {
    Ok(builder(cluster, azure, kept).start()?)
}

fn builder<'a>(cluster: &'a ControlPlane, azure: &Azure, kept: &str) -> InstallationBuilder<'a> {
    replica_builder(cluster, azure).flag(RESYNC).flag(kept)
}

/// The same, to be completed: it looks at everything as often as the shipped one does.
pub fn replica_builder<'a>(cluster: &'a ControlPlane, azure: &Azure) -> InstallationBuilder<'a> {
    let mut builder = Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass"))
        .in_cluster()
        .environment("AZURE_FEDERATED_TOKEN_FILE", federated_token_file(azure));
    for flag in azure.flags() {
        builder = builder.flag(flag);
    }
    builder
}

pub fn pull_secret(login: &Login) -> String {
    format!("pullpass-{}", login.name)
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The namespaces of the objects in a list.
pub fn namespaces_of(list: &Value) -> impl Iterator<Item = String> + '_ {
    let items = list.get("items").and_then(Value::as_array);
    let namespace = |object: &Value| text(object, "/metadata/namespace").to_owned();
    items.into_iter().flatten().map(namespace)
}
