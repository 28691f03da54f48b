//! A registry by the name of its AcrRegistry, on a real control plane with a pullpass that runs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use pullpass_emulator::{Registry, Step};
use pullpass_test_support::{
    Azure, ControlPlane, Installation, Login, Scratch, end_to_end_wanted, free_port, shipped, wait_for,
};
use serde_json::{Value, json};

use crate::world::{Test, assert_text, plain, pullpass, run};

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(2);
const ADMIN: &str = "system:serviceaccount:default:admin";

fn check(kubeconfig: &Path, azure: &Azure, arguments: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
    let mut command: Command = pullpass();
    command
        .env("KUBECONFIG", kubeconfig)
        .args(azure.flags())
        .args(arguments);
    run(&mut command)
}

fn assert_said(azure: &Azure, name: &str, output: &Output, code: i32) -> Test {
    let said = String::from_utf8(output.stdout.clone())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name}: {said}{errors}");
    // RFC 3339, to the second.
    let words = plain(azure, &said);
    let words = words.split_inclusive([' ', '\n', ',']).map(|word| {
        let time = word.trim_end_matches([' ', '\n', ',']);
        if time.parse::<jiff::Timestamp>().is_ok() {
            word.replace(time, "INSTANT")
        } else {
            word.to_owned()
        }
    });
    assert_text(name, &words.collect::<String>())
}

/// The admin user, in place of the application.
fn with_password(login: &Login) -> [Value; 2] {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "admin",
            "namespace": "pullpass-system",
            "annotations": {"pullpass.dev/registries": login.name},
        },
        "stringData": {"username": login.name, "password": "test-admin"},
    });
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": login.name},
        "spec": {"loginServer": login.host, "identity": {"basic": {"secretRef": {"name": "admin"}}}},
    });
    [secret, object]
}

fn wait_for_reason(cluster: &ControlPlane, login: &Login, reason: &str) -> Test {
    let what = format!("{} to be {reason}", login.name);
    wait_for(&what, SOON, || {
        let object = cluster
            .get_json(&["acrregistry", &login.name])
            .map_err(|error| error.to_string())?;
        let found = object
            .pointer("/status/conditions/0/reason")
            .and_then(Value::as_str);
        if found == Some(reason) {
            Ok(())
        } else {
            Err(object.to_string())
        }
    })?;
    Ok(())
}

/// A flag of the API server that has its audit log say what the admin did, reads as well, in place of what it says otherwise.
fn audit_policy(scratch: &Scratch) -> Result<String, Box<dyn std::error::Error>> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [ADMIN]}, {"level": "None"}],
    });
    let file = scratch.path().join("audit-policy.json");
    std::fs::write(&file, policy.to_string())?;
    Ok(format!("--audit-policy-file={}", file.display()))
}

/// What the admin asked of the API server, each of which has to be a read.
fn assert_only_reads(cluster: &ControlPlane) -> Test {
    let events = cluster.audit_events()?;
    assert!(events.len() > 10, "{events:#?}");
    for event in &events {
        let verb = event.get("verb").and_then(Value::as_str).unwrap_or_default();
        assert!(["get", "list"].contains(&verb), "{event:#}");
    }
    Ok(())
}

/// An identity in another Secret is checked in place of the AcrRegistry's own, be that right or wrong.
fn assert_flags_replace_the_identity(
    cluster: &ControlPlane,
    azure: &Azure,
    admin: &Path,
    well: &Login,
    wrong: &Login,
) -> Test {
    let secret = |name: &str, registry: &str, data: &Value| {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": "pullpass-system",
                "annotations": {"pullpass.dev/registries": registry},
            },
            "stringData": data,
        });
        cluster.apply(&object.to_string())
    };
    secret("spare", &wrong.name, &json!({"password": wrong.password}))?;
    secret(
        "token",
        &well.name,
        &json!({"username": "nobody", "password": "wrong~two"}),
    )?;
    for (registry, flags, code, said) in [
        (
            wrong,
            ["--client-secret=spare", "--client-id", "--tenant-id"].as_slice(),
            0,
            "",
        ),
        (
            well,
            &["--client-certificate=missing", "--client-id", "--tenant-id"],
            1,
            "there is no Secret missing",
        ),
        (well, &["--basic=token"], 1, "nobody"),
    ] {
        let flags: Vec<String> = flags
            .iter()
            .map(|&flag| match flag {
                "--client-id" => format!("{flag}={}", registry.client),
                "--tenant-id" => format!("{flag}={}", registry.tenant),
                other => other.to_owned(),
            })
            .collect();
        let mut arguments = vec![registry.name.as_str()];
        arguments.extend(flags.iter().map(String::as_str));
        let output = check(admin, azure, &arguments)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{errors}");
        assert!(text.contains(said), "{arguments:?}: {text}{errors}");
    }
    Ok(())
}

