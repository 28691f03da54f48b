//! A server-side dry run shows what would come, and says that it was one.

use serde_json::Value;

use crate::cluster::{Test, cluster, pullpass};
use crate::objects::{dry_run, pod, pull_secrets, text};

#[test]
fn a_dry_run_is_patched_and_recorded_as_one() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = dry_run(&pod(&namespace, "web", "myregistry.azurecr.io/web:1"))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    for record in pullpass.wait_for_records(&namespace, 1)? {
        assert_eq!(text(&record, "/decision"), "injected");
        assert_eq!(record.get("dryRun"), Some(&Value::Bool(true)));
    }
    let gone = cluster()?.run(&["get", "pod", "web", "--namespace", &namespace]);
    assert!(gone.is_err(), "{gone:?}");
    Ok(())
}
