//! Text and times on the page. What others wrote is text and nothing else: maud escapes it, and here it loses what could
//! make it look like something else.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

/// How many characters of a text are shown.
const MAX_TEXT: usize = 2000;

/// Whether a character changes how others around it look, or is not seen itself.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text as it is shown: what can't be seen or reorders the rest is spelled out, and it is cut where it is long.
pub(super) fn plain(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => spelled_out(text.get(..end).unwrap_or_default()) + "…",
        None => spelled_out(text),
    }
}

/// A command as it is shown. It is never cut: what is left of a command can be another one.
pub(super) fn command(text: &str) -> String {
    spelled_out(text)
}

fn spelled_out(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            // Writing into a `String` can't fail.
            c if is_deceptive(c) => drop(write!(shown, "{}", c.escape_unicode())),
            c => shown.push(c),
        }
    }
    shown
}

/// Text from the cluster or the command line.
pub(super) fn data(text: &str) -> Markup {
    html! { bdi { (plain(text)) } }
}

/// Text from the cluster, or a dash.
pub(super) fn or_dash(text: Option<&str>) -> Markup {
    match text {
        Some(text) => data(text),
        None => html! { span.none { "–" } },
    }
}

/// A point in time in UTC, and how far that is from now.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    let date = at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    html! { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (date) } " " span.ago { "(" (distance(at, now)) ")" } }
}

/// How far a point in time is from now, in its greatest unit.
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let between: SignedDuration = at.duration_since(now);
    let minutes = between.as_secs().unsigned_abs() / 60;
    let (count, unit) = match minutes {
        0 => return "now".to_owned(),
        1..120 => (minutes, "min"),
        120..2880 => (minutes / 60, "h"),
        _ => (minutes / 1440, "days"),
    };
    if between.is_negative() {
        format!("{count} {unit} ago")
    } else {
        format!("in {count} {unit}")
    }
}

/// A number with its noun.
pub(super) fn count(number: u64, one: &str, several: &str) -> String {
    let noun = if number == 1 { one } else { several };
    format!("{} {noun}", grouped(number))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A sentence from a clause.
pub(super) fn sentence(clause: &str) -> String {
    let mut chars = clause.trim().chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let rest = chars.as_str().trim_end_matches('.');
    format!("{first}{rest}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_deceives_is_spelled_out() {
        assert_eq!(
            plain("a\u{202e}b\u{200b}c\nd\u{7}"),
            "a\\u{202e}b\\u{200b}c d\\u{7}"
        );
        assert_eq!(plain("größe 東京 e\u{301}"), "größe 東京 e\u{301}");
        assert_eq!(plain(&"x".repeat(MAX_TEXT)), "x".repeat(MAX_TEXT));
        assert_eq!(plain(&"ö".repeat(100_000)).chars().count(), MAX_TEXT + 1);
        assert_eq!(command(&"x".repeat(100_000)), "x".repeat(100_000));
        assert_eq!(command("a\u{202e}\nb"), "a\\u{202e} b");
    }

    #[test]
    fn text_is_escaped_and_set_apart() {
        assert_eq!(
            data("</bdi><script>alert('1')\"&").into_string(),
            "<bdi>&lt;/bdi&gt;&lt;script&gt;alert('1')&quot;&amp;</bdi>"
        );
        assert_eq!(or_dash(None).into_string(), "<span class=\"none\">–</span>");
    }

    #[test]
    fn times_are_told_with_their_distance() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        for (at, expected) in [
            ("2026-11-28T12:00:59Z", "now"),
            ("2026-11-28T12:01:00Z", "in 1 min"),
            ("2026-11-28T13:59:59Z", "in 119 min"),
            ("2026-11-28T10:00:00Z", "2 h ago"),
            ("2026-11-26T12:00:00Z", "2 days ago"),
            ("2027-11-28T12:00:00Z", "in 365 days"),
        ] {
            assert_eq!(distance(at.parse().unwrap(), now), expected, "{at}");
        }
        let shown = time("2026-11-28T09:30:05.123Z".parse().unwrap(), now).into_string();
        assert_eq!(
            shown,
            "<time datetime=\"2026-11-28T09:30:05Z\">2026-11-28 09:30 UTC</time> <span class=\"ago\">(2 h ago)</span>"
        );
    }

    #[test]
    fn numbers_and_sentences_read_well() {
        for (number, expected) in [
            (0, "0 Pods"),
            (1, "1 Pod"),
            (999, "999 Pods"),
            (1000, "1,000 Pods"),
            (1_234_567, "1,234,567 Pods"),
        ] {
            assert_eq!(count(number, "Pod", "Pods"), expected);
        }
        assert_eq!(sentence("it is so"), "It is so.");
        assert_eq!(sentence("It is so."), "It is so.");
    }
}
