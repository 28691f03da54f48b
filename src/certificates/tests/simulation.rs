//! Years of two replicas, two API servers and whatever happens to them, under clocks that are moved by hand.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;

use super::{HOST, begin, live, spoilt};
use crate::certificates::*;

const YEARS: i64 = 3;
/// Things take up to this long to be seen by everybody. Three such times in a row are a little less than the overlap: who has
/// not yet seen what changed may publish what was right before, and that is seen later still.
const LAG: i64 = 19 * 60;
/// The replicas' clocks are so many seconds ahead or behind: less than what is left of the overlap.
const SKEW: i64 = 60;
/// Within this time after a clock was set all is well, though each step may be followed by days in which nobody is there.
const SET: SignedDuration = SignedDuration::from_hours(45 * 24);

/// Chance, as proptest shrinks it: the numbers of one case.
struct Chance(VecDeque<u32>);

impl Chance {
    fn below(&mut self, bound: i64) -> i64 {
        let number = self.0.pop_front().unwrap_or(0);
        self.0
            .push_back(number.rotate_left(7).wrapping_mul(0x9e37_79b1) ^ 0x5bd1);
        i64::from(number) % bound
    }

    fn seconds(&mut self, bound: i64) -> SignedDuration {
        SignedDuration::from_secs(self.below(bound))
    }
}

/// Sees what others wrote, later and in order.
struct Delayed<T> {
    now: T,
    coming: VecDeque<(Timestamp, T)>,
}

impl<T> Delayed<T> {
    fn new(now: T) -> Self {
        Self {
            now,
            coming: VecDeque::new(),
        }
    }

    fn send(&mut self, at: Timestamp, what: T) {
        let last = self.coming.back().map_or(at, |(last, _)| *last);
        self.coming.push_back((at.max(last), what));
    }

    fn next(&self) -> Option<Timestamp> {
        self.coming.front().map(|(at, _)| *at)
    }

    /// One at a time, so that everything is checked in between.
    fn advance(&mut self, now: Timestamp) -> bool {
        match self.coming.pop_front_if(|(at, _)| *at <= now) {
            Some((_, what)) => {
                self.now = what;
                true
            }
            None => false,
        }
    }
}

struct Replica {
    /// How far its clock is ahead.
    ahead: SignedDuration,
    secret: Delayed<Option<Secret>>,
    live: Delayed<Live>,
    good: Option<CertificateState>,
    /// When it looks whether there is something to do.
    wakes: Timestamp,
}

struct World {
    now: Timestamp,
    version: u64,
    secret: Option<Secret>,
    live: Live,
    replicas: Vec<Replica>,
    api_servers: Vec<Delayed<Live>>,
    chance: Chance,
    changes: Vec<CertificateChange>,
    /// Whether nobody's clock is far from the others'. Otherwise nothing is promised.
    clocks_are_right: bool,
    /// What was verified before: only the time has to be looked at again, and no certificate outlives its authority.
    verified: RefCell<HashSet<(String, Vec<u8>)>>,
}

impl World {
    fn new(numbers: Vec<u32>) -> Self {
        let now = begin();
        let mut world = Self {
            now,
            version: 0,
            secret: None,
            live: live(""),
            replicas: Vec::new(),
            api_servers: vec![Delayed::new(live("")), Delayed::new(live(""))],
            chance: Chance(numbers.into()),
            changes: Vec::new(),
            clocks_are_right: true,
            verified: RefCell::default(),
        };
        for _ in 0..2 {
            let ahead = world.chance.seconds(2 * SKEW) - SignedDuration::from_secs(SKEW);
            world.replicas.push(Replica {
                ahead,
                secret: Delayed::new(None),
                live: Delayed::new(live("")),
                good: None,
                wakes: now,
            });
        }
        world
    }

    fn write(&mut self, secret: Option<Secret>) {
        self.version += 1;
        self.secret = secret.map(|mut secret| {
            secret.metadata.resource_version = Some(self.version.to_string());
            secret
        });
        for replica in &mut self.replicas {
            let at = self.now + self.chance.seconds(LAG);
            replica.secret.send(at, self.secret.clone());
        }
    }

    fn publish(&mut self, bundle: &str) {
        self.live = live(bundle);
        for api_server in &mut self.api_servers {
            let at = self.now + self.chance.seconds(LAG);
            api_server.send(at, self.live.clone());
        }
        for replica in &mut self.replicas {
            let at = self.now + self.chance.seconds(LAG);
            replica.live.send(at, self.live.clone());
        }
    }

