//! Those who ask a registry and are no kubelets, by the library that they do it with: with the pull secrets that a ServiceAccount
//! names, before there is a Pod, with a pull secret that an object of their own names, and with its content as a docker config.

use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::{Scratch, wait_for};
use serde_json::json;

use crate::world::{SOON, Test, World, pull_secret, shared};

#[test]
fn a_controller_resolves_an_image_before_there_is_a_pod() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "fn")?;
    world.attach(&login, &login.password, &json!({}))?;
    world.wait_for_reason(&login, "Minted")?;
    let image = format!("{}/fn:v1", login.host);
    let namespace = world.pullpass.new_namespace(&[])?;
    let service_account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "functions", "namespace": namespace},
        "imagePullSecrets": [{"name": pull_secret(&login)}],
    });
    world.cluster.apply(&service_account.to_string())?;
    let resolve_by = |by: &str, name: &str| {
        let kubeconfig = world.cluster.kubeconfig();
        world
            .azure
            .resolve_digest(kubeconfig, &namespace, (by, name), &image)
    };
    let resolve = || resolve_by("service-account", "functions");
    let refused = resolve().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("UNAUTHORIZED"), "{refused}");

    // The label is what the owner of the namespace adds; no Pod is there.
    world.cluster.run(&[
        "label",
        "namespace",
        &namespace,
        "pullpass.dev/always-inject=true",
    ])?;
    world.wait_for_secret(&namespace, &login)?;
    let digest = wait_for("the image to be resolved", SOON, || {
        resolve().map_err(|error| error.to_string())
    })?;
    assert!(digest.starts_with("sha256:"), "{digest}");
    for controller in ["knative", "tekton"] {
        assert_eq!(resolve_by(controller, "functions")?, digest, "{controller}");
    }
    for by in ["pull-secret", "docker-config", "scanner"] {
        assert_eq!(resolve_by(by, &pull_secret(&login))?, digest, "{by}");
    }
    Ok(())
}

#[test]
fn a_verifier_reads_signatures_with_the_pull_secret() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    world.azure.push_image(&login, "signed")?;
    world.azure.push_image(&login, "plain")?;
    let image = |repository: &str| format!("{}/{repository}:v1", login.host);
    let scratch = Scratch::new()?;
    let certificate = scratch.path().join("certificate.der");
    let digest = world.azure.sign_image(&login, &image("signed"), &certificate)?;
    let namespace = world.namespace_in_need(&login)?;
    let secret = world.wait_for_secret(&namespace, &login)?;
    let docker_config = World::docker_config(&secret)?;
    for verifier in ["notation", "flux"] {
        let verify = |docker_config: &str, repository: &str| {
            let image = image(repository);
            let verified = world
                .azure
                .verify_image(verifier, docker_config, &image, &certificate);
            verified.map_err(|error| error.to_string().to_lowercase())
        };
        assert_eq!(verify(&docker_config, "signed")?, digest, "{verifier}");
        let refused = verify("{}", "signed").err().unwrap_or_default();
        assert!(refused.contains("unauthorized"), "{verifier}: {refused}");
        let unsigned = verify(&docker_config, "plain").err().unwrap_or_default();
        assert!(unsigned.contains("no signature"), "{verifier}: {unsigned}");
    }
    Ok(())
}

#[test]
fn the_recipe_for_controllers_does_what_it_says() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.pullpass.new_namespace(&[])?;
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md"))?;
    let (_, section) = page
        .split_once("\n## Controllers that resolve images\n")
        .ok_or("there is no such section")?;
    let (_, recipe) = section.split_once("```sh\n").ok_or("there is no recipe")?;
    let (recipe, _) = recipe.split_once("```").ok_or("the recipe has no end")?;
    let fitted = recipe
        .replace("namespace apps", &format!("namespace {namespace}"))
        .replace("pullpass-myregistry", &pull_secret(&login));
    let kubectl = world.cluster.kubectl();
    let directory = Path::new(kubectl.get_program())
        .parent()
        .ok_or("kubectl is nowhere")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [directory.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &fitted])
        .env("PATH", path)
        .env("KUBECONFIG", world.cluster.kubeconfig())
        .env("KUBERC", "off")
        .output()?;
    assert!(ran.status.success(), "{fitted}: {ran:?}");
    assert!(world.secret(&namespace, &pull_secret(&login))?.is_some());
    let account = ["serviceaccount", "default", "--namespace", &namespace];
    let account = world.cluster.get_json(&account)?;
    let listed = account.pointer("/imagePullSecrets");
    assert_eq!(listed, Some(&json!([{"name": pull_secret(&login)}])));
    Ok(())
}
