//! The Lease, as it is and as it changes.

use std::collections::BTreeSet;
use std::error::Error;

use jiff::{SignedDuration, Timestamp};
use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::Value;

use crate::world::{OWN_NAMESPACE, SOON, Test, text};

pub struct Lease {
    pub holder: String,
    pub renewed: Timestamp,
    /// When it ends if nobody renews it.
    pub ends: Timestamp,
}

pub fn lease(cluster: &ControlPlane) -> Result<Lease, Box<dyn Error>> {
    let lease = cluster.get_json(&["lease", "pullpass", "--namespace", OWN_NAMESPACE])?;
    let duration = lease
        .pointer("/spec/leaseDurationSeconds")
        .and_then(Value::as_i64);
    let renewed: Timestamp = text(&lease, "/spec/renewTime").parse()?;
    Ok(Lease {
        holder: text(&lease, "/spec/holderIdentity").to_owned(),
        renewed,
        ends: renewed + SignedDuration::from_secs(duration.ok_or("it has no duration")?),
    })
}

/// Looks on until the Lease was renewed so many times; it must stay with its holder and never go back in time.
pub fn expect_renewals(cluster: &ControlPlane, count: usize) -> Test {
    let first = lease(cluster)?;
    let mut renewals = BTreeSet::from([first.renewed]);
    wait_for("the Lease to be renewed", SOON, || {
        let look = lease(cluster).map_err(|error| error.to_string())?;
        assert_eq!(look.holder, first.holder, "somebody else took the Lease");
        assert!(
            Some(&look.renewed) >= renewals.last(),
            "{} was written after {renewals:?}: by somebody who does not lead",
            look.renewed
        );
        renewals.insert(look.renewed);
        if renewals.len() > count {
            Ok(())
        } else {
            Err(format!("{renewals:?}"))
        }
    })?;
    Ok(())
}
