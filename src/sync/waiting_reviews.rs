//! Reviews that wait until a pull secret of their Pod is written. Admission bounds how many do, and for how long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::pair::Pair;

/// How long one is remembered: longer than a review waits.
const REMEMBERED_INTERVAL: Duration = Duration::from_secs(2);

/// Who waits for which pull secret.
#[derive(Debug, Default)]
pub(super) struct WaitingReviews(HashMap<Pair, Vec<(Instant, oneshot::Sender<()>)>>);

impl WaitingReviews {
    /// A review waits since now.
    pub(super) fn add(&mut self, pair: &Pair, review: oneshot::Sender<()>, now: Instant) {
        self.0.entry(pair.clone()).or_default().push((now, review));
    }

    /// Tells those that wait for a pull secret that it is written.
    pub(super) fn written(&mut self, pair: &Pair) {
        for (_, review) in self.0.remove(pair).into_iter().flatten() {
            // Nobody waiting any more is fine.
            let _ = review.send(());
        }
    }

    /// Tells them that it is not going to be written soon.
    pub(super) fn give_up(&mut self, pair: &Pair) {
        self.0.remove(pair);
    }

    /// Tells so those that wait in vain.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, reviews| {
            reviews.retain(|(since, _)| now.saturating_duration_since(*since) < REMEMBERED_INTERVAL);
            !reviews.is_empty()
        });
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
}
