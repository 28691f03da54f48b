//! What pullpass may do in the cluster and what it may not: with its own token, and in what it really did.

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::bound_team::Team;
use crate::bound_world::with_bindings;
use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret, shared, text};

const ACCOUNT: &str = "system:serviceaccount:pullpass-system:pullpass";
/// "hush hush", which nobody may be shown.
const CONTENT: &str = "aHVzaCBodXNo";

/// The API server's status and answer.
struct Answer {
    status: u16,
    body: String,
}

/// Calls the API server with pullpass' own token.
fn call(
    world: &World,
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Result<Answer, Box<dyn Error>> {
    let token = world
        .cluster
        .run(&["create", "token", "pullpass", "--namespace", "pullpass-system"])?;
    call_with(world, token.stdout.trim(), method, path, content_type, body)
}

/// Calls the API server with a token.
fn call_with(
    world: &World,
    token: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Result<Answer, Box<dyn Error>> {
    let mut curl = Command::new("curl")
        .args([
            "--disable",
            "--noproxy",
            "*",
            "--silent",
            "--show-error",
            "--max-time",
            "10",
        ])
        .args(["--write-out", "\n%{http_code}", "--request", method])
        .arg("--cacert")
        .arg(world.cluster.directory().join("ca.crt"))
        .arg("--header")
        .arg(format!("Authorization: Bearer {token}"))
        .arg("--header")
        .arg(format!("Content-Type: {content_type}"))
        .args(["--data-binary", "@-"])
        .arg(format!("{}{path}", world.cluster.url()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = curl.stdin.take() {
        stdin.write_all(body.to_string().as_bytes())?;
    }
    let output = String::from_utf8(curl.wait_with_output()?.stdout)?;
    let (body, status) = output.rsplit_once('\n').ok_or("curl printed nothing")?;
    Ok(Answer {
        status: status.parse()?,
        body: body.to_owned(),
    })
}

fn secret(namespace: &str, name: &str, kind: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": kind,
        "data": {key: CONTENT},
    })
}

/// A docker config that holds something to be kept.
fn docker_config_secret(namespace: &str, name: &str) -> Value {
    let mut secret = secret(namespace, name, "kubernetes.io/dockerconfigjson", "note");
    if let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) {
        data.insert(".dockerconfigjson".to_owned(), json!("eyJhdXRocyI6e319"));
    }
    secret
}

/// The same, with the label of what is pullpass' own.
fn own(mut secret: Value) -> Value {
    if let Some(metadata) = secret.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(
            "labels".to_owned(),
            json!({"app.kubernetes.io/managed-by": "pullpass"}),
        );
    }
    secret
}

#[test]
fn its_account_can_not_read_secrets_but_its_own_namespaces() -> Test {
    let world = shared()?;
    let namespace = world.pullpass.new_namespace(&[])?;
    for verb in ["get", "list", "watch", "update", "deletecollection"] {
        for scope in [vec!["--all-namespaces"], vec!["--namespace", &namespace]] {
            let may = world.cluster.may(ACCOUNT, verb, "secrets", &scope)?;
            assert!(!may, "{verb} {scope:?}");
        }
    }
    for verb in ["create", "patch", "delete"] {
        let scope = ["--namespace", &namespace];
        assert!(world.cluster.may(ACCOUNT, verb, "secrets", &scope)?, "{verb}");
    }
    world
        .cluster
        .apply(&secret(&namespace, "foreign", "Opaque", "key").to_string())?;
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    for path in [
        "/api/v1/secrets".to_owned(),
        "/api/v1/secrets?watch=true".to_owned(),
        secrets.clone(),
        format!("{secrets}/foreign"),
        format!("{secrets}?watch=true&fieldSelector=metadata.name=foreign"),
    ] {
        let answer = call(world, "GET", &path, "application/json", &json!({}))?;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    Ok(())
}

/// Kubelets' Events are read as they come; one's own are written, and nobody's are changed otherwise.
#[test]
fn its_account_can_follow_events_and_write_its_own() -> Test {
    let world = shared()?;
    for (verb, expected) in [
        ("list", true),
        ("watch", true),
        ("create", true),
        ("patch", true),
        ("get", false),
        ("update", false),
        ("delete", false),
        ("deletecollection", false),
    ] {
        let may = world
            .cluster
            .may(ACCOUNT, verb, "events", &["--all-namespaces"])?;
        assert_eq!(may, expected, "{verb}");
    }
    Ok(())
}

#[test]
fn it_never_read_a_secret_outside_its_own_namespace() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    world.detach(&login)?;
    world.wait_for_no_secret(&namespace, &login)?;
    let events = world.cluster.audit_events()?;
    // Those of the tests in this program's other places are curl's.
    let own = events.iter().filter(|event| {
        text(event, "/user/username") == ACCOUNT
            && text(event, "/objectRef/resource") == "secrets"
            && !text(event, "/userAgent").starts_with("curl/")
    });
    let mut written = 0;
    for event in own {
        let verb = text(event, "/verb");
        if text(event, "/objectRef/namespace") == "pullpass-system" {
            continue;
        }
        assert!(["patch", "delete"].contains(&verb), "{event:#}");
        assert!(
            text(event, "/objectRef/name").starts_with("pullpass-"),
            "{event:#}"
        );
        written += usize::from(text(event, "/objectRef/namespace") == namespace);
    }
    assert!(written >= 2, "{written}");
    Ok(())
}

