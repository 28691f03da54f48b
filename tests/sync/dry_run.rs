//! A dry run creates nothing: no Pod, and no pull secret for it either.

use serde_json::json;

use crate::world::{Test, pull_secret, shared};

#[test]
fn a_dry_run_makes_no_pull_secret() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let dry = world.pullpass.new_namespace(&[])?;
    let image = format!("--image={}/app:v1", login.host);
    let run = world.cluster.run(&[
        "run",
        "app",
        &image,
        "--namespace",
        &dry,
        "--dry-run=server",
        "--output=json",
    ])?;
    assert!(run.stdout.contains(&pull_secret(&login)), "{}", run.stdout);
    let asked = world.pullpass.wait_for_records(&dry, 1)?;
    assert_eq!(asked[0]["dryRun"], true, "{asked:?}");

    // Secrets are written in the order in which Pods are admitted. What a real Pod gets shows that the dry one's turn is over.
    for _ in 0..2 {
        let real = world.namespace_in_need(&login)?;
        world.wait_for_secret(&real, &login)?;
    }
    assert_eq!(world.secret(&dry, &pull_secret(&login))?, None);

    // Once the Pod is real, the same namespace has it.
    world.run_pod(&dry, &login)?;
    world.wait_for_secret(&dry, &login)?;
    Ok(())
}
