//! Every kind of identity that mints, up to a pull.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pullpass_emulator::{FederatedCredential, Jwks, ManagedIdentity, Principal, RsaSigner, Step};
use pullpass_test_support::{Login, kubelet_tries, wait_for};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::client::{assert_pulls_when_attached, assert_refused, pull};
use crate::world::{SOON, Test, World, federated_token_file, pull_secret, shared, text};

/// The registry's application without its password.
fn principal(login: &Login) -> Principal {
    Principal::new(&login.tenant, &login.client)
}

#[test]
fn a_client_certificate_leads_to_a_pull() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    let certificate = RsaSigner::FIRST.certificate(&login.name)?;
    world.azure.put_principal(Principal {
        certificates: vec![certificate.clone()],
        ..principal(&login)
    })?;
    let name = format!("{}-certificate", login.name);
    let secret = |pem: String| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": "pullpass-system",
                "annotations": {"pullpass.dev/registries": login.name},
            },
            "stringData": {"tls.pem": pem},
        })
    };
    let identity = json!({"servicePrincipal": {
        "tenantId": login.tenant,
        "clientId": login.client,
        "clientCertificateRef": {"name": name, "key": "tls.pem"},
    }});
    let identity = json!({"identity": identity});

    // One that Entra ID refuses is not sent, and the right one is taken up when it comes.
    let p256 = KeyPair::generate()?;
    let refused = CertificateParams::default().self_signed(&p256)?.pem();
    let refused = secret(format!("{refused}{}", p256.serialize_pem()));
    world.cluster.apply(&refused.to_string())?;
    world.attach_with(&login, &identity)?;
    let object = world.wait_for_reason(&login, "CredentialSecretMissing")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(message.contains("is not an RSA key"), "{message}");
    assert!(message.contains("--append --create-cert"), "{message}");
    let asked = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    assert_eq!(asked, 0);
    let good = secret(format!("{certificate}{}", RsaSigner::FIRST.pem()));
    world.cluster.apply(&good.to_string())?;
    assert_pulls_when_attached(world, &login, &identity)?;
    Ok(())
}

#[test]
fn a_certificate_in_a_tls_secret_leads_to_a_token() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let certificate = RsaSigner::FIRST.certificate(&login.name)?;
    world.azure.put_principal(Principal {
        certificates: vec![certificate.clone()],
        ..principal(&login)
    })?;
    let name = format!("{}-tls", login.name);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": "pullpass-system",
            "annotations": {"pullpass.dev/registries": login.name},
        },
        "type": "kubernetes.io/tls",
        // As cert-manager keeps it.
        "stringData": {"tls.crt": certificate, "tls.key": RsaSigner::FIRST.pem(), "ca.crt": ""},
    });
    world.cluster.apply(&secret.to_string())?;
    let identity = json!({"servicePrincipal": {
        "tenantId": login.tenant,
        "clientId": login.client,
        "clientCertificateRef": {"name": name, "key": "tls.crt"},
    }});
    world.attach_with(&login, &json!({"identity": identity}))?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

/// What an application trusts when it trusts a service account of this cluster.
fn trust(world: &World) -> Result<FederatedCredential, Box<dyn std::error::Error>> {
    let keys = world.cluster.run(&["get", "--raw", "/openid/v1/jwks"])?.stdout;
    let discovery = world
        .cluster
        .run(&["get", "--raw", "/.well-known/openid-configuration"])?
        .stdout;
    let discovery: Value = serde_json::from_str(&discovery)?;
    Ok(FederatedCredential {
        issuer: text(&discovery, "/issuer").to_owned(),
        subject: "system:serviceaccount:pullpass-system:pullpass".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
        jwks: serde_json::from_str::<Jwks>(&keys)?,
    })
}

/// A token of a service account in pullpass' namespace, as a kubelet would mount it for workload identity.
fn federated_token(world: &World, account: &str) -> Result<String, Box<dyn std::error::Error>> {
    let arguments = [
        "create",
        "token",
        account,
        "--namespace",
        "pullpass-system",
        "--audience",
        "api://AzureADTokenExchange",
    ];
    Ok(world.cluster.run(&arguments)?.stdout)
}

