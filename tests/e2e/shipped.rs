//! `manifests/base` as it is, on a cluster of its own, and no pullpass anywhere.

use std::error::Error;

use pullpass_test_support::ControlPlane;
use serde_json::{Value, json};

use crate::cluster::{Test, cluster_of_its_own};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base");

fn ca_bundles(cluster: &ControlPlane) -> Result<Vec<Value>, Box<dyn Error>> {
    let configuration = cluster.get_json(&["mutatingwebhookconfiguration", "pullpass"])?;
    let webhooks = configuration.get("webhooks").and_then(Value::as_array);
    Ok(webhooks
        .into_iter()
        .flatten()
        .filter_map(|webhook| webhook.pointer("/clientConfig/caBundle").cloned())
        .collect())
}

/// Applies twice, and a certificate authority in between.
fn apply_around_a_ca_bundle(cluster: &ControlPlane, apply: &[&str]) -> Test {
    let applied = cluster.run(apply)?;
    assert_eq!(applied.stderr, "");
    assert!(
        ca_bundles(cluster)?.is_empty(),
        "what the manifests name, they would take back"
    );
    cluster.write_ca_bundle("Q0E=")?;
    let applied = cluster.run(apply)?;
    assert_eq!(applied.stderr, "");
    assert_eq!(ca_bundles(cluster)?, ["Q0E=", "Q0E="]);
    Ok(())
}

#[test]
fn the_manifests_block_no_pod_while_pullpass_is_unavailable() -> Test {
    let cluster = cluster_of_its_own()?.controller_manager(false).start()?;
    apply_around_a_ca_bundle(
        &cluster,
        &["apply", "--server-side", "--validate=strict", "--kustomize", BASE],
    )?;
    for namespace in ["default", "kube-system"] {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        });
        cluster.apply(&account.to_string())?;
        let created = cluster.run(&[
            "run",
            "web",
            "--namespace",
            namespace,
            "--image=myregistry.azurecr.io/web:1",
        ])?;
        assert_eq!(created.stdout.trim(), "pod/web created");
    }
    Ok(())
}

#[test]
fn the_manifests_can_be_applied_on_the_client_side() -> Test {
    let cluster = cluster_of_its_own()?.controller_manager(false).start()?;
    apply_around_a_ca_bundle(&cluster, &["apply", "--validate=strict", "--kustomize", BASE])
}
