//! A spec that changes: what was minted of the former one goes to nobody whom only the new one lets in.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use pullpass_emulator::{Registry, Role, RoleAssignment, Step};
use pullpass_test_support::{Installation, Login, kube_client, wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::slow_watch::SlowWatch;
use crate::world::{
    SOON, Test, World, cluster_of_its_own, pull_secret, replica_by_way, shared, wait_for_looks,
};

/// Every content that the pull secret of a registry had in a namespace.
struct Observer {
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    // Ends the watch when it is dropped.
    _runtime: Runtime,
}

impl Observer {
    fn start(world: &World, namespace: &str, login: &Login) -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        let client = kube_client(&runtime, world.cluster.kubeconfig())?;
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", pull_secret(login)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let (listening, is_listening) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let mut events = std::pin::pin!(watcher(secrets, only).default_backoff().into_stream());
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::InitDone) => {
                        let _ = listening.send(());
                    }
                    Ok(watcher::Event::InitApply(secret) | watcher::Event::Apply(secret)) => {
                        let content = secret
                            .data
                            .and_then(|data| data.get(".dockerconfigjson").cloned());
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        told.extend(content.map(|content| content.0));
                    }
                    _ => {}
                }
            }
        });
        is_listening.recv_timeout(SOON)?;
        Ok(Self {
            seen,
            _runtime: runtime,
        })
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|content| String::from_utf8_lossy(content).into_owned())
            .collect()
    }
}

/// A user name and a password of the registry's own, which it takes, and the spec that names them.
fn basic(world: &World, login: &Login, who: &str) -> Result<Value, Box<dyn Error>> {
    let name = format!("{}-{who}", login.name);
    put_basic(world, login, &name, who, &password(who))
}

fn password(who: &str) -> String {
    format!("password-of-{who}")
}

/// The same in a Secret of that name, with that password, which the registry accepts only where it is the user's.
fn put_basic(
    world: &World,
    login: &Login,
    name: &str,
    who: &str,
    typed: &str,
) -> Result<Value, Box<dyn Error>> {
    let tokens = ["powerful", "narrow"].map(|who| (who, password(who)));
    world.put_tokens(login, &tokens)?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name, "namespace": "pullpass-system", "annotations": {"pullpass.dev/registries": login.name},
        },
        "stringData": {"username": who, "password": typed},
    });
    world.cluster.apply(&secret.to_string())?;
    Ok(names(name))
}

fn names(secret: &str) -> Value {
    json!({"servicePrincipal": null, "basic": {"secretRef": {"name": secret}}})
}

fn patch(world: &World, login: &Login, spec: &Value) -> Test {
    let patch = json!({"spec": spec}).to_string();
    world
        .cluster
        .run(&["patch", "acr", &login.name, "--type=merge", "--patch", &patch])?;
    Ok(())
}

/// A registry for one team, which has its credential, and a namespace of another team, whose Pods are refused it so far.
struct Shared {
    login: Login,
    of_the_team: String,
    of_others: String,
    observer: Observer,
    /// What the team has.
    powerful: String,
}

impl Shared {
    fn start(world: &World, login: Login, spec: Value) -> Result<Self, Box<dyn Error>> {
        Self::start_with(world, &world.pullpass, login, spec)
    }

    /// One whose Pods another replica is asked about.
    fn start_with(
        world: &World,
        replica: &Installation<'_>,
        login: Login,
        spec: Value,
    ) -> Result<Self, Box<dyn Error>> {
        let scope = json!({"namespaces": {"matchLabels": {"team": login.name}}, "provision": "Eager"});
        let of_the_team = replica.new_namespace(&[("team", &login.name)])?;
        let of_others = replica.new_namespace(&[])?;
        let observer = Observer::start(world, &of_others, &login)?;
        let mut object = login.acr_registry();
        let fields = object.pointer_mut("/spec").and_then(Value::as_object_mut);
        let fields = fields.ok_or("the object has no spec")?;
        for more in [spec, scope] {
            fields.extend(more.as_object().ok_or("no fields")?.clone());
        }
        world.cluster.create(&object.to_string())?;
        let powerful = World::docker_config(&world.wait_for_secret(&of_the_team, &login)?)?;
        Ok(Self {
            login,
            of_the_team,
            of_others,
            observer,
            powerful,
        })
    }

