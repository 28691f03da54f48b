//! When a credential is minted: pure functions of the times, so that no test needs to wait.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::acr_registry::CredentialSpec;
use crate::base::backoff::{Backoff, Jitter};
use crate::base::clock::Instants;
use crate::sync::credentials::Seen;
use crate::sync::held_credential::HeldCredential;

/// When to refresh, as a fraction of a credential's own life, unless the spec says otherwise.
pub const DEFAULT_FRACTION: f64 = 0.5;
/// The wait after failures in a row, unless the service asks for a longer one.
const MINT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

/// The least time between two mints of one registry, and between attempts with inputs that changed; one change is excepted.
const MINT_INTERVAL: Duration = Duration::from_secs(30);
/// How many inputs are remembered that were tried within that time; there are three at most where one change is excepted.
const MAX_TRIED: usize = 8;

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// What the attempts were made with.
    pub inputs: String,
    /// How many there were.
    pub count: u32,
    /// When to try again, as it is told to people.
    pub retry_at: Timestamp,
    /// How long to wait from the last of them on.
    pub wait: Duration,
    /// When the last of them was.
    since: Instant,
}

impl Failures {
    /// How long the next attempt has to wait because of the last ones, if at all. If inputs differ, for example
    /// because a user corrects the spec or its Secret, one attempt may be early: so an edit is tried immediately, but
    /// edits in a loop are not. An early attempt that failed is not repeated before its turn, and neither are inputs
    /// that were tried before others.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let waited = now.saturating_duration_since(self.since);
        self.wait.checked_sub(waited).filter(|left| !left.is_zero())
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshPlan {
    /// Mint now.
    Mint,
    /// Nothing, for so long; for ever where there is no time.
    Wait(Option<Duration>),
}

impl RefreshPlan {
    /// The same, but nothing is minted before so much time is over.
    #[must_use]
    pub fn not_before(self, left: Option<Duration>) -> Self {
        match (self, left) {
            (Self::Mint, Some(left)) => Self::Wait(Some(left)),
            (plan @ (Self::Mint | Self::Wait(_)), _) => plan,
        }
    }
}

/// Decides whether to mint. Inputs that changed are tried immediately, whatever failed before.
pub fn plan(
    now: Instants,
    inputs: &str,
    held: Option<(&HeldCredential, Seen)>,
    fraction: f64,
    failures: Option<&Failures>,
) -> RefreshPlan {
    if let Some(failures) = failures.filter(|failures| failures.inputs == inputs) {
        return match failures.left(now.steady) {
            Some(left) => RefreshPlan::Wait(Some(left)),
            None => RefreshPlan::Mint,
        };
    }
    let Some((held, seen)) = held.filter(|(held, _)| held.inputs == inputs) else {
        return RefreshPlan::Mint;
    };
    let Some(age) = seen.age(held.refreshed_at, now) else {
        // Minted in the future: nobody knows how old it is.
        return RefreshPlan::Mint;
    };
    let Some(wait) = wait(held, fraction) else {
        return RefreshPlan::Wait(None);
    };
    // An age is never negative.
    match wait.checked_sub(Duration::try_from(age).unwrap_or_default()) {
        Some(left) if !left.is_zero() => RefreshPlan::Wait(Some(left)),
        _ => RefreshPlan::Mint,
    }
}

/// The last attempt to mint a registry's credential, as far as the next one has to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAttempt {
    at: Instant,
    inputs: String,
    /// It brought a credential. One that failed is repeated when [`plan`] says so.
    is_minted: bool,
    /// It came sooner than [`MINT_INTERVAL`] after another, since the inputs had changed.
    is_early: bool,
    /// Which inputs were tried within that time, each with its last attempt, this one included.
    tried: Vec<(String, Instant)>,
}

