//! The serving certificate is swapped while Pods are being admitted.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{Admissions, FailurePolicy, Installation, served_certificate, wait_for};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::cluster::{SOON, Test, cluster, installation};
use crate::objects::{pod, text};

const ROUNDS: usize = 6;
const STREAMS: usize = 4;
/// How many admissions there are at least between two swaps.
const ADMISSIONS: usize = 25;

#[test]
fn no_admission_fails_while_the_certificate_is_swapped() -> Test {
    let pullpass = installation()?
        .registry("myregistry")
        .failure_policy(FailurePolicy::Fail)
        .start()?;
    let pod = pod(pullpass.namespace(), "load", "myregistry.azurecr.io/web:1");
    let load = Admissions::begin(cluster()?.kubeconfig(), pod, STREAMS, is_injected)?;
    let mut certificate = None;
    for round in 0..ROUNDS {
        load.wait_for_more(ADMISSIONS)?;
        let known = peers(&pullpass)?;
        let next = pullpass.authority().server(&[pullpass.host()])?;
        let expected = CertificateDer::from_pem_slice(next.certificate.as_bytes())?;
        if round % 2 == 0 {
            pullpass.mount_certificate(&next)?;
        } else {
            pullpass.overwrite_certificate(&next)?;
        }
        // A handshake that fails is an error immediately; one with the old certificate only comes too early.
        wait_for("the new certificate to be served", SOON, || {
            match served(&pullpass) {
                Ok(served) if served != expected => Err("it is the old one"),
                Ok(_) => Ok(Ok(())),
                Err(error) => Ok(Err(error)),
            }
        })??;
        make_the_api_server_connect_again(&pullpass, round)?;
        wait_for("the API server to connect again", SOON, || {
            let peers = peers(&pullpass).map_err(|error| error.to_string())?;
            if peers.is_subset(&known) {
                return Err(format!("nobody new has; failures: {:#?}", load.failures()));
            }
            Ok(())
        })?;
        certificate = Some(expected);
    }
    load.wait_for_more(ADMISSIONS)?;
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    assert!(admitted >= (ROUNDS + 1) * ADMISSIONS, "{admitted}");
    assert_eq!(Some(served(&pullpass)?), certificate);
    Ok(())
}

/// The API server keeps connections, which outlive a swap. A trust bundle that it has not seen makes it open one.
fn make_the_api_server_connect_again(pullpass: &Installation<'_>, round: usize) -> Test {
    let bundle = STANDARD.encode(pullpass.authority().pem().repeat(round + 2));
    let patch: Vec<_> = (0..2)
        .map(|webhook| json!({"op": "replace", "path": format!("/webhooks/{webhook}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    let patch = serde_json::to_string(&patch)?;
    cluster()?.run(&[
        "patch",
        "mutatingwebhookconfiguration",
        pullpass.configuration(),
        "--type=json",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

/// The addresses that reviews came from.
fn peers(pullpass: &Installation<'_>) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let records = pullpass.records_in(pullpass.namespace())?;
    Ok(records
        .iter()
        .map(|record| text(record, "/peer").to_owned())
        .collect())
}

/// The certificate that a new connection gets, after it was verified.
fn served(pullpass: &Installation<'_>) -> Result<CertificateDer<'static>, Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, pullpass.port()));
    Ok(served_certificate(
        address,
        pullpass.host(),
        pullpass.authority().pem(),
    )?)
}

fn is_injected(pod: &Value) -> bool {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    secrets
        .into_iter()
        .flatten()
        .any(|secret| text(secret, "/name") == "pullpass-myregistry")
}
