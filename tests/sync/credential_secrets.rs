//! What an AcrRegistry may read of pullpass' own namespace: the Secrets that name it, and no others.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, shared, text};

const DELEGATE: &str = "delegate";
const OWN: &str = "pullpass-system";

/// Somebody who may write `AcrRegistries`, and nothing else.
fn delegate_registries(world: &World) -> Test {
    let name = "acrregistry-writer";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{
            "apiGroups": ["pullpass.dev"], "resources": ["acrregistries"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DELEGATE}],
    });
    world.cluster.apply(&role.to_string())?;
    world.cluster.apply(&binding.to_string())?;
    assert!(
        !world
            .cluster
            .may(DELEGATE, "get", "secrets", &["--namespace", OWN])?
    );
    Ok(())
}

/// An AcrRegistry that hands out the text of a Secret as it is, written by the delegate.
fn ask_for(world: &World, login: &Login, identity: &Value) -> Test {
    let credential = match identity.get("basic") {
        Some(_) => json!(null),
        None => json!({"kind": "ServicePrincipalPassword"}),
    };
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": login.name},
        "spec": {
            "loginServer": login.host,
            "identity": identity,
            "credential": credential,
            "provision": "Eager",
            "namespaces": {"matchLabels": {"team": login.name}},
        },
    });
    // The previous one would be merged with this one.
    world.cluster.run(&[
        "delete",
        "acrregistry",
        &login.name,
        "--ignore-not-found",
        "--as",
        DELEGATE,
    ])?;
    world.cluster.run_with_input(
        &["create", "--as", DELEGATE, "--filename", "-"],
        &object.to_string(),
    )?;
    Ok(())
}

fn client_secret(name: &str, key: &str) -> Value {
    json!({"servicePrincipal": {
        "tenantId": "t", "clientId": "c", "clientSecretRef": {"name": name, "key": key},
    }})
}

/// Waits until an AcrRegistry is told that it may not use a Secret; returns the message.
fn wait_for_refusal(world: &World, login: &Login, secret: &str) -> Result<String, Box<dyn Error>> {
    let what = format!("{} to be refused {secret}", login.name);
    Ok(wait_for(&what, SOON, || {
        let object = world.registry(login).map_err(|error| error.to_string())?;
        let condition = |field: &str| text(&object, &format!("/status/conditions/0/{field}")).to_owned();
        let message = condition("message");
        if condition("reason") == "CredentialSecretMissing" && message.contains(&format!("Secret {secret} "))
        {
            Ok(message)
        } else {
            Err(format!("{object:#}"))
        }
    })?)
}

/// The command that a message gives, without the program's name.
fn command(message: &str) -> Vec<String> {
    let command = message.split('`').nth(1).unwrap_or_default();
    command.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn run(world: &World, command: &[String]) -> Test {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    world.cluster.run(&words)?;
    Ok(())
}

fn identity(name: &str, annotation: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": OWN,
            "annotations": annotation.map(|names| json!({"pullpass.dev/registries": names})),
        },
        "stringData": {"username": "not-for-you", "password": "not-for-you"},
    })
}

#[test]
fn a_secret_that_names_nobody_reaches_no_delegate() -> Test {
    let world = shared()?;
    delegate_registries(world)?;
    let other = world.attached(&json!({}))?;
    let login = world.login()?;
    let namespace = world.pullpass.new_namespace(&[("team", &login.name)])?;
    let (unnamed, others) = (format!("identity-{}", login.name), format!("team-{}", login.name));
    world.cluster.apply(&identity(&unnamed, None).to_string())?;
    world
        .cluster
        .apply(&identity(&others, Some(&other.name)).to_string())?;
    let minted = format!("credential-{}", other.name);
    // Where the certificate comes from files, as here, there is none. This one names everybody.
    let mut certificate = identity("webhook-certificate", Some("*"));
    certificate["stringData"] = json!({"ca.key": "not-for-you"});
    world.cluster.apply(&certificate.to_string())?;
    let annotate = |secret: &str, names: &str| format!("annotate secret {secret} {names} -n {OWN}");
    let name = format!("pullpass.dev/registries={}", login.name);
    let basic = |key: &str| json!({"basic": {"secretRef": {"name": unnamed, "passwordKey": key}}});
    for (secret, key, identity, says) in [
        (
            &*unnamed,
            "password",
            client_secret(&unnamed, "password"),
            annotate(&unnamed, &name),
        ),
        (
            &*unnamed,
            "password",
            basic("password"),
            annotate(&unnamed, &name),
        ),
        (
            &*others,
            "password",
            client_secret(&others, "password"),
            annotate(
                &others,
                &format!("--overwrite pullpass.dev/registries=OTHERS,{}", login.name),
            ),
        ),
        (
            "webhook-certificate",
            "ca.key",
            client_secret("webhook-certificate", "ca.key"),
            annotate("NAME", &name),
        ),
        (
            &*minted,
            ".dockerconfigjson",
            client_secret(&minted, ".dockerconfigjson"),
            annotate("NAME", &name),
        ),
    ] {
        let content = world.secret(OWN, secret)?.ok_or("there is no such Secret")?;
        let content = content.pointer("/data").and_then(|data| data.get(key));
        let content = content.and_then(Value::as_str).ok_or("it has no such key")?;
        ask_for(world, &login, &identity)?;
        let message = wait_for_refusal(world, &login, secret)?;
        assert_eq!(command(&message).join(" "), says, "{message}");
        let decoded = String::from_utf8(STANDARD.decode(content)?)?;
        assert!(
            !message.contains(content) && !message.contains(&decoded),
            "{message}"
        );
        assert!(
            !message.contains(&other.name) || secret.contains(&other.name),
            "{message}"
        );
    }
    assert_eq!(world.namespaces_with_secrets(&login)?, [""; 0]);
    assert_eq!(
        world.secret(&namespace, &format!("pullpass-{}", login.name))?,
        None
    );
    Ok(())
}

#[test]
fn the_command_of_a_refusal_lets_the_registry_use_the_secret() -> Test {
    let world = shared()?;
    delegate_registries(world)?;
    let login = world.login()?;
    let secret = format!("by-hand-{}", login.name);
    world.cluster.apply(&identity(&secret, None).to_string())?;
    let own = json!({"servicePrincipal": {
        "tenantId": login.tenant, "clientId": login.client,
        "clientSecretRef": {"name": secret, "key": "password"},
    }});
    assert!(world.azure.rotate_secret(&login.client, "not-for-you")?);
    ask_for(world, &login, &own)?;
    run(world, &command(&wait_for_refusal(world, &login, &secret)?))?;
    world.wait_for_reason(&login, "Minted")?;

    run(
        world,
        &[
            "annotate",
            "secret",
            &secret,
            "pullpass.dev/registries-",
            "-n",
            OWN,
        ]
        .map(str::to_owned),
    )?;
    wait_for_refusal(world, &login, &secret)?;
    Ok(())
}
