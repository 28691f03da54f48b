//! Ways to name the same image.

use crate::pods::pod;
use crate::world::{Registry, Test, World, shared, text};

/// Waits until these Pods run, which have to name the pull secret.
fn expect_running(world: &World, namespace: &str, registry: &Registry, names: [&str; 2]) -> Test {
    for name in names {
        let pod = world.wait_until_running(namespace, name)?;
        assert_eq!(
            text(&pod, "/spec/imagePullSecrets/0/name"),
            registry.pull_secret(),
            "{pod:#}"
        );
    }
    Ok(())
}

#[test]
fn images_by_digest_and_with_the_port_are_pulled() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let by_digest = format!("{}@{}", registry.name, registry.digest);
    world.create(&pod(&namespace, "digest", &by_digest))?;
    let with_port = format!("{}:443/{}:v1", registry.login.host, registry.repository);
    world.create(&pod(&namespace, "port", &with_port))?;
    expect_running(world, &namespace, &registry, ["digest", "port"])
}

/// The kubelet takes the key with the wildcard.
#[test]
fn images_at_a_regional_endpoint_are_pulled() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let (name, domain) = registry
        .login
        .host
        .split_once('.')
        .ok_or("a host without a domain")?;
    let regional = format!("{name}.westeurope.geo.{domain}/{}", registry.repository);
    world.create(&pod(&namespace, "tag", &format!("{regional}:v1")))?;
    world.create(&pod(
        &namespace,
        "digest",
        &format!("{regional}@{}", registry.digest),
    ))?;
    expect_running(world, &namespace, &registry, ["tag", "digest"])
}

/// A kubelet compares the host by case, so it finds no credential, as pullpass warns.
#[test]
fn a_host_in_upper_case_fails_as_the_warning_says() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    let image = format!(
        "{}/{}:v1",
        registry.login.host.to_uppercase(),
        registry.repository
    );
    let warnings = world.create(&pod(&namespace, "web", &image))?;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("a kubelet matches credentials by case and finds none for it")),
        "{warnings:?}"
    );
    let said = world.wait_until_refused(&namespace, "web")?;
    assert!(said.contains("401 Unauthorized"), "{said}");
    Ok(())
}
