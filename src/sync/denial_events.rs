//! Events on the owners of Pods that the policy refuses: a Deployment's author never sees the answer to the request that
//! its `ReplicaSet` made.
//!
//! One Event stands for an owner and a rule, whichever replica writes it: its name follows from the two. It is written
//! again, with a new time, for as long as the denials go on, and goes with the API server's time to live for Events.

use std::time::Instant;

use kube::Client;

use super::warnings::{EVENT_INTERVAL, LOG_INTERVAL, Said, Turn, Warning, name_of};
use crate::admission::denials::{DenialReceiver, OwnerDenied};
use crate::base::occasional::Occasional;
use crate::metrics::DropReason;

/// The reason of the Event.
const REASON: &str = "ImageDenied";

impl OwnerDenied {
    /// The name of the Event. An owner's own name and uid are what a user wrote, and may be no part of a name.
    fn event_name(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let matter = format!(
            "{}/{}/{}/{}",
            self.namespace,
            text(&self.owner.kind),
            text(&self.owner.name),
            text(&self.owner.uid)
        );
        format!("pullpass-{}-{}", self.rule.as_str(), name_of(&matter))
    }

    fn warning(&self) -> Warning {
        Warning {
            name: self.event_name(),
            about: self.owner.clone(),
            reason: REASON,
            action: "Admit",
            message: self.message.clone(),
        }
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
        if let Err(error) = denied.warning().write(&client).await {
            // Reviews make the Events, and anybody may send one.
            if let Some(failed) = logged.take(1, Instant::now()) {
                tracing::warn!(namespace = denied.namespace, %error, failed, "could not write Events about denials");
            }
            said.take_back(&event);
        }
        tokio::time::sleep(EVENT_INTERVAL).await;
    }
    // Without admission there is nothing to write, and nothing to end either.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::denials::channel;
    use crate::kubernetes::events::MAX_NOTE;
    use crate::metrics::Metrics;
    use crate::policy::request::Owner;
    use crate::policy::rules::Rule;
    use jiff::Timestamp;
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
        let event = denied("web", Rule::Unattached)
            .warning()
            .event(Timestamp::UNIX_EPOCH);
        assert_eq!(event.message.map(|message| message.len()), Some(MAX_NOTE));
    }
}
