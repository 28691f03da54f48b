//! No token, password or key is in anything that pullpass says, whatever it is asked to log: every kind of identity and
//! credential, with failures on the way, and at the end a search for each secret that was in the cluster at some time.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_emulator::{
    Failure, Fault, FederatedCredential, Jwks, ManagedIdentity, Principal, RsaSigner, Step,
};
use pullpass_test_support::{ControlPlane, Installation, Login};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::bound_team::Team;
use crate::bound_world::install_bindings;
use crate::world::{
    RESYNC, Test, World, cluster_of_its_own, federated_token_file, pull_secret, replica_builder, text,
};

/// What nobody may read, each with where it is from: a failed test must not print it either.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    fn add(&mut self, secret: &str, from: &str) {
        if secret.contains("PRIVATE KEY") {
            // A log may write the line breaks in its own way.
            let lines = secret
                .lines()
                .filter(|line| line.len() > 20 && !line.contains('-'));
            for line in lines {
                self.0
                    .insert(line.to_owned(), format!("{from}, a line of the key"));
            }
            return;
        }
        assert!(
            secret.len() >= 12,
            "{from} is too short to be told from other text"
        );
        self.0.insert(secret.to_owned(), from.to_owned());
        self.0
            .insert(STANDARD.encode(secret), format!("{from}, in base64"));
    }

    /// Adds what every Secret of a cluster holds now: what a test put in, and what pullpass made from it.
    fn add_all_of(&mut self, cluster: &ControlPlane) -> Test {
        let list = cluster.get_json(&["secrets", "--all-namespaces"])?;
        for secret in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            let name = text(secret, "/metadata/name");
            let data = secret.get("data").and_then(Value::as_object);
            for (key, value) in data.into_iter().flatten() {
                let value = value.as_str().unwrap_or_default();
                let from = format!("{key} of Secret {name}");
                let decoded = String::from_utf8(STANDARD.decode(value)?)?;
                match key.as_str() {
                    "username" => {}
                    ".dockerconfigjson" => {
                        self.0.insert(value.to_owned(), from.clone());
                        let config: Value = serde_json::from_str(&decoded)?;
                        let auths = config.get("auths").and_then(Value::as_object);
                        for auth in auths.into_iter().flat_map(|auths| auths.values()) {
                            self.add(text(auth, "/password"), &format!("the password in {from}"));
                            self.0
                                .insert(text(auth, "/auth").to_owned(), format!("auth in {from}"));
                        }
                    }
                    _ => self.add(&decoded, &from),
                }
            }
        }
        Ok(())
    }

    /// Fails where a text holds one of them, or any token at all: those of Entra are in no Secret.
    fn assert_none_in(&self, place: &str, said: &str) {
        for (secret, from) in &self.0 {
            assert!(!said.contains(secret), "{from} is in {place}");
        }
        assert!(!has_token(said), "a token is in {place}");
    }
}

/// Whether there is a JSON Web Token in a text: its header and its claims are both objects in base64.
fn has_token(text: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    text.split(|c| !is_base64(c) && c != '.').any(|word| {
        let mut parts = word.split('.');
        let is_object = |part: Option<&str>| part.is_some_and(|part| part.starts_with("eyJ"));
        is_object(parts.next()) && is_object(parts.next())
    })
}

#[test]
fn a_token_is_told_from_other_text() {
    assert!(has_token(
        "authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln\n"
    ));
    assert!(!has_token(
        "eyJhbGciOiJub25lIn0 eyJzdWIiOiIxIn0 registry1.azurecr.io"
    ));
}

