//! Who pulls: skopeo, with what a Secret of the Pod's namespace holds and nothing else.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use pullpass_test_support::Login;
use serde_json::Value;

use crate::world::{Test, World};

/// The docker config of somebody who has no credential.
const NOTHING: &str = r#"{"auths":{}}"#;

/// Pulls an image of a repository, all of it.
pub fn pull(world: &World, login: &Login, repository: &str, docker_config: &str) -> Test {
    static PULLS: AtomicU32 = AtomicU32::new(0);
    let number = PULLS.fetch_add(1, Ordering::Relaxed);
    let directory = world.azure.directory().join(format!("pulled-{number}"));
    let image = format!("docker://{}/{repository}:v1", login.host);
    let target = format!("dir:{}", directory.display());
    world
        .azure
        .skopeo(docker_config, &["copy", "--quiet", &image, &target])?;
    assert!(directory.join("manifest.json").is_file());
    Ok(())
}

/// Shows that the registry refuses a pull, rather than that it fails in some other way.
pub fn assert_refused(world: &World, login: &Login, repository: &str, docker_config: &str) {
    let error = pull(world, login, repository, docker_config)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("authentication required") || error.contains("unauthorized"),
        "{error}"
    );
}

/// Attaches a registry with this spec and shows that an image of `app` can be pulled with the Secret from the namespace
/// of a Pod that needs it, and can't be without; returns the Secret. The image has to be there.
pub fn assert_pulls_when_attached(
    world: &World,
    login: &Login,
    spec: &Value,
) -> Result<Value, Box<dyn Error>> {
    world.attach_with(login, spec)?;
    world.wait_for_reason(login, "Minted")?;
    let namespace = world.namespace_in_need(login)?;
    let secret = world.wait_for_secret(&namespace, login)?;
    pull(world, login, "app", &World::docker_config(&secret)?)?;
    assert_refused(world, login, "app", NOTHING);
    Ok(secret)
}
