//! A fleet of clusters at one tenant (docs/scale.md), simulated: benches/fleet prints more of it.

mod fleet;

use std::time::Duration;

use fleet::{Scenario, simulate};

const CALM: Scenario = Scenario {
    clusters: 20,
    registries: 10,
    started_within: Duration::ZERO,
    limit: None,
    outage: None,
    lasts: Duration::from_hours(48),
};

#[test]
fn a_fleet_that_starts_together_drifts_apart() {
    let outcome = simulate(&CALM);
    assert_eq!(outcome.first_peak, 200, "{outcome:?}");
    assert!(outcome.last_peak <= 20, "{outcome:?}");
    assert_eq!(outcome.requests, outcome.minted, "{outcome:?}");
    assert_eq!(outcome.expired, 0, "{outcome:?}");
    assert_eq!(outcome, simulate(&CALM), "it depends on nothing else");
}

#[test]
fn an_outage_shorter_than_half_a_life_expires_nothing() {
    let with_outage = |minutes| {
        simulate(&Scenario {
            outage: Some((Duration::from_hours(24), Duration::from_mins(minutes))),
            ..CALM
        })
    };
    let short = with_outage(80);
    assert_eq!(short.expired, 0, "{short:?}");
    // The longest wait between two attempts.
    assert!(short.recovery_seconds <= 300, "{short:?}");
    assert_eq!(
        with_outage(84).expired,
        0,
        "what half of a life leaves, less one wait"
    );
    let longer = with_outage(100);
    assert!((1..200).contains(&longer.expired), "{longer:?}");
    let long = with_outage(180);
    assert_eq!(long.expired, 200, "{long:?}");
    // Eight within the first minutes of each, and then one in four to five minutes.
    let failed = (long.requests - long.minted) / 200;
    assert!((8 + 95 / 5..=8 + 180 / 4).contains(&failed), "{long:?}");
    assert!(long.recovery_seconds <= 300, "{long:?}");
}

#[test]
fn a_tenant_that_throttles_is_asked_once_a_minute_at_most() {
    let outcome = simulate(&Scenario {
        limit: Some(20),
        lasts: Duration::from_hours(3),
        ..CALM
    });
    // 200, and then those that were told to wait.
    let least = (1..=10).map(|minutes| 20 * minutes).sum::<u32>();
    assert!(outcome.throttled <= least, "{outcome:?}");
    assert!(outcome.minted >= 200, "{outcome:?}");
    assert_eq!(outcome.expired, 0, "{outcome:?}");
    // Leaders that are told to wait equally long do not ask again together.
    assert!(outcome.peak_of_a_second <= 180 / 8, "{outcome:?}");
    // Nobody knows when there is room: it takes less than twice what the limit would allow.
    assert!(
        (10 * 60..20 * 60).contains(&outcome.recovery_seconds),
        "{outcome:?}"
    );
}
