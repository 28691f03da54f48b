//! What an etcd on loopback is asked over the JSON that it takes instead of gRPC: keys are in base64 there, and numbers
//! of 64 bits are strings.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::Error;
use crate::http;

/// Makes it forget all states but the present one.
pub(crate) fn compact(port: u16) -> Result<(), Error> {
    // Any read tells the present revision.
    let answer = range(port, &json!({"key": "AA==", "limit": "1"}))?;
    let revision = text(&answer, "/header/revision")?;
    let request = json!({"revision": revision, "physical": true});
    http::post(port, "/v3/kv/compaction", &request.to_string()).map(drop)
}

/// The keys of all that it has, in order.
pub(crate) fn keys(port: u16) -> Result<Vec<String>, Error> {
    let answer = range(
        port,
        &json!({"key": "AA==", "range_end": "AA==", "keys_only": true}),
    )?;
    let pairs = answer.get("kvs").and_then(Value::as_array);
    let key = |pair| {
        let key = STANDARD.decode(text(pair, "/key")?);
        let key = key.map_err(|_| unreadable(pair))?;
        Ok(String::from_utf8_lossy(&key).into_owned())
    };
    pairs.into_iter().flatten().map(key).collect()
}

/// Deletes everything whose key begins so.
pub(crate) fn delete(port: u16, prefix: &str) -> Result<(), Error> {
    // The first of ASCII that no key continues with.
    let end = format!("{prefix}\u{7f}");
    let request = json!({"key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end)});
    http::post(port, "/v3/kv/deleterange", &request.to_string()).map(drop)
}

fn range(port: u16, request: &Value) -> Result<Value, Error> {
    let answer = http::post(port, "/v3/kv/range", &request.to_string())?;
    serde_json::from_str(&answer).map_err(|_| unreadable(&json!(answer)))
}

fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str, Error> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| unreadable(answer))
}

fn unreadable(answer: &Value) -> Error {
    Error::io("reading an answer of etcd")(io::Error::other(answer.to_string()))
}
