//! What runs with the Secret that pullpass has written, and that it was that Secret.

use std::error::Error;
use std::fs;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use pullpass_emulator::Step;
use pullpass_test_support::{kube_client, wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::pods::{ON_THE_NODE, pod, pod_with};
use crate::world::{Registry, SOON, Test, World, namespace, new_name, shared, text};

/// The template of a workload's Pods.
fn template(image: &str, spec: &Value) -> Value {
    let mut container = json!({"name": "main", "image": image});
    let mut pod = json!({"containers": []});
    for (key, value) in spec.as_object().into_iter().flatten() {
        let target = if key == "args" { &mut container } else { &mut pod };
        if let Some(target) = target.as_object_mut() {
            target.insert(key.clone(), value.clone());
        }
    }
    if let Some(pod) = pod.as_object_mut() {
        pod.insert("containers".to_owned(), json!([container]));
    }
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod})
}

fn workload(kind: &str, api_version: &str, namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web", "namespace": namespace},
        "spec": spec,
    })
}

/// The kubelet's records, by which it decides who may have the image: the Secrets that it was pulled with.
fn recorded_secrets(world: &World, registry: &Registry) -> Result<Vec<Value>, Box<dyn Error>> {
    let records = world.node.pull_records()?;
    Ok(records
        .iter()
        .filter_map(|record| record.pointer("/credentialMapping")?.get(&registry.name))
        .filter_map(|credentials| credentials.pointer("/kubernetesSecrets")?.as_array())
        .flatten()
        .cloned()
        .collect())
}

#[test]
fn a_deployments_pods_pull_with_the_secret_of_pullpass() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let spec = json!({
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(&registry.image(), &json!({})),
    });
    world.apply(&[workload("Deployment", "apps/v1", &namespace, &spec)])?;
    for name in world.wait_for_pods(&namespace, "app=web", 2)? {
        let pod = world.wait_until_running(&namespace, &name)?;
        assert_eq!(
            text(&pod, "/spec/imagePullSecrets/0/name"),
            registry.pull_secret(),
            "{pod:#}"
        );
    }

    // The kubelet has used that Secret and no other,
    let secret = world.wait_for_secret(&namespace, &registry, "be there", |_| true)?;
    let recorded = recorded_secrets(world, &registry)?;
    let [recorded] = &recorded[..] else {
        return Err(format!("{recorded:#?}").into());
    };
    assert_eq!(text(recorded, "/uid"), text(&secret, "/metadata/uid"));
    assert_eq!(text(recorded, "/namespace"), namespace);
    assert_eq!(text(recorded, "/name"), registry.pull_secret());
    // which the API server has given to it as this node,
    let user = format!("system:node:{}", world.node.name());
    let is_reader = |event: &Value| {
        text(event, "/user/username") == user
            && text(event, "/objectRef/namespace") == namespace
            && text(event, "/objectRef/name") == registry.pull_secret()
            && event.pointer("/responseStatus/code") == Some(&json!(200))
    };
    let events = world.cluster.audit_events()?;
    assert!(events.iter().any(is_reader), "{user} has read no Secret");
    // and the registry has given it a token and the image.
    let counts = world.azure.counts();
    for step in [Step::Token, Step::Manifest, Step::Blob] {
        assert!(
            counts.calls_at(step, &registry.login.host) > 0,
            "{step:?}: {counts:#?}"
        );
    }
    Ok(())
}

#[test]
fn stateful_sets_and_jobs_run() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let set = json!({
        "replicas": 1,
        "serviceName": "web",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(&registry.image(), &json!({})),
    });
    let once = json!({"args": ["cat", "/name"], "restartPolicy": "Never"});
    let job = json!({"backoffLimit": 0, "template": template(&registry.image(), &once)});
    world.apply(&[
        workload("StatefulSet", "apps/v1", &namespace, &set),
        workload("Job", "batch/v1", &namespace, &job),
    ])?;
    world.wait_for_pods(&namespace, "app=web,apps.kubernetes.io/pod-index=0", 1)?;
    world.wait_until_running(&namespace, "web-0")?;
    for name in world.wait_for_pods(&namespace, "job-name=web", 1)? {
        let pod = world.wait_until_succeeded(&namespace, &name)?;
        assert_eq!(world.node.container_log(&pod, "main")?, registry.name);
    }
    Ok(())
}

#[test]
fn the_image_of_an_init_container_is_pulled() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let spec = json!({
        "initContainers": [{"name": "first", "image": registry.image(), "args": ["cat", "/name"]}],
        "containers": [{"name": "main", "image": ON_THE_NODE, "imagePullPolicy": "Never"}],
    });
    world.create(&pod_with(&namespace, "web", spec))?;
    let pod = world.wait_until_running(&namespace, "web")?;
    assert_eq!(world.node.container_log(&pod, "first")?, registry.name);
    Ok(())
}

