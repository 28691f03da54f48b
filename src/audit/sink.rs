//! What a destination of the audit log can do.

use std::io;

/// Takes lines to where they are kept. It may take its time.
pub(super) trait Sink: Send {
    /// Delivers whole lines, in order. What is not delivered when this returns is lost.
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Lost>;

    /// Opens the destination again: after a log rotation.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that were not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many.
    pub(super) lines: u64,
    /// Why, for a person.
    pub(super) why: String,
}

/// How many lines these are.
pub(super) fn count(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}
