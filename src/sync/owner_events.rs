//! Events on the owners of Pods that the policy refuses, or that can't pull in their present form: the author of a
//! Deployment never sees the answer to the request of its `ReplicaSet`.
//!
//! There is one Event for each owner and problem, whichever replica writes it: its name is derived from the two. It is
//! written again, with a new time, while the problem lasts, and expires with the API server's time to live for Events.

use std::time::Instant;

use kube::Client;

use super::warnings::{EVENT_INTERVAL, LOG_INTERVAL, Said, Turn, Warning, name_of};
use crate::admission::notices::{NoticeReceiver, OwnerNotice};
use crate::base::occasional::Occasional;
use crate::metrics::DropReason;
use crate::policy::decision::Matter;

/// The reason of an Event.
fn reason(matter: Matter) -> &'static str {
    match matter {
        Matter::Denied(_) => "ImageDenied",
        Matter::Spelling => "ImageSpelling",
        Matter::MountableSecrets => "PullSecretNotListed",
    }
}

impl OwnerNotice {
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
        format!("pullpass-{}-{}", self.matter.as_str(), name_of(&matter))
    }

    fn warning(&self) -> Warning {
        Warning {
            name: self.event_name(),
            about: self.owner.clone(),
            reason: reason(self.matter),
            action: "Admit",
            message: self.message.clone(),
        }
    }
}

/// Writes the Events, until it is dropped.
pub async fn write_events(client: Client, mut notices: NoticeReceiver) {
    let mut said = Said::default();
    let logged = Occasional::new(LOG_INTERVAL);
    while let Some(notice) = notices.recv().await {
        let event = (notice.namespace.clone(), notice.event_name());
        match said.take(event.clone(), Instant::now()) {
            Turn::Write => {}
            Turn::Recent => continue,
            Turn::Full => {
                notices.dropped(DropReason::Full, 1);
                continue;
            }
        }
        if let Err(error) = notice.warning().write(&client).await {
            // Reviews make the Events, and anybody may send one.
            if let Some(failed) = logged.take(1, Instant::now()) {
                tracing::warn!(namespace = notice.namespace, %error, failed, "could not write Events about Pods on their owners");
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
    use crate::admission::notices::channel;
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

    fn notice(name: &str, matter: Matter) -> OwnerNotice {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        sender.send("apps", &owner(name), matter, &"é".repeat(MAX_NOTE));
        futures::executor::block_on(receiver.recv()).unwrap()
    }

    #[test]
    fn an_owner_and_a_matter_have_one_name_and_no_other_has() {
        let name = notice("web", Matter::Denied(Rule::Unattached)).event_name();
        assert_eq!(name, notice("web", Matter::Denied(Rule::Unattached)).event_name());
        assert_ne!(name, notice("web", Matter::Denied(Rule::Forbidden)).event_name());
        assert_ne!(name, notice("api", Matter::Denied(Rule::Unattached)).event_name());
        assert!(name.starts_with("pullpass-unattached-"), "{name}");
        for (matter, name, reason) in [
            (Matter::Spelling, "pullpass-spelling-", "ImageSpelling"),
            (
                Matter::MountableSecrets,
                "pullpass-mountable-secrets-",
                "PullSecretNotListed",
            ),
        ] {
            let notice = notice("web", matter);
            assert!(notice.event_name().starts_with(name), "{}", notice.event_name());
            assert_eq!(notice.warning().reason, reason);
        }
    }

    #[test]
    fn a_message_is_cut_to_what_the_api_server_takes() {
        let event = notice("web", Matter::Denied(Rule::Unattached))
            .warning()
            .event(Timestamp::UNIX_EPOCH);
        assert_eq!(event.message.map(|message| message.len()), Some(MAX_NOTE));
    }
}
