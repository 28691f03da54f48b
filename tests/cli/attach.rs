//! `pullpass attach`, on a cluster where pullpass runs.

use std::error::Error;

use pullpass_emulator::{Principal, Registry, RsaSigner, ScopedToken};
use pullpass_test_support::{ControlPlane, Login, wait_for};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::command::{Ran, plain, run, run_with};
use crate::world::{SOON, Test, World, cluster_of_its_own, shared, text};

/// Runs `attach` on a registry.
fn attach(world: &World<'_>, login: &Login, flags: &[&str], input: &str) -> Result<Ran, Box<dyn Error>> {
    run_with(
        world.cluster.kubeconfig(),
        &[&["attach", &login.name], flags].concat(),
        input,
    )
}

/// Runs it with the service principal's password.
fn attach_with(
    world: &World<'_>,
    login: &Login,
    password: &str,
    flags: &[&str],
) -> Result<Ran, Box<dyn Error>> {
    let ids = [
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-secret-file=-",
    ];
    attach(world, login, &[&ids[..], flags].concat(), password)
}

fn identity_secret(world: &World<'_>, login: &Login) -> Result<Option<Value>, Box<dyn Error>> {
    world.secret("pullpass-system", &format!("identity-{}", login.name))
}

const WAITING: &str = "Waiting for pullpass to mint a credential for REGISTRY.azurecr.io\n";
const READY: &str = "REGISTRY.azurecr.io is ready: its credential expires at TIME, and is refreshed before. Pods in every \
                     injected namespace get its pull secret. Whether it may pull is known when a Pod names an image \
                     (condition PullAuthorized), or by: pullpass check REGISTRY --repository REPOSITORY\n";

#[test]
fn attaching_a_service_principal_again_changes_nothing() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let tried = attach_with(world, &login, &login.password, &["--dry-run=server"])?.ok()?;
    assert_eq!(
        plain(&tried, &login),
        "secret/identity-REGISTRY created (server dry run)\nacrregistry.pullpass.dev/REGISTRY created (server dry run)\n"
    );
    assert_eq!(identity_secret(world, &login)?, None);
    let attached = attach_with(world, &login, &login.password, &[])?;
    assert_eq!(plain(&attached.stderr, &login), WAITING);
    assert_eq!(
        plain(&attached.ok()?, &login),
        format!("secret/identity-REGISTRY created\nacrregistry.pullpass.dev/REGISTRY created\n{READY}")
    );
    let object = world.registry(&login)?;
    let secret = identity_secret(world, &login)?.ok_or("there is no Secret")?;
    assert_eq!(text(&secret, "/data/password"), "dGVzdC1zZWNyZXQ=");
    assert_eq!(secret.pointer("/metadata/labels"), None);
    let annotation = "/metadata/annotations/pullpass.dev~1registries";
    assert_eq!(text(&secret, annotation), login.name);
    assert_eq!(
        text(&secret, "/metadata/ownerReferences/0/uid"),
        text(&object, "/metadata/uid")
    );
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;

    wait_for("what it may pull to be known", SOON, || {
        let object = world.registry(&login).map_err(|error| error.to_string())?;
        match text(&object, "/status/conditions/2/status") {
            "True" => Ok(()),
            _ => Err(format!("{object:#}")),
        }
    })?;
    let (begin, _) = READY.split_once("Whether").ok_or("it does not mention pulls")?;
    let known = format!("{begin}The registry says that the credential may pull from app.\n");
    for flags in [&[][..], &["--name", &login.name]] {
        let again = attach_with(world, &login, &login.password, flags)?.ok()?;
        assert_eq!(
            plain(&again, &login),
            format!(
                "secret/identity-REGISTRY unchanged\nacrregistry.pullpass.dev/REGISTRY unchanged\n{known}"
            )
        );
    }
    let untouched = attach(world, &login, &[], "")?.ok()?;
    assert_eq!(
        plain(&untouched, &login),
        format!("acrregistry.pullpass.dev/REGISTRY unchanged\n{known}")
    );
    assert_eq!(identity_secret(world, &login)?, Some(secret));
    let now = world.registry(&login)?;
    assert_eq!(now["metadata"]["generation"], object["metadata"]["generation"]);

    // What was lost is put back.
    let name = format!("identity-{}", login.name);
    world
        .cluster
        .run(&["delete", "secret", &name, "--namespace=pullpass-system"])?;
    let again = attach_with(world, &login, &login.password, &[])?.ok()?;
    assert_eq!(
        plain(&again, &login),
        format!("secret/identity-REGISTRY created\nacrregistry.pullpass.dev/REGISTRY unchanged\n{known}")
    );

    // Others that use it too go on doing so.
    let others = "pullpass.dev/registries=another";
    let annotate = [
        "annotate",
        "secret",
        &name,
        "--overwrite",
        others,
        "--namespace=pullpass-system",
    ];
    world.cluster.run(&annotate)?;
    attach_with(world, &login, &login.password, &[])?.ok()?;
    let secret = identity_secret(world, &login)?.ok_or("there is no Secret")?;
    assert_eq!(text(&secret, annotation), format!("another,{}", login.name));
    Ok(())
}