/// Somebody who may read `AcrRegistries` and nothing else.
fn viewer(cluster: &ControlPlane) -> Result<std::path::PathBuf, Box<dyn std::error::Error>> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer", "namespace": "default"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "viewer"},
         "rules": [{"apiGroups": ["pullpass.dev"], "resources": ["acrregistries"], "verbs": ["get", "list"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "viewer"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "viewer"},
         "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}]},
    ]});
    cluster.apply(&list.to_string())?;
    Ok(cluster.service_account_kubeconfig("default", "viewer")?)
}

/// Somebody with the role that is shipped for people who look, and with no other.
fn onlooker(cluster: &ControlPlane) -> Result<std::path::PathBuf, Box<dyn std::error::Error>> {
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/people.yaml");
    cluster.run(&["apply", "--filename", roles])?;
    cluster.run(&["create", "serviceaccount", "onlooker", "--namespace=default"])?;
    cluster.run(&[
        "create",
        "clusterrolebinding",
        "onlooker",
        "--clusterrole=pullpass-view",
        "--serviceaccount=default:onlooker",
    ])?;
    wait_for("the role to count", SOON, || {
        let user = "system:serviceaccount:default:onlooker";
        let may = cluster.may(user, "get", "acrregistries", &[]);
        may.map_err(|error| error.to_string())?
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    })?;
    Ok(cluster.service_account_kubeconfig("default", "onlooker")?)
}

/// The API server's own policies are told about, to all who may look, and that the webhook's configuration is another
/// overlay's, or that they have nothing to decide by.
fn assert_policies_are_told(
    cluster: &ControlPlane,
    azure: &Azure,
    [admin, onlooker]: [&Path; 2],
    well: &Login,
) -> Test {
    let in_cluster = |code, says: &str| -> Test {
        for kubeconfig in [admin, onlooker] {
            let output = check(kubeconfig, azure, &[&well.name, "--in-cluster"])?;
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(code), "{text}");
            assert!(text.contains(says), "{says}: {text}");
        }
        Ok(())
    };
    for (component, says) in [
        ("admission-policy", "add pull secrets in the API server"),
        (
            "enforce",
            "add pull secrets and judge the rules in the API server",
        ),
    ] {
        let root = env!("CARGO_MANIFEST_DIR");
        let policy = format!("{root}/manifests/components/{component}/policy.yaml");
        cluster.run(&["apply", "--filename", &policy])?;
        in_cluster(0, says)?;
    }
    let mut objects = shipped(cluster, "opt-in")?;
    objects.retain(|object| object["kind"] == "MutatingWebhookConfiguration");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster.apply(&list.to_string())?;
    in_cluster(
        1,
        "pullpass is in mode cluster-wide by --mode, and the webhook's configuration is in mode opt-in",
    )?;
    cluster.run(&["delete", "mutatingwebhookconfiguration", "pullpass"])?;
    // The leader creates it again within seconds.
    wait_for("a check while there is no AcrIndex", SOON, || {
        let delete = cluster.run(&["delete", "acrindex", "pullpass", "--ignore-not-found"]);
        delete.map_err(|error| error.to_string())?;
        let output = check(admin, azure, &[&well.name, "--in-cluster"]).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_told = output.status.code() == Some(1) && text.contains("there is no AcrIndex pullpass");
        is_told.then_some(()).ok_or(text)
    })?;
    Ok(())
}

