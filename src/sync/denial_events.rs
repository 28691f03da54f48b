//! Events on the owners of Pods that the policy refuses: a Deployment's author never sees the answer to the request that
//! its `ReplicaSet` made.
//!
//! One Event stands for an owner and a rule, whichever replica writes it: its name follows from the two. It is written
//! again, with a new time, for as long as the denials go on, and goes with the API server's time to live for Events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::admission::denials::{DenialReceiver, OwnerDenied};
use crate::api::names::MANAGER;
use crate::base::occasional::Occasional;
use crate::kubernetes::call::{CallError, call};
use crate::metrics::DropReason;

/// How long nothing more is said of an owner and a rule.
const REPEAT_INTERVAL: Duration = Duration::from_mins(5);
/// How long the writer rests after each Event.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the log says nothing more after a write that failed: reviews make the Events, and anybody may send one.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How many owners and rules are remembered.
const MEMORY: usize = 10_000;
/// The reason of the Event.
const REASON: &str = "ImageDenied";

impl OwnerDenied {
    /// The name of the Event. An owner's own name and uid are what a user wrote, and may be no part of a name.
    fn event_name(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let identity = format!(
            "{}/{}/{}/{}",
            self.namespace,
            text(&self.owner.kind),
            text(&self.owner.name),
            text(&self.owner.uid)
        );
        let digest = digest(&SHA256, identity.as_bytes());
        let hash = digest
            .as_ref()
            .iter()
            .take(8)
            .fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
        format!("pullpass-{}-{hash:016x}", self.rule.as_str())
    }

    fn event(&self, name: &str, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: self.owner.clone(),
            type_: Some("Warning".to_owned()),
            reason: Some(REASON.to_owned()),
            action: Some("Admit".to_owned()),
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
}

/// What was said of late, by the Event's namespace and name.
#[derive(Debug, Default)]
struct Said(HashMap<(String, String), Instant>);

/// Whether an Event is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Now.
    Write,
    /// It was written a short time ago.
    Recent,
    /// Too many others were.
    Full,
}

impl Said {
    /// Whether it is to be said now. What is, counts as said.
    fn take(&mut self, event: (String, String), now: Instant) -> Turn {
        let is_recent = |said: &Instant| now.duration_since(*said) < REPEAT_INTERVAL;
        if self.0.get(&event).is_some_and(is_recent) {
            return Turn::Recent;
        }
        if self.0.len() >= MEMORY {
            self.0.retain(|_, said| is_recent(said));
        }
        // Who can make so many owners would like to have an Event for each.
        if self.0.len() >= MEMORY {
            return Turn::Full;
        }
        self.0.insert(event, now);
        Turn::Write
    }
}

/// Writes the Events, until it is dropped.
pub async fn write_events(client: Client, mut denials: DenialReceiver) {
    let mut said = Said::default();
    let logged = Occasional::new(LOG_INTERVAL);
    while let Some(denied) = denials.recv().await {
        let event = (denied.namespace.clone(), denied.event_name());
        match said.take(event.clone(), Instant::now()) {
            Turn::Write => {}
            Turn::Recent => continue,
            Turn::Full => {
                denials.dropped(DropReason::Full, 1);
                continue;
            }
        }
        if let Err(error) = write(&client, &denied, &event.1).await {
            if let Some(failed) = logged.take(1, Instant::now()) {
                tracing::warn!(namespace = denied.namespace, %error, failed, "could not write Events about denials");
            }
            said.0.remove(&event);
        }
        tokio::time::sleep(EVENT_INTERVAL).await;
    }
    // Without admission there is nothing to write, and nothing to end either.
    std::future::pending::<()>().await;
}

async fn write(client: &Client, denied: &OwnerDenied, name: &str) -> Result<(), CallError> {
    let events: Api<Event> = Api::namespaced(client.clone(), &denied.namespace);
    let event = denied.event(name, Timestamp::now());
    match call(events.create(&PostParams::default(), &event)).await {
        Err(error) if error.status().is_some_and(Status::is_already_exists) => {
            let again = json!({"lastTimestamp": event.last_timestamp, "message": event.message});
            let parameters = PatchParams::default();
            call(events.patch(name, &parameters, &Patch::Merge(again))).await?;
            Ok(())
        }
        written => written.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::denials::channel;
    use crate::kubernetes::events::MAX_NOTE;
    use crate::metrics::Metrics;
    use crate::policy::request::Owner;
    use crate::policy::rules::Rule;
    use std::sync::Arc;

    fn owner(name: &str) -> Owner<'_> {
        Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: name.into(),
            uid: "d9607e19-f88f-4be7-a2a1-5a5b8a2f2b1d".into(),
            is_controller: true,
        }
    }

    fn denied(name: &str, rule: Rule) -> OwnerDenied {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        sender.send("apps", &owner(name), rule, &"é".repeat(MAX_NOTE));
        futures::executor::block_on(receiver.recv()).unwrap()
    }

    #[test]
    fn an_owner_and_a_rule_have_one_name_and_no_other_has() {
        let name = denied("web", Rule::Unattached).event_name();
        assert_eq!(name, denied("web", Rule::Unattached).event_name());
        assert_ne!(name, denied("web", Rule::Forbidden).event_name());
        assert_ne!(name, denied("api", Rule::Unattached).event_name());
        assert!(name.starts_with("pullpass-unattached-"), "{name}");
    }

    #[test]
    fn a_message_is_cut_to_what_the_api_server_takes() {
        let event = denied("web", Rule::Unattached).event("name", Timestamp::UNIX_EPOCH);
        assert_eq!(event.message.map(|message| message.len()), Some(MAX_NOTE));
    }

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
