//! Pods whose AcrRegistry, namespace or ServiceAccount is newer than what the caches of a replica have.

use std::error::Error;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use pullpass_test_support::{
    ControlPlane, Installation, InstallationBuilder, Login, end_to_end_wanted, kube_client, pod, pod_with,
    wait_for,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bound_team::{ACCOUNT, BINDING, PULL_SECRET};
use crate::bound_world::install_bindings;
use crate::slow_watch::SlowWatch;
use crate::world::{RESYNC, SOON, Test, World, pull_secret, replica_builder, text};

/// How far apart a replica's lists of `AcrRegistries` begin at least.
const LIST_INTERVAL: Duration = Duration::from_millis(25);
/// How long a review waits at most.
const WAIT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often something is tried that depends on an answer of the API server within that time, which a busy machine may not give.
const ATTEMPTS: usize = 5;

/// A cluster with a leader, and beside it a replica whose watches can be held up, for the life of a test.
fn beside_a_slow_replica(
    logins: usize,
    test: impl FnOnce(&World, &SlowWatch, &Installation) -> Test,
) -> Test {
    beside_a_slow_replica_that(logins, |builder| builder, test)
}

/// The same, of which both are to be like that.
fn beside_a_slow_replica_that(
    logins: usize,
    settle: fn(InstallationBuilder) -> InstallationBuilder,
    test: impl FnOnce(&World, &SlowWatch, &Installation) -> Test,
) -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    install_bindings(&cluster)?;
    let world = World::with_pullpass(&cluster, logins, |_| {}, |builder| settle(builder.flag(RESYNC)))?;
    let way = SlowWatch::start(&cluster)?;
    let slow = replica_builder(&cluster, &world.azure).flag(RESYNC);
    let slow = settle(slow.kubeconfig(way.kubeconfig())).start()?;
    test(&world, &way, &slow)
}

/// The names of the pull secrets that a Pod has, in order.
fn pull_secrets(pod: &Value) -> Vec<&str> {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    secrets
        .into_iter()
        .flatten()
        .map(|secret| text(secret, "/name"))
        .collect()
}

fn apply(world: &World, objects: &[Value]) -> Test {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    world.cluster.apply(&list.to_string())?;
    Ok(())
}

/// How often answers of a replica waited for this, with this result.
fn waited(replica: &Installation, what: &str, result: &str) -> Result<usize, Box<dyn Error>> {
    let series = format!("pullpass_admission_waited_total{{for=\"{what}\",result=\"{result}\"}} ");
    let metrics = replica.metrics()?;
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    Ok(count.map(str::parse).transpose()?.unwrap_or_default())
}

/// Whether a review was answered from the caches, since the API server did not say in time how it is behind.
fn is_late(record: &Value) -> bool {
    ["/waited/registry", "/waited/namespace", "/waited/serviceAccount"]
        .iter()
        .any(|what| record.pointer(what) == Some(&json!("failed")))
}

/// Makes attempts, each of which is told its number, until one says that no review in it was late.
fn until_in_time(mut attempt: impl FnMut(usize) -> Result<bool, Box<dyn Error>>) -> Test {
    for number in 0..ATTEMPTS {
        if attempt(number)? {
            return Ok(());
        }
    }
    Err("each time the API server did not answer in time".into())
}

/// Creates a Pod with an image of the registry.
fn create_pod(world: &World, namespace: &str, name: &str, login: &Login) -> Result<Value, Box<dyn Error>> {
    let pod = pod(namespace, name, &image(login)).to_string();
    let create = ["create", "--output", "json", "--filename", "-"];
    let created = world.cluster.run_with_input(&create, &pod)?;
    Ok(serde_json::from_str(&created.stdout)?)
}

