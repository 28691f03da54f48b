//! What other projects define, for a cluster that has none of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::{ControlPlane, Scratch};

use crate::render::{ROOT, Test, succeeded};

/// Not what that project ships: see the file.
const OPERATORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/install/testdata/operators.yaml"
);

/// Puts stand-ins for cert-manager's `CustomResourceDefinitions` into a cluster, the Prometheus operator's own, and that of
/// Azure's managed Prometheus, which is the operator's in another group.
pub fn define_operators(cluster: &ControlPlane) -> Test {
    let scratch = Scratch::new()?;
    let found = Command::new(format!("{ROOT}/tests/tools/crds")).output()?;
    let found = succeeded("tests/tools/crds", &found)?;
    let definition = |name: &str| {
        let path = Path::new(found.trim()).join(format!("monitoring.coreos.com_{name}.yaml"));
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let monitors = definition("servicemonitors")?;
    let azures = monitors.replace("monitoring.coreos.com", "azmonitoring.coreos.com");
    for (name, text) in [
        ("cert-manager.yaml", fs::read_to_string(OPERATORS)?),
        ("rules.yaml", definition("prometheusrules")?),
        ("monitors.yaml", monitors),
        ("azures.yaml", azures),
    ] {
        fs::write(scratch.path().join(name), text)?;
    }
    let directory = scratch.path().to_str().ok_or("a path that is no text")?;
    cluster.run(&["apply", "--server-side", "--filename", directory])?;
    Ok(cluster.wait_until_established()?)
}
