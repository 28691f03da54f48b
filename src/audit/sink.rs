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

/// How many lines these are. Every record is counted so: in bytes, which the compiler adds many at a time, as long as a byte has
/// room.
pub(super) fn count(lines: &[u8]) -> u64 {
    let parts = lines.chunks(usize::from(u8::MAX));
    let counts = parts.map(|part| part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
    counts.map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_any_number() {
        for length in (0..1_024).chain([65_536]) {
            let ends = vec![b'\n'; length];
            assert_eq!(count(&ends), length as u64);
            assert_eq!(count(&vec![b'x'; length]), 0);
            let mixed = b"x\n".repeat(length);
            assert_eq!(count(&mixed), length as u64);
        }
    }
}