/// Creates Pods in a namespace that had none until one is injected, and returns its record. The API server may not have asked
/// about those before, since it acts on labels a moment after it took them, or their reviews were late.
fn first_injected(
    world: &World,
    slow: &Installation,
    namespace: &str,
    login: &Login,
) -> Result<Value, Box<dyn Error>> {
    let mut number = 0;
    wait_for("a Pod to be injected", SOON, || {
        number += 1;
        let name = format!("app-{number}");
        let created = create_pod(world, namespace, &name, login).map_err(|error| error.to_string());
        let is_injected = created
            .as_ref()
            .is_ok_and(|pod| pull_secrets(pod) == [pull_secret(login)]);
        // Nobody else refuses it.
        let is_asked = is_injected || created.is_err();
        let records = wait_for("the record of a review", SOON, || {
            let records = slow.records_in(namespace).map_err(|error| error.to_string())?;
            let own = records
                .iter()
                .find(|record| text(record, "/pod/name") == name)
                .cloned();
            (own.is_some() || !is_asked)
                .then_some((own, records))
                .ok_or_else(|| name.clone())
        });
        let (own, records) = records.map_err(|error| error.to_string())?;
        match (is_injected, own) {
            (true, Some(own)) => Ok(Ok(own)),
            _ if records.iter().all(is_late) => Err(format!("{created:?}")),
            _ => Ok(Err(format!("{created:?}: {records:#?}").into())),
        }
    })?
}

/// A namespace's labels, by which a replica of its own is asked about it.
fn labels_of(world: &World, namespace: &str) -> Result<Value, Box<dyn Error>> {
    let object = world.cluster.get_json(&["namespace", namespace])?;
    Ok(object.pointer("/metadata/labels").cloned().unwrap_or_default())
}

/// Waits until a replica answers for a namespace that may use the registry without asking about it.
fn wait_until_known(world: &World, slow: &Installation, namespace: &str, login: &Login) -> Test {
    let mut number = 0;
    wait_for("the last namespace to be known", SOON, || {
        // It may be late.
        let _ = create_pod(world, namespace, &format!("app-{number}"), login);
        number += 1;
        let records = slow.records_in(namespace).map_err(|error| error.to_string())?;
        let is_known = records.iter().any(|record| record.get("waited").is_none());
        is_known
            .then_some(())
            .ok_or_else(|| "every answer waited".to_owned())
    })?;
    Ok(())
}

fn image(login: &Login) -> String {
    format!("{}/app:v1", login.host)
}

/// A Deployment of three Pods with an image of the registry.
fn deployment(namespace: &str, login: &Login) -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image(login)}]},
            },
        },
    })
}

#[test]
fn an_acr_registry_and_its_deployment_come_in_one_apply() -> Test {
    beside_a_slow_replica(ATTEMPTS, |world, way, slow| {
        // It stays held up: nothing waits for it.
        way.hold("acrregistries");
        until_in_time(|_| {
            let (login, namespace) = (world.login()?, slow.new_namespace(&[])?);
            let before = waited(slow, "registry", "changed")?;
            apply(
                world,
                &[
                    login.secret(&login.password),
                    login.acr_registry(),
                    deployment(&namespace, &login),
                ],
            )?;
            let pods = wait_for("the Pods of the Deployment", SOON, || {
                let pods = world.cluster.get_json(&["pods", "--namespace", &namespace]);
                let pods = pods.map_err(|error| error.to_string())?;
                match pods.pointer("/items").and_then(Value::as_array) {
                    Some(pods) if pods.len() == 3 => Ok(pods.clone()),
                    other => Err(format!("{other:?}")),
                }
            })?;
            let records = slow.wait_for_records(&namespace, 3)?;
            if records.iter().any(is_late) {
                return Ok(false);
            }
            for pod in &pods {
                assert_eq!(pull_secrets(pod), [pull_secret(&login)], "{pod:#}");
            }
            for record in &records {
                assert_eq!(record.pointer("/waited/registry"), Some(&json!("changed")));
            }
            assert_eq!(waited(slow, "registry", "changed")?, before + 3);
            // The leader sees the Pods themselves.
            world.wait_for_secret(&namespace, &login)?;
            Ok(true)
        })?;
        way.wait_for_an_event()
    })
}

