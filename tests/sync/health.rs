//! What Flux and Argo CD make of the statuses: kstatus' own code, and the script that docs/install.md gives.

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};

use pullpass_emulator::{Failure, Fault, Step};
use pullpass_test_support::{ControlPlane, tool, wait_for};
use serde_json::{Value, json};

use crate::bound_world::install_bindings;
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, text};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What kstatus and Argo CD say of an object.
fn health(object: &Value) -> Result<(String, String), Box<dyn Error>> {
    let mut child = Command::new(tool("health")?)
        .arg(format!("{ROOT}/docs/health.lua"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [object]});
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(list.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    Ok((
        text(&said, "/kstatus").to_owned(),
        text(&said, "/argoCD").to_owned(),
    ))
}

/// Waits until kstatus and Argo CD say that of an object.
pub fn wait_for_health(cluster: &ControlPlane, object: &[&str], expected: (&str, &str)) -> Test {
    wait_for(&format!("{object:?} to be {expected:?}"), SOON, || {
        let live = cluster.get_json(object).map_err(|error| error.to_string())?;
        let (kstatus, argo_cd) = health(&live).map_err(|error| error.to_string())?;
        if (&*kstatus, &*argo_cd) == expected {
            Ok(())
        } else {
            Err(format!("{kstatus}, {argo_cd}: {live:#}"))
        }
    })?;
    Ok(())
}

const IN_PROGRESS: (&str, &str) = ("InProgress", "Progressing");
pub const CURRENT: (&str, &str) = ("Current", "Healthy");
const FAILED: (&str, &str) = ("Failed", "Degraded");

/// Until the wait is over that the registry asks for, which is longer than the test.
fn one_that_is_tried_again_is_in_progress(world: &World) -> Test {
    let login = world.login()?;
    let throttled = Failure::new(Step::Exchange, Fault::throttled(3600));
    world.azure.inject(throttled.at(&login.host).times(1));
    world.attach(&login, &login.password, &json!({}))?;
    let object = world.wait_for_reason(&login, "Throttled")?;
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    let is_reconciling =
        |condition: &Value| text(condition, "/type") == "Reconciling" && text(condition, "/status") == "True";
    assert!(conditions.any(is_reconciling), "{object:#}");
    wait_for_health(world.cluster, &["acrregistry", &login.name], IN_PROGRESS)
}

/// Without flags that describe the cloud, no retry helps.
fn one_with_an_invalid_spec_is_stuck(cluster: &ControlPlane) -> Test {
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "stuck"},
        "spec": {"loginServer": "images.azurecr.contoso.com", "cloud": "Other", "identity": {"anonymous": {}}},
    });
    cluster.apply(&object.to_string())?;
    let stuck = ["acrregistry", "stuck"];
    wait_for_health(cluster, &stuck, FAILED)?;
    let object = cluster.get_json(&stuck)?;
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let stalled = conditions
        .into_iter()
        .flatten()
        .find(|condition| text(condition, "/type") == "Stalled");
    let stalled = stalled.ok_or_else(|| format!("it is not Stalled: {object:#}"))?;
    assert_eq!(
        (text(stalled, "/status"), text(stalled, "/reason")),
        ("True", "InvalidSpec"),
        "{object:#}"
    );
    Ok(())
}

#[test]
fn gitops_tools_see_when_an_object_is_ready_or_stuck() -> Test {
    let cluster = cluster_of_its_own()?;
    let definitions = format!("{ROOT}/manifests/base/crd.yaml");
    cluster.run(&["apply", "--server-side", "--filename", &definitions])?;
    install_bindings(&cluster)?;
    cluster.wait_until_established()?;
    let binding = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"loginServer": "myregistry.azurecr.io", "serviceAccountName": "puller"},
    });
    cluster.apply(&binding.to_string())?;
    let early = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "early"},
        "spec": {"loginServer": "earlyregistry.azurecr.io", "identity": {"anonymous": {}}},
    });
    cluster.apply(&early.to_string())?;
    // Nobody has looked at them.
    let binding = ["acrpullbinding", "app", "--namespace=default"];
    let early = ["acrregistry", "early"];
    wait_for_health(&cluster, &binding, IN_PROGRESS)?;
    wait_for_health(&cluster, &early, IN_PROGRESS)?;

    let world = World::with_pullpass(
        &cluster,
        2,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings"),
    )?;
    cluster.run(&[
        "wait",
        "--for=condition=Ready",
        "acrregistry/early",
        "--timeout=120s",
    ])?;
    wait_for_health(&cluster, &early, CURRENT)?;
    // There is no such ServiceAccount.
    wait_for_health(&cluster, &binding, FAILED)?;
    one_that_is_tried_again_is_in_progress(&world)?;
    one_with_an_invalid_spec_is_stuck(&cluster)?;

    let login = world.login()?;
    let mine = ["acrregistry", &login.name];
    world.attach(&login, "wrong", &json!({}))?;
    wait_for_health(&cluster, &mine, FAILED)?;
    world.attach(&login, &login.password, &json!({}))?;
    cluster.run(&[
        "wait",
        "--for=condition=Ready",
        &format!("acrregistry/{}", login.name),
        "--timeout=120s",
    ])?;
    wait_for_health(&cluster, &mine, CURRENT)?;
    let conditions = cluster.get_json(&mine)?;
    let conditions = conditions.pointer("/status/conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten() {
        assert!(
            !matches!(text(condition, "/type"), "Stalled" | "Reconciling"),
            "{condition}"
        );
    }
    Ok(())
}
