//! A cloud that is none of Azure's own: what settings say of it is where secrets are sent, and nothing else is.

use std::error::Error;
use std::process::Command;

use pullpass_emulator::{Cloud, Config, Principal, Registry, RepositoryScope, ScopedToken, Tenant};
use pullpass_test_support::{InstallationBuilder, Login, kubelet_tries};
use serde_json::{Value, json};

use crate::bound_team::Team;
use crate::bound_world::install_bindings;
use crate::world::{RESYNC, Test, World, cluster_of_its_own, pull_secret, text};

const SUFFIX: &str = "azurecr.contoso.example";
const AUDIENCE: &str = "https://management.contoso.example";
const SETTINGS: [&str; 3] = [
    "--other-cloud-suffix=azurecr.contoso.example",
    "--other-cloud-authority=https://login.contoso.example",
    "--other-cloud-audience=https://management.contoso.example",
];

/// A registry of that cloud; only its own authority knows its tenant.
fn login(name: &str, number: usize, suffix: &str) -> Login {
    Login {
        host: format!("{name}.{suffix}"),
        ..Login::new(name, number)
    }
}

fn add(config: &mut Config, login: &Login) {
    config.tenants.push(Tenant {
        cloud: Cloud::Other,
        audiences: Some(vec![AUDIENCE.to_owned()]),
        ..Tenant::new(&login.tenant)
    });
    let principal = Principal::new(&login.tenant, &login.client);
    config.principals.push(principal.with_secret(&login.password));
    let mut registry = Registry::new(&login.tenant, &login.host);
    registry.tokens = vec![ScopedToken {
        name: "reader".to_owned(),
        passwords: vec![login.password.clone()],
        scopes: vec![RepositoryScope {
            repository: "*".to_owned(),
            actions: vec!["pull".to_owned()],
        }],
        ..ScopedToken::default()
    }];
    config.registries.push(registry);
    config.roles.push(login.role());
}

/// Puts the pull secret into one namespace, whether or not the webhook is asked about its Pods.
fn spec(namespace: &str) -> Value {
    json!({
        "cloud": "Other",
        "provision": "Eager",
        "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    })
}

fn message(object: &Value) -> &str {
    text(object, "/status/conditions/0/message")
}

/// The exit code of a check of the registry with these flags, and what it says.
fn check(
    world: &World<'_>,
    login: &Login,
    settings: &[&str],
) -> Result<(Option<i32>, String), Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .env("KUBECONFIG", world.cluster.kubeconfig())
        .args(["check", &login.name])
        .args(world.azure.flags())
        .args(settings)
        .output()?;
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    Ok((output.status.code(), texts.concat()))
}

/// One of the other cloud, and one of a cloud that nobody told about.
fn logins() -> (Login, Login) {
    (
        login("appliance", 200, SUFFIX),
        login("elsewhere", 201, "azurecr.evil.example"),
    )
}

#[test]
fn another_clouds_registry_is_minted_for_by_settings() -> Test {
    let cluster = cluster_of_its_own()?;
    let (one, elsewhere) = logins();
    let change = |config: &mut Config| {
        add(config, &one);
        add(config, &elsewhere);
    };
    let world = World::with_pullpass(&cluster, 1, change, |builder| {
        SETTINGS.into_iter().fold(builder, InstallationBuilder::flag)
    })?;
    let namespace = world.pullpass.new_namespace(&[])?;
    world.attach(&one, &one.password, &spec(&namespace))?;
    let object = world.wait_for_reason(&one, "Minted")?;
    assert_eq!(text(&object, "/status/credential/audience"), AUDIENCE);
    assert_eq!(text(&object, "/status/loginServer"), one.host);
    let conditions = object.pointer("/status/conditions").map(Value::to_string);
    let is_told = |text: String| text.contains("CustomDomains") && text.contains("NotAsked");
    assert!(conditions.is_some_and(is_told), "{object:#}");
    let secret = world.wait_for_secret(&namespace, &one)?;
    for (image, count) in [
        (format!("{}/team/app:1", one.host), 1),
        (format!("x.{}/app", one.host), 0),
        (format!("{}.evil.example/app", one.host), 0),
    ] {
        let tries = kubelet_tries(&image, std::slice::from_ref(&secret))?;
        assert_eq!(tries.len(), count, "{image}");
    }

    // A check from elsewhere holds to its own settings.
    let calls = world.azure.counts();
    let (code, said) = check(&world, &one, &[])?;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("set --other-cloud-suffix"), "{said}");
    assert_eq!(world.azure.counts(), calls);
    let (code, said) = check(&world, &one, &SETTINGS)?;
    assert!(code != Some(2) && said.contains("✓ Exchange"), "{said}");

    // Who may write AcrRegistries leads no secret to a host of another suffix, whichever the identity.
    let calls = world.azure.counts();
    let basic = json!({"basic": {"secretRef": {"name": elsewhere.password_secret()}}});
    for identity in [None, Some(basic)] {
        let mut spec = spec(&namespace);
        if let (Some(fields), Some(identity)) = (spec.as_object_mut(), identity) {
            fields.insert("identity".to_owned(), identity);
        }
        world.attach(&elsewhere, &elsewhere.password, &spec)?;
        let object = world.wait_for_reason(&elsewhere, "InvalidSpec")?;
        let words = "does not end in .azurecr.contoso.example, as login servers of the other cloud do by --other-cloud-suffix";
        assert!(message(&object).contains(words), "{object:#}");
    }
    assert_eq!(world.azure.counts(), calls);
    assert!(world.namespaces_with_secrets(&elsewhere)?.is_empty());
    Ok(())
}