    /// One replica does what it thinks is due; two may concurrently, when the Lease fails.
    fn act(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let now = self.now + replica.ahead;
        let held = Held::of(replica.secret.now.as_ref(), HOST, now);
        let plan = plan(
            &held,
            Some(&replica.live.now),
            replica.good.as_ref(),
            HOST,
            OVERLAP,
            now,
        );
        // It may be away for days, and then another one may be, too.
        let away = self.chance.seconds(5 * 24 * 3600);
        replica.wakes = match plan.action {
            CertificateAction::Nothing => self.now + plan.again.max(now).duration_since(now) + away / 10,
            _ if self.chance.below(8) == 0 => self.now + away,
            _ => self.now + SignedDuration::from_secs(1) + self.chance.seconds(600),
        };
        let known = replica.secret.now.clone();
        match plan.action {
            CertificateAction::Nothing => {}
            CertificateAction::Publish(bundle) => self.publish(&bundle),
            action => {
                // The API server takes nothing that was made from an old version.
                let version = |secret: &Option<Secret>| {
                    secret
                        .as_ref()
                        .map(|secret| secret.metadata.resource_version.clone())
                };
                if version(&known) != version(&self.secret) {
                    return;
                }
                if let CertificateAction::Change(_, change) = &action {
                    self.changes.push(*change);
                }
                let state = action.state(HOST, now).unwrap().unwrap();
                self.write(Some(state.secret("own")));
            }
        }
    }

    /// Takes what has arrived, one thing at a time.
    fn arrive(&mut self) {
        loop {
            let now = self.now;
            let mut moved = false;
            for api_server in &mut self.api_servers {
                moved |= api_server.advance(now);
            }
            for replica in &mut self.replicas {
                // What changes wakes it up.
                let soon = now + SignedDuration::from_secs(self.chance.below(600));
                if replica.live.advance(now) {
                    moved = true;
                    replica.wakes = replica.wakes.min(soon);
                }
                if replica.secret.advance(now) {
                    moved = true;
                    replica.wakes = replica.wakes.min(soon);
                    let now = now + replica.ahead;
                    if let Held::Whole(state) = Held::of(replica.secret.now.as_ref(), HOST, now) {
                        replica.good = Some(*state);
                    }
                }
            }
            if !moved {
                return;
            }
            self.check();
        }
    }

    /// Whatever is served is trusted by every API server; from the start on, when that is so for the first time.
    fn check(&self) {
        if !self.clocks_are_right || self.api_servers.iter().any(|seen| seen.now == live("")) {
            return;
        }
        for state in self.replicas.iter().filter_map(|replica| replica.good.as_ref()) {
            assert!(!state.leaf.validity().is_over(self.now), "at {}", self.now);
            for api_server in &self.api_servers {
                let bundle = &api_server.now.webhooks[0].bundle;
                let pair = (state.leaf.pem().to_owned(), bundle.clone());
                if !self.verified.borrow_mut().insert(pair) {
                    continue;
                }
                let trusted: Vec<_> = std::str::from_utf8(bundle)
                    .unwrap()
                    .split_inclusive("-----END CERTIFICATE-----\n")
                    .map(|pem| AuthorityCertificate::parse(pem, "ca.crt").unwrap())
                    .collect();
                state
                    .leaf
                    .verify(&trusted, HOST, self.now)
                    .unwrap_or_else(|error| panic!("at {}: {error}; after {:?}", self.now, self.changes));
            }
        }
    }

    fn next_event(&self) -> Timestamp {
        let seen = self.api_servers.iter().filter_map(Delayed::next);
        let replicas = self.replicas.iter().flat_map(|replica| {
            let arrivals = [replica.secret.next(), replica.live.next()];
            arrivals.into_iter().flatten().chain([replica.wakes])
        });
        seen.chain(replicas).min().unwrap_or(self.now).max(self.now)
    }

    /// One event. What makes no progress for ever would be an endless loop.
    fn step(&mut self) {
        self.now = self.next_event();
        self.arrive();
        for index in 0..self.replicas.len() {
            if self.replicas[index].wakes <= self.now {
                self.act(index);
                self.check();
            }
        }
    }

    /// A replica dies and comes back: it knows nothing but what the cluster holds.
    fn restart(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.secret = Delayed::new(self.secret.clone());
        replica.live = Delayed::new(self.live.clone());
        replica.wakes = self.now;
        if let Held::Whole(state) = Held::of(self.secret.as_ref(), HOST, self.now + replica.ahead) {
            replica.good = Some(*state);
        }
    }