#[test]
fn a_binding_and_its_pod_come_in_one_apply() -> Test {
    fn with_bindings(builder: InstallationBuilder) -> InstallationBuilder {
        builder.flag("--bindings")
    }
    beside_a_slow_replica_that(1, with_bindings, |world, way, slow| {
        let login = world.login()?;
        // It stays held up: nothing waits for it.
        way.hold("acrpullbindings");
        until_in_time(|_| {
            let (bound, other) = (slow.new_namespace(&[])?, slow.new_namespace(&[])?);
            let before = waited(slow, "registry", "changed")?;
            let binding = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                "metadata": {"name": BINDING, "namespace": bound},
                "spec": {"loginServer": login.host, "serviceAccountName": ACCOUNT},
            });
            let pods = [&bound, &other].map(|namespace| pod(namespace, "web", &image(&login)));
            apply(world, &[&[binding][..], &pods].concat())?;
            for (namespace, expected, result) in [
                (&bound, &[PULL_SECRET][..], "changed"),
                (&other, &[], "unchanged"),
            ] {
                let records = slow.wait_for_records(namespace, 1)?;
                if records.iter().any(is_late) {
                    return Ok(false);
                }
                let pod = world
                    .cluster
                    .get_json(&["pod", "web", "--namespace", namespace])?;
                assert_eq!(pull_secrets(&pod), expected, "{pod:#}");
                for record in records {
                    assert_eq!(record.pointer("/waited/registry"), Some(&json!(result)));
                }
            }
            assert_eq!(waited(slow, "registry", "changed")?, before + 1);
            Ok(true)
        })?;
        way.wait_for_an_event()
    })
}

#[test]
fn a_namespace_and_its_pod_come_in_one_apply() -> Test {
    beside_a_slow_replica(2, |world, way, slow| {
        let team = world.attached(&json!({"namespaces": {"matchLabels": {"team": "a"}}}))?;
        let everyones = world.attached(&json!({}))?;
        let known = slow.new_namespace(&[])?;
        wait_until_known(world, slow, &known, &everyones)?;
        let labels = labels_of(world, &known)?;
        way.hold("namespaces");
        // Of the images, the team's is only for the first namespace.
        let always = json!({"team": "a", "pullpass.dev/always-inject": "true"});
        let rows = [
            (
                "always",
                always,
                vec![&everyones],
                vec![&everyones, &team],
                "changed",
            ),
            // It is no other answer: the team's registry is not for it, as the API server says.
            (
                "usual",
                json!({"team": "b"}),
                vec![&everyones, &team],
                vec![&everyones],
                "unchanged",
            ),
        ];
        for (kind, own, images, expected, result) in rows {
            let mut expected: Vec<_> = expected.into_iter().map(pull_secret).collect();
            expected.sort();
            until_in_time(|number| {
                let name = format!("{kind}-{number}");
                let before = waited(slow, "namespace", result)?;
                apply(world, &with_pod(&name, &labels, &own, &images))?;
                let records = slow.wait_for_records(&name, 1)?;
                if records.iter().any(is_late) {
                    return Ok(false);
                }
                let stored = world.cluster.get_json(&["pod", "web", "--namespace", &name])?;
                assert_eq!(pull_secrets(&stored), expected, "{stored:#}");
                assert_eq!(waited(slow, "namespace", result)?, before + 1);
                Ok(true)
            })?;
        }
        way.wait_for_an_event()
    })
}

/// A namespace with these labels and with its own, and a Pod in it with an image of each of these registries.
fn with_pod(name: &str, labels: &Value, own: &Value, images: &[&Login]) -> [Value; 3] {
    let labels: serde_json::Map<_, _> = [labels, own]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(Clone::clone)
        .collect();
    let containers: Vec<_> = images
        .iter()
        .map(|login| json!({"name": login.name, "image": image(login)}))
        .collect();
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": name}}),
        pod_with(
            name,
            "web",
            json!({"serviceAccountName": "web", "containers": containers}),
        ),
    ]
}