/// One registry of every kind of identity and of every kind of credential.
fn attach_all(world: &World, secrets: &mut Secrets) -> Result<Vec<Login>, Box<dyn Error>> {
    let password = |login: &Login| format!("the-password-of-{}", login.name);
    let with_password = |credential: Value| -> Result<Login, Box<dyn Error>> {
        let login = world.login()?;
        assert!(world.azure.rotate_secret(&login.client, &password(&login))?);
        world.attach(&login, &password(&login), &json!({"credential": credential}))?;
        Ok(login)
    };
    let mut logins = vec![
        with_password(json!({"kind": "RefreshToken"}))?,
        with_password(json!({"kind": "AccessToken", "repositories": ["app"]}))?,
        with_password(json!({"kind": "ServicePrincipalPassword"}))?,
    ];

    let basic = world.login()?;
    world.put_tokens(&basic, &[("puller", password(&basic))])?;
    world
        .cluster
        .apply(&basic.secret(&password(&basic)).to_string())?;
    let name = json!({"stringData": {"username": "puller"}}).to_string();
    let secret = basic.password_secret();
    let patch = [
        "patch",
        "secret",
        &secret,
        "--namespace=pullpass-system",
        "--patch",
        &name,
    ];
    world.cluster.run(&patch)?;
    let reference = json!({"secretRef": {"name": basic.password_secret()}});
    world.attach_with(&basic, &json!({"identity": {"basic": reference}}))?;
    logins.push(basic);

    let certified = world.login()?;
    let pem = RsaSigner::FIRST.pem();
    let key = KeyPair::from_pem(pem)?;
    let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?.pem();
    secrets.add(pem, "the key of a client certificate");
    world.azure.put_principal(Principal {
        certificates: vec![certificate.clone()],
        ..Principal::new(&certified.tenant, &certified.client)
    })?;
    world
        .cluster
        .apply(&certified.secret(&format!("{certificate}{pem}")).to_string())?;
    let identity = json!({"servicePrincipal": {
        "tenantId": certified.tenant,
        "clientId": certified.client,
        "clientCertificateRef": {"name": certified.password_secret(), "key": "password"},
    }});
    world.attach_with(&certified, &json!({"identity": identity}))?;
    logins.push(certified);

    let federated = world.login()?;
    world.azure.put_principal(Principal {
        federated_credentials: vec![trust(world.cluster)?],
        ..Principal::new(&federated.tenant, &federated.client)
    })?;
    let identity = json!({"tenantId": federated.tenant, "clientId": federated.client});
    world.attach_with(&federated, &json!({"identity": {"workloadIdentity": identity}}))?;
    logins.push(federated);

    let managed = world.login()?;
    world.azure.put_principal(Principal {
        managed_identity: Some(ManagedIdentity { resource_id: None }),
        ..Principal::new(&managed.tenant, &managed.client)
    })?;
    world.attach_with(&managed, &json!({"identity": {"managedIdentity": {}}}))?;
    logins.push(managed);
    Ok(logins)
}

/// What an application trusts when it trusts pullpass' service account.
fn trust(cluster: &ControlPlane) -> Result<FederatedCredential, Box<dyn Error>> {
    let raw = |path: &str| cluster.run(&["get", "--raw", path]).map(|output| output.stdout);
    let discovery: Value = serde_json::from_str(&raw("/.well-known/openid-configuration")?)?;
    Ok(FederatedCredential {
        issuer: text(&discovery, "/issuer").to_owned(),
        subject: "system:serviceaccount:pullpass-system:pullpass".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
        jwks: serde_json::from_str::<Jwks>(&raw("/openid/v1/jwks")?)?,
    })
}

/// Puts a token where a kubelet would.
fn mount_federated_token(world: &World, secrets: &mut Secrets) -> Test {
    let account = ["create", "token", "pullpass", "--namespace", "pullpass-system"];
    let audience = ["--audience", "api://AzureADTokenExchange"];
    let token = world.cluster.run(&[&account[..], &audience].concat())?.stdout;
    fs::write(federated_token_file(&world.azure), &token)?;
    secrets.add(token.trim(), "the federated token");
    Ok(())
}

