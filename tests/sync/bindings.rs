//! What an AcrPullBinding does: a namespace pulls as the identity of a ServiceAccount of its own, which its owner grants.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_emulator::{FederatedCredential, Jwks, Principal, Step};
use pullpass_test_support::{Azure, ControlPlane, InstallationBuilder, Login, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::client::pull;
use crate::health::{CURRENT, wait_for_health};
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, replica_builder, text};

const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/bindings");
const LOGINS: usize = 12;
const ACCOUNT: &str = "puller";
const BINDING: &str = "app";
const PULL_SECRET: &str = "pullpass-binding-app";

/// Installs what the component has beside the setting.
pub fn install(cluster: &ControlPlane) -> Test {
    for file in ["crd.yaml", "rbac.yaml"] {
        let path = format!("{COMPONENT}/{file}");
        cluster.run(&["apply", "--server-side", "--filename", &path])?;
    }
    Ok(())
}

/// A world of its own: the component is not installed in the others.
fn world() -> Result<&'static World<'static>, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    static WORLD: OnceLock<Result<World<'static>, String>> = OnceLock::new();
    end_to_end_wanted()?;
    let started = CLUSTER.get_or_init(|| {
        let cluster = ControlPlane::start().map_err(|error| error.to_string())?;
        install(&cluster).map_err(|error| error.to_string())?;
        Ok(cluster)
    });
    let cluster = started.as_ref().map_err(String::as_str)?;
    let world = WORLD.get_or_init(|| {
        let settle = |builder: InstallationBuilder<'static>| builder.flag(RESYNC).flag("--bindings");
        World::with_pullpass(cluster, LOGINS, |_| {}, settle).map_err(|error| error.to_string())
    });
    Ok(world.as_ref().map_err(String::as_str)?)
}

/// A namespace with a registry that it may pull from, as a ServiceAccount there that nobody has made yet.
pub struct Team<'a, 'w> {
    world: &'a World<'w>,
    login: Login,
    namespace: String,
}

impl<'a, 'w> Team<'a, 'w> {
    fn new(world: &'a World<'w>) -> Result<Self, Box<dyn Error>> {
        let login = world.login()?;
        world.azure.push_image(&login, "app")?;
        Ok(Self {
            world,
            login,
            namespace: world.pullpass.new_namespace(&[])?,
        })
    }

    /// One that has done all that there is to do.
    pub fn bound(world: &'a World<'w>) -> Result<Self, Box<dyn Error>> {
        let team = Self::new(world)?;
        team.trust()?;
        team.make_account()?;
        team.grant()?;
        team.bind()?;
        team.wait_for_reason("Minted")?;
        Ok(team)
    }

    /// Has the identity trust the ServiceAccount.
    fn trust(&self) -> Test {
        let get = |path: &str| self.world.cluster.run(&["get", "--raw", path]);
        let discovery: Value = serde_json::from_str(&get("/.well-known/openid-configuration")?.stdout)?;
        let credential = FederatedCredential {
            issuer: text(&discovery, "/issuer").to_owned(),
            subject: format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace),
            audience: "api://AzureADTokenExchange".to_owned(),
            jwks: serde_json::from_str::<Jwks>(&get("/openid/v1/jwks")?.stdout)?,
        };
        self.world.azure.put_principal(Principal {
            federated_credentials: vec![credential],
            ..Principal::new(&self.login.tenant, &self.login.client).with_secret(&self.login.password)
        })?;
        Ok(())
    }

    fn make_account(&self) -> Test {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": self.namespace, "annotations": {
                "azure.workload.identity/client-id": self.login.client,
                "azure.workload.identity/tenant-id": self.login.tenant,
            }},
        });
        self.world.cluster.apply(&account.to_string())?;
        Ok(())
    }

    fn grant(&self) -> Test {
        for command in [
            vec![
                "role",
                "pullpass",
                "--verb=create",
                "--resource=serviceaccounts/token",
                "--resource-name=puller",
            ],
            vec![
                "rolebinding",
                "pullpass",
                "--role=pullpass",
                "--serviceaccount=pullpass-system:pullpass",
            ],
        ] {
            let create = [&["create"], &command[..], &["--namespace", &self.namespace]].concat();
            self.world.cluster.run(&create)?;
        }
        Ok(())
    }

    fn bind(&self) -> Test {
        let binding = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": BINDING, "namespace": self.namespace},
            "spec": {"loginServer": self.login.host, "serviceAccountName": ACCOUNT},
        });
        self.world.cluster.apply(&binding.to_string())?;
        Ok(())
    }

    /// Waits for the reason of the condition `Ready`, and returns its message.
    fn wait_for_reason(&self, reason: &str) -> Result<String, Box<dyn Error>> {
        let what = format!("the binding in {} to be {reason}", self.namespace);
        Ok(wait_for(&what, SOON, || {
            let get = ["acrpullbinding", BINDING, "--namespace", &self.namespace];
            let object = self
                .world
                .cluster
                .get_json(&get)
                .map_err(|error| error.to_string())?;
            if text(&object, "/status/conditions/0/reason") == reason {
                Ok(text(&object, "/status/conditions/0/message").to_owned())
            } else {
                Err(format!("{object:#}"))
            }
        })?)
    }

    /// Waits until the pull secret is there, or is not.
    pub fn wait_for_secret(&self, is_there: bool) -> Result<Value, Box<dyn Error>> {
        let what = format!("the pull secret in {} to be there: {is_there}", self.namespace);
        Ok(wait_for(&what, SOON, || {
            let secret = self.world.secret(&self.namespace, PULL_SECRET);
            match secret.map_err(|error| error.to_string())? {
                Some(secret) if is_there => Ok(secret),
                None if !is_there => Ok(Value::Null),
                other => Err(format!("{other:?}")),
            }
        })?)
    }

    /// The pull secrets that a new Pod with an image of the team's registry gets in a namespace.
    fn injected_in(&self, namespace: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "app-", "namespace": namespace},
            "spec": {"containers": [{"name": "app", "image": format!("{}/app:v1", self.login.host)}]},
        });
        let create = ["create", "--output", "json", "--filename", "-"];
        let created = self.world.cluster.run_with_input(&create, &pod.to_string())?;
        let pod: Value = serde_json::from_str(&created.stdout)?;
        let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
        let names = secrets
            .into_iter()
            .flatten()
            .map(|secret| text(secret, "/name").to_owned());
        Ok(names.collect())
    }
}