#[test]
fn a_wrong_password_is_corrected_by_attaching_again() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let said = attach_with(world, &login, "hunter2", &[])?.failed(1)?;
    assert!(!said.contains("hunter2"), "{said}");
    let said = plain(&said, &login);
    let begin = format!(
        "{WAITING}pullpass: REGISTRY.azurecr.io is attached, but not ready: EntraRejected: Entra ID refused"
    );
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.contains("AADSTS7000215"), "{said}");
    assert!(said.contains("Secret identity-REGISTRY, key password"), "{said}");
    assert!(
        said.ends_with("\nTo see which step fails: pullpass check REGISTRY\n"),
        "{said}"
    );
    // Neither tenant nor client have to be said again.
    let reset = attach(world, &login, &["--client-secret-file=-"], &login.password)?.ok()?;
    assert_eq!(
        plain(&reset, &login),
        format!("secret/identity-REGISTRY configured\nacrregistry.pullpass.dev/REGISTRY unchanged\n{READY}")
    );
    // Ready is what the old password made it.
    let said = attach(world, &login, &["--client-secret-file=-"], "hunter3")?.failed(1)?;
    assert!(
        said.contains("EntraRejected") && said.contains("Pods keep using"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_rotated_password_of_an_adopted_secret_is_waited_for() -> Test {
    let world = shared()?;
    // By hand, with a Secret by hand.
    let spec = json!({"namespaces": {"matchLabels": {"team": "a"}}, "provision": "Eager"});
    let login = world.attached(&spec)?;
    let file = ["--client-secret-file=-", "--output=json"];
    let adopted = attach(world, &login, &file, &login.password)?.ok()?;
    let before: Value = serde_json::from_str(&adopted)?;
    let reference = "/spec/identity/servicePrincipal/clientSecretRef/name";
    assert_eq!(text(&before, reference), format!("identity-{}", login.name));
    assert_eq!(before["spec"]["namespaces"], spec["namespaces"]);

    assert!(world.azure.rotate_secret(&login.client, "rotated")?);
    let after = attach(world, &login, &file, "rotated")?;
    let said = plain(&after.stderr, &login);
    assert!(
        said.contains("Pods in injected namespaces with team=a get its pull secret. Whether it may pull"),
        "{said}"
    );
    let after: Value = serde_json::from_str(&after.ok()?)?;
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["spec"]["provision"], "Eager");
    assert_ne!(after["status"]["credential"], before["status"]["credential"]);
    assert_eq!(text(&after, "/status/conditions/0/reason"), "Minted");
    // The Secret by hand may go now.
    world.cluster.run(&[
        "delete",
        "secret",
        &login.password_secret(),
        "--namespace=pullpass-system",
    ])?;
    let still = attach(world, &login, &[], "")?.ok()?;
    assert!(
        still.contains("unchanged") && still.contains("is ready"),
        "{still}"
    );
    Ok(())
}

#[test]
fn a_missing_role_is_reported_with_the_command_that_assigns_it() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.revoke(&login.client, &login.host)?;
    let said = attach_with(world, &login, &login.password, &["--timeout=5"])?.failed(1)?;
    let said = plain(&said, &login);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(format!("{}\n", lines[0]), WAITING);
    assert!(
        lines[1].starts_with("Not ready yet: ExchangeRejected: "),
        "{said}"
    );
    assert!(
        lines[2].starts_with(
            "pullpass: REGISTRY.azurecr.io is attached, but not ready after 5 s: ExchangeRejected: "
        ) && lines[2].contains("az role assignment create --role AcrPull --assignee CLIENT"),
        "{said}"
    );
    assert_eq!(
        lines[3],
        "pullpass keeps trying: kubectl get acr REGISTRY --watch. To see which step fails: pullpass check REGISTRY"
    );
    world.azure.grant(login.role())?;
    let ready = attach(world, &login, &[], "")?.ok()?;
    assert!(plain(&ready, &login).ends_with(READY), "{ready}");
    Ok(())
}

