//! Text that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

use crate::base::encoding::{EncodingError, decode};

/// A password, token or key in text form. It can't be printed or serialised, and its memory is wiped when it is
/// dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself, for the one place that has to send or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads what a file or a Secret holds, in UTF-8 or UTF-16 and without its byte order mark.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        decode(bytes).map(Self::from)
    }

    /// The text without white space and byte order marks around it, such as the newline that `echo` leaves in a Secret.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let is_around = |character: char| character.is_whitespace() || character == '\u{feff}';
        Self::from(self.0.trim_matches(is_around))
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_even_inside_other_types() {
        let secret = SecretText::from("hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    [redacted],\n)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn white_space_around_goes_and_inside_stays() {
        assert_eq!(
            SecretText::from(" hunter 2\r\n").trimmed(),
            SecretText::from("hunter 2")
        );
        assert_eq!(
            SecretText::from("\u{feff}hunter2\r\n").trimmed(),
            SecretText::from("hunter2")
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_secret() {
        let secret = SecretText::decode(b"\xef\xbb\xbfhunter2\r\n").unwrap();
        assert_eq!(secret.trimmed().expose(), "hunter2");
    }
}
