//! When a credential is minted: pure functions of the times, so that no test needs to wait.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::base::backoff::{Backoff, Jitter};
use crate::sync::credentials::HeldCredential;

/// When to refresh, as a fraction of a credential's own life, unless the spec says otherwise.
pub const DEFAULT_FRACTION: f64 = 0.5;
/// How much earlier than due a refresh may be, as a fraction of the wait: registries that were attached together
/// shall not be refreshed together for ever.
const JITTER: f64 = 0.1;
/// The wait after failures in a row, unless the service asks for a longer one.
const MINT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// What the attempts were made with.
    pub inputs: String,
    /// How many there were.
    pub count: u32,
    /// When to try again.
    pub retry_at: Timestamp,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Mint now.
    Mint,
    /// Nothing, until then; for ever where there is no time.
    Wait(Option<Timestamp>),
}

/// Decides whether to mint. Inputs that changed are tried at once, whatever failed before.
pub fn plan(
    now: Timestamp,
    inputs: &str,
    held: Option<&HeldCredential>,
    fraction: f64,
    failures: Option<&Failures>,
) -> Plan {
    if let Some(failures) = failures.filter(|failures| failures.inputs == inputs) {
        return if now < failures.retry_at {
            Plan::Wait(Some(failures.retry_at))
        } else {
            Plan::Mint
        };
    }
    match held.filter(|held| held.inputs == inputs) {
        None => Plan::Mint,
        Some(held) => match due(held, fraction) {
            Some(due) if due <= now => Plan::Mint,
            due => Plan::Wait(due),
        },
    }
}

/// When a credential is to be refreshed; never where it does not end.
pub fn due(held: &HeldCredential, fraction: f64) -> Option<Timestamp> {
    let life = held
        .expires_at?
        .duration_since(held.refreshed_at)
        .as_secs_f64()
        .max(0.0);
    let jitter = Jitter::of(&(&held.inputs, held.refreshed_at.as_nanosecond()));
    let early = jitter.fraction() * JITTER;
    let wait = SignedDuration::try_from_secs_f64(life * fraction * (1.0 - early)).ok()?;
    held.refreshed_at.checked_add(wait).ok()
}

/// Counts one more failure. Registries that fail together do not retry together: the jitter follows from the inputs and
/// the time.
pub fn failed(
    now: Timestamp,
    inputs: &str,
    before: Option<&Failures>,
    retry_after: Option<Duration>,
) -> Failures {
    let count = before
        .filter(|before| before.inputs == inputs)
        .map_or(0, |before| before.count)
        .saturating_add(1);
    let jitter = Jitter::of(&(inputs, count, now.as_nanosecond()));
    let wait = MINT_BACKOFF.delay(count, retry_after, jitter);
    Failures {
        inputs: inputs.to_owned(),
        count,
        retry_at: now.saturating_add(wait).unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn held(refreshed_at: i64, expires_at: Option<i64>) -> HeldCredential {
        HeldCredential {
            docker_config: ByteString(Vec::new()),
            audience: None,
            refreshed_at: at(refreshed_at),
            expires_at: expires_at.map(at),
            inputs: "a".to_owned(),
            fingerprint: None,
        }
    }

    #[test]
    fn nothing_held_or_other_inputs_are_minted_at_once() {
        assert_eq!(plan(at(0), "a", None, 0.5, None), Plan::Mint);
        assert_eq!(
            plan(at(0), "b", Some(&held(0, Some(10_800))), 0.5, None),
            Plan::Mint
        );
        let failures = failed(at(0), "a", None, None);
        assert_eq!(
            plan(at(0), "b", None, 0.5, Some(&failures)),
            Plan::Mint,
            "a corrected Secret does not wait"
        );
    }

    #[test]
    fn a_credential_that_does_not_end_is_kept() {
        assert_eq!(
            plan(at(1 << 33), "a", Some(&held(0, None)), 0.5, None),
            Plan::Wait(None)
        );
    }

    #[test]
    fn failures_wait_longer_each_time_and_as_long_as_they_are_asked_to() {
        let mut failures = None;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let next = failed(at(0), "a", failures.as_ref(), None);
            waits.push(next.retry_at.duration_since(at(0)).as_secs_f64());
            failures = Some(next);
        }
        for (wait, full) in waits
            .iter()
            .zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0])
        {
            assert!(*wait <= full && *wait >= full * 0.75, "{waits:?}");
        }
        assert_eq!(
            failed(at(0), "a", None, Some(Duration::from_secs(77))).retry_at,
            at(77)
        );
        assert_eq!(failed(at(0), "a", None, Some(Duration::MAX)).retry_at, at(3600));
        let failures = failed(at(0), "a", None, Some(Duration::from_secs(77)));
        assert_eq!(
            plan(at(76), "a", Some(&held(0, Some(1))), 0.5, Some(&failures)),
            Plan::Wait(Some(at(77)))
        );
        assert_eq!(
            plan(at(77), "a", Some(&held(0, Some(1))), 0.5, Some(&failures)),
            Plan::Mint
        );
    }

    proptest! {
        #[test]
        fn a_refresh_is_due_at_its_fraction_or_a_little_before(life in 1_i32..1_000_000, fraction in 0.1..0.9_f64) {
            let held = held(1_000, Some(1_000 + i64::from(life)));
            let due = due(&held, fraction).unwrap().duration_since(at(1_000)).as_secs_f64();
            let whole = f64::from(life) * fraction;
            prop_assert!(due <= whole + 0.001 && due >= whole * 0.899, "{} of {}", due, whole);
        }
    }
}