#[test]
fn an_identity_is_replaced_as_a_whole() -> Test {
    let world = shared()?;
    let login = world.login()?;
    attach_with(
        world,
        &login,
        &login.password,
        &["--namespaces=team=a", "--no-wait"],
    )?
    .ok()?;
    let token = ["--token-name=puller", "--token-password-file=-"];
    let mut registry = Registry::new(&login.tenant, &login.host);
    registry.tokens = vec![ScopedToken {
        name: "puller".to_owned(),
        passwords: vec!["of-a-token".to_owned()],
        ..ScopedToken::default()
    }];
    world.azure.put_registry(registry)?;
    let said = attach(world, &login, &token, "of-a-token")?.ok()?;
    assert_eq!(
        plain(&said, &login),
        "secret/identity-REGISTRY configured\nacrregistry.pullpass.dev/REGISTRY configured\nREGISTRY.azurecr.io is \
         ready: its credential has no expiry. Pods in injected namespaces with team=a get its pull secret. Whether it \
         may pull is known when a Pod names an image (condition PullAuthorized), or by: pullpass check REGISTRY \
         --repository REPOSITORY\n"
    );
    let secret = identity_secret(world, &login)?.ok_or("there is no Secret")?;
    assert_eq!(
        secret["data"],
        json!({"username": "cHVsbGVy", "password": "b2YtYS10b2tlbg=="})
    );
    let said = attach(world, &login, &["--managed-identity", "--no-wait"], "")?.ok()?;
    assert_eq!(
        plain(&said, &login),
        "secret/identity-REGISTRY deleted\nacrregistry.pullpass.dev/REGISTRY configured\n"
    );
    let object = world.registry(&login)?;
    assert_eq!(object["spec"]["identity"], json!({"managedIdentity": {}}));
    assert_eq!(
        object["spec"]["namespaces"],
        json!({"matchLabels": {"team": "a"}})
    );
    assert_eq!(identity_secret(world, &login)?, None);
    Ok(())
}

#[test]
fn a_secret_that_is_there_is_used_and_left_as_it_is() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let reference = login.password_secret();
    let flags = [
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-secret",
        &reference,
    ];
    let missing = attach(world, &login, &[&flags[..], &["--timeout=3"]].concat(), "")?.failed(1)?;
    assert!(
        missing.contains("Not ready yet: CredentialSecretMissing: "),
        "{missing}"
    );
    assert!(missing.contains("create it with the key password"), "{missing}");
    let mut secret = login.secret(&login.password);
    secret["metadata"]["annotations"] = Value::Null;
    world.cluster.apply(&secret.to_string())?;
    let unnamed = attach(world, &login, &[&flags[..], &["--no-wait"]].concat(), "")?;
    assert_eq!(
        plain(&unnamed.stderr, &login),
        "pullpass: Secret REGISTRY-sp in namespace pullpass-system does not name AcrRegistry REGISTRY in its annotation \
         pullpass.dev/registries. What to do: have its owner run `kubectl annotate secret REGISTRY-sp \
         pullpass.dev/registries=REGISTRY -n pullpass-system`\n"
    );
    unnamed.ok()?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    let ready = attach(world, &login, &flags, "")?.ok()?;
    assert_eq!(
        plain(&ready, &login),
        format!("acrregistry.pullpass.dev/REGISTRY unchanged\n{READY}")
    );
    let secret = world.secret("pullpass-system", &reference)?.ok_or("it is gone")?;
    assert_eq!(secret.pointer("/metadata/ownerReferences"), None);
    Ok(())
}

