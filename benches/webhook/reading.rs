//! What reading a review costs by itself, with escapes and without: both in this process and in turn, so that what else the
//! machine does falls on both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pullpass::policy::request::ReviewRequest;
use serde::Serialize;

use crate::review::{Size, review, unescaped};
use crate::support::{Result, median};

/// How many turns each has.
const TURNS: usize = 301;
/// How many reviews are read in a turn.
const READ_A_TURN: u32 = 20;

/// The median over the turns.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reading {
    pub(crate) bytes: usize,
    pub(crate) escaped_micros: f64,
    /// Of a review of the same length without an escape.
    pub(crate) unescaped_micros: f64,
    pub(crate) ratio: f64,
}

/// Reads the review whose bulk is a string with escapes, and one of the same length without.
pub(crate) fn measure() -> Result<Reading> {
    let (escaped, unescaped) = (review(Size::Escaped), unescaped());
    if escaped.len() != unescaped.len() {
        return Err("the reviews are not of the same length".into());
    }
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        turns.push((read(&escaped)?, read(&unescaped)?));
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Reading {
        bytes: escaped.len(),
        escaped_micros: median(turns.iter().map(|(escaped, _)| micros(*escaped))),
        unescaped_micros: median(turns.iter().map(|(_, unescaped)| micros(*unescaped))),
        ratio: median(
            turns
                .iter()
                .map(|(escaped, unescaped)| micros(*escaped) / micros(*unescaped)),
        ),
    })
}

/// The time for one.
fn read(body: &[u8]) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..READ_A_TURN {
        black_box(ReviewRequest::decode(black_box(body))?);
    }
    Ok(begun.elapsed() / READ_A_TURN)
}