#[test]
fn foreign_secrets_are_refused_to_it_unseen() -> Test {
    const APPLY: &str = "application/apply-patch+yaml";
    const MERGE: &str = "application/merge-patch+json";
    let world = shared()?;
    let namespace = world.pullpass.new_namespace(&[])?;
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    let foreign = [
        secret(&namespace, "foreign", "Opaque", "key"),
        secret(&namespace, "pullpass-opaque", "Opaque", "key"),
        docker_config_secret(&namespace, "registry-login"),
        docker_config_secret(&namespace, "pullpass-login"),
    ];
    for object in &foreign {
        world.cluster.apply(&object.to_string())?;
        let name = text(object, "/metadata/name");
        let before = world.secret(&namespace, name)?;
        let own = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "pullpass"}},
            "type": text(object, "/type"),
        });
        for (method, query, content_type, body) in [
            ("PATCH", "", MERGE, json!({})),
            ("PATCH", "?dryRun=All", MERGE, json!({})),
            ("PATCH", "", MERGE, own.clone()),
            ("PATCH", "?fieldManager=pullpass&force=true", APPLY, own.clone()),
            (
                "PATCH",
                "?fieldManager=pullpass&force=true&dryRun=All",
                APPLY,
                own.clone(),
            ),
            ("DELETE", "", "application/json", json!({})),
            ("DELETE", "?dryRun=All", "application/json", json!({})),
        ] {
            let answer = call(
                world,
                method,
                &format!("{secrets}/{name}{query}"),
                content_type,
                &body,
            )?;
            let case = format!("{method} {name}{query}: {} {}", answer.status, answer.body);
            assert!([403, 422].contains(&answer.status), "{case}");
            assert!(!answer.body.contains(CONTENT), "{case}");
        }
        assert_eq!(world.secret(&namespace, name)?, before);
    }
    for object in [
        secret(&namespace, "new", "Opaque", "key"),
        secret(&namespace, "pullpass-new", "Opaque", "key"),
        docker_config_secret(&namespace, "pullpass-new"),
        // Another program's data in what would be ours.
        own(docker_config_secret(&namespace, "pullpass-new")),
    ] {
        let answer = call(world, "POST", &secrets, "application/json", &object)?;
        assert!(
            [403, 422].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.body
        );
    }
    let answer = call(world, "DELETE", &secrets, "application/json", &json!({}))?;
    assert_eq!(answer.status, 403, "{}", answer.body);
    Ok(())
}