/// What can go wrong with a credential, each until it is told and then corrected.
fn fail_in_every_way(world: &World, login: &Login, password: &str, secrets: &mut Secrets) -> Test {
    let use_password = |password: &str| world.cluster.apply(&login.secret(password).to_string());
    let wrong = "the-password-that-is-wrong";
    secrets.add(wrong, "a password that is refused");
    use_password(wrong)?;
    world.wait_for_reason(login, "EntraRejected")?;
    for (step, target, fault, reason) in [
        (Step::EntraToken, &login.tenant, Fault::status(503), "Unreachable"),
        (Step::Exchange, &login.host, Fault::throttled(1), "Throttled"),
        (Step::Exchange, &login.host, Fault::status(500), "Unreachable"),
    ] {
        world.azure.inject(Failure::new(step, fault).at(target));
        // Another Secret is tried immediately.
        let password_now = format!("{password}-at-{}", secrets.0.len());
        assert!(world.azure.rotate_secret(&login.client, &password_now)?);
        secrets.add(&password_now, "a password of its time");
        use_password(&password_now)?;
        world.wait_for_reason(login, reason)?;
        world.azure.clear_failures();
        world.wait_for_reason(login, "Minted")?;
        secrets.add_all_of(world.cluster)?;
    }
    Ok(())
}

fn said_by(replica: &mut Installation<'_>) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let metrics = replica.metrics()?;
    let records = replica.records()?.into_iter().map(|record| record.to_string());
    let records: Vec<_> = records.collect();
    let process = replica.process();
    let log = fs::read_to_string(process.stderr())?;
    assert!(log.contains("DEBUG") && log.contains("answered"), "{log}");
    Ok([
        ("standard error", log),
        ("standard output", fs::read_to_string(process.stdout())?),
        ("the metrics", metrics),
        ("the audit log", records.join("\n")),
        (
            "the arguments",
            fs::read_to_string(format!("/proc/{}/cmdline", process.pid()))?,
        ),
    ]
    .map(|(place, said)| (place.to_owned(), said))
    .into())
}

#[test]
fn no_secret_is_in_what_pullpass_says() -> Test {
    let cluster = cluster_of_its_own()?;
    install_bindings(&cluster)?;
    let mut world = World::with_pullpass(
        &cluster,
        8,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings").flag("--log=trace"),
    )?;
    let mut second = replica_builder(&cluster, &world.azure)
        .flag(RESYNC)
        .flag("--bindings")
        .flag("--log=trace")
        .flag("--log-format=json")
        .start()?;
    let mut secrets = Secrets::default();
    let logins = attach_all(&world, &mut secrets)?;
    // Those that wait for a token that is not mounted yet are told so.
    mount_federated_token(&world, &mut secrets)?;
    for login in &logins {
        world.wait_for_reason(login, "Minted")?;
        let namespace = second.new_namespace(&[])?;
        world.run_pod(&namespace, login)?;
        for namespace in [world.namespace_in_need(login)?, namespace] {
            world.wait_for_secret(&namespace, login)?;
        }
    }
    Team::bound(&world)?.wait_for_secret(true)?;
    secrets.add_all_of(&cluster)?;

    let login = logins.first().ok_or("nothing is attached")?;
    fail_in_every_way(&world, login, "the-password-of-then", &mut secrets)?;
    let taken = world.pullpass.new_namespace(&[])?;
    let foreign = [
        "create",
        "secret",
        "generic",
        &pull_secret(login),
        "--namespace",
        &taken,
        "--from-literal=password=the-password-of-somebody",
    ];
    cluster.run(&foreign)?;
    world.run_pod(&taken, login)?;
    world.wait_for_distribution(login, "NameConflict")?;
    secrets.add_all_of(&cluster)?;
    assert!(secrets.0.len() > 40, "{} secrets are known", secrets.0.len());

    let kinds =
        "acrregistries,acrpullbindings,events,events.events.k8s.io,pods,leases,configmaps,serviceaccounts";
    let objects = cluster.get_json(&[kinds, "--all-namespaces"])?.to_string();
    for told in ["AADSTS7000215", "Unreachable", "NameConflict", "Minted"] {
        assert!(objects.contains(told), "nobody is told about {told}");
    }
    secrets.assert_none_in("an object", &objects);
    let audit = fs::read_to_string(cluster.audit_log())?;
    secrets.assert_none_in("the API server's audit log", &audit);
    for (name, replica) in [
        ("the leader", &mut world.pullpass),
        ("another replica", &mut second),
    ] {
        for (place, said) in said_by(replica)? {
            secrets.assert_none_in(&format!("{place} of {name}"), &said);
        }
    }
    Ok(())
}