#[test]
fn teams_pull_as_themselves_and_nobody_else_does() -> Test {
    let world = world()?;
    let teams = [Team::bound(world)?, Team::bound(world)?];
    for (team, other) in [(&teams[0], &teams[1]), (&teams[1], &teams[0])] {
        let binding = ["acrpullbinding", BINDING, "--namespace", &team.namespace];
        wait_for_health(world.cluster, &binding, CURRENT)?;
        assert_eq!(team.injected_in(&team.namespace)?, [PULL_SECRET]);
        assert_eq!(
            team.injected_in(&other.namespace)?,
            [""; 0],
            "it is attached in one namespace"
        );
        let secret = team.wait_for_secret(true)?;
        let config = World::docker_config(&secret)?;
        pull(world, &team.login, "app", &config)?;
        assert!(pull(world, &other.login, "app", &config).is_err());
        let owner = text(&secret, "/metadata/ownerReferences/0/kind");
        assert_eq!(owner, "AcrPullBinding");
        // Only the registry's own namespace and the team's have it.
        let host = &team.login.host;
        let selector = format!("pullpass.dev/binding-namespace={}", team.namespace);
        let all = ["secrets", "--all-namespaces", "--selector", &selector];
        let list = world.cluster.get_json(&all)?;
        let count = list.get("items").and_then(Value::as_array).map(Vec::len);
        assert_eq!(count, Some(2), "of {host}");
        let counts = world.azure.counts();
        assert_eq!(counts.calls_at(Step::EntraToken, &team.login.tenant), 1);
        assert_eq!(counts.calls_at(Step::Exchange, &team.login.host), 1);
    }
    Ok(())
}

#[test]
fn each_thing_that_is_missing_is_told_and_made_good() -> Test {
    let world = world()?;
    let team = Team::new(world)?;
    team.bind()?;
    let message = team.wait_for_reason("ServiceAccountMissing")?;
    let create = format!(
        "`kubectl create serviceaccount puller --namespace {}`",
        team.namespace
    );
    assert!(message.contains(&create), "{message}");

    world.cluster.run(&[
        "create",
        "serviceaccount",
        ACCOUNT,
        "--namespace",
        &team.namespace,
    ])?;
    wait_for("the annotation to be missed", SOON, || {
        let message = team
            .wait_for_reason("ServiceAccountMissing")
            .map_err(|error| error.to_string())?;
        let says = message.contains("azure.workload.identity/client-id=CLIENT-ID");
        if says && !message.contains("create serviceaccount") {
            Ok(())
        } else {
            Err(message)
        }
    })?;

    team.make_account()?;
    let message = team.wait_for_reason("NotGranted")?;
    // What it says is what helps.
    let commands: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 2, "{message}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        world.cluster.run(&words)?;
    }

    let message = team.wait_for_reason("EntraRejected")?;
    let subject = format!("--subject system:serviceaccount:{}:puller", team.namespace);
    assert!(
        message.contains("az identity federated-credential create"),
        "{message}"
    );
    assert!(message.contains(&subject), "{message}");
    assert!(world.secret(&team.namespace, PULL_SECRET)?.is_none());

    team.trust()?;
    team.wait_for_reason("Minted")?;
    let secret = team.wait_for_secret(true)?;
    pull(world, &team.login, "app", &World::docker_config(&secret)?)?;
    Ok(())
}