#[test]
fn a_foreign_secret_of_our_name_is_reported_and_kept() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let name = pull_secret(&login);
    for kind in ["Opaque", "kubernetes.io/dockerconfigjson"] {
        let namespace = world.pullpass.new_namespace(&[])?;
        let object = match kind {
            "Opaque" => secret(&namespace, &name, kind, "key"),
            _ => docker_config_secret(&namespace, &name),
        };
        world.cluster.apply(&object.to_string())?;
        let before = world.secret(&namespace, &name)?;
        world.run_pod(&namespace, &login)?;
        let registry = world.wait_for_distribution(&login, "NameConflict")?;
        assert_eq!(text(&registry, "/status/conditions/0/reason"), "Minted");
        let message = text(&registry, "/status/conditions/1/message");
        assert!(message.contains(&namespace), "{message}");
        let uid = text(&registry, "/metadata/uid").to_owned();
        wait_for("the Event", SOON, || {
            let events = world
                .cluster
                .get_json(&["events", "--all-namespaces"])
                .map_err(|error| error.to_string())?;
            let items = events.get("items").and_then(Value::as_array);
            let found = items.into_iter().flatten().any(|event| {
                text(event, "/reason") == "NameConflict"
                    && text(event, "/involvedObject/uid") == uid
                    && text(event, "/type") == "Warning"
            });
            if found { Ok(()) } else { Err(events.to_string()) }
        })?;
        assert_eq!(world.secret(&namespace, &name)?, before);
        world
            .cluster
            .run(&["delete", "secret", "--namespace", &namespace, &name])?;
        world.wait_for_secret(&namespace, &login)?;
        world.wait_for_distribution(&login, "Distributed")?;
    }
    Ok(())
}

#[test]
fn additions_by_others_keep_a_pull_secret_from_nothing() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let name = pull_secret(&login);
    let docker_config = |secret: &Value| text(secret, "/data/.dockerconfigjson").to_owned();
    let sound = docker_config(&world.wait_for_secret(&namespace, &login)?);
    // An empty docker config, and data that no pull secret has.
    let edit = json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319", "note": CONTENT}});
    let namespaced = ["--namespace", &namespace];
    let patch = [
        &[
            "patch",
            "secret",
            &name,
            "--type=merge",
            "--patch",
            &edit.to_string(),
        ],
        &namespaced[..],
    ];
    world.cluster.run(&patch.concat())?;
    world.run_pod(&namespace, &login)?;
    world.wait_for_secret_that(&namespace, &login, "be put back", |secret| {
        docker_config(secret) == sound && text(secret, "/data/note") == CONTENT
    })?;
    Ok(())
}

/// Users who have pullpass' token for a moment must not keep it, nor reach what is in its namespace beside it.
#[test]
fn in_its_own_namespace_it_writes_nothing_that_is_not_its_own() -> Test {
    const OWN: &str = "pullpass-system";
    let world = shared()?;
    let secrets = format!("/api/v1/namespaces/{OWN}/secrets");
    let identity = secret(OWN, "somebodys-password", "Opaque", "password");
    world.cluster.apply(&identity.to_string())?;
    let mut token = secret(OWN, "for-ever", "kubernetes.io/service-account-token", "extra");
    if let Some(metadata) = token.get_mut("metadata").and_then(Value::as_object_mut) {
        let account = json!({"kubernetes.io/service-account.name": "pullpass"});
        metadata.insert("annotations".to_owned(), account);
    }
    let named = |name: &str| {
        let mut token = token.clone();
        if let Some(known) = token.pointer_mut("/metadata/name") {
            *known = json!(name);
        }
        token
    };
    let merge = "application/merge-patch+json";
    let plain = "application/json";
    let post = |object: Value| ("POST", String::new(), plain, object);
    let (credential_token, certificate_token) = (named("credential-for-ever"), named("webhook-certificate"));
    for (method, path, content_type, body) in [
        post(token),
        post(credential_token),
        post(certificate_token),
        post(own(secret(OWN, "credential-opaque", "Opaque", "key"))),
        post(own(docker_config_secret(OWN, "sh.helm.release.v1.app.v99"))),
        ("PATCH", "/somebodys-password".to_owned(), merge, json!({})),
        (
            "PATCH",
            "/somebodys-password".to_owned(),
            merge,
            json!({"data": {"password": "eA=="}}),
        ),
        ("DELETE", "/somebodys-password".to_owned(), plain, json!({})),
    ] {
        let answer = call(world, method, &format!("{secrets}{path}"), content_type, &body)?;
        let case = format!("{method} {path} {body}: {} {}", answer.status, answer.body);
        assert!([403, 422].contains(&answer.status), "{case}");
        assert!(answer.body.contains("'pullpass-own-secrets'"), "{case}");
    }
    let minted = own(docker_config_secret(OWN, "credential-new"));
    let answer = call(world, "POST", &format!("{secrets}?dryRun=All"), plain, &minted)?;
    assert_eq!(answer.status, 201, "{}", answer.body);
    Ok(())
}

