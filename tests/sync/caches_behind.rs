//! Pods whose AcrRegistry or namespace is newer than what the caches of a replica have.

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

/// A namespace's labels, by which a replica of its own is asked about it.
fn labels_of(world: &World, namespace: &str) -> Result<Value, Box<dyn Error>> {
    let object = world.cluster.get_json(&["namespace", namespace])?;
    Ok(object.pointer("/metadata/labels").cloned().unwrap_or_default())
}

/// Waits until a replica answers for a namespace that may use the registry without asking about it.
fn wait_until_known(world: &World, slow: &Installation, namespace: &str, login: &Login) -> Test {
    wait_for("the last namespace to be known", SOON, || {
        world
            .run_pod(namespace, login)
            .map_err(|error| error.to_string())?;
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

#[test]
fn an_acr_registry_and_its_deployment_come_in_one_apply() -> Test {
    beside_a_slow_replica(1, |world, way, slow| {
        let login = world.login()?;
        let namespace = slow.new_namespace(&[])?;
        // It stays held up: nothing waits for it.
        way.hold("acrregistries");
        let labels = json!({"app": "web"});
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "web", "image": image(&login)}]},
                },
            },
        });
        apply(
            world,
            &[login.secret(&login.password), login.acr_registry(), deployment],
        )?;
        let pods = wait_for("the Pods of the Deployment", SOON, || {
            let pods = world.cluster.get_json(&["pods", "--namespace", &namespace]);
            let pods = pods.map_err(|error| error.to_string())?;
            match pods.pointer("/items").and_then(Value::as_array) {
                Some(pods) if pods.len() == 3 => Ok(pods.clone()),
                other => Err(format!("{other:?}")),
            }
        })?;
        for pod in &pods {
            assert_eq!(pull_secrets(pod), [pull_secret(&login)], "{pod:#}");
        }
        way.wait_for_an_event()?;
        assert_eq!(waited(slow, "registry", "changed")?, 3);
        for record in slow.wait_for_records(&namespace, 3)? {
            assert_eq!(record.pointer("/waited/registry"), Some(&json!("changed")));
        }
        // The leader sees the Pods themselves.
        world.wait_for_secret(&namespace, &login)?;
        Ok(())
    })
}

#[test]
fn a_binding_and_its_pod_come_in_one_apply() -> Test {
    fn with_bindings(builder: InstallationBuilder) -> InstallationBuilder {
        builder.flag("--bindings")
    }
    beside_a_slow_replica_that(1, with_bindings, |world, way, slow| {
        let login = world.login()?;
        let (bound, other) = (slow.new_namespace(&[])?, slow.new_namespace(&[])?);
        // It stays held up: nothing waits for it.
        way.hold("acrpullbindings");
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
            let pod = world
                .cluster
                .get_json(&["pod", "web", "--namespace", namespace])?;
            assert_eq!(pull_secrets(&pod), expected, "{pod:#}");
            for record in slow.wait_for_records(namespace, 1)? {
                assert_eq!(record.pointer("/waited/registry"), Some(&json!(result)));
            }
        }
        assert_eq!(waited(slow, "registry", "changed")?, 1);
        way.wait_for_an_event()?;
        Ok(())
    })
}

#[test]
fn a_namespace_and_its_pod_come_in_one_apply() -> Test {
    beside_a_slow_replica(2, |world, way, slow| {
        let team = world.attached(&json!({"namespaces": {"matchLabels": {"team": "a"}}}))?;
        let everyones = world.attached(&json!({}))?;
        let known = slow.new_namespace(&[])?;
        world.run_pod(&known, &everyones)?;
        way.hold("namespaces");
        for (name, own, expected) in [
            (
                "always",
                json!({"team": "a", "pullpass.dev/always-inject": "true"}),
                vec![&everyones, &team],
            ),
            ("usual", json!({"team": "b"}), vec![&everyones]),
        ] {
            let mut labels = labels_of(world, &known)?;
            for (key, value) in own.as_object().into_iter().flatten() {
                labels[key] = value.clone();
            }
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": name},
            });
            // Of the images, the team's is for the first namespace alone.
            let containers =
                [&everyones, &team].map(|login| json!({"name": login.name, "image": image(login)}));
            let containers = if name == "always" {
                &containers[..1]
            } else {
                &containers[..]
            };
            apply(
                world,
                &[
                    namespace,
                    account,
                    pod_with(
                        name,
                        "web",
                        json!({"serviceAccountName": "web", "containers": containers}),
                    ),
                ],
            )?;
            let stored = world.cluster.get_json(&["pod", "web", "--namespace", name])?;
            let mut expected: Vec<_> = expected.into_iter().map(pull_secret).collect();
            expected.sort();
            assert_eq!(pull_secrets(&stored), expected, "{stored:#}");
        }
        way.wait_for_an_event()?;
        assert_eq!(waited(slow, "namespace", "changed")?, 1);
        // It is no other answer: the team's registry is not for it, as the API server says.
        assert_eq!(waited(slow, "namespace", "unchanged")?, 1);
        Ok(())
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
        for (count, namespace) in [&declined, &others].into_iter().enumerate() {
            let labels = ["pullpass.dev/inject=enabled", "team=a"];
            let label = ["label", "namespace", namespace, "--overwrite"];
            world.cluster.run(&[&label[..], &labels[..]].concat())?;
            way.wait_for_an_event()?;
            world.run_pod(namespace, &login)?;
            let records = slow.wait_for_records(namespace, 1)?;
            assert_eq!(
                records[0].pointer("/waited/namespace"),
                Some(&json!("changed")),
                "{count}"
            );
        }
        Ok(())
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
        for (namespace, team) in [(&opts_in, "team=a"), (&moves, "team=a")] {
            let label = ["label", "namespace", namespace, "--overwrite"];
            world
                .cluster
                .run(&[&label[..], &["pullpass.dev/inject=enabled", team]].concat())?;
            way.wait_for_an_event()?;
            world.run_pod(namespace, &login)?;
        }
        assert_eq!(waited(slow, "namespace", "changed")?, before + 2);
        // The labels that count are those that the API server has now, and by these it is refused.
        let label = ["label", "namespace", &opts_in, "--overwrite", "team=b"];
        world.cluster.run(&label)?;
        let pod = pod(&opts_in, "refused", &image(&login));
        let refused = world
            .cluster
            .run_with_input(&["create", "--filename", "-"], &pod.to_string());
        let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("(rule: forbidden)"), "{said}");
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
        let before = waited(slow, "registry", "unchanged")?;
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
        let unchanged = waited(slow, "registry", "unchanged")? - before;
        // On a machine that does other things, too, some have no answer in time.
        assert_eq!(unchanged + waited(slow, "registry", "failed")?, PODS);
        assert!(unchanged > PODS / 2, "{unchanged}");

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
