//! The keys of a pull secret: those that every client takes, and more where a Pod needs them.

use std::error::Error;

use pullpass_test_support::{Login, kubelet_tries, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret, replica, shared, text};

/// The keys of a pull secret, in order.
pub fn keys(world: &World, namespace: &str, login: &Login) -> Result<Vec<String>, Box<dyn Error>> {
    let secret = world.wait_for_secret(namespace, login)?;
    let config: Value = serde_json::from_str(&World::docker_config(&secret)?)?;
    let auths = config.pointer("/auths").and_then(Value::as_object);
    Ok(auths.into_iter().flatten().map(|(key, _)| key.clone()).collect())
}

pub fn wait_for_keys(world: &World, namespace: &str, login: &Login, expected: &[String]) -> Test {
    wait_for("the keys of the pull secret", SOON, || {
        let keys = keys(world, namespace, login).map_err(|error| error.to_string())?;
        if keys == expected {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    })?;
    Ok(())
}

/// Every key of a registry with these hosts.
pub fn every_key(login: &Login, domains: &[&str]) -> Vec<String> {
    let (name, suffix) = login.host.split_once('.').unwrap_or_default();
    let regional = format!("{name}.*.geo.{suffix}");
    let hosts = domains.iter().copied().chain([login.host.as_str(), &regional]);
    let mut keys: Vec<String> = hosts
        .flat_map(|host| [host.to_owned(), format!("{host}:443")])
        .collect();
    keys.sort();
    keys
}

/// Creates a Pod with this image, and deletes it again.
pub fn run(world: &World, namespace: &str, login: &Login, image: &str) -> Test {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "app-", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": image}]},
    });
    let arguments = ["create", "--output", "json", "--filename", "-"];
    let created = world.cluster.run_with_input(&arguments, &pod.to_string())?;
    let pod: Value = serde_json::from_str(&created.stdout)?;
    assert_eq!(text(&pod, "/spec/imagePullSecrets/0/name"), pull_secret(login));
    let name = text(&pod, "/metadata/name");
    world
        .cluster
        .run(&["delete", "pod", name, "--namespace", namespace, "--now"])?;
    Ok(())
}

#[test]
fn keys_with_ports_are_there_where_a_pod_needs_them() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let plain = world.namespace_in_need(&login)?;
    let host = &login.host;
    assert_eq!(keys(world, &plain, &login)?, [host.as_str()]);
    let (name, suffix) = host.split_once('.').ok_or("a host without a domain")?;
    let images = [
        format!("{host}:443/app:v1"),
        format!("{name}.westeurope.geo.{suffix}/app:v1"),
    ];
    let mut spelled = Vec::new();
    for image in &images {
        let namespace = world.namespace_in_need(&login)?;
        run(world, &namespace, &login, image)?;
        wait_for_keys(world, &namespace, &login, &every_key(&login, &[]))?;
        let secret = world.wait_for_secret(&namespace, &login)?;
        for image in images.iter().chain([&format!("{host}/app:v1")]) {
            let tried = kubelet_tries(image, std::slice::from_ref(&secret))?;
            assert_eq!(tried, [pull_secret(&login)], "{image}");
        }
        // A Pod that does not need them removes none.
        run(world, &namespace, &login, &format!("{host}/other:v1"))?;
        spelled.push(namespace);
    }
    assert_eq!(keys(world, &plain, &login)?, [host.as_str()], "another namespace");
    let domain = format!("d.{}.example", login.name);
    world.attach_with(&login, &json!({"customDomains": [domain]}))?;
    for namespace in &spelled {
        wait_for_keys(world, namespace, &login, &every_key(&login, &[&domain]))?;
    }
    wait_for_keys(world, &plain, &login, &[domain, host.clone()])
}

/// The Secret itself says so, and nobody has to read it.
#[test]
fn a_process_that_knows_of_no_pod_keeps_every_key() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({"provision": "Eager"}))?;
    let namespace = world.namespace_in_need(&login)?;
    let plain = world.namespace_in_need(&login)?;
    run(&world, &namespace, &login, &format!("{}:443/app:v1", login.host))?;
    wait_for_keys(&world, &namespace, &login, &every_key(&login, &[]))?;
    for namespace in [&namespace, &plain] {
        let all = ["delete", "pods", "--all", "--now", "--namespace", namespace];
        world.cluster.run(&all)?;
    }
    let World { pullpass, azure, .. } = world;
    drop(pullpass);
    let world = World::with_replica(&cluster, azure, replica)?;
    world.attach_with(
        &login,
        &json!({"provision": "Eager", "customDomains": ["registry.contoso.com"]}),
    )?;
    let domain = "registry.contoso.com";
    wait_for_keys(&world, &namespace, &login, &every_key(&login, &[domain]))?;
    wait_for_keys(&world, &plain, &login, &[domain.to_owned(), login.host.clone()])?;

    // What somebody edited is put back with the same keys.
    let secret = pull_secret(&login);
    let patch = json!({"metadata": {"annotations": {"pullpass.dev/refreshed-at": "never"}}}).to_string();
    for namespace in [&namespace, &plain] {
        let patched = [
            "patch",
            "secret",
            &secret,
            "--namespace",
            namespace,
            "--patch",
            &patch,
        ];
        world.cluster.run(&patched)?;
        world.wait_for_secret_that(namespace, &login, "be put back", |secret| {
            text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at") != "never"
        })?;
    }
    wait_for_keys(&world, &namespace, &login, &every_key(&login, &[domain]))?;
    wait_for_keys(&world, &plain, &login, &[domain.to_owned(), login.host.clone()])?;
    // One that is created again begins with the keys that every client takes.
    world
        .cluster
        .run(&["delete", "secret", &secret, "--namespace", &namespace])?;
    wait_for_keys(
        &world,
        &namespace,
        &login,
        &[domain.to_owned(), login.host.clone()],
    )?;
    Ok(())
}
