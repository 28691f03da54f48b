//! Durations as flags take them.

use std::time::Duration;

/// The units of a duration, and their length in seconds.
const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// A number of seconds, fractions allowed, or a duration as Kubernetes writes it: `10`, `0.5`, `120s`, `2m30s`.
pub(in crate::cli) fn seconds(text: &str) -> Result<Duration, String> {
    let total = match number(text) {
        Some((seconds, "")) => Some(seconds),
        _ => duration(text),
    };
    let total = total
        .ok_or_else(|| "write a number of seconds or a duration, for instance 10, 0.5 or 2m30s".to_owned())?;
    Duration::try_from_secs_f64(total).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let (amount, after) = number(rest)?;
        let (length, after) = UNITS
            .iter()
            .find_map(|(unit, length)| Some((length, after.strip_prefix(unit)?)))?;
        total += amount * length;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// The number that a text begins with, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|next: char| !(next.is_ascii_digit() || next == '.'))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_grammar() {
        for (text, millis) in [
            ("10", 10_000),
            ("0.5", 500),
            (".5", 500),
            ("0", 0),
            ("120s", 120_000),
            ("2m30s", 150_000),
            ("1h0.5m", 3_630_000),
            ("250ms", 250),
        ] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "s", "m", ".", "1.2.3", "-1", "+1", "1e3", "inf", "NaN", "10 s", "2m30", "1d", "5ss",
            "10min", "é",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds(&"9".repeat(400)).is_err());
    }
}
