//! How fast large bodies are read.
//!
//! What is read over TLS takes the processor from reviews: uploads at full speed leave them a share of it that is as
//! small as uploads are many. So large bodies are read at a rate that takes a fraction of one core. It is shared by
//! the peers that use it, and a peer that used none of it for a while has some in advance: a large review that comes
//! alone waits for nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How much of the rate a peer may use in advance.
const ADVANCE: Duration = Duration::from_millis(500);

/// What the peers have used.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When what a peer has read would be read at its share of the rate. One that is past says nothing, so there are
    /// no more peers here than sent large bodies in the last moments.
    paid: HashMap<IpAddr, Instant>,
}

impl Pace {
    /// Adds what was read of a large body of a peer; gives how long its reader waits before it reads on.
    pub(super) fn read(&mut self, peer: IpAddr, bytes: usize, rate: usize, now: Instant) -> Duration {
        self.paid.retain(|_, paid| *paid > now);
        let paid = *self.paid.get(&peer).unwrap_or(&now);
        self.paid.insert(peer, paid);
        // Bytes of a piece and peers are few enough for 64 bits.
        let nanos = (bytes as u64)
            .saturating_mul(self.paid.len() as u64)
            .saturating_mul(1_000_000_000)
            / (rate as u64).max(1);
        let paid = paid + Duration::from_nanos(nanos);
        self.paid.insert(peer, paid);
        (paid - now).saturating_sub(ADVANCE)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const RATE: usize = 64 << 20;
    const PIECE: usize = 32 << 10;

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    /// How long so many uploads of each peer take, of which each reads on as soon as it may: the last of each peer.
    fn take(uploads: &[(u8, usize)], bytes: usize) -> HashMap<u8, Duration> {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut readers: Vec<_> = uploads
            .iter()
            .flat_map(|(peer, count)| std::iter::repeat_n((*peer, start, 0), *count))
            .collect();
        let mut ends = HashMap::new();
        while let Some((number, now, read)) = readers
            .iter_mut()
            .filter(|(_, _, read)| *read < bytes)
            .min_by_key(|(_, now, _)| *now)
        {
            *now += pace.read(peer(*number), PIECE, RATE, *now);
            *read += PIECE;
            ends.insert(*number, *now - start);
        }
        ends
    }

    #[test]
    fn the_largest_review_alone_waits_for_nothing() {
        assert_eq!(take(&[(1, 1)], 32 << 20)[&1], Duration::ZERO);
    }

    #[test]
    fn many_uploads_of_a_peer_share_the_rate() {
        let took = take(&[(1, 60)], 7 << 20)[&1];
        // 420 MiB at 64 a second, and half a second in advance.
        assert!((took.as_secs_f64() - 6.06).abs() < 0.1, "{took:?}");
    }

    #[test]
    fn a_large_review_beside_a_flood_has_its_peers_share() {
        let took = take(&[(1, 60), (2, 1)], 27 << 20);
        assert!(took[&2] < Duration::from_secs(1), "{took:?}");
        assert!(took[&1] > Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn a_peer_that_is_done_is_forgotten() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        for number in 0..200 {
            let now = start + Duration::from_secs(u64::from(number));
            assert_eq!(pace.read(peer(number), PIECE, RATE, now), Duration::ZERO);
        }
        assert_eq!(pace.paid.len(), 1);
    }
}
