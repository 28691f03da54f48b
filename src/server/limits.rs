//! How much of a listener clients may use.

use std::time::Duration;

/// What clients may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the TLS handshake, and for the first request's headers.
    pub header_timeout: Duration,
    /// Between two requests of a connection, the headers of the second included. The API server ends a
    /// connection that was idle for 90 seconds; where this end is sooner, a review that is just being sent is
    /// lost, because a POST is not sent again.
    pub idle_timeout: Duration,
    /// For requests that are still being answered when the server shuts down.
    pub drain_timeout: Duration,
    /// The number of open connections. Each may use some 40 KiB, and 4 KiB for each stream.
    pub connections: usize,
    /// How many requests of a connection are answered at the same time, where it is HTTP/2. An API server
    /// that has more opens further connections.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(2),
            drain_timeout: Duration::from_secs(15),
            connections: 512,
            streams: 64,
        }
    }
}