#[test]
fn a_bindings_secret_comes_first_and_back() -> Test {
    let world = world()?;
    let team = Team::bound(world)?;
    world.attach(&team.login, &team.login.password, &json!({}))?;
    world.wait_for_reason(&team.login, "Minted")?;
    let of_registry = format!("pullpass-{}", team.login.name);
    assert_eq!(team.injected_in(&team.namespace)?, [PULL_SECRET, &of_registry]);
    let elsewhere = world.pullpass.new_namespace(&[])?;
    assert_eq!(team.injected_in(&elsewhere)?, [of_registry]);

    let uid = |secret: &Value| text(secret, "/metadata/uid").to_owned();
    let before = uid(&team.wait_for_secret(true)?);
    let delete = ["delete", "secret", PULL_SECRET, "--namespace", &team.namespace];
    world.cluster.run(&delete)?;
    assert_ne!(uid(&team.wait_for_secret(true)?), before);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_binding_that_is_deleted() -> Test {
    let world = world()?;
    let team = Team::bound(world)?;
    team.wait_for_secret(true)?;
    let delete = [
        "delete",
        "acrpullbinding",
        BINDING,
        "--namespace",
        &team.namespace,
    ];
    world.cluster.run(&delete)?;
    team.wait_for_secret(false)?;
    let minted = format!("binding-credential-{}.{BINDING}", team.namespace);
    wait_for("the minted credential to go", SOON, || {
        match world.secret("pullpass-system", &minted) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    assert_eq!(team.injected_in(&team.namespace)?, [""; 0]);
    Ok(())
}

#[test]
fn a_namespace_that_opts_out_loses_its_pull_secret() -> Test {
    let world = world()?;
    let team = Team::bound(world)?;
    team.wait_for_secret(true)?;
    let label = |value: &str| {
        let label = format!("pullpass.dev/inject{value}");
        world
            .cluster
            .run(&["label", "namespace", &team.namespace, &label])
    };
    label("=disabled")?;
    team.wait_for_reason("NamespaceNotInjected")?;
    team.wait_for_secret(false)?;
    label("-")?;
    team.wait_for_reason("Minted")?;
    team.wait_for_secret(true)?;
    let calls = world
        .azure
        .counts()
        .calls_at(Step::EntraToken, &team.login.tenant);
    assert_eq!(calls, 1, "the credential is there still");
    Ok(())
}

/// Nobody collects garbage here.
#[test]
fn the_next_leader_mints_nothing_and_deletes_what_is_gone() -> Test {
    let cluster = cluster_of_its_own()?;
    install(&cluster)?;
    let mut world = World::with_pullpass(
        &cluster,
        1,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings"),
    )?;
    let start = |azure: &Azure| {
        let builder = replica_builder(&cluster, azure);
        builder.flag(RESYNC).flag("--bindings").start()
    };
    let Team { login, namespace, .. } = Team::bound(&world)?;
    let secret = |world: &World<'_>, is_there| {
        let (login, namespace) = (login.clone(), namespace.clone());
        let team = Team {
            world,
            login,
            namespace,
        };
        team.wait_for_secret(is_there)
    };
    let before = secret(&world, true)?;

    // It writes what was deleted from the credential that is there.
    world.pullpass.process().kill()?;
    cluster.run(&["delete", "secret", PULL_SECRET, "--namespace", &namespace])?;
    world.pullpass = start(&world.azure)?;
    let after = secret(&world, true)?;
    let uids = [&before, &after].map(|secret| text(secret, "/metadata/uid").to_owned());
    assert_ne!(uids[0], uids[1]);
    let calls = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    assert_eq!(calls, 1);

    world.pullpass.process().kill()?;
    cluster.run(&["delete", "acrpullbinding", BINDING, "--namespace", &namespace])?;
    let minted = format!("binding-credential-{namespace}.{BINDING}");
    assert!(world.secret("pullpass-system", &minted)?.is_some());
    world.pullpass = start(&world.azure)?;
    secret(&world, false)?;
    wait_for("the minted credential to go", SOON, || {
        match world.secret("pullpass-system", &minted) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}
