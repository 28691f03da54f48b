//! The Lease, as it is and as it changes.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;

use jiff::{SignedDuration, Timestamp};
use pullpass_test_support::{ControlPlane, Supervised, wait_for};
use serde_json::Value;

use crate::world::{OWN_NAMESPACE, SOON, Test, text};

/// When a leader that could not renew its Lease stops acting, counted from its last renewal.
const STOPS: SignedDuration = SignedDuration::from_secs(10);

/// Who waits for the end of a Lease looks every second, and counts from when it saw the last renewal.
const LATE: SignedDuration = SignedDuration::from_secs(10);

pub struct Lease {
    pub holder: String,
    /// When its holder took it.
    pub acquired: Timestamp,
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
        acquired: text(&lease, "/spec/acquireTime").parse()?,
        renewed,
        ends: renewed + SignedDuration::from_secs(duration.ok_or("it has no duration")?),
    })
}

/// Checks that the Lease was taken soon after this expiry. It says itself when, however long the test took to look.
pub fn expect_taken_soon_after(cluster: &ControlPlane, ends: Timestamp) -> Test {
    let late = lease(cluster)?.acquired.duration_since(ends);
    assert!(late < LATE, "{late:?} after the end of the Lease");
    Ok(())
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

/// Every version of the Lease, as a watch brings them.
pub struct History(Supervised);

impl History {
    /// Begins to watch a Lease that is there.
    pub fn begin(cluster: &ControlPlane) -> Result<Self, Box<dyn Error>> {
        let mut kubectl = cluster.kubectl();
        kubectl
            .args([
                "get",
                "lease",
                "pullpass",
                "--namespace",
                OWN_NAMESPACE,
                "--watch",
            ])
            .arg(r#"--output=jsonpath={.spec.holderIdentity} {.spec.renewTime}{"\n"}"#);
        let history = Self(Supervised::spawn("lease", &kubectl, cluster.directory())?);
        wait_for("the watch on the Lease", SOON, || match history.versions() {
            Ok(versions) => (!versions.is_empty()).then_some(()).ok_or_else(String::new),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(history)
    }

    /// Who held the Lease and when they renewed it, one entry a version.
    fn versions(&self) -> Result<Vec<(String, Timestamp)>, Box<dyn Error>> {
        let text = fs::read_to_string(self.0.stdout())?;
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| {
                let (holder, renewed) = line.split_once(' ').ok_or_else(|| line.to_owned())?;
                Ok((holder.to_owned(), renewed.parse()?))
            })
            .collect()
    }

    /// Holds the versions so far against the promise: the Lease changed hands once, to a replica that took it after the
    /// one before had stopped, and every renewal is later than the one before it.
    pub fn expect_one_handover(&mut self) -> Test {
        self.0.check_running()?;
        let versions = self.versions()?;
        let mut handovers = 0;
        for pair in versions.windows(2) {
            let [(before, renewed), (after, then)] = pair else {
                continue;
            };
            assert!(then >= renewed, "renewed out of turn: {versions:?}");
            if before != after {
                handovers += 1;
                let between = then.duration_since(*renewed);
                assert!(between > STOPS, "taken after {between:?}: {versions:?}");
            }
        }
        assert_eq!(handovers, 1, "{versions:?}");
        Ok(())
    }
}
