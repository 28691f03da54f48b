//! How many calls each step and target has seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::step::{Call, Step};

/// The calls of one step to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The step.
    pub step: Step,
    /// The registry's host, or the tenant for the Entra token; none for IMDS.
    pub target: Option<String>,
    /// All calls, from the moment that they arrive.
    pub calls: u64,
    /// Those that were answered with a status of 400 or above.
    pub refused: u64,
}

/// What was called how often, sorted by step and target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(pub Vec<Count>);

impl Counts {
    /// The calls of a step, whatever the target.
    pub fn calls(&self, step: Step) -> u64 {
        self.0
            .iter()
            .filter(|count| count.step == step)
            .map(|count| count.calls)
            .sum()
    }

    /// The calls of a step to one registry host or tenant.
    pub fn calls_at(&self, step: Step, target: &str) -> u64 {
        self.0
            .iter()
            .filter(|count| count.step == step && count.target.as_deref() == Some(target))
            .map(|count| count.calls)
            .sum()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    calls: u64,
    refused: u64,
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<Call, Tally>>);

impl Counters {
    pub(crate) fn arrived(&self, call: &Call) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry(call.clone()).or_default().calls += 1;
    }

    pub(crate) fn answered(&self, call: &Call, status: StatusCode) {
        if status.is_client_error() || status.is_server_error() {
            let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.entry(call.clone()).or_default().refused += 1;
        }
    }

    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Counts(
            tallies
                .iter()
                .map(|(call, tally)| Count {
                    step: call.step,
                    target: call.target.clone(),
                    calls: tally.calls,
                    refused: tally.refused,
                })
                .collect(),
        )
    }
}