/// Waits until Entra ID's refusal is said in these words.
fn wait_for_message(world: &World, login: &Login, words: &str) -> Test {
    let what = format!("{} to say {words}", login.name);
    wait_for(&what, SOON, || {
        let object = world.registry(login).map_err(|error| error.to_string())?;
        let reason = text(&object, "/status/conditions/0/reason");
        if reason == "EntraRejected" && text(&object, "/status/conditions/0/message").contains(words) {
            Ok(())
        } else {
            Err(format!("{object:#}"))
        }
    })?;
    Ok(())
}

#[test]
fn workload_identity_pulls_with_the_clusters_own_token() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    world.azure.put_principal(Principal {
        federated_credentials: vec![trust(world)?],
        ..principal(&login)
    })?;
    let identity = json!({"identity": {"workloadIdentity": {
        "tenantId": login.tenant,
        "clientId": login.client,
    }}});

    // The token of a cluster that signs without RSA is not sent.
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(json!({"iss": "https://cluster.example", "sub": "system:serviceaccount:a:b"}));
    let foreign = format!("{}.{claims}.c2ln", part(json!({"alg": "ES256"})));
    std::fs::write(federated_token_file(&world.azure), foreign)?;
    world.attach_with(&login, &identity)?;
    wait_for_message(world, &login, "signs service account tokens by ES256")?;
    let asked = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    assert_eq!(asked, 0);

    // That of somebody else is refused, and the right one is taken up when the kubelet brings it.
    std::fs::write(
        federated_token_file(&world.azure),
        federated_token(world, "default")?,
    )?;
    wait_for_message(world, &login, "AADSTS700213")?;
    std::fs::write(
        federated_token_file(&world.azure),
        federated_token(world, "pullpass")?,
    )?;
    assert_pulls_when_attached(world, &login, &identity)?;
    Ok(())
}

#[test]
fn managed_identities_lead_to_a_pull() -> Test {
    const RESOURCE: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";
    let world = shared()?;
    for (resource_id, by_client_id) in [(Some(RESOURCE), false), (Some("/other"), true), (None, false)] {
        let login = world.login()?;
        world.azure.push_image(&login, "app")?;
        world.azure.put_principal(Principal {
            managed_identity: Some(ManagedIdentity {
                resource_id: resource_id.map(str::to_owned),
            }),
            ..principal(&login)
        })?;
        let identity = match resource_id {
            Some(_) if by_client_id => json!({"clientId": login.client}),
            Some(resource_id) => json!({"resourceId": resource_id}),
            None => json!({}),
        };
        let spec = json!({"identity": {"managedIdentity": identity}});
        assert_pulls_when_attached(world, &login, &spec)?;
        let counts = world.azure.counts();
        assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 0);
        assert_eq!(counts.calls_at(Step::Exchange, &login.host), 1);
    }
    Ok(())
}

#[test]
fn an_access_token_pulls_from_its_repositories_alone() -> Test {
    let world = shared()?;
    let login = world.login()?;
    for repository in ["app", "team/app", "other", "apps"] {
        world.azure.push_image(&login, repository)?;
    }
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    let spec = json!({"credential": {"kind": "AccessToken", "repositories": ["app", "team/app"]}});
    let secret = assert_pulls_when_attached(world, &login, &spec)?;
    let config = World::docker_config(&secret)?;
    pull(world, &login, "team/app", &config)?;
    for repository in ["other", "apps"] {
        assert_refused(world, &login, repository, &config);
    }

    // The token itself is for no more, whatever it is used for.
    let mut parsed: Value = serde_json::from_str(&config)?;
    let auths = parsed.pointer_mut("/auths").and_then(Value::as_object_mut);
    let auths = auths.ok_or("there are no auths")?;
    let repositories = ["app", "team/app"];
    assert!(auths.keys().all(|key| {
        repositories.iter().any(|repository| {
            key.ends_with(&format!(".azurecr.io/{repository}"))
                || key.ends_with(&format!(".azurecr.io:443/{repository}"))
        })
    }));
    let token = auths.remove(&format!("{}/app", login.host));
    let token = token.ok_or("there is no token for app")?;
    let everywhere = json!({"auths": {&login.host: token}}).to_string();
    pull(world, &login, "app", &everywhere)?;
    assert_refused(world, &login, "other", &everywhere);

    let secrets = [secret];
    let image = |repository: &str| format!("{}/{repository}:v1", login.host);
    assert!(kubelet_tries(&image("team/app"), &secrets)?.contains(&pull_secret(&login)));
    assert_eq!(kubelet_tries(&image("other"), &secrets)?, [""; 0]);
    Ok(())
}