#[test]
fn nothing_is_written_over_what_is_not_ours() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let name = format!("identity-{}", login.name);
    let literal = "--from-literal=password=theirs";
    world.cluster.run(&[
        "create",
        "secret",
        "generic",
        &name,
        literal,
        "--namespace=pullpass-system",
    ])?;
    let before = identity_secret(world, &login)?;
    let said = attach_with(world, &login, &login.password, &[])?.failed(1)?;
    assert_eq!(
        plain(&said, &login),
        "pullpass: Secret identity-REGISTRY in namespace pullpass-system was not written by pullpass attach, and stays \
         unchanged. Name it in --client-secret, --client-certificate or --basic to use it as it is; delete it with `kubectl \
         delete secret identity-REGISTRY --namespace pullpass-system`; or attach under another name than REGISTRY with \
         --name\n"
    );
    assert_eq!(identity_secret(world, &login)?, before);
    assert!(world.registry(&login).is_err());

    let other = world.attached(&json!({}))?;
    let flags = ["--managed-identity", "--name", &other.name];
    let said = attach(world, &login, &flags, "")?.failed(2)?;
    let said = plain(&said, &other);
    assert!(
        said.contains(
            "AcrRegistry REGISTRY exists for another registry, REGISTRY.azurecr.io: choose another name"
        ),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_refusal_of_the_api_server_comes_before_any_write() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let pem = certificate(&login)?.1;
    let flags = [
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-certificate-file=-",
        "--credential-kind=ServicePrincipalPassword",
    ];
    let said = attach(world, &login, &flags, &pem)?.failed(2)?;
    assert!(
        said.contains("ServicePrincipalPassword needs spec.identity.servicePrincipal.clientSecretRef"),
        "{said}"
    );
    assert_eq!(identity_secret(world, &login)?, None);
    let said = attach_with(world, &login, &login.password, &["--own-namespace=nowhere"])?.failed(1)?;
    assert!(said.contains("there is no namespace nowhere"), "{said}");
    assert!(world.registry(&login).is_err());
    Ok(())
}

/// A certificate, and it with its key.
pub fn certificate(login: &Login) -> Result<(String, String), Box<dyn Error>> {
    let leaf = RsaSigner::FIRST.certificate(&login.name)?;
    let both = format!("{leaf}{}", RsaSigner::FIRST.pem());
    Ok((leaf, both))
}

#[test]
fn a_certificate_that_entra_refuses_is_not_written() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let flags = [
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-certificate-file=-",
    ];
    let p256 = KeyPair::generate()?;
    let leaf = CertificateParams::default().self_signed(&p256)?.pem();
    let expired = RsaSigner::FIRST.certificate_for(
        &login.name,
        "2024-01-01T00:00:00Z".parse()?,
        "2025-01-01T00:00:00Z".parse()?,
    )?;
    for (pem, cause) in [
        (
            format!("{leaf}{}", p256.serialize_pem()),
            "the certificate's key is not an RSA key, and Entra ID accepts only signatures of RSA keys",
        ),
        (
            RsaSigner::SHORT_CERTIFICATE.to_owned(),
            "the certificate's RSA key has 1024 bits, and Entra ID accepts only RSA keys of 2048 bits or more",
        ),
        (
            format!("{expired}{}", RsaSigner::FIRST.pem()),
            "the certificate expired on TIME",
        ),
    ] {
        let said = attach(world, &login, &flags, &pem)?.failed(2)?;
        assert_eq!(
            plain(&said, &login),
            format!(
                "pullpass: the certificate of CLIENT: {cause}. What to do: make a certificate with an RSA key; the \
                 command prints the name of the file that has both: `az ad app credential reset --id CLIENT --append \
                 --create-cert --query fileWithCertAndPrivateKey --output tsv`; then give that file\n"
            )
        );
        assert_eq!(identity_secret(world, &login)?, None);
        assert!(world.registry(&login).is_err());
    }
    Ok(())
}

#[test]
fn a_certificate_is_attached_by_resource_id() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let (leaf, pem) = certificate(&login)?;
    let mut principal = Principal::new(&login.tenant, &login.client);
    principal.certificates.push(leaf);
    world.azure.put_principal(principal)?;
    let id = format!(
        "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/{}",
        login.name
    );
    let file = world.azure.directory().join(format!("{}.pem", login.name));
    std::fs::write(&file, pem)?;
    let file = file.display().to_string();
    let arguments = [
        "attach",
        &id,
        "--tenant-id",
        &login.tenant,
        "--client-id",
        &login.client,
        "--client-certificate-file",
        &file,
        "--repository=team/app",
    ];
    let said = run(world.cluster.kubeconfig(), &arguments)?.ok()?;
    assert_eq!(
        plain(&said, &login),
        "secret/identity-REGISTRY created\nacrregistry.pullpass.dev/REGISTRY created\nREGISTRY.azurecr.io is ready: its \
         credential expires at TIME, and is refreshed before. Pods in every injected namespace get its pull secret. The registry says that the credential may pull from \
         team/app.\n"
    );
    let object = world.registry(&login)?;
    assert_eq!(text(&object, "/spec/resourceId"), id);
    assert_eq!(object.pointer("/spec/loginServer"), None);
    Ok(())
}

