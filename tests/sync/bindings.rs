//! What an AcrPullBinding does: a namespace pulls as the identity of a ServiceAccount of its own, which its owner grants.

use pullpass_emulator::{Registry, Role, RoleAssignment, Step};
use pullpass_test_support::{Azure, Login, wait_for};
use serde_json::{Value, json};

use crate::bindings_leadership::own_with_bindings;
use crate::bound_team::{ACCOUNT, BINDING, PULL_SECRET, Team};
use crate::bound_world::with_bindings;
use crate::client::{assert_refused, pull};
use crate::health::{CURRENT, wait_for_health};
use crate::short_lives::LIFE;
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, replica_builder, text};

#[test]
fn teams_pull_as_themselves_and_nobody_else_does() -> Test {
    let world = with_bindings()?;
    let teams = [Team::bound(world)?, Team::bound(world)?];
    for (team, other) in [(&teams[0], &teams[1]), (&teams[1], &teams[0])] {
        let binding = ["acrpullbinding", BINDING, "--namespace", &team.namespace];
        wait_for_health(world.cluster, &binding, CURRENT)?;
        assert_eq!(team.injected_in(&team.namespace)?, [PULL_SECRET]);
        assert_eq!(
            team.injected_in(&other.namespace)?,
            [""; 0],
            "it is attached in one namespace"
        );
        let secret = team.wait_for_secret(true)?;
        let config = World::docker_config(&secret)?;
        pull(world, &team.login, "app", &config)?;
        assert!(pull(world, &other.login, "app", &config).is_err());
        let owner = text(&secret, "/metadata/ownerReferences/0/kind");
        assert_eq!(owner, "AcrPullBinding");
        // Only the registry's own namespace and the team's have it.
        let host = &team.login.host;
        let selector = format!("pullpass.dev/binding-namespace={}", team.namespace);
        let all = ["secrets", "--all-namespaces", "--selector", &selector];
        let list = world.cluster.get_json(&all)?;
        let count = list.get("items").and_then(Value::as_array).map(Vec::len);
        assert_eq!(count, Some(2), "of {host}");
        let counts = world.azure.counts();
        assert_eq!(counts.calls_at(Step::EntraToken, &team.login.tenant), 1);
        assert_eq!(counts.calls_at(Step::Exchange, &team.login.host), 1);
    }
    Ok(())
}

#[test]
fn each_thing_that_is_missing_is_told_and_made_good() -> Test {
    let world = with_bindings()?;
    let team = Team::new(world)?;
    team.bind()?;
    let message = team.wait_for_reason("ServiceAccountMissing")?;
    let create = format!(
        "`kubectl create serviceaccount puller --namespace {}`",
        team.namespace
    );
    assert!(message.contains(&create), "{message}");

    world.cluster.run(&[
        "create",
        "serviceaccount",
        ACCOUNT,
        "--namespace",
        &team.namespace,
    ])?;
    wait_for("the annotation to be missed", SOON, || {
        let message = team
            .wait_for_reason("ServiceAccountMissing")
            .map_err(|error| error.to_string())?;
        let says = message.contains("azure.workload.identity/client-id=CLIENT-ID");
        if says && !message.contains("create serviceaccount") {
            Ok(())
        } else {
            Err(message)
        }
    })?;

    team.make_account()?;
    let message = team.wait_for_reason("NotGranted")?;
    // What it says is what helps.
    team.obey(&message)?;

    let message = team.wait_for_reason("EntraRejected")?;
    let subject = format!("--subject system:serviceaccount:{}:puller", team.namespace);
    assert!(
        message.contains("az identity federated-credential create"),
        "{message}"
    );
    assert!(message.contains(&subject), "{message}");
    assert!(world.secret(&team.namespace, PULL_SECRET)?.is_none());

    team.trust()?;
    team.wait_for_reason("Minted")?;
    let secret = team.wait_for_secret(true)?;
    pull(world, &team.login, "app", &World::docker_config(&secret)?)?;
    Ok(())
}

