//! `pullpass version`: what it prints of a cluster, of one that can't be read, and without one.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON without what is indexed gives null, which fails the test"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Output;

use pullpass_test_support::{ControlPlane, Scratch, fits_schema, free_port, wait_for};
use serde_json::{Value, json};

use crate::installation::{OWN, SOON};
use crate::world::Test;

fn version(kubeconfig: &Path, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command
        .arg("version")
        .args(arguments)
        .env("KUBECONFIG", kubeconfig);
    Ok(command.output()?)
}

/// What is printed in JSON, which fits the schema.
struct Seen {
    report: Value,
    errors: String,
    code: Option<i32>,
}

fn seen(kubeconfig: &Path) -> Result<Seen, Box<dyn Error>> {
    let output = version(kubeconfig, &["--output=json"])?;
    let errors = String::from_utf8(output.stderr)?;
    let report = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {errors}"))?;
    fits_schema("version", &report)?;
    let code = output.status.code();
    Ok(Seen { report, errors, code })
}

/// What is printed of this program.
fn client() -> Value {
    json!({"version": env!("CARGO_PKG_VERSION")})
}

/// Of a cluster with all that is shipped.
pub fn assert_versions(cluster: &ControlPlane) -> Test {
    let ours = env!("CARGO_PKG_VERSION");
    let Seen {
        report: whole, code, ..
    } = seen(cluster.kubeconfig())?;
    assert_eq!(code, Some(0));
    let alone = version(
        cluster.kubeconfig(),
        &["--client", "-o", "json", "--context=nowhere"],
    )?;
    let alone: Value = serde_json::from_slice(&alone.stdout)?;
    fits_schema("version", &alone)?;
    assert_eq!(alone["replicas"], Value::Null);
    let replica = json!({"name": "pullpass-0", "image": format!("pullpass:{ours}"), "version": ours});
    assert_eq!(whole["replicas"], json!([replica]));
    let definition = |name: &str| json!({"name": name, "versions": ["v1alpha1"], "current": true});
    assert_eq!(
        whole["definitions"],
        json!([
            definition("acrindexes.pullpass.dev"),
            definition("acrregistries.pullpass.dev")
        ])
    );
    let bare = String::from_utf8(version(cluster.kubeconfig(), &["--no-headers"])?.stdout)?;
    assert!(bare.starts_with("client "), "{bare}");
    let said = String::from_utf8(version(cluster.kubeconfig(), &[])?.stdout)?;
    assert!(
        said.contains(&format!("replica      pullpass-0                   {ours}\n")),
        "{said}"
    );
    Ok(())
}

/// A replica that was evicted is none, and the definition of a component is listed where it is installed.
pub fn assert_versions_of_what_is_there(cluster: &ControlPlane) -> Test {
    let own = format!("--namespace={OWN}");
    let replica = cluster.get_json(&["pod", "pullpass-0", &own])?;
    let ended = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": replica["spec"],
        "metadata": {"name": "pullpass-ended", "namespace": OWN, "labels": replica["metadata"]["labels"]},
    });
    cluster.apply(&ended.to_string())?;
    for phase in ["Failed", "Succeeded"] {
        let status = format!("--patch={}", json!({"status": {"phase": phase}}));
        let patch = [
            "patch",
            "pod",
            "pullpass-ended",
            &own,
            "--subresource=status",
            &status,
        ];
        cluster.run(&patch)?;
        let Seen { report, code, .. } = seen(cluster.kubeconfig())?;
        let replicas = report["replicas"].as_array().into_iter().flatten();
        let names: Vec<_> = replicas.map(|replica| &replica["name"]).collect();
        assert_eq!((names, code), (vec![&json!("pullpass-0")], Some(0)), "{phase}");
        let definitions = report["definitions"].as_array().into_iter().flatten();
        let definitions: Vec<_> = definitions.collect();
        let expected =
            json!({"name": "acrpullbindings.pullpass.dev", "versions": ["v1alpha1"], "current": true});
        assert!(definitions.contains(&&expected), "{definitions:?}");
    }
    cluster.run(&["delete", "pod", "pullpass-ended", &own])?;
    Ok(())
}

/// Somebody without rights sees this program's version, and then of each right that is missing who has it.
pub fn assert_versions_without_rights(cluster: &ControlPlane) -> Test {
    let nobody = cluster.service_account_kubeconfig("default", "default")?;
    let Seen { report, errors, code } = seen(&nobody)?;
    let nothing = json!({
        "schema": "pullpass.dev/version/v1", "client": client(), "replicas": null, "definitions": null,
    });
    assert_eq!((report, code), (nothing, Some(1)));
    for named in [
        "CustomResourceDefinitions can't be read: ",
        "ask for a ClusterRoleBinding to the ClusterRole pullpass-view",
        "Pods can't be read: ",
        "ask for a RoleBinding to the ClusterRole view in namespace pullpass-system",
    ] {
        assert!(errors.contains(named), "{named}: {errors}");
    }
    let table = version(&nobody, &["--no-headers"])?;
    let expected = format!("client   pullpass   {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(table.stdout)?, expected);

    let subject = "--serviceaccount=default:default";
    let (to, role) = ("--clusterrole=pullpass-view", "clusterrolebinding");
    cluster.run(&["create", role, "version", to, subject])?;
    let half = wait_for("the first role to count", SOON, || {
        let seen = seen(&nobody).map_err(|error| error.to_string())?;
        match seen.report["definitions"].as_array() {
            Some(_) => Ok(seen),
            None => Err(seen.errors),
        }
    })?;
    assert_eq!(half.code, Some(1));
    let errors = half.errors;
    assert!(
        errors.contains("Pods can't be read: ") && !errors.contains("pullpass-view"),
        "{errors}"
    );
    // What view consists of: without a controller manager, view itself has no rules.
    let (to, own) = (
        "--clusterrole=system:aggregate-to-view",
        format!("--namespace={OWN}"),
    );
    cluster.run(&["create", "rolebinding", "version", to, subject, &own])?;
    wait_for("the second role to count", SOON, || {
        let seen = seen(&nobody).map_err(|error| error.to_string())?;
        if seen.code == Some(0) && seen.report["replicas"][0]["name"] == "pullpass-0" {
            Ok(())
        } else {
            Err(seen.errors)
        }
    })?;
    Ok(())
}

#[test]
fn this_programs_version_needs_no_cluster() -> Test {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("kubeconfig");
    let server = format!("https://127.0.0.1:{}", free_port()?);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    fs::write(&file, kubeconfig.to_string())?;
    for (kubeconfig, why) in [
        (file.as_path(), "Connection refused"),
        (Path::new("/nowhere/kubeconfig"), "/nowhere/kubeconfig"),
    ] {
        let Seen { report, errors, code } = seen(kubeconfig)?;
        assert_eq!((&report["client"], code), (&client(), Some(1)));
        assert!(errors.contains(why), "{errors}");
    }
    Ok(())
}