/// What the owner of a namespace does who lets pullpass ask for tokens of one ServiceAccount.
fn grant_tokens(world: &World, namespace: &str, account: &str) -> Test {
    let namespaced = ["--namespace", namespace];
    let of_account = format!("--resource-name={account}");
    let role = [
        "create",
        "role",
        "pullpass",
        "--verb=create",
        "--resource=serviceaccounts/token",
    ];
    world
        .cluster
        .run(&[&role[..], &[&of_account], &namespaced].concat())?;
    let binding = [
        "create",
        "rolebinding",
        "pullpass",
        "--role=pullpass",
        "--serviceaccount=pullpass-system:pullpass",
    ];
    world.cluster.run(&[&binding[..], &namespaced].concat())?;
    Ok(())
}

#[test]
fn tokens_that_it_asks_for_are_of_no_use_here() -> Test {
    const EXCHANGE: &str = "api://AzureADTokenExchange";
    let world = shared()?;
    let namespace = world.pullpass.new_namespace(&[])?;
    for account in ["puller", "other"] {
        let create = ["create", "serviceaccount", account, "--namespace", &namespace];
        world.cluster.run(&create)?;
    }
    let ask = |account: &str, spec: Value| {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        call(world, "POST", &path, "application/json", &body)
    };
    let sound = || json!({"audiences": [EXCHANGE], "expirationSeconds": 600});
    let refused = ask("puller", sound())?;
    assert_eq!(refused.status, 403, "nobody granted it: {}", refused.body);

    grant_tokens(world, &namespace, "puller")?;
    // The API server takes up a new Role within moments.
    let granted = wait_for("the token", SOON, || {
        let answer = ask("puller", sound()).map_err(|error| error.to_string())?;
        if answer.status == 201 {
            Ok(answer)
        } else {
            Err(answer.body)
        }
    })?;
    let refused = ask("other", sound())?;
    assert_eq!(refused.status, 403, "of another account: {}", refused.body);
    for audience in [
        "api://AzureADTokenExchangeUSGov",
        "api://AzureADTokenExchangeChina",
    ] {
        let spec = json!({"audiences": [audience], "expirationSeconds": 600});
        assert_eq!(ask("puller", spec)?.status, 201, "{audience}");
    }
    let issuer = world
        .cluster
        .run(&["get", "--raw", "/.well-known/openid-configuration"])?;
    let issuer: Value = serde_json::from_str(&issuer.stdout)?;
    let own_audience = text(&issuer, "/issuer");
    for spec in [
        json!({"expirationSeconds": 600}),
        json!({"audiences": [], "expirationSeconds": 600}),
        json!({"audiences": [own_audience], "expirationSeconds": 600}),
        json!({"audiences": [EXCHANGE, own_audience], "expirationSeconds": 600}),
        json!({"audiences": ["https://vault.example"], "expirationSeconds": 600}),
        json!({"audiences": [EXCHANGE], "expirationSeconds": 3600}),
        json!({"audiences": [EXCHANGE]}),
    ] {
        let answer = ask("puller", spec.clone())?;
        let case = format!("{spec}: {} {}", answer.status, answer.body);
        assert!([403, 422].contains(&answer.status), "{case}");
        assert!(answer.body.contains("'pullpass-tokens'"), "{case}");
    }
    // Somebody else is not held to it.
    let by_others = ["create", "token", "puller", "--namespace", &namespace];
    let good = world.cluster.run(&by_others)?;

    let token: Value = serde_json::from_str(&granted.body)?;
    for (token, expected) in [(text(&token, "/status/token"), 401), (good.stdout.trim(), 403)] {
        let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
        let answer = call_with(world, token, "GET", &secrets, "application/json", &json!({}))?;
        assert_eq!(answer.status, expected, "{}", answer.body);
    }
    Ok(())
}

