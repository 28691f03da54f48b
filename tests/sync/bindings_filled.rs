//! AcrPullBindings and ServiceAccounts that somebody fills as far as the API server lets them.

use std::error::Error;
use std::fs;

use serde_json::{Map, Value, json};

use crate::bound_team::{ACCOUNT, Team};
use crate::bound_world::install_bindings;
use crate::world::{RESYNC, Test, World, cluster_of_its_own};

/// How many objects of each kind somebody fills, with how many labels. One takes 0.5 MB, half of it for the API server's own
/// notes about them.
const FILLED: usize = 16;
const LABELS: usize = 20_000;
/// How many are sent to the API server together.
const TOGETHER: usize = 4;
/// What the shipped Deployment lets a replica have, and what is more than these may take of it, in KiB. Were they read in pages
/// and kept whole, they would take nearly all of it.
const LIMIT: &str = "memory: 256Mi";
const TOO_MUCH: u64 = 128 << 10;

/// The most memory that a process had at any time, in KiB.
fn peak_of(process: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    Ok(peak.ok_or("there is no peak")?.parse()?)
}

#[test]
fn objects_that_are_filled_fill_no_replica() -> Test {
    let deployment = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/deployment.yaml");
    assert!(fs::read_to_string(deployment)?.contains(LIMIT));
    let cluster = cluster_of_its_own()?;
    install_bindings(&cluster)?;
    cluster.run(&["create", "namespace", "filled"])?;
    cluster.run(&["create", "serviceaccount", "default", "--namespace", "filled"])?;
    let labels: Map<String, Value> = (0..LABELS)
        .map(|number| (format!("l{number}"), json!("")))
        .collect();
    let numbers: Vec<usize> = (0..FILLED).collect();
    for numbers in numbers.chunks(TOGETHER) {
        let objects = numbers.iter().flat_map(|number| {
            let metadata =
                json!({"name": format!("filled{number}"), "namespace": "filled", "labels": labels});
            [
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
                json!({
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding", "metadata": metadata,
                    "spec": {"loginServer": "registry2.azurecr.io", "serviceAccountName": ACCOUNT},
                }),
            ]
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
        cluster.create(&list.to_string())?;
    }
    // It begins with all of them: it lists them, the leader works on them, and a review asks for them.
    let mut world = World::with_pullpass(
        &cluster,
        1,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings"),
    )?;
    let team = Team::bound(&world)?;
    assert_eq!(team.injected_in("filled")?, [""; 0], "it is attached elsewhere");
    let peak = peak_of(world.pullpass.process().pid())?;
    assert!(peak < TOO_MUCH, "{peak} KiB");
    Ok(())
}
