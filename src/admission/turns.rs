//! Calls to the API server that many reviews share: however many want to know something, it is asked a bounded number of
//! times a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, sleep_until};

/// How long a call can be joined after it began, by what arose before it.
const KEPT_INTERVAL: Duration = Duration::from_secs(1);

/// What a call brings in the end; nothing if it failed.
pub(super) type SharedAnswer<V> = Shared<BoxFuture<'static, Option<V>>>;

/// Gives calls their turns.
#[derive(Debug)]
pub(super) struct Turns<K, V: Clone>(Mutex<State<K, V>>);

#[derive(Debug)]
struct State<K, V: Clone> {
    /// When the next call may begin; none before the first one.
    next: Option<Instant>,
    /// The latest call for each thing that is asked for.
    calls: HashMap<K, Call<V>>,
}

#[derive(Debug)]
struct Call<V: Clone> {
    begins: Instant,
    answer: SharedAnswer<V>,
}

impl<K, V: Clone> Default for Turns<K, V> {
    fn default() -> Self {
        Self(Mutex::new(State {
            next: None,
            calls: HashMap::new(),
        }))
    }
}

impl<K, V> Turns<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone + Send + Sync + 'static,
{
    /// Joins a call for this that does not begin before `since`, or else makes one. Calls begin `spacing` apart,
    /// whatever they are for; nothing if there is no turn until the `deadline`. A call that was made ends whether or
    /// not anybody waits.
    pub(super) fn join<F>(
        &self,
        key: &K,
        since: Instant,
        deadline: Instant,
        spacing: Duration,
        call: impl FnOnce() -> F,
    ) -> Option<SharedAnswer<V>>
    where
        F: Future<Output = Option<V>> + Send + 'static,
    {
        let now = Instant::now();
        // No code panics while it holds the lock.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = state.calls.get(key).filter(|call| call.begins >= since) {
            return Some(joined.answer.clone());
        }
        let begins = state.next.map_or(now, |next| next.max(now));
        if begins >= deadline {
            return None;
        }
        state.next = Some(begins + spacing);
        state.calls.retain(|_, call| call.begins + KEPT_INTERVAL > now);
        let call = call();
        let made = tokio::spawn(async move {
            sleep_until(begins).await;
            call.await
        });
        let answer = async move { made.await.ok().flatten() }.boxed().shared();
        let joined = answer.clone();
        state.calls.insert(key.clone(), Call { begins, answer });
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const SPACING: Duration = Duration::from_millis(100);
    const BOUND: Duration = Duration::from_secs(1);
    const CALL: Duration = Duration::from_millis(10);

    #[derive(Default)]
    struct Server {
        turns: Turns<usize, usize>,
        calls: Arc<AtomicUsize>,
    }

    impl Server {
        /// The number of the call that answers a question that arises now.
        async fn ask(&self, key: usize) -> Option<usize> {
            let now = Instant::now();
            let calls = Arc::clone(&self.calls);
            let joined = self.turns.join(&key, now, now + BOUND, SPACING, || async move {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                sleep(CALL).await;
                Some(call)
            });
            joined?.await
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_ask_in_one_moment_share_a_call() {
        let server = Server::default();
        let answers = join_all((0..1_000).map(|_| server.ask(0))).await;
        assert!(answers.iter().all(|answer| *answer == Some(0)));
        assert_eq!(server.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_began_before_answers_nobody() {
        let server = Server::default();
        let (first, second) = tokio::join!(server.ask(0), async {
            advance(CALL / 2).await;
            server.ask(0).await
        });
        assert_eq!((first, second), (Some(0), Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_begin_a_spacing_apart() {
        let server = Arc::new(Server::default());
        let asked = (0..100_u32).map(|n| {
            let server = Arc::clone(&server);
            async move {
                sleep(CALL * n).await;
                server.ask(0).await
            }
        });
        assert!(join_all(asked).await.iter().all(Option::is_some));
        // A second of questions.
        assert!((10..=11).contains(&server.calls()), "{}", server.calls());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_a_turn_in_time_are_told_so() {
        let server = Server::default();
        let asked = join_all((0..1_000).map(|key| server.ask(key))).await;
        assert_eq!(asked.iter().flatten().count(), 10);
        assert_eq!(server.calls(), 10);
        assert!(server.turns.0.lock().unwrap().calls.len() <= 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_though_who_made_it_gave_up() {
        let server = Server::default();
        let (first, second) = tokio::join!(timeout(CALL / 2, server.ask(0)), server.ask(0));
        assert!(first.is_err());
        assert_eq!((second, server.calls()), (Some(0), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_remembered_for_their_interval() {
        let server = Server::default();
        let kept = || server.turns.0.lock().unwrap().calls.len();
        server.ask(0).await;
        advance(KEPT_INTERVAL.saturating_sub(CALL + SPACING / 2)).await;
        server.ask(1).await;
        assert_eq!(kept(), 2);
        advance((SPACING / 2).saturating_sub(CALL)).await;
        server.ask(2).await;
        assert_eq!(kept(), 2, "the first one is as old as the interval is long");
    }
}