#[test]
fn bindings_give_it_no_tokens_but_those_that_owners_grant() -> Test {
    let world = with_bindings()?;
    let (team, other) = (Team::new(world)?, Team::new(world)?);
    let everywhere = ["--all-namespaces"];
    for (verb, what, scope, expected) in [
        ("list", "acrpullbindings", &everywhere[..], true),
        ("watch", "acrpullbindings", &everywhere, true),
        ("create", "acrpullbindings", &everywhere, false),
        ("update", "acrpullbindings", &everywhere, false),
        ("patch", "acrpullbindings", &everywhere, false),
        ("delete", "acrpullbindings", &everywhere, false),
        (
            "patch",
            "acrpullbindings",
            &["--all-namespaces", "--subresource=status"],
            true,
        ),
        (
            "update",
            "acrpullbindings",
            &["--all-namespaces", "--subresource=status"],
            false,
        ),
        ("get", "serviceaccounts", &everywhere, true),
        ("create", "serviceaccounts", &everywhere, false),
        ("patch", "serviceaccounts", &everywhere, false),
        ("impersonate", "serviceaccounts", &everywhere, false),
        (
            "create",
            "serviceaccounts",
            &["--all-namespaces", "--subresource=token"],
            false,
        ),
        (
            "create",
            "serviceaccounts",
            &["--namespace", "pullpass-system", "--subresource=token"],
            false,
        ),
        ("create", "roles", &everywhere, false),
        ("bind", "roles", &everywhere, false),
        ("create", "rolebindings", &everywhere, false),
    ] {
        let may = world.cluster.may(ACCOUNT, verb, what, scope)?;
        assert_eq!(may, expected, "{verb} {what} {scope:?}");
    }
    let may_ask = |namespace: &str, account: &str| {
        let what = format!("serviceaccounts/{account}");
        let scope = ["--subresource=token", "--namespace", namespace];
        world.cluster.may(ACCOUNT, "create", &what, &scope)
    };
    assert!(!may_ask(&team.namespace, "puller")?, "nobody granted it");

    team.do_all()?;
    // The same without the grant.
    other.trust()?;
    other.make_account()?;
    other.bind()?;
    other.wait_for_reason("NotGranted")?;
    for (namespace, account, expected) in [
        (&team.namespace, "puller", true),
        (&team.namespace, "default", false),
        (&other.namespace, "puller", false),
    ] {
        assert_eq!(may_ask(namespace, account)?, expected, "{account} in {namespace}");
    }
    // What it really asked for. Those of the tests in this program's other places are curl's.
    let mut given = Vec::new();
    for event in world.cluster.audit_events()? {
        let is_own =
            text(&event, "/user/username") == ACCOUNT && !text(&event, "/userAgent").starts_with("curl/");
        if !is_own || text(&event, "/objectRef/subresource") != "token" {
            continue;
        }
        let namespace = text(&event, "/objectRef/namespace");
        assert_eq!(text(&event, "/objectRef/name"), "puller", "{event:#}");
        if event.pointer("/responseStatus/code") == Some(&json!(201)) {
            given.push(namespace.to_owned());
        }
    }
    assert!(given.contains(&team.namespace), "{given:?}");
    assert!(!given.contains(&other.namespace), "{given:?}");
    Ok(())
}

#[test]
fn a_fence_that_is_gone_is_noticed() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 0, |_| {})?;
    let wait_for_gauge = |expected: &str| {
        wait_for(&format!("pullpass_unfenced to be {expected}"), SOON, || {
            let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
            let has = |line: &str| metrics.lines().any(|known| known == line);
            if has("pullpass_leader 1") && has(&format!("pullpass_unfenced {expected}")) {
                Ok(())
            } else {
                Err(metrics)
            }
        })
    };
    let binding = cluster.get_json(&["validatingadmissionpolicybinding", "pullpass-secrets"])?;
    cluster.run(&["delete", "validatingadmissionpolicybinding", "pullpass-secrets"])?;
    wait_for_gauge("1")?;
    let names = cluster.run(&["get", "secrets", "--namespace=default", "--output=name"])?;
    assert!(
        !names.stdout.contains("fence.probe"),
        "a dry run writes nothing: {}",
        names.stdout
    );
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "pullpass-secrets"},
        "spec": binding.get("spec"),
    });
    cluster.apply(&binding.to_string())?;
    wait_for_gauge("0")?;
    Ok(())
}