#[test]
fn the_image_of_a_volume_is_pulled() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "main",
            "image": ON_THE_NODE,
            "imagePullPolicy": "Never",
            "args": ["cat", "/data/name"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }],
        "volumes": [{"name": "data", "image": {"reference": registry.image()}}],
    });
    world.create(&pod_with(&namespace, "web", spec))?;
    let pod = world.wait_until_succeeded(&namespace, "web")?;
    assert_eq!(world.node.container_log(&pod, "main")?, registry.name);
    Ok(())
}

/// What happened to the Pod and the pull secret of a namespace, and what the kubelet logged of it.
fn history(world: &World, namespace: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    let mut lines: Vec<String> = events
        .iter()
        .filter(|event| text(event, "/objectRef/namespace") == namespace)
        .map(|event| {
            [
                "/requestReceivedTimestamp",
                "/stageTimestamp",
                "/stage",
                "/user/username",
                "/verb",
                "/objectRef/resource",
                "/objectRef/name",
                "/objectRef/subresource",
            ]
            .map(|field| text(event, field))
            .join(" ")
        })
        .collect();
    let log = fs::read_to_string(world.node.directory().join("kubelet.log"))?;
    let of_the_secret = |line: &&str| line.contains(namespace) && line.contains("ull secret");
    lines.extend(log.lines().filter(of_the_secret).map(str::to_owned));
    Ok(lines)
}

/// How many milliseconds after a namespace's Pod was stored its pull secret was; negative where the Secret was first.
fn lags(world: &World, namespaces: &[String]) -> Result<Vec<(i128, String)>, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    let mut lags = Vec::new();
    for namespace in namespaces {
        let of_namespace = events
            .iter()
            .filter(|event| text(event, "/objectRef/namespace") == namespace)
            .filter(|event| text(event, "/stage") == "ResponseComplete");
        let first = |verb: &str, resource: &str| -> Result<Timestamp, Box<dyn Error>> {
            let event = of_namespace
                .clone()
                .find(|event| text(event, "/objectRef/resource") == resource && text(event, "/verb") == verb);
            let event = event.ok_or_else(|| format!("nobody has written {resource} in {namespace}"))?;
            Ok(text(event, "/stageTimestamp").parse()?)
        };
        let (pod, secret) = (first("create", "pods")?, first("patch", "secrets")?);
        lags.push((secret.duration_since(pod).as_millis(), namespace.clone()));
    }
    lags.sort_unstable();
    Ok(lags)
}

/// Creates a Pod in each of these namespaces, all concurrently.
fn create_together(world: &World, namespaces: &[String], registry: &Registry) -> Test {
    let runtime = Runtime::new()?;
    let client = kube_client(&runtime, world.cluster.kubeconfig())?;
    let created = namespaces.iter().map(|namespace| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let object = pod(namespace, "web", &registry.image());
        async move {
            let object = serde_json::from_value(object)?;
            pods.create(&PostParams::default(), &object).await?;
            Ok::<_, Box<dyn Error>>(())
        }
    });
    runtime.block_on(try_join_all(created))?;
    Ok(())
}

/// The Secret is there before the kubelet looks for it, though the namespace is as new as the Pod: the review of the Pod is
/// answered when its Secret is written, or after a second.
#[test]
fn first_pods_of_new_namespaces_find_their_secret() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let names: Vec<_> = (0..50).map(|_| new_name()).collect();
    let objects: Vec<_> = names.iter().flat_map(|name| namespace(name)).collect();
    world.apply(&objects)?;
    create_together(world, &names, &registry)?;
    let mut missed = Vec::new();
    for name in &names {
        world.wait_until_running(name, "web")?;
        // A kubelet sends the Events of a Pod in their order, and some time after the Pod's status.
        wait_for("the Event of a container's start", SOON, || {
            match world.events(name, "Started") {
                Ok(started) if started.is_empty() => Err("there is none".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        if !world.events(name, "FailedToRetrieveImagePullSecret")?.is_empty() {
            missed.push((name, history(world, name)?));
        }
    }
    let lags = lags(world, &names)?;
    println!(
        "{} of {} Pods did not find their Secret, which was stored {:?} ms (median) and {:?} ms (the last) after the Pod: {missed:#?}",
        missed.len(),
        names.len(),
        lags.get(lags.len() / 2).map(|(lag, _)| lag),
        lags.last().map(|(lag, _)| lag),
    );
    // On a busy machine a kubelet may wait in vain for its own list, which has to come within a second: then it misses a
    // Secret that was stored before the Pod.
    let was_later = |name: &String| lags.iter().any(|(lag, namespace)| namespace == name && *lag > 0);
    missed.retain(|(name, _)| was_later(name));
    assert!(missed.is_empty(), "{missed:#?}");
    Ok(())
}
