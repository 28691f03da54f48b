//! What an Event can hold.

/// The longest note of an Event, in bytes.
pub const MAX_NOTE: usize = 1024;

/// As much of a message as an Event can hold. It is cut between two characters.
pub fn note(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(MAX_NOTE))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_to_what_an_event_holds() {
        assert_eq!(note("short"), "short");
        assert_eq!(note(&"é".repeat(MAX_NOTE)).len(), MAX_NOTE);
    }
}