    /// Waits until the others have a credential, and holds that it is not the team's and never was.
    fn assert_others_got_another(&self, world: &World) -> Test {
        world.wait_for_secret(&self.of_others, &self.login)?;
        wait_for("the watch to tell", SOON, || {
            if self.observer.seen().is_empty() {
                Err("nothing was seen")
            } else {
                Ok(())
            }
        })?;
        assert!(!self.observer.seen().contains(&self.powerful));
        // The team has it too in the end.
        world.wait_for_secret_that(&self.of_the_team, &self.login, "be changed", |secret| {
            World::docker_config(secret).is_ok_and(|config| config != self.powerful)
        })?;
        assert!(!self.observer.seen().contains(&self.powerful));
        Ok(())
    }
}

#[test]
fn another_identity_for_everybody_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let powerful = basic(world, &login, "powerful")?;
    let narrow = basic(world, &login, "narrow")?;
    let shared = Shared::start(world, login, json!({"identity": {"basic": powerful["basic"]}}))?;
    patch(
        world,
        &shared.login,
        &json!({"identity": narrow, "namespaces": null}),
    )?;
    shared.assert_others_got_another(world)?;
    assert!(
        shared
            .observer
            .seen()
            .iter()
            .all(|config| config.contains("password-of-narrow"))
    );
    Ok(())
}

#[test]
fn a_wrong_identity_for_everybody_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let powerful = basic(world, &login, "powerful")?;
    let missing = format!("{}-narrow", login.name);
    let shared = Shared::start(world, login, json!({"identity": {"basic": powerful["basic"]}}))?;
    let login = &shared.login;
    patch(
        world,
        login,
        &json!({"identity": names(&missing), "namespaces": null, "provision": "OnDemand"}),
    )?;
    world.wait_for_reason(login, "CredentialSecretMissing")?;
    // Whatever is tried: a Pod that wants it, and the looks at everything.
    world.run_pod(&shared.of_others, login)?;
    wait_for_looks(world)?;
    assert!(
        shared.observer.seen().is_empty(),
        "the others got {:?}",
        shared.observer.seen().len()
    );
    let kept = world.wait_for_secret(&shared.of_the_team, login)?;
    assert_eq!(
        World::docker_config(&kept)?,
        shared.powerful,
        "the team keeps its own"
    );
    world.run_pod(&shared.of_the_team, login)?;
    basic(world, login, "narrow")?;
    shared.assert_others_got_another(world)
}

#[test]
fn another_user_in_the_same_secret_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let name = format!("{}-user", login.name);
    let spec = put_basic(world, &login, &name, "powerful", &password("powerful"))?;
    let shared = Shared::start(world, login, json!({"identity": {"basic": spec["basic"]}}))?;
    let login = &shared.login;
    put_basic(world, login, &name, "narrow", "mistyped")?;
    patch(world, login, &json!({"namespaces": null}))?;
    world.wait_for_reason(login, "ExchangeRejected")?;
    world.run_pod(&shared.of_others, login)?;
    wait_for_looks(world)?;
    assert!(shared.observer.seen().is_empty());
    let kept = world.wait_for_secret(&shared.of_the_team, login)?;
    assert_eq!(
        World::docker_config(&kept)?,
        shared.powerful,
        "the team keeps its own"
    );
    put_basic(world, login, &name, "narrow", &password("narrow"))?;
    shared.assert_others_got_another(world)
}

#[test]
fn a_secret_that_refuses_ends_what_further_namespaces_get() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let powerful = basic(world, &login, "powerful")?;
    let shared = Shared::start(world, login, json!({"identity": {"basic": powerful["basic"]}}))?;
    let login = &shared.login;
    let annotate = |users: &str| {
        let secret = format!("{}-powerful", login.name);
        let annotation = format!("pullpass.dev/registries={users}");
        let own = [
            "--namespace=pullpass-system",
            "annotate",
            "--overwrite",
            "secret",
            &secret,
        ];
        world.cluster.run(&[&own[..], &[&annotation]].concat())
    };
    annotate("another")?;
    world.wait_for_reason(login, "CredentialSecretMissing")?;
    // It is the team's from now on, and so it may have what the team has.
    let label = format!("team={}", login.name);
    world
        .cluster
        .run(&["label", "namespace", &shared.of_others, &label])?;
    world.run_pod(&shared.of_others, login)?;
    wait_for_looks(world)?;
    assert!(shared.observer.seen().is_empty());
    world.wait_for_secret(&shared.of_the_team, login)?;
    annotate(&login.name)?;
    world.wait_for_secret(&shared.of_others, login)?;
    Ok(())
}

#[test]
fn another_kind_for_everybody_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    let password = json!({"credential": {"kind": "ServicePrincipalPassword"}});
    let shared = Shared::start(world, login, password)?;
    let token = json!({"kind": "AccessToken", "repositories": ["app"]});
    patch(
        world,
        &shared.login,
        &json!({"credential": token, "namespaces": null}),
    )?;
    shared.assert_others_got_another(world)
}