impl LastAttempt {
    /// The last attempt after one more, or after the end of one.
    pub fn next(before: Option<&Self>, now: Instant, inputs: &str, is_minted: bool) -> Self {
        let is_recent = before.is_some_and(|before| before.is_recent(now));
        let (at, is_early) = match before.filter(|before| before.inputs == inputs && !before.is_minted) {
            // An early one that is repeated has waited for its turn.
            Some(before) if before.is_early && !is_recent => (now, false),
            // That a failure is repeated puts off no change.
            Some(before) => (if is_minted { now } else { before.at }, before.is_early),
            None => (now, is_recent),
        };
        let others = before.into_iter().flat_map(|before| &before.tried);
        let others = others.filter(|(tried, at)| tried != inputs && within_interval(*at, now));
        let this = std::iter::once((inputs.to_owned(), now));
        Self {
            at,
            inputs: inputs.to_owned(),
            is_minted,
            is_early,
            tried: this.chain(others.cloned()).take(MAX_TRIED).collect(),
        }
    }

    /// The same for other inputs that mean the same.
    pub fn rename(&mut self, before: &str, inputs: &str) {
        let tried = self.tried.iter_mut().map(|(tried, _)| tried);
        for known in tried.chain([&mut self.inputs]).filter(|known| *known == before) {
            inputs.clone_into(known);
        }
    }

    /// Whether the next one may have to wait for any of those that it remembers.
    pub fn is_of_use(&self, now: Instant) -> bool {
        self.is_recent(now) || self.tried.iter().any(|(_, at)| within_interval(*at, now))
    }

    fn is_recent(&self, now: Instant) -> bool {
        within_interval(self.at, now)
    }

    /// When these inputs were tried last, if that is remembered.
    fn tried_at(&self, inputs: &str) -> Option<Instant> {
        let mut tried = self.tried.iter();
        tried.find(|(tried, _)| tried == inputs).map(|(_, at)| *at)
    }
}

fn within_interval(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < MINT_INTERVAL
}

/// How long the next attempt has to wait for the last ones, if it does. Inputs that differ, as when a user corrects the spec or
/// the Secret that it names, may be early once: so an edit is tried immediately, and edits in a loop are not. What was early
/// and failed is not repeated before its turn, and neither are inputs that were tried before others.
pub fn interval_left(last: Option<&LastAttempt>, now: Instant, inputs: &str) -> Option<Duration> {
    let last = last?;
    let is_same = last.inputs == inputs;
    let waits_for_last = last.is_early || is_same && last.is_minted;
    let at = waits_for_last.then_some(last.at);
    // A failure in a row is repeated by its own backoff.
    let tried_at = last.tried_at(inputs).filter(|_| !is_same);
    let at = at.max(tried_at)?;
    let left = MINT_INTERVAL.checked_sub(now.saturating_duration_since(at))?;
    (!left.is_zero()).then_some(left)
}

/// At which part of a credential's life it is refreshed. It is read from the object as it is now, and is no part of
/// [`AttachedRegistry`](crate::policy::attached::AttachedRegistry): where a parsed registry differs, its pull secrets are looked at in every namespace, and when to mint
/// changes none of them.
pub(super) fn fraction(credential: Option<&CredentialSpec>) -> f64 {
    credential
        .and_then(|credential| credential.refresh_fraction)
        .unwrap_or(DEFAULT_FRACTION)
}

/// When a credential is to be refreshed, by the clock of the process that minted it; never where it does not expire.
pub fn due(held: &HeldCredential, fraction: f64) -> Option<Timestamp> {
    held.refreshed_at.checked_add(wait(held, fraction)?).ok()
}

/// How old a credential is when it is refreshed. It depends only on the length of its life, which is known whatever the
/// clock reported about its begin.
pub fn wait(held: &HeldCredential, fraction: f64) -> Option<Duration> {
    let life = held
        .expires_at?
        .duration_since(held.refreshed_at)
        .as_secs_f64()
        .max(0.0);
    let wait = Duration::try_from_secs_f64(life * fraction).ok()?;
    // Registries that were attached together are not refreshed together for ever.
    let jitter = Jitter::of(&(&held.inputs, held.refreshed_at.as_nanosecond()));
    Some(jitter.spread(wait))
}

