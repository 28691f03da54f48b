use std::net::Ipv4Addr;

use super::*;

const LIMITS: BodyLimits = BodyLimits {
    largest: 400,
    small: 10,
    all_small: 40,
    all_large: 800,
    idle_timeout: Duration::from_secs(5),
    read_timeout: Duration::from_secs(30),
};

fn peer(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// Reservations, under a clock that the test sets.
struct World {
    reserved: Reserved,
    start: Instant,
    millis: u64,
    handles: HashMap<u64, AbortHandle>,
}

impl World {
    fn new() -> Self {
        Self {
            reserved: Reserved::default(),
            start: Instant::now(),
            millis: 0,
            handles: HashMap::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.millis)
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.millis += millis;
        self
    }

    fn enter(&mut self, from: u8, bytes: usize) -> Result<u64, Full> {
        let (handle, _) = AbortHandle::new_pair();
        let now = self.now();
        let id = self.reserved.enter(peer(from), Some(handle.clone()), now);
        self.handles.insert(id, handle);
        self.grow(id, bytes).map(|()| id)
    }

    fn grow(&mut self, id: u64, bytes: usize) -> Result<(), Full> {
        let now = self.now();
        let grown = self.reserved.grow(&LIMITS, id, bytes, now);
        if grown.is_err() {
            // As the reader does, who gives up.
            self.reserved.leave(id, LIMITS.small);
        }
        let sum = |is_small: bool| -> usize {
            let bodies = self.reserved.bodies.values();
            bodies
                .map(|body| body.bytes)
                .filter(|bytes| (*bytes <= LIMITS.small) == is_small)
                .sum()
        };
        assert_eq!(
            (self.reserved.small, self.reserved.large),
            (sum(true), sum(false))
        );
        assert!(self.reserved.small <= LIMITS.all_small && self.reserved.large <= LIMITS.all_large);
        grown
    }

    /// Which bodies were ended.
    fn ended(&self) -> Vec<u64> {
        let mut ended: Vec<_> = self
            .handles
            .iter()
            .filter(|(_, handle)| handle.is_aborted())
            .map(|(id, _)| *id)
            .collect();
        ended.sort_unstable();
        ended
    }
}

#[test]
fn large_bodies_take_no_room_from_small_ones() {
    let mut world = World::new();
    world.enter(1, 400).unwrap();
    world.enter(1, 400).unwrap();
    assert_eq!(world.enter(1, 400), Err(Full), "no third one");
    for _ in 0..4 {
        world.enter(1, 10).unwrap();
    }
    assert!(world.ended().is_empty());
}

#[test]
fn a_body_that_becomes_large_leaves_the_small_ones() {
    let mut world = World::new();
    let growing = world.enter(1, 10).unwrap();
    world.grow(growing, 11).unwrap();
    assert_eq!((world.reserved.small, world.reserved.large), (0, 11));
    world.reserved.leave(growing, LIMITS.small);
    assert_eq!((world.reserved.small, world.reserved.large), (0, 0));
}

#[test]
fn a_body_that_stopped_arriving_is_ended_first() {
    let mut world = World::new();
    let stalled = world.enter(1, 400).unwrap();
    let moving = world.after(200).enter(2, 400).unwrap();
    let third = world.after(50).enter(3, 400).unwrap();
    assert_eq!(world.ended(), [stalled]);
    world.grow(moving, 400).unwrap();
    world.grow(third, 400).unwrap();
}

#[test]
fn of_many_that_stopped_the_longest_ago_ends() {
    let mut world = World::new();
    let bodies: Vec<_> = (0..4).map(|_| world.after(10).enter(1, 10).unwrap()).collect();
    world.grow(bodies[0], 10).unwrap();
    world.after(1000).enter(2, 10).unwrap();
    assert_eq!(world.ended(), [bodies[1]]);
}

#[test]
fn a_peer_that_holds_more_makes_room_for_one_that_holds_less() {
    let mut world = World::new();
    let first = world.enter(1, 390).unwrap();
    world.enter(1, 390).unwrap();
    let other = world.enter(2, 100).unwrap();
    assert_eq!(world.ended(), [first]);
    world.grow(other, 400).unwrap();
    assert_eq!(world.ended(), [first], "there is room for the two");
}

#[test]
fn large_bodies_of_one_peer_do_not_end_each_other() {
    let mut world = World::new();
    let first = world.enter(1, 300).unwrap();
    world.enter(1, 400).unwrap();
    assert_eq!(world.enter(1, 200), Err(Full));
    world.grow(first, 400).unwrap();
    assert!(world.ended().is_empty());
}

#[test]
fn small_bodies_of_one_peer_end_the_oldest() {
    let mut world = World::new();
    let bodies: Vec<_> = (0..4).map(|_| world.after(1).enter(1, 10).unwrap()).collect();
    world.after(1).enter(1, 10).unwrap();
    assert_eq!(world.ended(), [bodies[0]]);
}

#[test]
fn a_complete_body_is_not_ended() {
    let mut world = World::new();
    let bodies: Vec<_> = (0..4).map(|_| world.after(1).enter(1, 10).unwrap()).collect();
    for id in &bodies {
        world.reserved.bodies.get_mut(id).unwrap().arriving = None;
    }
    assert_eq!(world.after(1000).enter(2, 10), Err(Full));
    assert!(world.ended().is_empty());
}

#[test]
fn a_small_body_makes_room_although_it_is_of_the_only_peer() {
    let mut world = World::new();
    for _ in 0..1000 {
        world.after(1).enter(1, 10).unwrap();
    }
    assert_eq!(world.ended().len(), 996);
}

#[test]
fn two_of_the_largest_fit_as_shipped() {
    let limits = BodyLimits::default();
    assert!(limits.all_large >= 2 * limits.largest);
    assert!(limits.small >= FIRST && limits.all_small >= 100 * limits.small);
    let budget = Arc::new(Budget::new(limits));
    let reservation = budget.enter(peer(1), AbortHandle::new_pair().0).unwrap();
    reservation.grow(limits.largest).unwrap();
    drop(reservation);
    assert_eq!(budget.with(|reserved| (reserved.small, reserved.large)), (0, 0));
}

#[test]
fn a_complete_body_has_its_room_or_none() {
    let limits = BodyLimits {
        small: FIRST,
        all_small: 2 * FIRST,
        ..BodyLimits::default()
    };
    let budget = Arc::new(Budget::new(limits));
    let kept = [1, 2].map(|from| budget.enter_complete(peer(from), 10).unwrap());
    // Neither of them arrives, so that there is none to be ended.
    assert_eq!(budget.enter_complete(peer(3), 10).unwrap_err(), Full);
    let taken = || budget.with(|reserved| (reserved.bodies.len(), reserved.small));
    assert_eq!(taken(), (2, 2 * FIRST));
    drop(kept);
    assert_eq!(taken(), (0, 0));
}