#[test]
fn another_login_server_for_everybody_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let other = world.login()?;
    // The same application may pull from both.
    let moved = Registry::new(&login.tenant, &other.host);
    world.azure.put_registry(moved)?;
    world
        .azure
        .grant(RoleAssignment::new(&login.client, &other.host, Role::AcrPull))?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    let shared = Shared::start(
        world,
        login,
        json!({"credential": {"kind": "ServicePrincipalPassword"}}),
    )?;
    patch(
        world,
        &shared.login,
        &json!({"loginServer": other.host, "namespaces": null}),
    )?;
    shared.assert_others_got_another(world)
}

#[test]
fn a_registry_of_the_same_name_gives_nobody_the_former() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let powerful = basic(world, &login, "powerful")?;
    let narrow = basic(world, &login, "narrow")?;
    let shared = Shared::start(world, login, json!({"identity": {"basic": powerful["basic"]}}))?;
    let mut object = shared.login.acr_registry();
    object["spec"]["identity"] = json!({"basic": narrow["basic"]});
    object["spec"]["provision"] = json!("Eager");
    world
        .cluster
        .run(&["delete", "acrregistry", &shared.login.name, "--wait=true"])?;
    world.cluster.create(&object.to_string())?;
    shared.assert_others_got_another(world)
}

/// Creates Pods until one is injected, which a replica does once it has heard of the spec.
fn run_injected_pod(world: &World, namespace: &str, login: &Login) -> Test {
    wait_for("a Pod to be injected", SOON, || run_pod(world, namespace, login))?;
    Ok(())
}

/// Creates a Pod with an image of the registry; says whether it names the pull secret.
fn run_pod(world: &World, namespace: &str, login: &Login) -> bool {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "app-", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": format!("{}/app:v1", login.host)}]},
    });
    let create = ["create", "--output", "json", "--filename", "-"];
    let created = world.cluster.run_with_input(&create, &pod.to_string());
    created.is_ok_and(|created| created.stdout.contains(&format!("\"{}\"", pull_secret(login))))
}

#[test]
fn a_replica_with_a_slow_watch_gives_nobody_the_former() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 2, |_| {})?;
    let way = SlowWatch::start(&cluster)?;
    let slow = replica_by_way(&cluster, &world.azure, way.kubeconfig())?;
    // It knows the new spec and the former credential; and the other way round.
    for resource in ["secrets", "acrregistries"] {
        let login = world.login()?;
        let powerful = basic(&world, &login, "powerful")?;
        let narrow = basic(&world, &login, "narrow")?;
        let spec = json!({"identity": {"basic": powerful["basic"]}});
        let shared = Shared::start_with(&world, &slow, login, spec)?;
        let login = &shared.login;
        // It holds the former credential.
        run_injected_pod(&world, &shared.of_the_team, login)?;
        way.hold(resource);
        patch(&world, login, &json!({"identity": narrow, "namespaces": null}))?;
        way.wait_for_an_event()?;
        // Whatever it is asked about meanwhile: it writes nothing, or what the spec allows.
        if resource == "secrets" {
            run_injected_pod(&world, &shared.of_others, login)?;
        } else {
            run_pod(&world, &shared.of_others, login);
        }
        run_pod(&world, &shared.of_the_team, login);
        shared.assert_others_got_another(&world)?;
        let later = slow.new_namespace(&[])?;
        let observer = Observer::start(&world, &later, login)?;
        if resource == "secrets" {
            run_injected_pod(&world, &later, login)?;
        }
        world.wait_for_secret(&later, login)?;
        way.release();
        run_injected_pod(&world, &later, login)?;
        shared.assert_others_got_another(&world)?;
        assert!(!observer.seen().contains(&shared.powerful), "{resource}");
    }
    Ok(())
}

#[test]
fn edits_in_a_loop_do_not_flood_entra() -> Test {
    const EDITS: u64 = 40;
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let begun = Instant::now();
    for number in 0..EDITS {
        let principal = json!({"clientId": format!("wrong-{number}")});
        patch(
            world,
            &login,
            &json!({"identity": {"servicePrincipal": principal}}),
        )?;
    }
    world.wait_for_reason(&login, "EntraRejected")?;
    let calls = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    // The first mint; then two changes in half a minute, which are repeated a few times.
    let windows = begun.elapsed().as_secs() / 30 + 1;
    assert!(
        (2..=1 + windows * 6).contains(&calls) && calls < EDITS / 2,
        "{calls} calls in {windows}"
    );
    Ok(())
}
