//! Reviews that wait until a pull secret of their Pod is written: few, and not for long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::pair::Pair;

/// How long one is remembered: longer than a review waits.
const REMEMBERED_INTERVAL: Duration = Duration::from_secs(2);

/// How many there are at most. Further ones do not wait.
const MAX_REVIEWS: usize = 4096;

/// Who waits for which pull secret.
#[derive(Debug, Default)]
pub(super) struct WaitingReviews {
    reviews: HashMap<Pair, Vec<(Instant, oneshot::Sender<()>)>>,
    count: usize,
}

impl WaitingReviews {
    /// A review waits since now, unless too many do.
    pub(super) fn add(&mut self, pair: &Pair, review: oneshot::Sender<()>, now: Instant) {
        if self.count < MAX_REVIEWS {
            self.reviews.entry(pair.clone()).or_default().push((now, review));
            self.count += 1;
        }
    }

    /// Tells those that wait for a pull secret that it is written.
    pub(super) fn written(&mut self, pair: &Pair) {
        for (_, review) in self.take(pair) {
            // Nobody waiting any more is fine.
            let _ = review.send(());
        }
    }

    /// Tells them that it is not going to be written soon.
    pub(super) fn give_up(&mut self, pair: &Pair) {
        self.take(pair);
    }

    /// Tells so those that wait in vain.
    pub(super) fn expire(&mut self, now: Instant) {
        self.reviews.retain(|_, reviews| {
            reviews.retain(|(since, _)| now.saturating_duration_since(*since) < REMEMBERED_INTERVAL);
            !reviews.is_empty()
        });
        self.count = self.reviews.values().map(Vec::len).sum();
    }

    fn take(&mut self, pair: &Pair) -> Vec<(Instant, oneshot::Sender<()>)> {
        let reviews = self.reviews.remove(pair).unwrap_or_default();
        self.count -= reviews.len();
        reviews
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_told_how_their_wait_ends() {
        let (mut reviews, begin) = (WaitingReviews::default(), Instant::now());
        let pair = |namespace: &str| (namespace.to_owned(), "mine".to_owned());
        let mut wait = |namespace: &str| {
            let (sender, receiver) = oneshot::channel();
            reviews.add(&pair(namespace), sender, begin);
            receiver
        };
        let (mut first, mut second) = (wait("apps"), wait("apps"));
        let (mut refused, mut forgotten) = (wait("refused"), wait("forgotten"));
        reviews.written(&pair("apps"));
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(()), Ok(())));
        reviews.give_up(&pair("refused"));
        assert_eq!(refused.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let end = begin + REMEMBERED_INTERVAL;
        reviews.expire(end.checked_sub(Duration::from_nanos(1)).unwrap());
        assert_eq!(forgotten.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        reviews.expire(end);
        assert_eq!(forgotten.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn too_many_reviews_do_not_wait() {
        let (mut reviews, begin) = (WaitingReviews::default(), Instant::now());
        let pair = |namespace: &str| (namespace.to_owned(), "mine".to_owned());
        let mut receivers = Vec::new();
        for number in 0..=MAX_REVIEWS {
            let (sender, receiver) = oneshot::channel();
            reviews.add(&pair(&(number % 2).to_string()), sender, begin);
            receivers.push(receiver);
        }
        let is_told = |receiver: &mut oneshot::Receiver<()>| {
            receiver.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert_eq!(
            receivers
                .iter_mut()
                .filter_map(|receiver| is_told(receiver).then_some(()))
                .count(),
            1
        );
        reviews.written(&pair("0"));
        assert_eq!(reviews.count, MAX_REVIEWS / 2);
        reviews.expire(begin + REMEMBERED_INTERVAL);
        assert_eq!(reviews.count, 0);
    }
}
