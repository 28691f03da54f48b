//! `pullpass audit --output openreports`: Reports that the API server and the Go types of openreports.io take.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pullpass_test_support::{ControlPlane, tool, wait_for};
use serde_json::{Value, json};

use crate::audited::{cluster, uid};
use crate::world::{SOON, Test, items, pullpass, text};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools");
const DEFINITION: &str = "crd/reports.openreports.io";
const MODULE: &str = "github.com/openreports/reports-api";

fn audit(cluster: &ControlPlane) -> Result<String, Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["audit", "--output", "openreports", "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .output()?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Gives a List to a program of Go that decodes it strictly.
fn decode(program: &Path, list: &Value) -> Result<Output, std::io::Error> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(list.to_string().as_bytes())?;
    }
    child.wait_with_output()
}

/// The `CustomResourceDefinition` that comes with the module.
fn define(cluster: &ControlPlane) -> Test {
    let listed = Command::new("go")
        .args([
            "list",
            "-m",
            "-f",
            "{{.Dir}}/config/crd/openreports.io_reports.yaml",
            MODULE,
        ])
        .env("GOWORK", "off")
        .current_dir(TOOLS)
        .output()?;
    let file = String::from_utf8(listed.stdout)?;
    cluster.run(&["apply", "--filename", file.trim()])?;
    Ok(cluster.wait_until_established()?)
}

fn report_name(deployment: &str) -> String {
    format!("pullpass-{}", uid(deployment))
}

fn result<'a>(list: &'a Value, deployment: &str) -> Option<&'a str> {
    let mut reports = items(list, "/items");
    let report = reports.find(|report| text(report, "/metadata/name") == report_name(deployment))?;
    report.pointer("/results/0/result")?.as_str()
}

#[test]
fn reports_are_what_the_api_server_and_readers_take() -> Test {
    let cluster = cluster("Entra ID refuses the identity")?;
    // The module comes with what is built of it.
    let reader = tool("reports")?;
    define(&cluster)?;

    let printed = audit(&cluster)?;
    let created = wait_for("the API server to serve Reports", SOON, || {
        let dry_run = [
            "create",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            "-",
        ];
        cluster.run_with_input(&dry_run, &printed)
    })?;
    assert_eq!(created.stdout.lines().count(), 8, "{}", created.stdout);
    let list: Value = serde_saphyr::from_str(&printed)?;
    for (deployment, expected) in [
        ("cart", "pass"),
        ("search", "pass"),
        ("nightly", "fail"),
        ("proxy", "warn"),
    ] {
        assert_eq!(result(&list, deployment), Some(expected), "{deployment}");
    }
    let decoded = decode(&reader, &list)?;
    assert_eq!(String::from_utf8(decoded.stdout)?.trim(), "8");
    let unknown =
        json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Report", "no-such-field": 1}]});
    assert!(!decode(&reader, &unknown)?.status.success());

    let apply = ["apply", "--server-side", "--filename", "-"];
    cluster.run_with_input(&apply, &printed)?;
    let columns = "--output=jsonpath={.summary.fail} {.scope.kind} {.scope.name}";
    let kept = cluster.run(&[
        "get",
        "report",
        &report_name("nightly"),
        "--namespace=reports",
        columns,
    ])?;
    assert_eq!(kept.stdout, "1 ReplicaSet nightly-5d4f8c7b9");

    // What the rules refuse is no warning.
    let deny = json!({"spec": {"unattached": "deny"}}).to_string();
    cluster.run(&["patch", "acrindex", "pullpass", "--type=merge", "--patch", &deny])?;
    let list: Value = serde_saphyr::from_str(&audit(&cluster)?)?;
    assert_eq!(result(&list, "proxy"), Some("fail"));

    // The earlier Reports go by their label, and no others.
    let uid = define_other(&cluster)?;
    let ours = "app.kubernetes.io/managed-by=pullpass";
    cluster.run(&[
        "delete",
        "reports.openreports.io",
        "--all-namespaces",
        "--selector",
        ours,
    ])?;
    let names = "--output=jsonpath={.items[*].metadata.name}";
    let left = cluster.run(&["get", "reports.openreports.io", "--all-namespaces", names])?;
    assert_eq!(left.stdout, uid);

    // On the same control plane, which takes longer to start than all of this.
    the_component_keeps_reports(&cluster, &reader)
}

