//! Whichever controller makes the Pod, and wherever it names its image: the pull secret is there from the start.

use serde_json::{Value, json};

use crate::cluster::{Test, cluster, pullpass};
use crate::objects::{create, pod, pod_with, pods, pull_secrets, text};

const IMAGE: &str = "myregistry.azurecr.io/web:1";

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": IMAGE}]},
    })
}

#[test]
fn the_pods_of_a_deployment_get_the_pull_secret() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template()},
    }))?;

    for pod in pods(&namespace, 2)? {
        assert_eq!(pull_secrets(&pod), ["pullpass-myregistry"]);
    }
    let deployment = cluster()?.get_json(&["deployment", "web", "--namespace", &namespace])?;
    assert_eq!(
        deployment.pointer("/spec/template/spec/imagePullSecrets"),
        None,
        "the Deployment belongs to its author"
    );
    for record in pullpass.wait_for_records(&namespace, 2)? {
        assert_eq!(text(&record, "/decision"), "injected");
        assert_eq!(text(&record, "/pod/owner/kind"), "ReplicaSet");
        assert!(text(&record, "/pod/generateName").starts_with("web-"), "{record}");
        assert_eq!(
            text(&record, "/user"),
            "system:serviceaccount:kube-system:replicaset-controller"
        );
    }
    Ok(())
}

#[test]
fn the_pod_of_a_stateful_set_gets_the_pull_secret() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": namespace},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": template()},
    }))?;

    for pod in pods(&namespace, 1)? {
        assert_eq!(text(&pod, "/metadata/name"), "db-0");
        assert_eq!(pull_secrets(&pod), ["pullpass-myregistry"]);
    }
    Ok(())
}

#[test]
fn the_pod_of_a_job_gets_the_pull_secret() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let mut template = template();
    if let Some(spec) = template.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.insert("restartPolicy".to_owned(), json!("Never"));
    }
    create(&json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": namespace},
        "spec": {"template": template},
    }))?;

    for pod in pods(&namespace, 1)? {
        assert_eq!(pull_secrets(&pod), ["pullpass-myregistry"]);
    }
    Ok(())
}

#[test]
fn a_bare_pod_gets_the_pull_secret() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod(&namespace, "bare", IMAGE))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    assert!(stored.warnings.is_empty(), "{:?}", stored.warnings);
    Ok(())
}

#[test]
fn an_init_container_is_enough() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod_with(
        &namespace,
        "init",
        json!({
            "initContainers": [{"name": "setup", "image": IMAGE}],
            "containers": [{"name": "main", "image": "registry.example/main"}],
        }),
    ))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    Ok(())
}

#[test]
fn an_image_volume_is_enough() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod_with(
        &namespace,
        "volume",
        json!({
            "containers": [{"name": "main", "image": "registry.example/main"}],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "model", "image": {"reference": "myregistry.azurecr.io/model:1"}},
            ],
        }),
    ))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    Ok(())
}

#[test]
fn upper_case_and_the_port_of_https_name_the_same_registry() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod(&namespace, "port", "myregistry.azurecr.io:443/web:1"))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);

    let stored = create(&pod(&namespace, "case", "MyRegistry.AzureCR.io/web:1"))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    let [warning] = &stored.warnings[..] else {
        return Err(format!("{:?}", stored.warnings).into());
    };
    assert!(warning.contains("write myregistry.azurecr.io"), "{warning}");
    Ok(())
}