#[test]
fn a_strict_account_and_its_pod_come_in_one_apply() -> Test {
    beside_a_slow_replica(1, |world, way, slow| {
        let login = world.attached(&json!({}))?;
        let namespace = slow.new_namespace(&[])?;
        wait_until_known(world, slow, &namespace, &login)?;
        // It stays held up: nothing waits for it.
        way.hold("serviceaccounts");
        let secret = pull_secret(&login);
        for (enforces, expected, result) in [
            ("true", vec![], "changed"),
            ("false", vec![&*secret], "unchanged"),
        ] {
            until_in_time(|number| {
                let name = format!("{result}-{number}");
                let before = waited(slow, "service-account", result)?;
                let account = json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {
                        "name": name, "namespace": namespace,
                        "annotations": {"kubernetes.io/enforce-mountable-secrets": enforces},
                    },
                });
                let containers = json!([{"name": "main", "image": image(&login)}]);
                let spec = json!({"serviceAccountName": name, "containers": containers});
                let applied = apply(world, &[account, pod_with(&namespace, &name, spec)]);
                let record = wait_for("the record of the review", SOON, || {
                    let records = slow.records_in(&namespace).map_err(|error| error.to_string())?;
                    let own = records
                        .into_iter()
                        .find(|record| text(record, "/pod/name") == name);
                    own.ok_or_else(|| format!("{applied:?}"))
                })?;
                if is_late(&record) {
                    return Ok(false);
                }
                // The API server does not refuse the Pod.
                applied?;
                let stored = world
                    .cluster
                    .get_json(&["pod", &name, "--namespace", &namespace])?;
                assert_eq!(pull_secrets(&stored), expected, "{stored:#}");
                let waited_for = record.pointer("/waited/serviceAccount");
                assert_eq!(waited_for, Some(&json!(result)), "{record:#}");
                assert_eq!(waited(slow, "service-account", result)?, before + 1);
                Ok(true)
            })?;
        }
        way.wait_for_an_event()
    })
}

#[test]
fn a_namespace_opts_in_right_before_its_pod() -> Test {
    beside_a_slow_replica(1, |world, way, slow| {
        let login = world.attached(&json!({"namespaces": {"matchLabels": {"team": "a"}}}))?;
        let declined = slow.new_namespace(&[("pullpass.dev/inject", "disabled"), ("team", "b")])?;
        let others = slow.new_namespace(&[("team", "b")])?;
        // Known after the other two.
        let last = slow.new_namespace(&[("team", "a")])?;
        wait_until_known(world, slow, &last, &login)?;
        way.hold("namespaces");
        for namespace in [&declined, &others] {
            let labels = ["pullpass.dev/inject=enabled", "team=a"];
            let label = ["label", "namespace", namespace, "--overwrite"];
            world.cluster.run(&[&label[..], &labels[..]].concat())?;
            let record = first_injected(world, slow, namespace, &login)?;
            let waited = record.pointer("/waited/namespace");
            assert_eq!(waited, Some(&json!("changed")), "{record:#}");
        }
        way.wait_for_an_event()
    })
}

