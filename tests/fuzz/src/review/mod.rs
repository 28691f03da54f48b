//! An AdmissionReview, from its bytes to the patched Pod.

mod oracle;
mod outcome;
mod world;

use jiff::Timestamp;
use pullpass::admission::encode;
use pullpass::audit::Record;
use pullpass::policy::decision::decide;
use pullpass::policy::request::ReviewRequest;
use serde_json::Value;

use world::World;

/// How long an audit record is at most, in bytes, in the world of this check.
const MAX_RECORD: usize = 128 << 10;

/// The input as it is, and a review that is generated from it.
pub fn check(input: &[u8]) {
    check_body(input);
    check_body(crate::generate::review(input).as_bytes());
}

/// Where `serde_json` finds the shape of a review, the decoder reads the same; whatever is decoded is judged, answered and
/// recorded; and the patch appends exactly what is missing.
///
/// The decoder does not check what it skips, so it takes more than is JSON. What it took then is held against the same
/// value written again.
pub fn check_body(body: &[u8]) {
    if !holds(body)
        && let Ok(value) = serde_json::from_slice::<Value>(body)
    {
        holds(value.to_string().as_bytes());
    }
}

/// Checks a body. Says whether it has the shape of a review, so that all could be checked.
pub fn holds(body: &[u8]) -> bool {
    let decoded = ReviewRequest::decode(body);
    let expected = oracle::read(body);
    let has_shape = expected.is_some();
    let request = match (decoded, expected) {
        (Err(_), None) => return false,
        (Ok(request), None) => request,
        (decoded, Some(expected)) => match (decoded, expected) {
            (Ok(request), Ok(expected)) => {
                expected.assert_is(&request);
                request
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, expected);
                return true;
            }
            (decoded, expected) => panic!("expected {expected:?}, got {decoded:?}"),
        },
    };
    let world = World::of(body);
    let labels = world.labels(&request.namespace);
    let decision = decide(&request, world.registries(), labels, world.settings());
    let answer = encode(&request, &decision).expect("an answer is JSON");
    let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    let record = Record {
        time: Timestamp::UNIX_EPOCH,
        request: &request,
        decision: &decision,
        waited: None,
        mode: world.settings().scope.mode(),
        peer: "192.0.2.1:1",
        duration_micros: 1,
    };
    let record = serde_json::to_vec(&record).expect("a record is JSON");
    assert!(record.len() <= MAX_RECORD, "{} bytes", record.len());
    assert!(!record.contains(&b'\n'));
    if has_shape {
        outcome::check(body, &request, &world, &answer);
    }
    has_shape
}
