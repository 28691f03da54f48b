//! Custom domains: a kubelet finds the credential for them, and the status says where they have no effect.

use std::error::Error;

use pullpass_test_support::{Login, kubelet_tries, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, pull_secret, shared, text};

/// Waits until a kubelet finds the pull secret of a registry for these images, and not for those.
fn wait_until_found(
    world: &World,
    namespace: &str,
    login: &Login,
    found: &[String],
    not_found: &[String],
) -> Test {
    wait_for("a kubelet to find what it should", SOON, || {
        let secret = world
            .secret(namespace, &pull_secret(login))
            .map_err(|error| error.to_string())?
            .ok_or("there is no pull secret")?;
        let tries = |image: &String| kubelet_tries(image, std::slice::from_ref(&secret));
        for (images, count) in [(found, 1), (not_found, 0)] {
            for image in images {
                let names = tries(image).map_err(|error| error.to_string())?;
                if names.len() != count {
                    return Err(format!("{image}: {names:?}"));
                }
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Waits for the condition about the custom domains to have this reason; gives its message.
fn wait_for_domains(world: &World, login: &Login, reason: &str) -> Result<String, Box<dyn Error>> {
    let message = wait_for(&format!("custom domains to be {reason}"), SOON, || {
        let object = world.registry(login).map_err(|error| error.to_string())?;
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        match conditions.find(|condition| text(condition, "/type") == "CustomDomains") {
            Some(condition) if text(condition, "/reason") == reason => {
                Ok(text(condition, "/message").to_owned())
            }
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(message)
}

fn images_of(domain: &str) -> [String; 2] {
    [format!("{domain}/team/app:1"), format!("{domain}/app")]
}

#[test]
fn custom_domains_are_keys_for_kubelets() -> Test {
    let world = shared()?;
    let (one, other) = (world.login()?, world.login()?);
    // A domain that both name is of the first by name.
    let (first, second) = if one.name < other.name {
        (one, other)
    } else {
        (other, one)
    };
    let of = |login: &Login, number: usize| format!("d{number}.{}.example", login.name);
    let (own, shared, third) = (of(&first, 1), of(&first, 2), of(&first, 3));
    world.attach(&first, &first.password, &json!({"customDomains": [own, shared]}))?;
    world.wait_for_reason(&first, "Minted")?;
    let namespace = world.namespace_in_need(&first)?;
    let found = [images_of(&own), images_of(&shared)].concat();
    let not_found = [
        format!("{own}:5000/app"),
        format!("x.{own}/app"),
        format!("{third}/app"),
    ];
    wait_until_found(world, &namespace, &first, &found, &not_found)?;
    let login_server = [format!("{}/app", first.host)];
    wait_until_found(world, &namespace, &first, &login_server, &[])?;

    world.attach(&second, &second.password, &json!({"customDomains": [shared]}))?;
    world.wait_for_reason(&second, "Minted")?;
    let message = wait_for_domains(world, &second, "NameConflict")?;
    assert!(
        message.contains(&format!("{shared} is a host of AcrRegistry {}", first.name)),
        "{message}"
    );
    let of_second = world.namespace_in_need(&second)?;
    world.wait_for_secret(&of_second, &second)?;
    wait_until_found(world, &of_second, &second, &[], &images_of(&shared))?;

    // What the first one gives up is the second one's, and nothing is minted for it.
    let minted = world.registry(&first)?;
    world.attach_with(&first, &json!({"customDomains": [third]}))?;
    let gone = [images_of(&own), images_of(&shared)].concat();
    wait_until_found(world, &namespace, &first, &images_of(&third), &gone)?;
    wait_until_found(world, &of_second, &second, &images_of(&shared), &[])?;
    let now = world.registry(&first)?;
    let issued = "/status/credential/issuedAt";
    assert_eq!(text(&minted, issued), text(&now, issued));
    Ok(())
}

#[test]
fn a_webhook_that_is_not_asked_shows_in_the_status() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let domain = format!("registry.{}.example", login.name);
    // The shared world's own configuration has another name.
    let configure = |domains: &str| {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass"},
            "webhooks": [{
                "name": "pods.pullpass.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "clientConfig": {"url": "https://localhost:1/"},
                "matchConditions": [{"name": "a", "expression": format!("'x' in \"{domains}\".split(\",\")")}],
            }],
        });
        world.cluster.apply(&configuration.to_string())
    };
    configure("-")?;
    world.attach(&login, &login.password, &json!({"customDomains": [domain]}))?;
    let message = wait_for_domains(world, &login, "NotAsked")?;
    assert!(
        message.contains(&domain) && message.contains("webhook.customDomains"),
        "{message}"
    );
    configure(&domain)?;
    wait_for_domains(world, &login, "Asked")?;
    world.attach_with(&login, &json!({}))?;
    wait_for("the condition to go", SOON, || {
        let object = world.registry(&login).map_err(|error| error.to_string())?;
        if object.to_string().contains("CustomDomains") {
            return Err(object.to_string());
        }
        Ok(())
    })?;
    Ok(())
}
