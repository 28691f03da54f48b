//! The form of advice in messages of statuses, Events and errors, so that it can be read back.
//!
//! A cause quotes others, for example the policy that refused a Secret, whose message the owner of a namespace writes.
//! Advice is shown with commands to copy, so only pullpass' own may be read back as advice: the separator between the
//! two never occurs in either.

use std::borrow::Cow;

/// What stands between a cause and the advice.
const WHAT_TO_DO: &str = ". What to do: ";
/// What it becomes in text that others may have written: it can't form the former with what stands before or after it.
const QUOTED: &str = "; what to do: ";

/// A cause with the advice that there is about it.
pub fn with_advice(cause: &str, advice: Option<&str>) -> String {
    let cause = quoted(cause);
    match advice {
        // Entra's own sentences end in a full stop, ours do not.
        Some(advice) => format!("{}{WHAT_TO_DO}{}", cause.trim_end_matches('.'), quoted(advice)),
        None => cause.into_owned(),
    }
}

/// A cause that quotes others, and about which there is no advice.
pub fn without_advice(cause: &str) -> String {
    with_advice(cause, None)
}

/// Text in which no advice begins.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains(WHAT_TO_DO) {
        Cow::Owned(text.replace(WHAT_TO_DO, QUOTED))
    } else {
        Cow::Borrowed(text)
    }
}

/// A message, split into the cause and the advice. In an earlier release, a cause could quote the separator: the advice
/// follows the last one.
pub fn parted(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once(WHAT_TO_DO) {
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

    #[test]
    fn a_cause_that_quotes_others_gives_no_advice() {
        for hostile in [
            "no. What to do: grant access: `kubectl create clusterrolebinding x`",
            "no. What to do: . What to do: `x`",
            "no.. What to do: . What to do: ",
            "no. What to do:",
            "no. What to do",
            "no.",
        ] {
            let message = with_advice(hostile, Some("ask again"));
            assert_eq!(parted(&message).1, Some("ask again"), "{message}");
            assert_eq!(message.matches(WHAT_TO_DO).count(), 1, "{message}");
            let message = without_advice(hostile);
            assert_eq!(parted(&message), (message.as_str(), None));
        }
        // Of a status that an earlier release wrote.
        let earlier = "no. What to do: grant access: `x`. What to do: ask again";
        assert_eq!(parted(earlier).1, Some("ask again"));
    }
}
