//! What `docs/upgrade.md` takes away before an older version comes back.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::render::{COMPONENTS, Choice, ROOT, Test};

#[test]
fn the_way_back_unbinds_every_policy_that_reads_the_index() -> Test {
    let objects = Choice {
        overlay: "cluster-wide",
        components: COMPONENTS.to_vec(),
    }
    .kustomize()?;
    let bound: BTreeSet<(String, String)> = objects
        .iter()
        .filter(|object| object.pointer("/spec/paramRef").is_some())
        .map(|object| {
            let text = |pointer| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            (text("/kind").to_lowercase(), text("/metadata/name").to_owned())
        })
        .collect();
    assert!(bound.len() >= 4, "{bound:?}");
    let page = fs::read_to_string(format!("{ROOT}/docs/upgrade.md"))?;
    let mut unbound = BTreeSet::new();
    for command in page.split("`kubectl delete ").skip(1) {
        let command = command.split('`').next().unwrap_or_default();
        let mut words = command.split_whitespace().filter(|word| !word.starts_with("--"));
        let kind = words.next().unwrap_or_default();
        unbound.extend(words.map(|name| (kind.to_owned(), name.to_owned())));
    }
    assert_eq!(unbound, bound);
    Ok(())
}
