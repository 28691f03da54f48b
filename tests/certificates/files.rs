//! A certificate from files is somebody else's business, and so is `caBundle` then.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::Authority;
use serde_json::json;

use crate::world::{Test, World};

#[test]
fn a_certificate_from_files_leaves_bundle_and_secret_alone() -> Test {
    let mut world = World::start()?;
    let authority = Authority::new()?;
    let identity = authority.server(&["pullpass.pullpass-system.svc"])?;
    let directory = world.cluster.directory();
    let (certificate, key) = (directory.join("outside.crt"), directory.join("outside.key"));
    std::fs::write(&certificate, &identity.certificate)?;
    std::fs::write(&key, &identity.key)?;
    let certificate = format!("--tls-cert={}", certificate.display());
    let key = format!("--tls-key={}", key.display());
    world.start_replicas(1, &[&certificate, &key])?;
    world.wait_for_leader(&[0])?;
    let bundle = STANDARD.encode(authority.pem());
    let set: Vec<_> = (0..2)
        .map(|webhook| json!({"op": "add", "path": format!("/webhooks/{webhook}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    world.patch_configuration(&json!(set))?;
    world.wait_until_admitted()?;
    assert_eq!(world.secret()?, None);
    let expected = authority.pem().to_owned();
    assert_eq!(world.bundles()?, [expected.clone(), expected]);
    Ok(())
}
