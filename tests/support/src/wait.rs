use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::loopback;

/// How often a condition is looked at: often enough not to be what a test waits for, seldom enough
/// to leave a small machine to what is being waited for.
const INTERVAL: Duration = Duration::from_millis(50);

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}: {reason}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look said.
    pub reason: String,
}

/// What a condition given to [`wait_for`] may return: `bool`, `Option` or `Result`.
pub trait Outcome {
    /// What is there once the condition holds.
    type Value;

    /// The value, or why there is none yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "not yet so".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing there yet".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Looks at a condition until it holds or the time is up; it is looked at least once.
///
/// The error carries what the last look said, so a condition that returns a `Result` explains a
/// failed test better than one that returns a `bool`.
pub fn wait_for<O: Outcome>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> O,
) -> Result<O::Value, TimedOut> {
    let begin = Instant::now();
    loop {
        match condition().outcome() {
            Ok(value) => return Ok(value),
            Err(reason) if begin.elapsed() >= timeout => {
                return Err(TimedOut {
                    what: what.to_owned(),
                    waited: begin.elapsed(),
                    reason,
                });
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

/// A loopback port that nothing listens on, and that this process has not been given before.
///
/// It lies below the range that the kernel gives to outgoing connections: a server that is
/// restarted on a port of that range can find it taken by a client that is retrying to reach it.
pub fn free_port() -> Result<u16, Error> {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    static START: OnceLock<u64> = OnceLock::new();
    static GIVEN: AtomicU16 = AtomicU16::new(0);

    // Processes that start together must not walk the same ports in step.
    let start = *START.get_or_init(|| RandomState::new().build_hasher().finish());
    for _ in 0..COUNT {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let offset = start.wrapping_add(u64::from(given)) % u64::from(COUNT);
        let Ok(offset) = u16::try_from(offset) else {
            continue;
        };
        let port = FIRST + offset;
        if TcpListener::bind(loopback::at(port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::NoFreePort)
}
