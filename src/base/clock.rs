//! The wall clock, as a parameter.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time. A parameter, so that tests need not wait.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A time without the parts of a second.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
