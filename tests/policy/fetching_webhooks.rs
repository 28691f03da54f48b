//! Webhooks that fetch the image of a Pod while it is admitted, by the Secrets that the Pod names.

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::intruder::Intruder;
use crate::world::{OPEN, SOON, Test, attach, cluster, pull_secrets, pullpass};

/// How many namespaces are new, and have a first Pod.
const NAMESPACES: usize = 20;

#[test]
fn a_later_webhook_finds_the_pull_secret_at_the_first_try() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    let registry = format!("acrregistry/{OPEN}");
    cluster.run(&["wait", "--for=condition=Ready", "--timeout=60s", &registry])?;
    let _later = Intruder::fetching(&cluster, "vault-secrets-webhook")?;
    let create = |image: &str, secret: Option<&str>| -> Result<Value, Box<dyn std::error::Error>> {
        let namespace = pullpass.new_namespace(&[])?;
        let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
        let spec = json!({"containers": [{"name": "main", "image": image}], "imagePullSecrets": secrets});
        let metadata = json!({"name": "pod", "namespace": namespace});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let arguments = ["create", "--output=json", "--filename", "-"];
        let created = cluster.run_with_input(&arguments, &pod.to_string())?;
        Ok(serde_json::from_str(&created.stdout)?)
    };
    wait_for("the later webhook to be in force", SOON, || {
        match create("nginx", Some("not-there")) {
            Err(error) if error.to_string().contains("no Secret") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // Each of these is the first Pod of its namespace.
    let image = format!("{OPEN}.azurecr.io/app:1");
    let mut refused = Vec::new();
    for _ in 0..NAMESPACES {
        match create(&image, None) {
            Ok(pod) => assert_eq!(pull_secrets(&pod), [format!("pullpass-{OPEN}")]),
            Err(error) => refused.push(error.to_string()),
        }
    }
    assert!(
        refused.is_empty(),
        "{} of {NAMESPACES}: {refused:#?}",
        refused.len()
    );
    Ok(())
}