/// One ABAC registry, with a repository and an identity for each of two teams.
#[test]
fn teams_of_one_abac_registry_pull_their_own_repository() -> Test {
    let world = with_bindings()?;
    let (first, second) = (world.login()?, world.login()?);
    // Both applications are of the registry's tenant.
    let second = Login {
        host: first.host.clone(),
        tenant: first.tenant.clone(),
        ..second
    };
    world
        .azure
        .put_registry(Registry::abac(&first.tenant, &first.host).with_admin(&first.name, "test-admin"))?;
    let mut teams = Vec::new();
    for (login, repository) in [(first.clone(), "shop/app"), (second, "blog/app")] {
        world.azure.push_image(&first, repository)?;
        world.azure.grant(RoleAssignment {
            repositories: vec![repository.to_owned()],
            ..RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader)
        })?;
        let team = Team::of(world, login)?;
        team.do_all()?;
        teams.push((team, repository));
    }
    for (team, own) in &teams {
        let config = World::docker_config(&team.wait_for_secret(true)?)?;
        for (_, repository) in &teams {
            if repository == own {
                pull(world, &team.login, repository, &config)?;
            } else {
                assert_refused(world, &team.login, repository, &config);
            }
        }
    }
    Ok(())
}

#[test]
fn a_trust_for_another_audience_is_told_and_corrected() -> Test {
    let world = with_bindings()?;
    let team = Team::new(world)?;
    let others = "api://AzureADTokenExchangeChina";
    world.trust_for(&team.login, &team.namespace, ACCOUNT, others)?;
    team.make_account()?;
    team.grant()?;
    team.bind()?;
    let message = team.wait_for_reason("EntraRejected")?;
    assert!(message.contains("AADSTS700212"), "{message}");
    assert!(
        message.contains("--audiences api://AzureADTokenExchange`"),
        "{message}"
    );
    team.trust()?;
    team.wait_for_reason("Minted")?;
    team.wait_for_secret(true)?;
    Ok(())
}

/// Credentials live for so short a time that their refresh is seen. Nobody collects garbage here.
#[test]
fn a_right_that_is_taken_away_ends_refreshes() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = own_with_bindings(&cluster, 2, |config| config.lifetimes = LIFE)?;
    let (granting, naming) = (Team::bound(&world)?, Team::bound(&world)?);
    let kept = [&granting, &naming].map(|team| team.wait_for_secret(true));
    for (team, gone) in [
        (&granting, ["role", "pullpass"]),
        (&granting, ["rolebinding", "pullpass"]),
        (&naming, ["serviceaccount", ACCOUNT]),
    ] {
        let in_namespace = ["--namespace", &team.namespace];
        cluster.run(&[&["delete"], &gone[..], &in_namespace].concat())?;
    }

    let message = granting.wait_for_reason("NotGranted")?;
    assert!(message.contains("the previous credential"), "{message}");
    // The Pods that run need it, and it works until it expires.
    let secret = granting.wait_for_secret(true)?;
    assert_eq!(
        secret.get("data"),
        kept[0].as_ref().ok().and_then(|secret| secret.get("data"))
    );
    granting.obey(&message)?;
    granting.wait_for_reason("Minted")?;
    granting.wait_for_other_than(&secret)?;

    let message = naming.wait_for_reason("ServiceAccountMissing")?;
    assert!(
        message.contains("kubectl create serviceaccount puller"),
        "{message}"
    );
    let secret = naming.wait_for_secret(true)?;
    naming.make_account()?;
    naming.wait_for_reason("Minted")?;
    naming.wait_for_other_than(&secret)?;
    Ok(())
}

#[test]
fn a_namespace_that_is_recreated_is_granted_nothing() -> Test {
    let world = with_bindings()?;
    let team = Team::bound(world)?;
    team.wait_for_secret(true)?;
    world.cluster.run(&["delete", "namespace", &team.namespace])?;
    team.wait_until_forgotten()?;
    world.cluster.run(&["create", "namespace", &team.namespace])?;
    team.make_account()?;
    team.bind()?;
    team.wait_for_reason("NotGranted")?;
    assert!(world.secret(&team.namespace, PULL_SECRET)?.is_none());
    team.grant()?;
    team.wait_for_reason("Minted")?;
    team.wait_for_secret(true)?;
    Ok(())
}