/// Hosts outside Azure's zones lead to an AcrRegistry as its login server does, unless several have them.
fn assert_hosts_lead_to_registries(cluster: &ControlPlane, azure: &Azure, admin: &Path) -> Test {
    let attach = |name: &str, mut spec: Value| {
        if let Some(fields) = spec.as_object_mut() {
            fields.insert("identity".to_owned(), json!({"anonymous": {}}));
        }
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name}, "spec": spec,
        });
        cluster.apply(&object.to_string())
    };
    let (other, azures) = ("images.azurecr.contoso.com", "faraway.azurecr.io");
    for name in ["team-a", "team-b"] {
        attach(name, json!({"loginServer": other, "cloud": "Other"}))?;
        attach(
            &format!("{name}-far"),
            json!({"loginServer": azures, "customDomains": ["far.contoso.com"]}),
        )?;
    }
    attach(
        "near",
        json!({"loginServer": "nearby.azurecr.io", "customDomains": ["near.contoso.com"]}),
    )?;
    for (host, said) in [
        (other, "name one of them: team-a, team-b"),
        (
            "Images.azurecr.contoso.com:443",
            "name one of them: team-a, team-b",
        ),
        (azures, "name one of them: team-a-far, team-b-far"),
        ("far.contoso.com", "name one of them: team-a-far, team-b-far"),
    ] {
        for arguments in [vec![host], vec![host, "--in-cluster"]] {
            let output = check(admin, azure, &arguments)?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains(said), "{arguments:?}: {errors}");
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        }
    }
    let output = check(admin, azure, &["Near.Contoso.com:443", "--in-cluster"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("nearby.azurecr.io"), "{text}");
    Ok(())
}

/// A custom domain that is named is asked itself, and shown to be the registry's.
fn assert_custom_domains_are_asked(
    cluster: &ControlPlane,
    azure: &Azure,
    admin: &Path,
    login: &Login,
) -> Test {
    let domains = ["registry.contoso.com", "stolen.contoso.com", "absent.contoso.com"];
    let [own, stolen, absent] = domains;
    let serve = |host: &str, domain: &str| {
        azure.put_registry(Registry {
            custom_domains: vec![domain.to_owned()],
            ..Registry::new(&login.tenant, host)
        })
    };
    azure.push_image(login, "app")?;
    serve(&login.host, own)?;
    serve("another.azurecr.io", stolen)?;
    cluster.run(&[
        "patch",
        "acrregistry",
        &login.name,
        "--type=merge",
        "--patch",
        &json!({"spec": {"customDomains": domains}}).to_string(),
    ])?;
    let unserved = format!("--resolve={absent}:443:127.0.0.1:{}", free_port()?);
    for (named, code, says) in [
        ("Registry.Contoso.com:443", Value::Null, own),
        (
            stolen,
            json!("CONNECTIVITY_CHALLENGE_ERROR"),
            "its challenge sends credentials to another host (another.azurecr.io)",
        ),
        (absent, json!("CONNECTIVITY_TCP_ERROR"), absent),
    ] {
        let repository = format!("--repository={}/app", named.trim_end_matches(":443"));
        let output = check(
            admin,
            azure,
            &[named, "--output=json", &unserved, &repository.to_lowercase()],
        )?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        // The login server is asked all the same.
        for (at, expected) in [
            ("/loginServer", &json!(login.host)),
            ("/code", &code),
            ("/steps/3/step", &json!("endpoint")),
            ("/steps/5/status", &json!("ok")),
        ] {
            assert_eq!(report.pointer(at), Some(expected), "{named}: {report:#}");
        }
        let endpoint = report.pointer("/steps/3").map(Value::to_string);
        assert!(
            endpoint.is_some_and(|text| text.contains(says)),
            "{named}: {report:#}"
        );
    }
    // Named otherwise, no other host is asked.
    for named in [&login.name, &login.host] {
        let output = check(admin, azure, &[named, "--output=json"])?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let step = report.pointer("/steps/3/step");
        assert_ne!(step, Some(&json!("endpoint")), "{named}: {report:#}");
    }
    Ok(())
}

