//! The plugin takes the cluster from kubectl's own flags and variables.

use pullpass_test_support::{ControlPlane, end_to_end_wanted};
use serde_json::Value;

use crate::kubectl::{Test, kubectl};

#[test]
fn kubectls_flags_say_which_cluster_and_which_namespace() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    let kubectl = kubectl()?;
    let crd = kubectl.run(&["pullpass", "crd"])?;
    cluster.run_with_input(
        &["apply", "--server-side", "--filename=-"],
        &String::from_utf8(crd.stdout)?,
    )?;
    cluster.wait_until_established()?;
    let kubeconfig = cluster.kubeconfig().to_str().ok_or("not UTF-8")?;
    let context = cluster.run(&["config", "current-context"])?.stdout;
    let flags = ["--kubeconfig", kubeconfig, "--context", context.trim()];

    let audit = kubectl.run(&[&["pullpass", "audit", "-n", "default", "-o", "json"], &flags[..]].concat())?;
    let said = String::from_utf8_lossy(&audit.stderr).into_owned();
    let report: Value = serde_json::from_slice(&audit.stdout).map_err(|error| format!("{error}: {said}"))?;
    assert_eq!(report["summary"]["uncovered"], 0);
    assert_eq!(audit.status.code(), Some(0));

    let unknown = kubectl.run(&[&["pullpass", "audit", "--namespace=nowhere"], &flags[..]].concat())?;
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(unknown.stderr)?,
        "pullpass: there is no namespace nowhere\n"
    );
    // Without flags it is where kubectl looks.
    let by_variable = kubectl
        .command()
        .args(["pullpass", "audit"])
        .env("KUBECONFIG", kubeconfig)
        .output()?;
    assert_eq!(by_variable.status.code(), Some(0), "{by_variable:?}");
    let without = kubectl.run(&["pullpass", "audit"])?;
    assert_eq!(without.status.code(), Some(1));
    let said = String::from_utf8(without.stderr)?;
    assert!(
        said.contains("Name one with --kubeconfig and --context"),
        "{said}"
    );
    Ok(())
}
