//! Pods that are created without a pause.

use pullpass_test_support::Admissions;

use crate::world::{NAMESPACE, Test, World, pod};

const STREAMS: usize = 2;

/// Begins to create Pods, each of which the webhook has to be asked about.
pub fn begin_load(world: &World) -> Result<Admissions, pullpass_test_support::Error> {
    Admissions::begin(world.cluster.kubeconfig(), pod(NAMESPACE), STREAMS, |_| true)
}

pub fn expect_none_lost(load: Admissions) -> Test {
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    Ok(())
}
