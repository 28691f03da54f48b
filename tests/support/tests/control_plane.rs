//! The control plane does what tests need of it, and leaves nothing behind.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::Value;

type Test = Result<(), Box<dyn Error>>;

const SOON: Duration = Duration::from_mins(2);

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: nginx, image: 'registry.example/nginx:1'}]
      volumes: [{name: data, image: {reference: 'registry.example/data:1'}}]
";

/// The processes that have this directory on their command line, as all of a control plane do.
fn processes_of(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec!["no /proc".to_owned()];
    };
    let needle = directory.to_string_lossy();
    entries
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&*needle))
        .collect()
}

fn nothing_left_of(directory: &Path) -> Result<(), String> {
    let processes = processes_of(directory);
    if !processes.is_empty() {
        return Err(format!("still running: {processes:#?}"));
    }
    if directory.exists() {
        Err(format!("{} still exists", directory.display()))
    } else {
        Ok(())
    }
}

#[test]
fn workloads_get_pods_and_nothing_is_left() -> Test {
    let control_plane = ControlPlane::start()?;
    control_plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: apps}}")?;
    wait_for("the namespace's service account", SOON, || {
        control_plane.get_json(&["serviceaccount", "default", "--namespace", "apps"])
    })?;
    let mut apply = control_plane.kubectl();
    apply.args(["apply", "--namespace", "apps", "--filename", "-"]);
    let file = control_plane.directory().join("deployment.yaml");
    fs::write(&file, DEPLOYMENT)?;
    apply.stdin(fs::File::open(&file)?);
    assert!(apply.status()?.success());

    wait_for("three Pods", SOON, || {
        let pods = control_plane
            .get_json(&["pods", "--namespace", "apps"])
            .map_err(|e| e.to_string())?;
        match pods.pointer("/items").and_then(Value::as_array).map(Vec::len) {
            Some(3) => Ok(()),
            other => Err(format!("{other:?} Pods")),
        }
    })?;

    let users: Vec<Value> = control_plane
        .audit_events()?
        .iter()
        .filter(|event| event.pointer("/objectRef/resource").and_then(Value::as_str) == Some("pods"))
        .filter_map(|event| event.pointer("/user/username").cloned())
        .collect();
    assert_eq!(
        users,
        vec!["system:serviceaccount:kube-system:replicaset-controller"; 3]
    );

    let directory = control_plane.directory().to_path_buf();
    assert!(
        processes_of(&directory).len() >= 3,
        "the test below would prove nothing"
    );
    drop(control_plane);
    wait_for("its processes and files to go", SOON, || {
        nothing_left_of(&directory)
    })?;
    Ok(())
}

#[test]
fn a_seeded_etcd_has_what_the_first_start_writes() -> Test {
    let keys = |control_plane: &ControlPlane| -> Result<BTreeSet<String>, String> {
        let keys = control_plane.etcd_keys().map_err(|error| error.to_string())?;
        Ok(keys.into_iter().collect())
    };
    let builder = || ControlPlane::builder().controller_manager(false);
    let written = builder().seeded(false).start()?;
    let (one, other) = (builder().start()?, builder().start()?);
    // After a start of its own, an API server adds what is about itself a moment after it is ready.
    wait_for("the same keys", SOON, || {
        let written = keys(&written)?;
        for seeded in [&one, &other] {
            let seeded = keys(seeded)?;
            let differences: Vec<_> = written.symmetric_difference(&seeded).collect();
            if !differences.is_empty() {
                return Err(format!("{differences:?}"));
            }
        }
        Ok(())
    })?;
    let identity = |control_plane: &ControlPlane| -> Result<Value, Box<dyn Error>> {
        let namespace = control_plane.get_json(&["namespace", "kube-system"])?;
        Ok(namespace["metadata"]["uid"].clone())
    };
    assert_eq!(identity(&one)?, identity(&other)?, "they were not seeded");
    assert_ne!(identity(&one)?, identity(&written)?);
    let [mine, of_seeded] = [&written, &one].map(|control_plane| {
        control_plane.get_json(&[
            "configmap",
            "extension-apiserver-authentication",
            "--namespace=kube-system",
        ])
    });
    for (control_plane, map) in [(&written, mine?), (&one, of_seeded?)] {
        assert_eq!(map["data"]["client-ca-file"], control_plane.ca_pem());
    }
    Ok(())
}

#[test]
fn the_api_server_restarts_and_knows_service_accounts() -> Test {
    let control_plane = ControlPlane::builder().controller_manager(false).start()?;
    control_plane
        .apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: default}}")?;
    let kubeconfig = control_plane.service_account_kubeconfig("default", "robot")?;

    control_plane.stop_api_server()?;
    assert!(control_plane.run(&["version"]).is_err());
    control_plane.start_api_server()?;

    let output = control_plane
        .kubectl_as(&kubeconfig)
        .args(["auth", "whoami"])
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.contains("system:serviceaccount:default:robot"),
        "{output:?}"
    );
    let output = control_plane
        .kubectl_as(&kubeconfig)
        .args(["get", "secrets"])
        .output()?;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("forbidden"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn warnings_of_the_api_server_are_seen() -> Test {
    let control_plane = ControlPlane::builder().controller_manager(false).start()?;
    let output = control_plane.apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: apps, labels: {pod-security.kubernetes.io/warn: restricted}}}",
    )?;
    assert!(output.warnings().is_empty(), "{output:?}");
    control_plane
        .apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: apps}}")?;
    let output = control_plane.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: apps}, spec: {containers: [{name: web, image: web}]}}",
    )?;
    let [warning] = output.warnings()[..] else {
        return Err(format!("{output:?}").into());
    };
    assert!(warning.contains("PodSecurity"), "{warning}");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_killed_test() -> Test {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut kubeconfig = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout).read_line(&mut kubeconfig)?;
    }
    let directory = Path::new(kubeconfig.trim())
        .parent()
        .ok_or("it printed no path")?;
    assert!(directory.join("etcd").is_dir());
    assert!(
        processes_of(directory).len() >= 3,
        "the test below would prove nothing"
    );

    holder.kill()?;
    holder.wait()?;
    wait_for("its processes and files to go", SOON, || {
        nothing_left_of(directory)
    })?;
    Ok(())
}