/// A Report that is there.
fn kept(cluster: &ControlPlane, namespace: &str, deployment: &str) -> Result<Value, String> {
    let name = report_name(deployment);
    cluster
        .get_json(&["report", &name, "--namespace", namespace])
        .map_err(|error| error.to_string())
}

/// What the leader does with the component, by the rights that it has.
fn the_component_keeps_reports(cluster: &ControlPlane, reader: &Path) -> Test {
    let undefined = "there are no Reports: the cluster has no CustomResourceDefinition";
    cluster.run(&["delete", DEFINITION])?;
    let rights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/components/reports/rbac.yaml"
    );
    cluster.run(&["apply", "--filename", rights])?;
    let mut pullpass = pullpass(cluster).flag("--reports").start()?;
    let log = pullpass.process().stderr().to_owned();
    wait_for("the log to say that there is no definition", SOON, || {
        let log = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        log.contains(undefined).then_some(()).ok_or(log)
    })?;
    define(cluster)?;
    for (namespace, deployment, expected) in [
        ("checkout", "cart", "pass"),
        ("web", "search", "pass"),
        ("reports", "nightly", "fail"),
        ("edge", "proxy", "warn"),
    ] {
        let report = wait_for("a Report", SOON, || kept(cluster, namespace, deployment))?;
        assert_eq!(text(&report, "/results/0/result"), expected, "{report:#}");
        // Where Policy Reporter looks.
        assert_eq!(text(&report, "/results/0/source"), "pullpass", "{report:#}");
        // By this a garbage collector deletes it with the workload.
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5d4f8c7b9"),
            "uid": uid(deployment),
        });
        assert_eq!(report.pointer("/metadata/ownerReferences"), Some(&json!([owner])));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [report]});
        assert!(decode(reader, &list)?.status.success(), "{list:#}");
    }
    let log = fs::read_to_string(&log)?;
    assert_eq!(log.matches(undefined).count(), 1, "{log}");

    // What does not change is not written again, and a workload without Pods has no Report.
    let before = kept(cluster, "reports", "nightly")?;
    cluster.run(&[
        "delete",
        "pods",
        "--all",
        "--namespace=checkout",
        "--grace-period=0",
        "--force",
    ])?;
    wait_for("the Report to be gone", SOON, || {
        match kept(cluster, "checkout", "cart") {
            Err(gone) if gone.contains("NotFound") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    assert_eq!(kept(cluster, "reports", "nightly")?, before);
    cluster.run(&[
        "delete",
        "pod",
        "nightly-5d4f8c7b9-0",
        "--namespace=reports",
        "--grace-period=0",
        "--force",
    ])?;
    wait_for("the Report to count one Pod", SOON, || {
        let report = kept(cluster, "reports", "nightly")?;
        match text(&report, "/results/0/properties/pods") {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })?;

    // Reports of other tools are none of its business.
    let of_others = ["report", &define_other(cluster)?, "--namespace=reports"];
    let user = "--as=system:serviceaccount:pullpass-system:pullpass";
    let refused = cluster
        .run(&[&["delete"], &of_others[..], &[user]].concat())
        .map_err(|error| error.to_string());
    assert!(
        refused
            .as_ref()
            .is_err_and(|error| error.contains("pullpass touches only its own Reports")),
        "{refused:?}"
    );
    Ok(())
}

/// The Report of another tool; its name.
fn define_other(cluster: &ControlPlane) -> Result<String, Box<dyn Error>> {
    let uid = uid("nightly");
    let of_others = json!({
        "apiVersion": "openreports.io/v1alpha1", "kind": "Report", "summary": {}, "results": [],
        "metadata": {"name": uid, "namespace": "reports"},
    });
    cluster.apply(&of_others.to_string())?;
    Ok(uid)
}
