//! Pods whose creation is under way while something is changed that decides what becomes of them.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kube::Client;
use pullpass_test_support::{Login, wait_for};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::pods::{Answer, LONG_PAUSE, Pods, attempt, is_by_a_rule, lock};
use crate::world::{SOON, Test};

/// How many Pods are created concurrently.
const STREAMS: usize = 4;
/// How many Pods each stream begins after the change is made.
const LATER: usize = 5;

struct Race {
    client: Client,
    namespace: String,
    login: Login,
    /// How many Pods each stream has begun.
    begun: [AtomicUsize; STREAMS],
    /// When the API server has answered that the change is made.
    made: OnceLock<Instant>,
    /// The change can't be made.
    failed: AtomicBool,
}

struct Attempt {
    begun: Instant,
    ended: Instant,
    answer: Answer,
}

impl Pods {
    /// Creates Pods with images of this registry in this namespace before, while and after a change is made by which they get
    /// their pull secret. Until it is made a rule may refuse them; whenever one is admitted, it is to have its pull secret.
    pub fn race(&self, namespace: &str, login: &Login, change: impl FnOnce() -> Test) -> Test {
        let race = Arc::new(Race {
            client: self.shared.client.clone(),
            namespace: namespace.to_owned(),
            login: login.clone(),
            begun: Default::default(),
            made: OnceLock::new(),
            failed: AtomicBool::default(),
        });
        let streams = (0..STREAMS).map(|stream| self.runtime.spawn(create(Arc::clone(&race), stream)));
        let streams: Vec<_> = streams.collect();
        let race_it = || -> Result<(Instant, Instant), Box<dyn Error>> {
            wait_for("every stream to create Pods", SOON, || {
                race.begun.iter().all(|begun| begun.load(Ordering::Relaxed) > 1)
            })?;
            let begins = Instant::now();
            change()?;
            Ok((begins, *race.made.get_or_init(Instant::now)))
        };
        let made = race_it();
        if made.is_err() {
            race.failed.store(true, Ordering::Relaxed);
        }
        let mut attempts = Vec::new();
        for stream in streams {
            attempts.extend(self.runtime.block_on(async { timeout(SOON, stream).await })??);
        }
        let (begins, made) = made?;
        let is_raced =
            |attempt: &Attempt| attempt.answer.is_known() && attempt.begun <= made && attempt.ended >= begins;
        let raced = attempts.iter().filter(|attempt| is_raced(attempt)).count();
        if raced < STREAMS {
            return Err(format!("{raced} Pods were created while it changed").into());
        }
        lock(&self.shared.counts).raced += raced;
        for Attempt { begun, answer, .. } in attempts {
            if let Answer::Refused(text) = &answer
                && is_by_a_rule(text)
                && begun <= made
            {
                continue;
            }
            self.shared.count(&answer);
        }
        Ok(())
    }
}

/// Creates Pods until some were begun after the change.
async fn create(race: Arc<Race>, stream: usize) -> Vec<Attempt> {
    let (mut attempts, mut later) = (Vec::new(), 0);
    while later < LATER && !race.failed.load(Ordering::Relaxed) {
        if let Some(begun) = race.begun.get(stream) {
            begun.fetch_add(1, Ordering::Relaxed);
        }
        // Names are never used again: earlier Pods may be there still.
        let name = format!("race-{}-{stream}-{}", race.login.name, unique());
        loop {
            let begun = Instant::now();
            let is_later = race.made.get().is_some_and(|made| begun > *made);
            let answer = attempt(&race.client, &race.namespace, &race.login, &name, &json!({})).await;
            let is_known = answer.is_known();
            attempts.push(Attempt {
                begun,
                ended: Instant::now(),
                answer,
            });
            if is_known {
                later += usize::from(is_later);
                break;
            }
            if race.failed.load(Ordering::Relaxed) {
                break;
            }
            // The Pod may be there, without its pull secret.
            sleep(LONG_PAUSE).await;
        }
    }
    attempts
}

fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