#[test]
fn a_bindings_secret_comes_first_and_back() -> Test {
    let world = with_bindings()?;
    let team = Team::bound(world)?;
    world.attach(&team.login, &team.login.password, &json!({}))?;
    world.wait_for_reason(&team.login, "Minted")?;
    let of_registry = format!("pullpass-{}", team.login.name);
    assert_eq!(team.injected_in(&team.namespace)?, [PULL_SECRET, &of_registry]);
    let elsewhere = world.pullpass.new_namespace(&[])?;
    assert_eq!(team.injected_in(&elsewhere)?, [of_registry]);

    let uid = |secret: &Value| text(secret, "/metadata/uid").to_owned();
    let before = uid(&team.wait_for_secret(true)?);
    let delete = ["delete", "secret", PULL_SECRET, "--namespace", &team.namespace];
    world.cluster.run(&delete)?;
    assert_ne!(uid(&team.wait_for_secret(true)?), before);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_binding_that_is_deleted() -> Test {
    let world = with_bindings()?;
    let team = Team::bound(world)?;
    team.wait_for_secret(true)?;
    let delete = [
        "delete",
        "acrpullbinding",
        BINDING,
        "--namespace",
        &team.namespace,
    ];
    world.cluster.run(&delete)?;
    team.wait_for_secret(false)?;
    team.wait_until_forgotten()?;
    assert_eq!(team.injected_in(&team.namespace)?, [""; 0]);
    Ok(())
}

#[test]
fn a_namespace_that_opts_out_loses_its_pull_secret() -> Test {
    let world = with_bindings()?;
    let team = Team::bound(world)?;
    team.wait_for_secret(true)?;
    let label = |value: &str| {
        let label = format!("pullpass.dev/inject{value}");
        world
            .cluster
            .run(&["label", "namespace", &team.namespace, &label])
    };
    label("=disabled")?;
    team.wait_for_reason("NamespaceNotInjected")?;
    team.wait_for_secret(false)?;
    label("-")?;
    team.wait_for_reason("Minted")?;
    team.wait_for_secret(true)?;
    let calls = world
        .azure
        .counts()
        .calls_at(Step::EntraToken, &team.login.tenant);
    assert_eq!(calls, 1, "the credential is there still");
    Ok(())
}

/// Nobody collects garbage here.
#[test]
fn the_next_leader_mints_nothing_and_deletes_what_is_gone() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = own_with_bindings(&cluster, 1, |_| {})?;
    let start = |azure: &Azure| {
        let builder = replica_builder(&cluster, azure);
        builder.flag(RESYNC).flag("--bindings").start()
    };
    let Team { login, namespace, .. } = Team::bound(&world)?;
    let secret = |world: &World<'_>, is_there| {
        let (login, namespace) = (login.clone(), namespace.clone());
        let team = Team {
            world,
            login,
            namespace,
        };
        team.wait_for_secret(is_there)
    };
    let before = secret(&world, true)?;

    // It writes what was deleted from the credential that is there.
    world.pullpass.process().kill()?;
    cluster.run(&["delete", "secret", PULL_SECRET, "--namespace", &namespace])?;
    world.pullpass = start(&world.azure)?;
    let after = secret(&world, true)?;
    let uids = [&before, &after].map(|secret| text(secret, "/metadata/uid").to_owned());
    assert_ne!(uids[0], uids[1]);
    let calls = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    assert_eq!(calls, 1);

    world.pullpass.process().kill()?;
    cluster.run(&["delete", "acrpullbinding", BINDING, "--namespace", &namespace])?;
    let minted = format!("binding-credential-{namespace}.{BINDING}");
    assert!(world.secret("pullpass-system", &minted)?.is_some());
    world.pullpass = start(&world.azure)?;
    secret(&world, false)?;
    wait_for("the minted credential to go", SOON, || {
        match world.secret("pullpass-system", &minted) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}
