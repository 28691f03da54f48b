//! Watches that fail: their waits, and what is reported about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::utils::Backoff as Waits;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::Instant;

use super::words::words;
use crate::base::backoff::{Backoff, Jitter};

/// The waits before a watch, or the list that it begins with, is tried again.
const WATCH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
/// The same while the API server does not answer at all, as when it restarts: an attempt costs it nothing then, and what a watch
/// misses grows until it is back.
const UNREACHABLE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(3));
/// How long a watch has to go without a failure before the waits start from the shortest one again. Longer than the
/// longest of them.
const STEADY_INTERVAL: Duration = Duration::from_mins(2);

/// Lets a watch wait after each failure, longer after each that follows.
pub(crate) fn with_backoff<T: Send>(
    watch: impl Stream<Item = watcher::Result<T>>,
) -> impl Stream<Item = watcher::Result<T>> {
    let waits = WatchBackoff::default();
    let is_unanswered = Arc::clone(&waits.is_unanswered);
    let watch = watch.inspect_err(move |error| {
        let is_unreachable = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => is_unreachable(error),
            watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => false,
        };
        is_unanswered.store(is_unreachable, Ordering::Relaxed);
    });
    watch.backoff(waits)
}

/// Whether the API server could not be reached. An answer that breaks off was one: it may be a long list, which costs as much again.
pub(crate) fn is_unreachable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_))
}

/// What a watch that never ends yields: errors are logged, with all that caused them, and tried again with growing waits.
pub(crate) fn followed<T: Send>(watch: impl Stream<Item = watcher::Result<T>>) -> impl Stream<Item = T> {
    with_backoff(watch).filter_map(async |item| item.inspect_err(tell).ok())
}

fn tell(error: &watcher::Error) {
    tracing::warn!(error = words(error), "a watch failed; it is restarted");
}

/// The growing waits of one watch.
///
/// Time without a failure shortens them, and not what the watch yields: a watcher yields the beginning of a list before it
/// asks for it, so that the waits of one whose lists are refused would never grow.
#[derive(Debug, Default)]
pub(crate) struct WatchBackoff {
    refused: u32,
    /// Those without an answer are counted for themselves: what an API server refuses that is back, it may accept in a moment.
    unanswered: u32,
    last: Option<Instant>,
    /// Whether the API server did not answer last.
    is_unanswered: Arc<AtomicBool>,
}

impl WatchBackoff {
    /// The wait after another failure.
    pub(crate) fn after(&mut self, is_unreachable: bool) -> Option<Duration> {
        self.is_unanswered.store(is_unreachable, Ordering::Relaxed);
        self.next()
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) >= STEADY_INTERVAL)
        {
            (self.refused, self.unanswered) = (0, 0);
        }
        self.last = Some(now);
        let (backoff, failures) = if self.is_unanswered.load(Ordering::Relaxed) {
            (UNREACHABLE_BACKOFF, &mut self.unanswered)
        } else {
            (WATCH_BACKOFF, &mut self.refused)
        };
        *failures = failures.saturating_add(1);
        Some(backoff.delay(*failures, None, Jitter::random()))
    }
}

impl Waits for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use kube::core::Status;
    use kube::runtime::utils::StreamBackoff;

    /// How long it takes until so many failures are seen, each after what a watcher yields before it lists.
    async fn waited(failures: usize) -> Duration {
        let begin = Instant::now();
        let refused = stream::iter([Ok("a list begins"), Err("forbidden")]).cycle();
        let watch = StreamBackoff::new(refused, WatchBackoff::default());
        let seen = watch
            .filter(|item| std::future::ready(item.is_err()))
            .take(failures);
        assert_eq!(seen.count().await, failures);
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn refused_lists_wait_longer_each_time() {
        let waited = waited(11).await;
        // 0.8, 1.6, 3.2, 6.4, 12.8, 25.6 and then 30 seconds, each up to a quarter shorter.
        let full = Duration::from_millis(800 + 1_600 + 3_200 + 6_400 + 12_800 + 25_600 + 4 * 30_000);
        assert!(waited <= full + Duration::from_millis(20), "{waited:?}");
        assert!(waited >= full.mul_f64(0.75), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_api_server_is_asked_again_soon() {
        let no_answer = || kube::Error::Service("connection refused".into());
        let refused = || kube::Error::Api(Box::new(Status::failure("storage is initializing", "")));
        let failed = |error| Err::<(), _>(watcher::Error::InitialListFailed(error));
        let unreachable = (0..20).map(|_| failed(no_answer()));
        let back = (0..2).map(|_| failed(refused()));
        let begin = Instant::now();
        let failures = with_backoff(stream::iter(unreachable.chain(back)));
        let at: Vec<_> = failures.map(|_| begin.elapsed()).collect().await;
        let waits: Vec<_> = at.windows(2).filter_map(|at| at[1].checked_sub(at[0])).collect();
        let longest = |waits: &[Duration]| waits.iter().max().copied().unwrap();
        assert!(longest(&waits[..20]) <= Duration::from_secs(3), "{waits:?}");
        assert!(waits[19] > Duration::from_secs(2), "{waits:?}");
        // What it says when it is back does not count as another failure of so many.
        assert!(waits[20] <= Duration::from_millis(801), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_was_steady_waits_shortly_again() {
        let mut waits = WatchBackoff::default();
        let long = waits.by_ref().take(10).last().unwrap();
        assert!(long > Duration::from_secs(20), "{long:?}");
        tokio::time::advance(STEADY_INTERVAL).await;
        let first = waits.next().unwrap();
        assert!(first <= Duration::from_millis(800), "{first:?}");
    }
}
