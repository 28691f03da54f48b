//! Both servers, fresh for each size, each with connections that put the same load on it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::Scratch;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::load::{Load, Round, Width};
use crate::review::{PULL_SECRET, Size, review};
use crate::servers::{Process, prepare, start_floor, start_pullpass};
use crate::support::Result;

/// How long a server is left alone before its memory counts as idle.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// A server, and the load on it.
pub(crate) struct Contender {
    pub(crate) process: Process,
    load: Load,
}

impl Contender {
    /// Puts the load on it for so long; also gives the seconds of processor time that it used.
    pub(crate) fn round(
        &self,
        runtime: &Runtime,
        duration: Duration,
        expected: &Bytes,
    ) -> Result<(Round, f64)> {
        let before = self.process.cpu()?;
        let round = runtime.block_on(self.load.run(duration, expected))?;
        Ok((round, self.process.cpu()? - before))
    }
}

/// Both servers.
pub(crate) struct Pair {
    pub(crate) floor: Contender,
    pub(crate) pullpass: Contender,
    /// Where pullpass' metrics are.
    pub(crate) metrics: SocketAddr,
    /// The memory of pullpass before its first request, in KiB.
    pub(crate) idle_memory_kib: f64,
    /// How long a review is.
    pub(crate) bytes: usize,
    /// What every answer must be.
    pub(crate) answer: Bytes,
    /// Removed last.
    scratch: Scratch,
}

impl Pair {
    /// Starts both, and connects to them.
    pub(crate) fn start(runtime: &Runtime, size: Size) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificate = prepare(scratch.path())?;
        let body = Bytes::from(review(size));
        let connect = |process: Process| {
            let load = Load::connect(process.address, &certificate, body.clone(), Width::MANY);
            runtime.block_on(load).map(|load| Contender { process, load })
        };
        let (process, metrics) = start_pullpass(scratch.path())?;
        thread::sleep(SETTLE_INTERVAL);
        let idle_memory_kib = process.memory("VmRSS")?;
        let pullpass = connect(process)?;
        let answer = runtime.block_on(pullpass.load.answer())?;
        check(&answer)?;
        let floor = connect(start_floor(scratch.path(), &answer)?)?;
        Ok(Self {
            floor,
            pullpass,
            metrics,
            idle_memory_kib,
            bytes: body.len(),
            answer,
            scratch,
        })
    }

    /// A directory that is removed with them.
    pub(crate) fn directory(&self) -> &Path {
        self.scratch.path()
    }
}

/// Whether it is the answer that injects the registry's secret. All others must be the same to the byte.
fn check(answer: &[u8]) -> Result<()> {
    let wrong = || format!("a wrong answer: {}", String::from_utf8_lossy(answer));
    let review: Value = serde_json::from_slice(answer)?;
    let response = review.get("response").ok_or_else(wrong)?;
    let patch = response.get("patch").and_then(Value::as_str).ok_or_else(wrong)?;
    let patch: Value = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    let expected = json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": PULL_SECRET}]}]);
    if patch == expected && response.get("allowed") == Some(&Value::Bool(true)) {
        Ok(())
    } else {
        Err(wrong().into())
    }
}
