//! A fleet of clusters that refresh their credentials at one tenant, on a clock of its own: when each asks, what it is told, and
//! how long credentials are out of date. When to ask is decided by the program's own code.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use pullpass::base::clock::Instants;
use pullpass::sync::credentials::Seen;
use pullpass::sync::held_credential::HeldCredential;
use pullpass::sync::minting::refresh::{DEFAULT_FRACTION, Failures, RefreshPlan, failed, plan};
use serde::Serialize;

/// How long a refresh token of ACR is valid.
const LIFE: Duration = Duration::from_hours(3);
/// What Entra ID asks a client that it throttles to wait.
const RETRY_AFTER: Duration = Duration::from_mins(1);
const MINUTE: Duration = Duration::from_mins(1);

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Clusters, each with a leader of its own.
    pub(crate) clusters: u32,
    /// Registries that each of them mints for.
    pub(crate) registries: u32,
    /// Within how long all clusters are started, evenly.
    pub(crate) started_within: Duration,
    /// How many requests the tenant answers in a minute; as many as there are where nothing is said.
    pub(crate) limit: Option<u32>,
    /// When the tenant does not answer at all: from when on, and for how long.
    pub(crate) outage: Option<(Duration, Duration)>,
    /// How long it is looked at.
    pub(crate) lasts: Duration,
}

/// Its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) requests: u32,
    pub(crate) minted: u32,
    /// Requests that were told to wait.
    pub(crate) throttled: u32,
    /// Most requests in a minute: of the first life of a credential, of the last one, and of all time.
    pub(crate) first_peak: u32,
    pub(crate) last_peak: u32,
    pub(crate) peak: u32,
    /// Credentials that expired before they were replaced, and the longest time that one was out of date.
    pub(crate) expired: u32,
    pub(crate) longest_expired_seconds: u64,
    /// Most requests in a second, the first one aside.
    pub(crate) peak_of_a_second: u32,
    /// From the begin, or the end of the outage, until each registry that had failed by then has a credential.
    pub(crate) recovery_seconds: u64,
}

/// A registry of a cluster.
struct Minted {
    inputs: String,
    held: Option<(HeldCredential, Seen)>,
    failures: Option<Failures>,
    /// It has to have a credential before the fleet has recovered.
    is_awaited: bool,
}

/// Runs a scenario.
pub(crate) fn simulate(scenario: &Scenario) -> Outcome {
    let mut fleet = Fleet {
        scenario: *scenario,
        begin: Instants {
            wall: Timestamp::UNIX_EPOCH,
            steady: Instant::now(),
        },
        minutes: Vec::new(),
        second: (0, 0),
        outcome: Outcome::default(),
    };
    fleet.run();
    fleet.outcome
}

struct Fleet {
    scenario: Scenario,
    begin: Instants,
    /// Requests in each minute.
    minutes: Vec<u32>,
    /// The second that it is, and requests in it.
    second: (u64, u32),
    outcome: Outcome,
}

impl Fleet {
    fn run(&mut self) {
        let Scenario {
            clusters,
            registries,
            started_within,
            ..
        } = self.scenario;
        let mut all: Vec<_> = (0..clusters * registries)
            .map(|number| Minted {
                inputs: format!("{}/{}", number / registries, number % registries),
                held: None,
                failures: None,
                is_awaited: self.scenario.outage.is_none(),
            })
            .collect();
        // Those of a cluster begin together.
        let begin = |number: usize| {
            let cluster = u32::try_from(number).unwrap_or(u32::MAX) / registries;
            started_within * cluster / clusters
        };
        let mut turns: BinaryHeap<_> = (0..all.len())
            .map(|number| Reverse((begin(number), number)))
            .collect();
        while let Some(Reverse((time, number))) = turns.pop() {
            if time >= self.scenario.lasts {
                continue;
            }
            let Some(minted) = all.get_mut(number) else {
                continue;
            };
            if let Some(wait) = self.take_turn(time, minted) {
                turns.push(Reverse((time + wait, number)));
            }
        }
        let period = LIFE.as_secs() / MINUTE.as_secs();
        let period = usize::try_from(period)
            .unwrap_or(usize::MAX)
            .min(self.minutes.len());
        let peak = |minutes: &[u32]| minutes.iter().copied().max().unwrap_or_default();
        self.outcome.peak = peak(&self.minutes);
        self.outcome.first_peak = peak(self.minutes.get(..period).unwrap_or_default());
        let last = self.minutes.len() - period;
        self.outcome.last_peak = peak(self.minutes.get(last..).unwrap_or_default());
    }

