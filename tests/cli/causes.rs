//! A cluster that can't be reached: the whole chain of causes is said, down to the one that tells what to repair.

use std::error::Error;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{Authority, Scratch, free_port};
use serde_json::{Value, json};

use crate::command::run;
use crate::world::{Test, shared};

/// What a command says of the shared cluster with this changed in the kubeconfig.
fn said_with(change: impl FnOnce(&mut Value)) -> Result<String, Box<dyn Error>> {
    let (world, scratch) = (shared()?, Scratch::new()?);
    let mut content: Value = serde_saphyr::from_str(&fs::read_to_string(world.cluster.kubeconfig())?)?;
    change(&mut content);
    let file = scratch.path().join("kubeconfig");
    fs::write(&file, content.to_string())?;
    run(&file, &["audit", "--namespace", "kube-public"])?.failed(1)
}

#[test]
fn a_refused_connection_is_said() -> Test {
    let port = free_port()?;
    let said = said_with(|content| {
        content["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    })?;
    assert_eq!(
        said,
        "pullpass: the cluster can't be used: the webhook's configuration can't be read: ServiceError: client error (Connect): \
         tcp connect error: Connection refused (os error 111)\n"
    );
    Ok(())
}

#[test]
fn certificates_that_can_not_be_used_are_said() -> Test {
    let other = STANDARD.encode(Authority::new()?.pem());
    let said = said_with(|content| {
        content["clusters"][0]["cluster"]["certificate-authority-data"] = json!(other);
    })?;
    let connect = "pullpass: the cluster can't be used: the webhook's configuration can't be read: ServiceError: client error \
                   (Connect): invalid peer certificate: ";
    assert!(
        said.starts_with(connect) && said.len() > connect.len() + 1,
        "{said}"
    );

    let secret = STANDARD.encode("hunter2");
    let said = said_with(|content| {
        content["users"][0]["user"] = json!({"client-certificate-data": secret, "client-key-data": secret});
    })?;
    assert_eq!(
        said,
        "pullpass: the cluster can't be used: rustls tls error: identity PEM is missing a private key: the key must be PKCS8 or \
         RSA/PKCS1. Name one with --kubeconfig and --context\n"
    );
    Ok(())
}
