//! The wall clock, as a parameter.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time. A parameter, so that tests need not wait.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
