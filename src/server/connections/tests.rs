use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;

const NEW: u8 = 1;
const OTHER: u8 = 2;

fn peer(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// Connections that were opened one after the other, a second apart.
struct Opened {
    start: Instant,
    open_connections: Vec<OpenConnection>,
}

impl Opened {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            open_connections: Vec::new(),
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// A connection that never had a review answered; gives its id.
    fn open(&mut self, from: u8) -> u64 {
        let id = self.open_connections.len() as u64;
        self.open_connections.push(OpenConnection {
            id,
            peer: peer(from),
            usefulness: Usefulness::None,
            used: self.at(id),
        });
        id
    }

    /// One that had a review answered and was used last that many seconds after the start.
    fn useful(&mut self, from: u8, seconds: u64) -> u64 {
        let id = self.open(from);
        let used = self.at(seconds);
        let connection = self.open_connections.last_mut().unwrap();
        (connection.usefulness, connection.used) = (Usefulness::Answered, used);
        id
    }

    fn ends(&self, few: usize) -> Option<u64> {
        least_useful(peer(NEW), &self.open_connections, few)
    }
}

#[test]
fn the_peer_with_the_most_connections_loses_one() {
    let mut opened = Opened::new();
    opened.open(NEW);
    let first = opened.open(OTHER);
    opened.open(OTHER);
    opened.open(OTHER);
    assert_eq!(opened.ends(0), Some(first));
}

#[test]
fn a_connection_without_an_answered_review_ends_first() {
    let mut opened = Opened::new();
    opened.useful(NEW, 10);
    let useless = opened.open(NEW);
    opened.useful(NEW, 20);
    assert_eq!(opened.ends(0), Some(useless));
}

#[test]
fn of_useful_ones_the_longest_unused_ends() {
    let mut opened = Opened::new();
    opened.useful(NEW, 30);
    let unused = opened.useful(NEW, 20);
    assert_eq!(opened.ends(0), Some(unused));
}

#[test]
fn another_peer_with_more_loses_even_what_is_useful() {
    let mut opened = Opened::new();
    opened.useful(NEW, 1);
    let oldest = opened.useful(OTHER, 10);
    opened.useful(OTHER, 20);
    opened.useful(OTHER, 30);
    assert_eq!(opened.ends(0), Some(oldest));
}

#[test]
fn many_peers_with_few_connections_lose_a_useless_one_first() {
    let mut opened = Opened::new();
    for from in 2..60 {
        opened.useful(from, 10);
    }
    let useless = opened.open(70);
    assert_eq!(opened.ends(8), Some(useless));
}

#[test]
fn many_peers_with_useful_connections_refuse_no_newcomer() {
    let mut opened = Opened::new();
    let unused = opened.useful(2, 10);
    for from in 3..60 {
        opened.useful(from, 20);
    }
    assert_eq!(opened.ends(8), Some(unused));
}

/// Addresses without end that never ask for a review.
#[test]
fn newcomers_displace_each_other_before_what_is_useful() {
    let connections = Connections::new(64, None);
    let useful: Vec<_> = (0..64)
        .map(|from| {
            let place = connections.admit(peer(from)).place;
            place.connection.answered();
            place
        })
        .collect();
    let flood: Vec<_> = (64..=255)
        .map(|from| connections.admit(peer(from)).place)
        .collect();
    // Some newcomers are spared, and no more.
    assert_eq!(left(&connections, &useful), 64 - 64 / SPARED - 1);
    drop((useful, flood));
}

fn left(connections: &Connections, places: &[Place]) -> usize {
    let open = connections.open();
    let is_open = |place: &&Place| open.by_id.contains_key(&place.id);
    places.iter().filter(is_open).count()
}

/// Somebody has 64 addresses that each had a review answered, and keeps connecting from them.
#[tokio::test(start_paused = true)]
async fn a_newcomer_has_time_for_its_first_review() {
    let connections = Connections::new(64, None);
    let mut others: Vec<_> = (0..64)
        .map(|from| {
            let place = connections.admit(peer(100 + from)).place;
            place.connection.answered();
            place
        })
        .collect();
    let newcomer = connections.admit(peer(NEW)).place;
    let another = |from: usize| Ipv4Addr::new(10, 0, 1, u8::try_from(from).unwrap()).into();
    for from in 1..=64 / SPARED {
        others.push(connections.admit(another(from)).place);
        assert_eq!(left(&connections, std::slice::from_ref(&newcomer)), 1, "{from}");
    }
    // One that has an answer is as good as theirs, and newer.
    newcomer.connection.answered();
    others.extend((100..150).map(|from| connections.admit(another(from)).place));
    assert_eq!(left(&connections, std::slice::from_ref(&newcomer)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_review_is_spared_for_a_second() {
    let connections = Connections::new(64, None);
    let useful: Vec<_> = (0..63)
        .map(|from| {
            let place = connections.admit(peer(100 + from)).place;
            place.connection.answered();
            place
        })
        .collect();
    let newcomer = [connections.admit(peer(NEW)).place];
    tokio::time::advance(SPARED_INTERVAL).await;
    let next = connections.admit(peer(OTHER)).place;
    assert_eq!(
        (left(&connections, &newcomer), left(&connections, &useful)),
        (0, 63)
    );
    drop(next);
}

#[test]
fn a_network_of_ipv6_is_one_peer() {
    let address = |text: &str| peer_of(text.parse().unwrap());
    assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:0:0:2"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    let connections = Connections::new(16, None);
    let other = connections.admit(peer(OTHER)).place;
    let flood: Vec<_> = (0..100_u128)
        .map(|host| Ipv6Addr::from_bits((0x2001_0db8 << 96) | host).into())
        .map(|address| connections.admit(address).place)
        .collect();
    assert_eq!(left(&connections, std::slice::from_ref(&other)), 1);
    drop((other, flood));
}

/// An API server behind the address of somebody who floods the port.
#[test]
fn a_useful_connection_outlives_a_flood_from_its_own_address() {
    let connections = Connections::new(64, None);
    let useful = connections.admit(peer(NEW)).place;
    useful.connection.answered();
    let mut flood: Vec<_> = (0..1000).map(|_| connections.admit(peer(NEW)).place).collect();
    assert!(connections.open().by_id.contains_key(&useful.id));
    assert_eq!(connections.open().by_id.len(), 64);
    let newcomer = connections.admit(peer(NEW)).place;
    flood.extend((0..62).map(|_| connections.admit(peer(NEW)).place));
    assert!(
        connections.open().by_id.contains_key(&newcomer.id),
        "a new one has the time that a whole limit of others takes"
    );
    drop((flood, newcomer, useful));
    assert!(connections.open().by_id.is_empty());
}

#[test]
fn an_address_is_one_peer_in_both_of_its_forms() {
    let connections = Connections::new(2, None);
    let place = connections
        .admit(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into())
        .place;
    assert_eq!(place.connection.peer, IpAddr::from(Ipv4Addr::LOCALHOST));
}
