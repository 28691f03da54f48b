//! `pullpass detach`, on a cluster where pullpass runs.

use std::error::Error;

use pullpass_test_support::Login;
use serde_json::json;

use crate::command::{Ran, plain, run, run_with};
use crate::world::{Test, World, shared};

fn detach(world: &World<'_>, target: &str, flags: &[&str]) -> Result<Ran, Box<dyn Error>> {
    run(world.cluster.kubeconfig(), &[&["detach", target], flags].concat())
}

fn resource_id(login: &Login) -> String {
    format!(
        "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/{}",
        login.name
    )
}

const GONE: &str = "acrregistry.pullpass.dev/REGISTRY deleted\nREGISTRY.azurecr.io is detached: its Secrets are deleted; \
                    its pull secrets were in 1 namespace.\n";

#[test]
fn every_form_detaches_and_every_secret_is_gone() -> Test {
    let world = shared()?;
    for form in [
        |login: &Login| login.name.clone(),
        |login: &Login| login.name.to_uppercase(),
        |login: &Login| login.host.clone(),
        resource_id,
    ] {
        let login = world.attached(&json!({}))?;
        let target = form(&login);
        let namespace = world.namespace_in_need(&login)?;
        world.wait_for_secret(&namespace, &login)?;
        world.wait_for_served(&login, 1)?;
        let said = detach(world, &target, &["--dry-run"])?.ok()?;
        assert_eq!(
            plain(&said, &login),
            "would delete acrregistry.pullpass.dev/REGISTRY, and with it the pull secrets in 1 namespace\n"
        );
        let said = detach(world, &target, &["--dry-run=server"])?.ok()?;
        assert!(said.ends_with("namespace (server dry run)\n"), "{said}");
        let name = detach(world, &target, &["--dry-run=server", "--output=name"])?.ok()?;
        assert_eq!(plain(&name, &login), "acrregistry.pullpass.dev/REGISTRY\n");
        let said = detach(world, &target, &[])?;
        assert_eq!(
            plain(&said.stderr, &login),
            "Waiting until the pull secrets in 1 namespace are gone\n"
        );
        assert_eq!(plain(&said.ok()?, &login), GONE);
        // What is left of the credential holds nothing, and goes later.
        let left = world.namespaces_with_secrets(&login)?;
        assert!(
            left.iter().all(|namespace| namespace == "pullpass-system"),
            "{left:?}"
        );
        let emptied = world.secret("pullpass-system", &format!("credential-{}", login.name))?;
        if let Some(emptied) = emptied {
            assert_eq!(World::docker_config(&emptied)?, "{}");
        }
        let again = detach(world, &target, &[])?.ok()?;
        assert_eq!(again, format!("{target} is not attached.\n"));
        for output in ["json", "yaml", "name"] {
            let again = detach(world, &target, &["--output", output])?;
            assert_eq!(again.stderr, format!("{target} is not attached.\n"));
            assert_eq!(again.ok()?, "", "{output}");
        }
    }
    Ok(())
}

#[test]
fn the_secret_that_attaching_wrote_goes_too() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let arguments = [
        "attach",
        &login.name,
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-secret-file=-",
    ];
    run_with(world.cluster.kubeconfig(), &arguments, &login.password)?.ok()?;
    detach(world, &login.name, &[])?.ok()?;
    let secret = world.secret("pullpass-system", &format!("identity-{}", login.name))?;
    assert_eq!(secret, None);
    Ok(())
}

#[test]
fn several_of_one_host_are_listed_and_one_is_asked_for() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let mut second = login.acr_registry();
    second["metadata"]["name"] = json!(format!("{}-team-b", login.name));
    world.cluster.apply(&second.to_string())?;
    let said = detach(world, &login.host, &[])?.failed(2)?;
    assert_eq!(
        plain(&said, &login),
        "pullpass: REGISTRY.azurecr.io is attached several times, as AcrRegistries REGISTRY, REGISTRY-team-b: name the one \
         to detach, as in `pullpass detach REGISTRY`\n"
    );
    let said = detach(world, &format!("{}-team-b", login.name), &["--no-wait"])?.ok()?;
    assert_eq!(
        plain(&said, &login),
        "acrregistry.pullpass.dev/REGISTRY-team-b deleted\n"
    );
    world.registry(&login)?;
    Ok(())
}

#[test]
fn users_who_may_not_look_for_secrets_are_told_so() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let role = [
        "create",
        "clusterrole",
        "detacher",
        "--verb=get,list,delete",
        "--resource=acrregistries",
    ];
    world.cluster.run(&role)?;
    let cluster = world.cluster;
    cluster.run(&["create", "serviceaccount", "detacher", "--namespace=default"])?;
    let subject = "--serviceaccount=default:detacher";
    cluster.run(&[
        "create",
        "clusterrolebinding",
        "detacher",
        "--clusterrole=detacher",
        subject,
    ])?;
    let kubeconfig = cluster.service_account_kubeconfig("default", "detacher")?;
    let said = run(&kubeconfig, &["detach", &login.name])?;
    assert_eq!(
        plain(&said.stderr, &login),
        "Waiting until the pull secrets in no namespace are gone\npullpass: you may not look for Secrets in namespace \
         pullpass-system, so it can't be seen when the pull secrets are gone\n"
    );
    assert_eq!(
        plain(&said.ok()?, &login),
        "acrregistry.pullpass.dev/REGISTRY deleted\nREGISTRY.azurecr.io is detached. pullpass deletes the pull secrets, \
         which were in no namespace.\n"
    );
    Ok(())
}
