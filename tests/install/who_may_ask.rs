//! What `docs/install.md` says about keeping others off the webhook's port.

use std::error::Error;
use std::fs;

use pullpass_test_support::{
    Authority, ControlPlane, FailurePolicy, Installation, Scratch, end_to_end_wanted,
};
use serde_json::{Value, json};

use crate::documents::block;
use crate::render::{Test, chart, kustomize};
use crate::same::comparable;

fn written(nth: usize) -> Result<String, Box<dyn Error>> {
    block("docs/install.md", "Restrict the webhook's port", "yaml", nth)
}

#[test]
fn the_values_and_the_patches_give_the_same() -> Test {
    let values: Value = serde_saphyr::from_str(&written(0)?)?;
    let mut kustomization: Value = serde_saphyr::from_str(&written(1)?)?;
    let entries = kustomization.as_object_mut().ok_or("the block is no map")?;
    entries.insert(
        "resources".to_owned(),
        json!(["../manifests/overlays/cluster-wide"]),
    );
    let patched: Vec<_> = kustomize(&kustomization)?.into_iter().map(comparable).collect();
    let changed = |object: &Value| {
        let kind = object.get("kind").and_then(Value::as_str);
        matches!(kind, Some("Deployment" | "NetworkPolicy"))
    };
    let charted = chart(&values)?;
    let charted = charted.into_iter().map(comparable).filter(changed);
    let mut count = 0;
    for object in charted {
        assert!(patched.contains(&object), "{object}");
        count += 1;
    }
    assert_eq!(count, 2);
    Ok(())
}

#[test]
fn an_api_server_with_a_certificate_is_let_in() -> Test {
    end_to_end_wanted()?;
    let scratch = Scratch::new()?;
    let file = |name: &str| scratch.path().join(name).display().to_string();
    let authority = Authority::new()?;
    let identity = authority.client("kube-apiserver", None)?;
    fs::write(file("ca.crt"), authority.pem())?;
    fs::write(file("client.crt"), &identity.certificate)?;
    fs::write(file("client.key"), &identity.key)?;
    let config = written(3)?
        .replace("/etc/kubernetes/pki/webhook-client.crt", &file("client.crt"))
        .replace("/etc/kubernetes/pki/webhook-client.key", &file("client.key"))
        // Here it is reached by a URL, whose port is not known yet.
        .replace("pullpass.pullpass-system.svc", "'*'");
    fs::write(file("clients.yaml"), config)?;
    let admission = written(2)?.replace("/etc/kubernetes/webhook-clients.yaml", &file("clients.yaml"));
    fs::write(file("admission.yaml"), admission)?;
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument(format!(
            "--admission-control-config-file={}",
            file("admission.yaml")
        ))
        .start()?;
    let pullpass = Installation::builder(&cluster, env!("CARGO_BIN_EXE_pullpass"))
        .flag(format!("--client-ca={}", file("ca.crt")))
        .failure_policy(FailurePolicy::Fail)
        .registry("myregistry")
        .start()?;
    let records = pullpass.records()?;
    assert!(!records.is_empty());
    for record in records {
        assert_eq!(record.get("peer"), Some(&json!("CN=kube-apiserver")), "{record}");
    }
    Ok(())
}