/// Counts one more failure. Registries that fail together do not retry together: the jitter follows from the inputs and
/// the time.
pub fn failed(
    now: Instants,
    inputs: &str,
    before: Option<&Failures>,
    retry_after: Option<Duration>,
) -> Failures {
    let count = before
        .filter(|before| before.inputs == inputs)
        .map_or(0, |before| before.count)
        .saturating_add(1);
    let jitter = Jitter::of(&(inputs, count, now.wall.as_nanosecond()));
    let wait = MINT_BACKOFF.delay(count, retry_after, jitter);
    Failures {
        inputs: inputs.to_owned(),
        count,
        retry_at: now.wall.saturating_add(wait).unwrap_or(Timestamp::MAX),
        wait,
        since: now.steady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::credentials::Written;
    use k8s_openapi::ByteString;
    use proptest::prelude::*;
    use std::sync::OnceLock;

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
            namespaces: None,
        }
    }

    /// The clocks of a machine that are right, so many seconds after the epoch.
    fn clocks(seconds: i64) -> Instants {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        Instants {
            wall: at(seconds),
            steady: *BEGIN.get_or_init(Instant::now) + Duration::from_secs(seconds.unsigned_abs()),
        }
    }

    fn listed(seconds: i64) -> Seen {
        Seen {
            at: clocks(seconds),
            written_at: Some(Written(None)),
        }
    }

    #[test]
    fn nothing_held_or_other_inputs_are_minted_at_once() {
        assert_eq!(plan(clocks(0), "a", None, 0.5, None), RefreshPlan::Mint);
        let other = held(0, Some(10_800));
        assert_eq!(
            plan(clocks(0), "b", Some((&other, listed(0))), 0.5, None),
            RefreshPlan::Mint
        );
        let failures = failed(clocks(0), "a", None, None);
        assert_eq!(
            plan(clocks(0), "b", None, 0.5, Some(&failures)),
            RefreshPlan::Mint,
            "a corrected Secret does not wait"
        );
    }

    #[test]
    fn a_credential_that_does_not_end_is_kept() {
        assert_eq!(
            plan(clocks(1 << 33), "a", Some((&held(0, None), listed(0))), 0.5, None),
            RefreshPlan::Wait(None)
        );
    }

    #[test]
    fn a_credential_of_the_future_is_minted_again() {
        for (refreshed_at, expected) in [
            (1_000, RefreshPlan::Wait(None)),
            (1_008, RefreshPlan::Wait(None)),
            (1_020, RefreshPlan::Mint),
        ] {
            let held = held(refreshed_at, None);
            assert_eq!(
                plan(clocks(1_000), "a", Some((&held, listed(1_000))), 0.5, None),
                expected
            );
            let seen = Seen {
                written_at: None,
                ..listed(1_000)
            };
            let plan = plan(clocks(1_000), "a", Some((&held, seen)), 0.5, None);
            assert_eq!(
                plan,
                RefreshPlan::Wait(None),
                "it came just now, whatever its maker's clock says"
            );
        }
    }

    #[test]
    fn mints_are_half_a_minute_apart_but_for_one_change() {
        let now = |seconds| clocks(seconds).steady;
        let left = |last, seconds, inputs| {
            interval_left(Some(last), now(seconds), inputs).map(|left| left.as_secs())
        };
        let first = LastAttempt::next(None, now(0), "a", true);
        assert_eq!(left(&first, 1, "a"), Some(29));
        assert_eq!(left(&first, 30, "a"), None);
        assert_eq!(left(&first, 1, "b"), None);
        let second = LastAttempt::next(Some(&first), now(1), "b", true);
        assert_eq!(left(&second, 2, "a"), Some(29));
        assert_eq!(left(&second, 2, "c"), Some(29));
        let third = LastAttempt::next(Some(&second), now(31), "c", true);
        assert_eq!(left(&third, 32, "d"), None);
        assert_eq!(
            RefreshPlan::Mint.not_before(Some(MINT_INTERVAL)),
            RefreshPlan::Wait(Some(MINT_INTERVAL))
        );
        assert_eq!(RefreshPlan::Mint.not_before(None), RefreshPlan::Mint);
        assert_eq!(
            RefreshPlan::Wait(None).not_before(Some(MINT_INTERVAL)),
            RefreshPlan::Wait(None)
        );
    }

    #[test]
    fn attempts_are_of_use_for_half_a_minute() {
        let begin = Instant::now();
        let now = |seconds| begin + Duration::from_secs(seconds);
        let minted = LastAttempt::next(None, now(0), "a", true);
        assert!(minted.is_of_use(now(0)) && minted.is_of_use(now(29)));
        assert!(!minted.is_of_use(now(30)));
        // A failure that is repeated counts from the first time, and its inputs from the last.
        let failed = LastAttempt::next(None, now(0), "a", false);
        let repeated = LastAttempt::next(Some(&failed), now(20), "a", false);
        assert!(repeated.is_of_use(now(40)));
        assert!(!repeated.is_of_use(now(50)));
    }

    #[test]
    fn a_credential_is_refreshed_at_half_its_life_or_as_set() {
        let spec = |fraction| CredentialSpec {
            refresh_fraction: fraction,
            ..CredentialSpec::default()
        };
        for (fraction, expected) in [(None, 0.5), (Some(0.2), 0.2)] {
            let found = super::fraction(Some(&spec(fraction)));
            assert!((found - expected).abs() < f64::EPSILON, "{found}");
        }
        assert!((super::fraction(None) - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn inputs_tried_often_have_no_others_forgotten() {
        let now = |seconds| clocks(seconds).steady;
        let first = LastAttempt::next(None, now(0), "a", false);
        let mut last = LastAttempt::next(Some(&first), now(40), "a", false);
        for second in 41..60 {
            last = LastAttempt::next(Some(&last), now(second), "b", false);
        }
        let left = interval_left(Some(&last), now(60), "a");
        assert_eq!(left, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_change_after_a_failure_is_the_one_that_is_early() {
        let now = |seconds| clocks(seconds).steady;
        let left = |before: &str, is_minted, inputs: &str| {
            let first = LastAttempt::next(None, now(0), before, is_minted);
            let second = LastAttempt::next(Some(&first), now(1), inputs, true);
            interval_left(Some(&second), now(2), "c")
        };
        for is_minted in [false, true] {
            assert_eq!(
                left("a", is_minted, "b"),
                Some(Duration::from_secs(29)),
                "{is_minted}"
            );
        }
        assert_eq!(
            left("a", false, "a"),
            None,
            "a failure that is repeated is no change"
        );
    }

    #[test]
    fn a_repeated_failure_is_as_early_as_it_was() {
        let now = |seconds| clocks(seconds).steady;
        let first = LastAttempt::next(None, now(0), "a", true);
        let early = LastAttempt::next(Some(&first), now(1), "b", false);
        let repeated = LastAttempt::next(Some(&early), now(3), "b", false);
        let left = interval_left(Some(&repeated), now(4), "c");
        assert_eq!(left, Some(Duration::from_secs(27)));
        // One that fails for long makes the next change no early one.
        let failed = LastAttempt::next(None, now(0), "a", false);
        let repeated = LastAttempt::next(Some(&failed), now(40), "a", false);
        let changed = LastAttempt::next(Some(&repeated), now(41), "b", true);
        assert_eq!(interval_left(Some(&changed), now(42), "c"), None);
    }

    #[test]
    fn a_failure_is_repeated_by_its_own_backoff() {
        let now = |seconds| clocks(seconds).steady;
        let failed = LastAttempt::next(None, now(0), "a", false);
        assert_eq!(interval_left(Some(&failed), now(2), "a"), None);
        let repeated = LastAttempt::next(Some(&failed), now(2), "a", false);
        assert_eq!(
            (repeated.at, repeated.is_early),
            (failed.at, failed.is_early),
            "which puts off no change"
        );
        let minted = LastAttempt::next(Some(&repeated), now(6), "a", true);
        let left = |seconds, inputs| interval_left(Some(&minted), now(seconds), inputs);
        assert_eq!(left(7, "a"), Some(Duration::from_secs(29)));
        assert_eq!(left(7, "b"), None, "the first change");
    }

    /// The seconds in which a registry is tried, and with which inputs, that has these inputs for a second each. Nothing works.
    fn attempts(inputs: impl IntoIterator<Item = u32>) -> Vec<(u64, u32)> {
        let (mut last, mut failures, mut attempts) = (None, None, Vec::new());
        for (second, number) in (0..).zip(inputs) {
            let (now, inputs) = (clocks(second), number.to_string());
            let planned = plan(now, &inputs, None, 0.5, failures.as_ref());
            if planned.not_before(interval_left(last.as_ref(), now.steady, &inputs)) == RefreshPlan::Mint {
                attempts.push((second.unsigned_abs(), number));
                last = Some(LastAttempt::next(last.as_ref(), now.steady, &inputs, false));
                failures = Some(super::failed(now, &inputs, failures.as_ref(), None));
            }
        }
        attempts
    }

    #[test]
    fn edits_in_a_loop_are_not_each_tried() {
        let once = attempts(std::iter::repeat_n(0, 3600)).len();
        assert!((15..25).contains(&once), "{once}");
        for different in [2, 3, 10, 3600] {
            let attempts = attempts((0..3600).map(|second| second % different)).len();
            // Two in each half a minute.
            assert!(attempts <= 3600 / 30 * 2 + 2, "{attempts} of {different}");
        }
    }

    #[test]
    fn two_wrong_identities_in_turn_cost_two_attempts() {
        let in_turn = [0].into_iter().chain(std::iter::repeat_n(1, 32));
        assert_eq!(attempts(in_turn), [(0, 0), (1, 1), (31, 1)]);
        let and_back = [0, 1].into_iter().chain(std::iter::repeat_n(0, 31));
        assert_eq!(attempts(and_back), [(0, 0), (1, 1), (31, 0)]);
    }

    #[test]
    fn inputs_that_were_repeated_wait_when_they_come_back() {
        // Tried again and again, until another one comes, which is not early, for two seconds.
        let before = std::iter::repeat_n(0, 60);
        let attempts = attempts(before.chain([1, 1]).chain(std::iter::repeat_n(0, 60)));
        let repeated = attempts.iter().rev().find(|(second, _)| *second < 60).unwrap().0;
        let back = attempts
            .iter()
            .find(|(second, number)| *second > 61 && *number == 0);
        assert!(back.unwrap().0 >= repeated + 30, "{attempts:?}");
    }

    #[test]
    fn failures_wait_longer_each_time_and_honor_retry_after() {
        let mut failures = None;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let next = failed(clocks(0), "a", failures.as_ref(), None);
            waits.push(next.retry_at.duration_since(at(0)).as_secs_f64());
            failures = Some(next);
        }
        for (wait, full) in waits
            .iter()
            .zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0])
        {
            assert!(*wait <= full && *wait >= full * 0.75, "{waits:?}");
        }
        let asked = |wait| failed(clocks(0), "a", None, Some(wait));
        let asked_for = |wait, least, most| {
            let retry_at = asked(wait).retry_at;
            assert!(at(least) <= retry_at && retry_at <= at(most), "{retry_at}");
        };
        asked_for(Duration::from_secs(77), 77, 97);
        asked_for(Duration::MAX, 3_600, 4_500);
        let failures = asked(Duration::from_secs(77));
        let held = held(0, Some(1));
        let plan = |now| plan(now, "a", Some((&held, listed(0))), 0.5, Some(&failures));
        assert!(matches!(plan(clocks(76)), RefreshPlan::Wait(Some(left)) if left >= Duration::from_secs(1)));
        assert_eq!(plan(clocks(97)), RefreshPlan::Mint);
        let set_back = Instants {
            wall: at(-100_000),
            ..clocks(97)
        };
        assert_eq!(
            plan(set_back),
            RefreshPlan::Mint,
            "a wall clock that is set back delays nothing"
        );
    }

    #[test]
    fn a_refresh_is_made_at_the_moment_that_it_is_due() {
        let held = held(0, Some(10_800));
        let wait = wait(&held, 0.5).unwrap();
        let at_age = |age: Duration| {
            let begin = clocks(0);
            let now = Instants {
                wall: begin.wall.checked_add(age).unwrap(),
                steady: begin.steady + age,
            };
            plan(now, "a", Some((&held, listed(0))), 0.5, None)
        };
        let nearly = Duration::from_millis(1);
        assert_eq!(
            at_age(wait.checked_sub(nearly).unwrap()),
            RefreshPlan::Wait(Some(nearly))
        );
        assert_eq!(at_age(wait), RefreshPlan::Mint);
    }

    #[test]
    fn inputs_that_mean_the_same_keep_their_interval() {
        let now = Instant::now();
        let minted = |inputs: &str| LastAttempt::next(None, now, inputs, true);
        let mut last = minted("a/1");
        last.rename("b/1", "b/2");
        assert_eq!(last, minted("a/1"), "of something else");
        last.rename("a/1", "a/2");
        assert_eq!(last, minted("a/2"));
        assert_eq!(interval_left(Some(&last), now, "a/2"), Some(MINT_INTERVAL));
    }

    #[test]
    fn registries_attached_together_are_refreshed_apart() {
        let waits: Vec<f64> = (0..1000)
            .map(|second| {
                let held = held(second, Some(second + 10_000));
                wait(&held, 0.5).unwrap().as_secs_f64() / 5_000.0
            })
            .collect();
        let (least, most) = (
            waits.iter().copied().fold(1.0, f64::min),
            waits.iter().copied().fold(0.0, f64::max),
        );
        assert!(
            (0.9..0.91).contains(&least) && (0.99..=1.0).contains(&most),
            "{least} to {most}"
        );
        let spread = waits.iter().filter(|wait| **wait < 0.95).count();
        assert!((400..600).contains(&spread), "{spread} are in the earlier half");
    }

    proptest! {
        #[test]
        fn any_edits_cost_few_attempts(edits in prop::collection::vec((0_u32..4, 1_usize..40), 1..40)) {
            let inputs = edits.iter().flat_map(|(number, seconds)| std::iter::repeat_n(*number, *seconds));
            let attempts = attempts(inputs);
            for (index, (second, _)) in attempts.iter().enumerate() {
                let window = attempts[index..].iter().take_while(|(later, _)| *later < second + 30);
                let window: Vec<_> = window.collect();
                let changes = window.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
                // One that waited for its turn, and one that is excepted.
                prop_assert!(changes <= 2, "{:?}", window);
                // 2, 4, 8 and 16 s, or up to a quarter sooner each, and the changes.
                prop_assert!(window.len() <= 7, "{:?}", window);
            }
        }

        #[test]
        fn a_refresh_is_due_at_its_fraction_or_a_little_before(life in 1_i32..1_000_000, fraction in 0.1..0.9_f64) {
            let held = held(1_000, Some(1_000 + i64::from(life)));
            let due = due(&held, fraction).unwrap().duration_since(at(1_000)).as_secs_f64();
            let whole = f64::from(life) * fraction;
            prop_assert!(due <= whole + 0.001 && due >= whole * 0.899, "{} of {}", due, whole);
        }
    }
}
