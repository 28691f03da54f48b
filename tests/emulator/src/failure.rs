//! Failures that a test injects, and which of them a call meets.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::step::{Call, Step};

/// A failure to inject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// The step that fails.
    pub step: Step,
    /// Only this registry's host, or for the Entra token this tenant; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// For how many calls; absent: until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    pub fault: Fault,
}

impl Failure {
    /// A failure of a step everywhere, until it is cleared.
    pub fn new(step: Step, fault: Fault) -> Self {
        Self {
            step,
            target: None,
            times: None,
            fault,
        }
    }

    /// Limits the failure to a registry host or a tenant.
    #[must_use]
    pub fn at(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    /// Limits the failure to the next calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn meets(&self, call: &Call) -> bool {
        let target = call.target.as_deref();
        self.step == call.step
            && self.times != Some(0)
            && self
                .target
                .as_deref()
                .is_none_or(|wanted| target.is_some_and(|got| got.eq_ignore_ascii_case(wanted)))
    }
}

/// What a failing call does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Fault {
    /// Answers this status with the error body that the service gives with it.
    Status {
        /// The status.
        status: u16,
        /// The value of `Retry-After`: seconds, or an HTTP date.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// A body in place of the usual one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// Never answers.
    Hang,
    /// Answers as usual after a while.
    Delay {
        /// How long.
        millis: u64,
    },
    /// Resets the TCP connection.
    Reset,
    /// Answers as usual, one byte of the body at a time.
    SlowBody {
        /// The pause before each byte.
        millis_per_byte: u64,
    },
    /// `200` with bytes that are no JSON and no UTF-8.
    Garbage,
    /// `200` with `{}`.
    Empty,
    /// `307` to somewhere else.
    Redirect {
        /// The `Location`.
        location: String,
    },
    /// A challenge (401) whose realm is at another host.
    WrongRealm {
        /// That host.
        host: String,
    },
}

impl Fault {
    /// A status with the service's usual body.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
            body: None,
        }
    }

    /// Throttled.
    pub fn throttled(retry_after_seconds: u32) -> Self {
        Self::Status {
            status: 429,
            retry_after: Some(retry_after_seconds.to_string()),
            body: None,
        }
    }
}

/// The failures in force.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Vec<Failure>>);

impl Failures {
    pub(crate) fn inject(&self, failure: Failure) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failure);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The oldest failure that a call meets; what is used up goes.
    pub(crate) fn take(&self, call: &Call) -> Option<Fault> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.iter_mut().find(|failure| failure.meets(call))?;
        if let Some(times) = &mut failure.times {
            *times -= 1;
        }
        let fault = failure.fault.clone();
        failures.retain(|failure| failure.times != Some(0));
        Some(fault)
    }
}