    /// What the Secret holds, when it is published and nothing is under way.
    fn at_rest(&self) -> Option<CertificateState> {
        match Held::of(self.secret.as_ref(), HOST, self.now) {
            Held::Whole(state)
                if self.live.publishes(&state.bundle())
                    && state.next.is_none()
                    && state.previous.is_none() =>
            {
                Some(*state)
            }
            _ => None,
        }
    }

    fn is_whole(&self) -> bool {
        matches!(Held::of(self.secret.as_ref(), HOST, self.now), Held::Whole(_))
    }
}

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn at_no_instant_something_is_served_that_is_not_trusted(numbers in numbers()) {
        let mut world = World::new(numbers);
        let end = begin() + SignedDuration::from_hours(24 * 365 * YEARS);
        let mut spoilt_at = 0;
        while world.now < end {
            world.step();
            if world.is_whole() {
                // A Secret that is spoilt while the only ones who know it die can't be repaired without a gap.
                if world.chance.below(20) == 0 {
                    let index = usize::try_from(world.chance.below(2)).unwrap();
                    world.restart(index);
                } else if world.chance.below(40) == 0
                    && world.replicas.iter().all(|replica| replica.secret.coming.is_empty())
                    && let Some(state) = world.replicas[0].good.clone()
                {
                    let mut ways: Vec<Option<Secret>> =
                        spoilt(&state).into_iter().map(|(_, secret)| Some(secret)).collect();
                    ways.push(None);
                    spoilt_at += 1;
                    let way = spoilt_at % ways.len();
                    world.write(ways.swap_remove(way));
                }
            }
        }
        let count = |change| world.changes.iter().filter(|&&done| done == change).count();
        prop_assert!(count(CertificateChange::Promote) >= 3, "{:?}", world.changes);
        prop_assert!(count(CertificateChange::DropPrevious) >= 3, "{:?}", world.changes);
        prop_assert!(count(CertificateChange::RenewLeaf) >= 4, "{:?}", world.changes);
        prop_assert!(world.changes.len() < 400, "{}: {:?}", world.changes.len(), world.changes);
    }

    #[test]
    fn any_disorder_comes_to_rest_published_and_whole(
        numbers in numbers(),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
        entry in proptest::sample::select(vec![
            "ca.crt", "ca.key", "tls.crt", "tls.key", "next-ca.crt", "next-ca.key", "previous-ca.crt", "stray",
        ]),
        days in 0..400_i64,
    ) {
        let mut world = World::new(numbers);
        for _ in 0..40 {
            world.step();
        }
        let mut secret = world.secret.clone().unwrap_or_default();
        secret.data.get_or_insert_default().insert(entry.to_owned(), ByteString(garbage));
        world.write(Some(secret));
        world.publish("garbage");
        world.now += SignedDuration::from_hours(24 * days);
        for index in 0..2 {
            world.restart(index);
        }
        // Nobody knows more than the cluster does.
        for replica in &mut world.replicas {
            replica.good = None;
        }
        world.api_servers.clear();
        let rested = (0..200).any(|_| {
            world.step();
            world.at_rest().is_some()
        });
        prop_assert!(rested, "{:?}", world.changes);
    }

    #[test]
    fn certificates_of_a_wrong_clock_are_replaced_once_it_is_set(
        numbers in numbers(),
        hours in proptest::sample::select(vec![-9600, -720, -2, -1, 1, 2, 24, 720, 1500, 9600]),
        steps in 1..40,
        sets_all in any::<bool>(),
    ) {
        let mut world = World::new(numbers);
        world.clocks_are_right = false;
        let wrong = SignedDuration::from_hours(hours);
        world.replicas[0].ahead = wrong;
        if sets_all {
            world.replicas[1].ahead = wrong;
        }
        for _ in 0..steps {
            world.step();
        }
        for replica in &mut world.replicas {
            replica.ahead = SignedDuration::ZERO;
            replica.wakes = world.now;
        }
        let end = world.now + SET;
        let mut accepted = false;
        while !accepted && world.now < end {
            world.step();
            accepted = world.at_rest().is_some_and(|state| {
                let validities = [state.leaf.validity(), state.authority.certificate().validity()];
                world.now < end && validities.iter().all(|validity| validity.from <= world.now)
            });
        }
        prop_assert!(accepted, "{:?}", world.changes);
    }
}
