//! Text that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// A password, token or key in text form. It can't be printed or serialised, and its memory is wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself, for the one place that has to send or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text without white space around it, such as the newline that `echo` leaves in a Secret.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        Self::from(self.0.trim())
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
    }
}
