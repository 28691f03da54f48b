//! How a message says what to do about what it tells: in statuses, Events and errors alike, so that it can be read back.

/// What stands between a cause and the advice.
const WHAT_TO_DO: &str = ". What to do: ";

/// A cause with the advice that there is about it.
pub fn with_advice(cause: &str, advice: Option<&str>) -> String {
    match advice {
        // Entra's own sentences end in a full stop, ours do not.
        Some(advice) => format!("{}{WHAT_TO_DO}{advice}", cause.trim_end_matches('.')),
        None => cause.to_owned(),
    }
}

/// A message, parted into the cause and the advice.
pub fn parted(message: &str) -> (&str, Option<&str>) {
    match message.split_once(WHAT_TO_DO) {
        Some((cause, advice)) => (cause, Some(advice)),
        None => (message, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_parted_as_it_was_joined() {
        let message = with_advice("it was refused.", Some("ask again"));
        assert_eq!(message, "it was refused. What to do: ask again");
        assert_eq!(parted(&message), ("it was refused", Some("ask again")));
        assert_eq!(with_advice("it was refused.", None), "it was refused.");
        assert_eq!(parted("it was refused."), ("it was refused.", None));
    }
}