#[test]
fn a_teams_binding_is_minted_by_the_same_settings() -> Test {
    let cluster = cluster_of_its_own()?;
    install_bindings(&cluster)?;
    let (one, elsewhere) = logins();
    let change = |config: &mut Config| {
        add(config, &one);
        add(config, &elsewhere);
    };
    let world = World::with_pullpass(&cluster, 1, change, |builder| {
        let builder = SETTINGS.into_iter().fold(builder, InstallationBuilder::flag);
        builder.flag(RESYNC).flag("--bindings")
    })?;
    let other = json!({"cloud": "Other"});
    let team = Team::of(&world, one.clone())?;
    let stranger = Team::of(&world, elsewhere)?;
    for team in [&team, &stranger] {
        team.trust()?;
        team.make_account()?;
        team.grant()?;
    }
    team.bind_with(&other)?;
    team.wait_for_reason("Minted")?;
    let secret = team.wait_for_secret(true)?;
    let image = format!("{}/team/app:1", one.host);
    assert_eq!(kubelet_tries(&image, &[secret])?.len(), 1);

    // A team leads no token to a host of another suffix.
    let calls = world.azure.counts();
    stranger.bind_with(&other)?;
    let message = stranger.wait_for_reason("InvalidSpec")?;
    assert!(message.contains("--other-cloud-suffix"), "{message}");
    assert_eq!(world.azure.counts(), calls);
    Ok(())
}

#[test]
fn another_clouds_registry_is_refused_without_settings() -> Test {
    let cluster = cluster_of_its_own()?;
    let one = login("appliance", 200, SUFFIX);
    let world = World::start(&cluster, 1, |config| add(config, &one))?;
    let namespace = world.pullpass.new_namespace(&[])?;
    world.attach(&one, &one.password, &spec(&namespace))?;
    let object = world.wait_for_reason(&one, "InvalidSpec")?;
    assert!(message(&object).contains("--other-cloud-suffix"), "{object:#}");
    assert!(message(&object).contains("otherCloud.suffix"), "{object:#}");
    assert!(world.namespaces_with_secrets(&one)?.is_empty());
    Ok(())
}

#[test]
fn a_suffix_alone_is_enough_for_a_registrys_own_tokens() -> Test {
    let cluster = cluster_of_its_own()?;
    let one = login("appliance", 200, SUFFIX);
    let change = |config: &mut Config| add(config, &one);
    let world = World::with_pullpass(&cluster, 1, change, |builder| builder.flag(SETTINGS[0]))?;
    let namespace = world.pullpass.new_namespace(&[])?;
    world.attach(&one, &one.password, &spec(&namespace))?;
    let object = world.wait_for_reason(&one, "InvalidSpec")?;
    assert!(message(&object).contains("--other-cloud-authority"), "{object:#}");
    attach_by_token(&world, &one, &namespace)?;
    world.wait_for_reason(&one, "Minted")?;
    let secret = world.wait_for_secret(&namespace, &one)?;
    assert_eq!(text(&secret, "/metadata/name"), pull_secret(&one));
    Ok(())
}

/// The same registry with a token of its own instead of an identity of Entra ID.
fn attach_by_token(world: &World<'_>, login: &Login, namespace: &str) -> Result<(), Box<dyn Error>> {
    let mut secret = login.secret(&login.password);
    if let Some(data) = secret.pointer_mut("/stringData").and_then(Value::as_object_mut) {
        data.insert("username".to_owned(), json!("reader"));
    }
    world.cluster.apply(&secret.to_string())?;
    let mut spec = spec(namespace);
    if let Some(fields) = spec.as_object_mut() {
        let basic = json!({"basic": {"secretRef": {"name": login.password_secret()}}});
        fields.insert("identity".to_owned(), basic);
    }
    world.attach_with(login, &spec)
}