#[test]
fn an_acr_registry_is_checked_from_outside_and_inside() -> Test {
    end_to_end_wanted()?;
    let scratch = Scratch::new()?;
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument(audit_policy(&scratch)?)
        .start()?;
    let logins: Vec<_> = ["wellregistry", "wrongregistry", "basicregistry"]
        .iter()
        .zip(1..)
        .map(|(name, number)| Login::new(name, number))
        .collect();
    let [well, wrong, basic] = logins.as_slice() else {
        return Err("three registries".into());
    };
    let azure = Azure::start(&logins)?;
    azure.push_image(basic, "app")?;
    let mut builder = Installation::builder(&cluster, env!("CARGO_BIN_EXE_pullpass")).in_cluster();
    for flag in azure.flags() {
        builder = builder.flag(flag);
    }
    let _pullpass = builder.start()?;
    for object in [
        well.secret(&well.password),
        well.acr_registry(),
        wrong.secret("wrong~one"),
        wrong.acr_registry(),
    ]
    .into_iter()
    .chain(with_password(basic))
    {
        cluster.apply(&object.to_string())?;
    }
    wait_for_reason(&cluster, well, "Minted")?;
    wait_for_reason(&cluster, wrong, "EntraRejected")?;
    wait_for_reason(&cluster, basic, "Minted")?;

    // Every call below is by somebody who may do anything.
    cluster.run(&["create", "serviceaccount", "admin", "--namespace", "default"])?;
    let bound = format!("--serviceaccount={}", ADMIN.replace("system:serviceaccount:", ""));
    cluster.run(&[
        "create",
        "clusterrolebinding",
        "admin",
        "--clusterrole=cluster-admin",
        &bound,
    ])?;
    let admin = cluster.service_account_kubeconfig("default", "admin")?;
    let calls_for_blobs = || {
        let counts = azure.counts();
        [Step::Blob, Step::Storage].map(|step| counts.calls(step))
    };
    let before = calls_for_blobs();
    let said = |name: &str, arguments: &[&str], code| {
        assert_said(&azure, name, &check(&admin, &azure, arguments)?, code)
    };
    said("cluster-well", &[&well.name], 0)?;
    said("cluster-well", &[&well.host], 0)?;
    said("cluster-wrong", &[&wrong.name], 1)?;
    said("cluster-basic", &[&basic.name, "--repository=app:v1"], 0)?;
    said("in-cluster-well", &[&well.name, "--in-cluster"], 0)?;
    said("in-cluster-wrong", &[&wrong.host, "--in-cluster"], 1)?;
    let output = check(&admin, &azure, &[&wrong.name, "--in-cluster", "--output=json"])?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["code"], "CONNECTIVITY_AAD_LOGIN_ERROR");
    assert_eq!(report["events"][0]["reason"], "EntraRejected");

    assert_flags_replace_the_identity(&cluster, &azure, &admin, well, wrong)?;

    // The one layer that it follows to where it comes from. An upload would take two calls to the registry at least.
    assert_eq!(calls_for_blobs(), before.map(|calls| calls + 1));
    assert_only_reads(&cluster)?;

    let viewer = viewer(&cluster)?;
    assert_said(&azure, "viewer", &check(&viewer, &azure, &[&well.name])?, 0)?;
    let output = check(&viewer, &azure, &[&well.name, "--in-cluster"])?;
    assert_said(&azure, "viewer-in-cluster", &output, 0)?;

    let onlooker = onlooker(&cluster)?;
    let output = check(&onlooker, &azure, &[&well.name, "--in-cluster"])?;
    assert_said(&azure, "onlooker-in-cluster", &output, 0)?;

    assert_policies_are_told(&cluster, &azure, [&admin, &onlooker], well)?;

    assert_hosts_lead_to_registries(&cluster, &azure, &admin)?;
    assert_custom_domains_are_asked(&cluster, &azure, &admin, well)?;
    let unknown = check(&admin, &azure, &["otherregistry"])?;
    assert_eq!(unknown.status.code(), Some(2));
    let errors = String::from_utf8(unknown.stderr)?;
    assert!(
        errors.contains("there is no AcrRegistry otherregistry"),
        "{errors}"
    );
    Ok(())
}