#[test]
fn a_namespace_that_opts_in_is_refused_nothing_that_is_for_it() -> Test {
    fn strict_opt_in(builder: InstallationBuilder) -> InstallationBuilder {
        let builder = builder.overlay("opt-in").label("pullpass.dev/inject", "enabled");
        builder.flag("--mode=opt-in").flag("--forbidden=deny")
    }
    beside_a_slow_replica_that(1, strict_opt_in, |world, way, slow| {
        let login = world.attached(&json!({"namespaces": {"matchLabels": {"team": "a"}}}))?;
        let (opts_in, moves) = (slow.new_namespace(&[])?, slow.new_namespace(&[("team", "b")])?);
        let known = slow.new_namespace(&[("team", "a"), ("pullpass.dev/inject", "enabled")])?;
        wait_until_known(world, slow, &known, &login)?;
        let before = waited(slow, "namespace", "changed")?;
        way.hold("namespaces");
        for namespace in [&opts_in, &moves] {
            let label = ["label", "namespace", namespace, "--overwrite"];
            world
                .cluster
                .run(&[&label[..], &["pullpass.dev/inject=enabled", "team=a"]].concat())?;
            first_injected(world, slow, namespace, &login)?;
        }
        way.wait_for_an_event()?;
        assert_eq!(waited(slow, "namespace", "changed")?, before + 2);
        // The labels that count are those that the API server has now, and by these it is refused.
        let label = ["label", "namespace", &opts_in, "--overwrite", "team=b"];
        world.cluster.run(&label)?;
        until_in_time(|number| {
            let name = format!("refused-{number}");
            let refused = create_pod(world, &opts_in, &name, &login);
            let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
            let records = wait_for("the record of a review", SOON, || {
                let mut records = slow.records_in(&opts_in).map_err(|error| error.to_string())?;
                records.retain(|record| text(record, "/pod/name") == name);
                (!records.is_empty())
                    .then_some(records)
                    .ok_or_else(|| said.clone())
            })?;
            if records.iter().any(is_late) {
                return Ok(false);
            }
            assert!(said.contains("(rule: forbidden)"), "{said}");
            Ok(true)
        })?;
        assert_eq!(waited(slow, "namespace", "changed")?, before + 2);
        Ok(())
    })
}

#[test]
fn strangers_cost_few_calls_and_a_bounded_wait() -> Test {
    const PODS: usize = 1_000;
    const STREAMS: usize = 16;
    beside_a_slow_replica(0, |world, way, slow| {
        let namespace = slow.new_namespace(&[])?;
        let runtime = Runtime::new()?;
        let pods: Api<Pod> = Api::namespaced(kube_client(&runtime, world.cluster.kubeconfig())?, &namespace);
        let unchanged_before = waited(slow, "registry", "unchanged")?;
        let failed_before = waited(slow, "registry", "failed")?;
        way.take_lists();
        let begun = Instant::now();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let created = stream::iter(0..PODS)
            .map(|number| {
                let image = format!("stranger{number}.azurecr.io/app");
                let object = pod(&namespace, &format!("web-{number}"), &image);
                let (pods, dry_run) = (&pods, &dry_run);
                async move {
                    let object = serde_json::from_value(object).unwrap_or_default();
                    pods.create(dry_run, &object).await.is_ok()
                }
            })
            .buffer_unordered(STREAMS)
            .filter(|is_created| std::future::ready(*is_created))
            .count();
        assert_eq!(runtime.block_on(created), PODS);
        let (took, lists) = (begun.elapsed(), way.take_lists());
        println!("{PODS} Pods of strangers' hosts: {lists} lists in {took:?}");
        let most = took.as_millis() / LIST_INTERVAL.as_millis() + 1;
        assert!(
            lists > 0 && lists <= usize::try_from(most)?,
            "{lists} in {took:?}"
        );
        assert!(lists < PODS, "{lists}");
        let unchanged = waited(slow, "registry", "unchanged")? - unchanged_before;
        // On a machine that does other things, too, some have no answer in time.
        assert_eq!(
            unchanged + waited(slow, "registry", "failed")? - failed_before,
            PODS
        );
        assert!(unchanged > 0, "none had an answer in time");

        way.cut_off();
        let stranger = pod(&namespace, "late", "stranger.azurecr.io/app");
        let arguments = ["create", "--filename", "-"];
        world.cluster.run_with_input(&arguments, &stranger.to_string())?;
        let records = slow.wait_for_records(&namespace, PODS + 1)?;
        let record = records.last().ok_or("there is no record")?;
        assert_eq!(record.pointer("/waited/registry"), Some(&json!("failed")));
        let took = record.get("durationMicros").and_then(Value::as_u64);
        let took = Duration::from_micros(took.unwrap_or_default());
        // The API server would wait for 5 s.
        assert!(took >= WAIT_TIMEOUT && took < WAIT_TIMEOUT * 3, "{took:?}");
        Ok(())
    })
}