    /// Does what there is to do for a registry; says when to look again.
    fn take_turn(&mut self, time: Duration, minted: &mut Minted) -> Option<Duration> {
        let now = self.at(time);
        let held = minted.held.as_ref().map(|(held, seen)| (held, *seen));
        match plan(
            now,
            &minted.inputs,
            held,
            DEFAULT_FRACTION,
            minted.failures.as_ref(),
        ) {
            RefreshPlan::Wait(wait) => wait,
            RefreshPlan::Mint => {
                match self.ask(time) {
                    Ok(()) => self.take(time, minted),
                    Err(retry_after) => {
                        minted.is_awaited |= self.is_out(time);
                        let before = minted.failures.as_ref();
                        minted.failures = Some(failed(now, &minted.inputs, before, retry_after));
                    }
                }
                Some(Duration::ZERO)
            }
        }
    }

    /// Asks the tenant for a token; where it refuses, it may say how long to wait.
    fn ask(&mut self, time: Duration) -> Result<(), Option<Duration>> {
        self.outcome.requests += 1;
        let minute = usize::try_from(time.as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX);
        if self.minutes.len() <= minute {
            self.minutes.resize(minute + 1, 0);
        }
        let asked = self.minutes.get_mut(minute).map_or(0, |asked| {
            *asked += 1;
            *asked
        });
        let of_this_second = if self.second.0 == time.as_secs() {
            self.second.1
        } else {
            0
        };
        self.second = (time.as_secs(), of_this_second + 1);
        if time.as_secs() > 0 {
            self.outcome.peak_of_a_second = self.outcome.peak_of_a_second.max(self.second.1);
        }
        if self.is_out(time) {
            return Err(None);
        }
        if self.scenario.limit.is_some_and(|limit| asked > limit) {
            self.outcome.throttled += 1;
            return Err(Some(RETRY_AFTER));
        }
        Ok(())
    }

    fn is_out(&self, time: Duration) -> bool {
        let outage = self.scenario.outage;
        outage.is_some_and(|(from, lasts)| time >= from && time < from + lasts)
    }

    fn take(&mut self, time: Duration, minted: &mut Minted) {
        self.outcome.minted += 1;
        let now = self.at(time);
        let expired = minted.held.as_ref().and_then(|(held, _)| held.expires_at);
        let expired = expired.and_then(|expired| Duration::try_from(now.wall.duration_since(expired)).ok());
        if let Some(expired) = expired.filter(|expired| !expired.is_zero()) {
            self.outcome.expired += 1;
            let longest = &mut self.outcome.longest_expired_seconds;
            *longest = expired.as_secs().max(*longest);
        }
        minted.failures = None;
        if std::mem::take(&mut minted.is_awaited) {
            let begin = self
                .scenario
                .outage
                .map_or(Duration::ZERO, |(from, lasts)| from + lasts);
            let recovery = &mut self.outcome.recovery_seconds;
            *recovery = time.saturating_sub(begin).as_secs().max(*recovery);
        }
        let seen = Seen {
            at: now,
            written_at: None,
        };
        let held = HeldCredential {
            docker_config: ByteString(Vec::new()),
            audience: None,
            refreshed_at: now.wall,
            expires_at: now.wall.checked_add(LIFE).ok(),
            inputs: minted.inputs.clone(),
            fingerprint: None,
            namespaces: None,
        };
        minted.held = Some((held, seen));
    }

    fn at(&self, time: Duration) -> Instants {
        Instants {
            wall: self.begin.wall.saturating_add(time).unwrap_or(Timestamp::MAX),
            steady: self.begin.steady + time,
        }
    }
}