/// Installs the custom resource, and nothing else of pullpass.
fn without_pullpass(cluster: &ControlPlane) -> Test {
    let mut crd = crate::command::pullpass();
    crd.arg("crd");
    let crd = crate::command::finish(crd, "")?.ok()?;
    cluster.apply(&crd)?;
    cluster.run(&["create", "namespace", "pullpass-system"])?;
    wait_for("the AcrRegistries to be served", SOON, || {
        cluster.run(&["get", "acr"])
    })?;
    Ok(())
}

#[test]
fn it_is_said_when_pullpass_is_not_installed_or_does_not_run() -> Test {
    let cluster = cluster_of_its_own()?;
    let attach = |flags: &[&str]| {
        run(
            cluster.kubeconfig(),
            &[&["attach", "myregistry", "--managed-identity"], flags].concat(),
        )
    };
    let said = attach(&[])?.failed(1)?;
    assert_eq!(
        said,
        "pullpass: the cluster has no AcrRegistries: install pullpass first\n"
    );
    let said = run(cluster.kubeconfig(), &["detach", "myregistry"])?.failed(1)?;
    assert!(said.contains("is pullpass installed"), "{said}");

    without_pullpass(&cluster)?;
    let said = attach(&["--timeout=1"])?.failed(1)?;
    assert_eq!(
        said,
        "Waiting for pullpass to mint a credential for myregistry.azurecr.io\npullpass: myregistry.azurecr.io is attached, \
         but pullpass has not updated its status for 1 s. Check that pullpass runs: kubectl get pods --namespace pullpass-system\n"
    );
    let said = attach(&["--no-wait", "--output=name"])?.ok()?;
    assert_eq!(said, "acrregistry.pullpass.dev/myregistry\n");

    // A minted credential that nobody deletes.
    cluster.run(&[
        "create",
        "secret",
        "generic",
        "credential-myregistry",
        "--namespace=pullpass-system",
    ])?;
    let said = run(cluster.kubeconfig(), &["detach", "myregistry", "--timeout=1"])?;
    assert_eq!(said.stdout, "acrregistry.pullpass.dev/myregistry deleted\n");
    assert_eq!(
        said.failed(1)?,
        "Waiting until the pull secrets in no namespace are gone\npullpass: the AcrRegistry is deleted, but its secrets are \
         not gone after 1 s: check that pullpass runs, with kubectl get pods --namespace pullpass-system\n"
    );
    Ok(())
}

/// The version of the identity's Secret that the minted credential is of, and that Secret's own.
fn versions(world: &World<'_>, login: &Login) -> Result<[String; 2], Box<dyn Error>> {
    let minted = world.secret("pullpass-system", &format!("credential-{}", login.name))?;
    let minted = minted.ok_or("nothing is minted")?;
    let inputs = text(&minted, "/metadata/annotations/pullpass.dev~1inputs");
    let (_, version) = inputs.rsplit_once('/').ok_or("the inputs name no version")?;
    let secret = identity_secret(world, login)?.ok_or("there is no Secret")?;
    Ok([version, text(&secret, "/metadata/resourceVersion")].map(str::to_owned))
}

#[test]
fn a_credential_of_an_older_password_is_no_success() -> Test {
    let world = shared()?;
    let login = world.login()?;
    attach_with(world, &login, &login.password, &[])?.ok()?;
    // So soon after each other that a mint has to wait for the last one, whatever the status says of the spec meanwhile.
    for (password, team) in [("second", "team=a"), ("third", "team=b"), ("fourth", "team=c")] {
        assert!(world.azure.rotate_secret(&login.client, password)?);
        let flags = ["--client-secret-file=-", "--namespaces", team];
        attach(world, &login, &flags, password)?.ok()?;
        let [minted_from, secret] = versions(world, &login)?;
        assert_eq!(minted_from, secret, "{password}");
    }
    Ok(())
}
