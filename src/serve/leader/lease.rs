//! Who holds the Lease, by the clocks of only one machine.
//!
//! No clock is compared with that of another machine. The leader counts from before its last renewal, and stops after
//! 10 seconds; another replica counts from after it first saw that renewal, and waits for 15. So whatever the wall
//! clocks are set to, the one has stopped before the other begins.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;

use crate::base::clock::Instants;

/// How long a Lease is good without being renewed.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader that can't renew it goes on leading. The rest is for clocks that do not run alike, and for what is under way.
const LEADING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the leader renews it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(4);

/// A Lease that is held here.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldLease {
    /// The beginning of the last renewal that succeeded.
    pub(super) renewed: Instants,
}

impl HeldLease {
    /// How long this one leads if it hears no more of the Lease; nothing when that is over.
    pub(super) fn left(self, now: Instants) -> Option<Duration> {
        LEADING_TIMEOUT
            .checked_sub(now.since(self.renewed))
            .filter(|left| !left.is_zero())
    }

    /// Whether it is time to renew it.
    pub(super) fn is_due(self, now: Instants) -> bool {
        now.since(self.renewed) >= RENEWAL_INTERVAL
    }
}

/// What somebody else's Lease looks like, and since when.
#[derive(Debug, Default)]
pub(super) struct ObservedLease {
    seen: Option<(LeaseSpec, Instant)>,
}

impl ObservedLease {
    /// Whether somebody else holds a Lease that looks like this now: it has an end, and has not stayed the same for as
    /// long as it lasts.
    pub(super) fn held_by_other(&mut self, spec: Option<&LeaseSpec>, identity: &str, now: Instant) -> bool {
        let lasts = spec.and_then(|spec| spec.renew_time.as_ref().and(spec.lease_duration_seconds));
        let is_held = holder(spec).is_some_and(|holder| holder != identity);
        let (Some(spec), Some(seconds), true) = (spec, lasts, is_held) else {
            self.seen = None;
            return false;
        };
        let since = match &self.seen {
            Some((known, since)) if known == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let lasts = Duration::from_secs(seconds.try_into().unwrap_or(0));
        now.saturating_duration_since(since) <= lasts
    }
}

/// Who holds it, if anybody does.
pub(super) fn holder(spec: Option<&LeaseSpec>) -> Option<&String> {
    spec?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    /// The clocks of one machine.
    struct Machine {
        began: Instant,
        /// How far its wall clock is ahead, in seconds.
        ahead: i64,
    }

    impl Machine {
        fn new(ahead: i64) -> Self {
            Self {
                began: Instant::now(),
                ahead,
            }
        }

        fn steady(&self, second: u64) -> Instant {
            self.began + Duration::from_secs(second)
        }

        fn at(&self, second: u64) -> Instants {
            let wall = i64::try_from(second).unwrap() + self.ahead;
            Instants {
                wall: Timestamp::from_second(wall).unwrap(),
                steady: self.steady(second),
            }
        }
    }

    fn held_by(holder: &str, renewed: Option<Instants>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: renewed.map(|renewed| MicroTime(renewed.wall)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_another_ones_until_it_ends() {
        let machine = Machine::new(0);
        let spec = held_by("other", Some(machine.at(100)));
        let mut observed = ObservedLease::default();
        assert!(observed.held_by_other(Some(&spec), "this", machine.steady(100)));
        assert!(observed.held_by_other(Some(&spec), "this", machine.steady(115)));
        assert!(!observed.held_by_other(Some(&spec), "this", machine.steady(116)));
        assert!(
            !ObservedLease::default().held_by_other(Some(&spec), "other", machine.steady(100)),
            "it is its own"
        );
        // The former holder is back.
        let renewed = held_by("other", Some(machine.at(117)));
        assert!(observed.held_by_other(Some(&renewed), "this", machine.steady(117)));
        assert!(observed.held_by_other(Some(&renewed), "this", machine.steady(132)));
        assert!(!observed.held_by_other(Some(&renewed), "this", machine.steady(133)));
    }

    #[test]
    fn a_lease_that_nobody_holds_or_that_has_no_end_is_free() {
        let machine = Machine::new(0);
        let held_by_other = |spec: Option<&LeaseSpec>| {
            let mut observed = ObservedLease::default();
            [100, 1000].map(|second| observed.held_by_other(spec, "this", machine.steady(second)))
        };
        assert_eq!(held_by_other(None), [false; 2]);
        assert_eq!(held_by_other(Some(&LeaseSpec::default())), [false; 2]);
        assert_eq!(
            held_by_other(Some(&held_by("", Some(machine.at(100))))),
            [false; 2]
        );
        assert_eq!(held_by_other(Some(&held_by("other", None))), [false; 2]);
        let forever = LeaseSpec {
            lease_duration_seconds: Some(i32::MAX),
            ..held_by("other", Some(machine.at(100)))
        };
        assert_eq!(held_by_other(Some(&forever)), [true; 2]);
        let ended = LeaseSpec {
            lease_duration_seconds: Some(-1),
            ..held_by("other", Some(machine.at(100)))
        };
        assert_eq!(held_by_other(Some(&ended)), [true, false]);
    }

    #[test]
    fn a_standby_waits_as_long_whatever_the_leaders_clock_says() {
        for ahead in [-86_400, -30, 0, 30, 86_400] {
            let other = Machine::new(0);
            let leader = Machine::new(ahead);
            let spec = held_by("leader", Some(leader.at(100)));
            let mut observed = ObservedLease::default();
            let looks = [100, 110, 115, 116].map(|second| {
                let now = other.steady(second);
                observed.held_by_other(Some(&spec), "this", now)
            });
            assert_eq!(looks, [true, true, true, false], "{ahead} seconds ahead");
        }
    }

    #[test]
    fn a_leader_stops_before_the_next_one_starts_on_any_clock() {
        let machine = Machine::new(86_400);
        let held = HeldLease {
            renewed: machine.at(100),
        };
        assert_eq!(held.left(machine.at(100)), Some(Duration::from_secs(10)));
        assert_eq!(held.left(machine.at(109)), Some(Duration::from_secs(1)));
        assert_eq!(held.left(machine.at(110)), None);
        // It is set back by an hour: what counts is the monotonic clock.
        let set_back = |second| Instants {
            wall: machine.at(100).wall - SignedDuration::from_hours(1),
            ..machine.at(second)
        };
        assert_eq!(held.left(set_back(109)), Some(Duration::from_secs(1)));
        assert_eq!(held.left(set_back(110)), None);
        assert!(!held.is_due(set_back(103)));
        assert!(
            held.is_due(set_back(104)),
            "the Lease would run out before the hour is over"
        );
        // The machine was suspended: what counts is the wall clock.
        let resumed = Instants {
            wall: machine.at(100).wall + SignedDuration::from_hours(1),
            ..machine.at(101)
        };
        assert_eq!(held.left(resumed), None);
        assert!(held.is_due(resumed));
    }
}
