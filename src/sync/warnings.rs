//! Events that tell a namespace's users of what goes wrong there: each is one object, which is written again for as long as
//! that goes on, and neither often nor many at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::api::names::MANAGER;
use crate::kubernetes::call::{CallError, call};

/// How long nothing more is reported about the same.
pub(super) const REPEAT_INTERVAL: Duration = Duration::from_mins(5);
/// How long a writer rests after each Event.
pub(super) const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the log says nothing more after a write that failed.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How many Events are remembered.
const MEMORY: usize = 10_000;

/// An Event of the type Warning.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Warning {
    /// Its name, which is the same for the same matter, whichever replica writes it.
    pub(super) name: String,
    /// The object that it is about. It is in the Event's namespace.
    pub(super) about: ObjectReference,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    pub(super) message: String,
}

impl Warning {
    fn namespace(&self) -> &str {
        self.about.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn event(&self, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: self.about.clone(),
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.to_owned()),
            action: Some(self.action.to_owned()),
            message: Some(self.message.clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(MANAGER.to_owned()),
                host: None,
            }),
            reporting_component: Some(MANAGER.to_owned()),
            ..Event::default()
        }
    }

    /// Writes it, or writes it again where it is there.
    pub(super) async fn write(&self, client: &Client) -> Result<(), CallError> {
        let events: Api<Event> = Api::namespaced(client.clone(), self.namespace());
        let event = self.event(Timestamp::now());
        match call(events.create(&PostParams::default(), &event)).await {
            Err(error) if error.status().is_some_and(Status::is_already_exists) => {
                let again = json!({
                    "lastTimestamp": event.last_timestamp, "reason": event.reason, "message": event.message,
                });
                let parameters = PatchParams::default();
                call(events.patch(&self.name, &parameters, &Patch::Merge(again))).await?;
                Ok(())
            }
            written => written.map(drop),
        }
    }
}

/// What the name of an Event ends in: its matter may hold what is no part of a name, or be too long for one.
pub(super) fn name_of(matter: &str) -> String {
    let digest = digest(&SHA256, matter.as_bytes());
    let hash = digest
        .as_ref()
        .iter()
        .take(8)
        .fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{hash:016x}")
}

/// What was said lately, by the Event's namespace and name.
#[derive(Debug, Default)]
pub(super) struct Said(HashMap<(String, String), Instant>);

/// Whether an Event is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now.
    Write,
    /// It was written a short time ago.
    Recent,
    /// Too many others were.
    Full,
}

impl Said {
    /// Whether it is to be said now. What is, counts as said.
    pub(super) fn take(&mut self, event: (String, String), now: Instant) -> Turn {
        let is_recent = |said: &Instant| now.saturating_duration_since(*said) < REPEAT_INTERVAL;
        if self.0.get(&event).is_some_and(is_recent) {
            return Turn::Recent;
        }
        if self.0.len() >= MEMORY {
            self.0.retain(|_, said| is_recent(said));
        }
        // Who can make so many of them would like to have an Event for each.
        if self.0.len() >= MEMORY {
            return Turn::Full;
        }
        self.0.insert(event, now);
        Turn::Write
    }

    /// It was not said after all.
    pub(super) fn take_back(&mut self, event: &(String, String)) {
        self.0.remove(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice_in_five_minutes() {
        let mut said = Said::default();
        let begin = Instant::now();
        let event = |name: &str| ("apps".to_owned(), name.to_owned());
        assert_eq!(said.take(event("a"), begin), Turn::Write);
        assert_eq!(said.take(event("b"), begin), Turn::Write);
        assert_eq!(said.take(event("a"), begin + REPEAT_INTERVAL / 2), Turn::Recent);
        assert_eq!(said.take(event("a"), begin + REPEAT_INTERVAL), Turn::Write);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut said = Said::default();
        let begin = Instant::now();
        let event = |number: usize| ("apps".to_owned(), number.to_string());
        for number in 0..MEMORY {
            assert_eq!(said.take(event(number), begin), Turn::Write);
        }
        assert_eq!(said.take(event(MEMORY), begin), Turn::Full);
        assert_eq!(said.take(event(MEMORY), begin + REPEAT_INTERVAL), Turn::Write);
        assert_eq!(said.0.len(), 1);
    }
}
