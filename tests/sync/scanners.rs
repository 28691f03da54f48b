//! Scanners and verifiers that take minutes to build, by the code with which they find credentials and ask a registry.

use pullpass_test_support::Scratch;
use serde_json::json;

use crate::world::{Test, World, pull_secret, shared};

/// The docker config of somebody who has no credential.
const NOTHING: &str = r#"{"auths":{}}"#;

#[test]
#[ignore = "it builds Trivy, cosign and policy-controller: make test-scanners"]
fn trivy_and_sigstore_pull_with_the_pull_secret() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    for repository in ["signed", "plain"] {
        world.azure.push_image(&login, repository)?;
    }
    let image = |repository: &str| format!("{}/{repository}:v1", login.host);
    let (signed, plain) = (image("signed"), image("plain"));
    let scratch = Scratch::new()?;
    let key = scratch.path().join("cosign.pub");
    let digest = world.azure.sign_by_cosign(&login, &signed, &key)?;
    assert!(digest.starts_with("sha256:"), "{digest}");
    let namespace = world.namespace_in_need(&login)?;
    let secret = world.wait_for_secret(&namespace, &login)?;
    let docker_config = World::docker_config(&secret)?;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "verified", "namespace": namespace},
        "imagePullSecrets": [{"name": pull_secret(&login)}],
    });
    world.cluster.apply(&account.to_string())?;

    let (key, kubeconfig) = (
        key.display().to_string(),
        world.cluster.kubeconfig().display().to_string(),
    );
    let ask = |docker_config: &str, arguments: &[&str]| {
        let asked = world.azure.scan_image(docker_config, arguments);
        asked.map_err(|error| error.to_string())
    };
    let assert_refused = |arguments: &[&str], reason: &str| {
        let refused = ask(NOTHING, arguments).err().unwrap_or_default();
        assert!(
            refused.to_lowercase().contains(reason),
            "{arguments:?}: {refused}"
        );
    };
    for scanner in [&["trivy", &*signed][..], &["cosign", &signed, &key]] {
        assert_eq!(ask(&docker_config, scanner)?, digest, "{scanner:?}");
        assert_refused(scanner, "unauthorized");
    }
    let by_account = |account| {
        [
            "policy-controller",
            &*signed,
            &*key,
            &*kubeconfig,
            &*namespace,
            account,
        ]
    };
    assert_eq!(ask(NOTHING, &by_account("verified"))?, digest);
    assert_refused(&by_account("default"), "unauthorized");
    let unsigned = ask(&docker_config, &["cosign", &plain, &key])
        .err()
        .unwrap_or_default();
    assert!(unsigned.contains("no signatures found"), "{unsigned}");
    Ok(())
}
