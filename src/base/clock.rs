//! The clocks of this machine: the wall clock as a parameter, and readings of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time. A parameter, so that tests need not wait.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A time without the parts of a second.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The monotonic clock, which tests control.
pub(crate) fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A reading of both clocks of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instants {
    /// The wall clock, which may be wrong, and may be set at any time.
    pub wall: Timestamp,
    /// The monotonic clock, which stops while a machine is suspended.
    pub steady: Instant,
}

impl Instants {
    /// Reads them.
    pub fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            steady: Instant::now(),
        }
    }

    /// The time since an earlier reading, by the clock that shows more.
    pub fn since(self, earlier: Self) -> Duration {
        let wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or_default();
        let steady = self.steady.saturating_duration_since(earlier.steady);
        wall.max(steady)
    }
}
