//! What admission tells the writer of Events: whose Pods the policy refuses, or can't pull as they are. The channel is bounded and
//! never blocks an answer.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::mpsc;

use super::drops::Drops;
use crate::base::dns::is_subdomain;
use crate::kubernetes::events::note;
use crate::metrics::{DropReason, Metrics, Queue};
use crate::policy::decision::Matter;
use crate::policy::request::Owner;

/// How many notices may wait for their Events. Further ones are only in the audit log.
pub const BACKLOG: usize = 256;

/// The kinds that make Pods themselves. Of others, for instance those of custom resources, the audit log tells.
const OWNERS: [(&str, &str); 5] = [
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("v1", "ReplicationController"),
];
/// The form of a uid.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// A notice about a Pod that has an owner.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnerNotice {
    /// The Pod's namespace.
    pub namespace: String,
    /// Its owner.
    pub owner: ObjectReference,
    /// What about.
    pub matter: Matter,
    /// What, cut to what an Event can hold.
    pub message: String,
}

/// Takes notices from admission; it never blocks.
#[derive(Debug, Clone)]
pub struct NoticeSender(mpsc::Sender<OwnerNotice>, Arc<Drops>);

/// What the writer reads notices from.
#[derive(Debug)]
pub struct NoticeReceiver(mpsc::Receiver<OwnerNotice>, Arc<Drops>);

/// A way from admission to the writer. What is dropped on it is counted.
pub fn channel(metrics: Arc<Metrics>) -> (NoticeSender, NoticeReceiver) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let drops = Arc::new(Drops::new(Queue::OwnerEvent, metrics));
    (
        NoticeSender(sender, Arc::clone(&drops)),
        NoticeReceiver(receiver, drops),
    )
}

impl NoticeSender {
    /// Tells the owner of a Pod.
    pub fn send(&self, namespace: &str, owner: &Owner<'_>, matter: Matter, message: &str) {
        let Some(owner) = reference(namespace, owner) else {
            return self.1.count(DropReason::OwnerInvalid, 1);
        };
        let notice = OwnerNotice {
            namespace: namespace.to_owned(),
            owner,
            matter,
            message: note(message).to_owned(),
        };
        if self.0.try_send(notice).is_err() {
            self.1.count(DropReason::Full, 1);
        }
    }
}

/// The owner as what an Event is about. Nobody checks what a forged review says of an owner, and an Event must not be
/// aimed at any object: only what Kubernetes' own controllers of Pods are called can be meant.
fn reference(namespace: &str, owner: &Owner<'_>) -> Option<ObjectReference> {
    let kind = (&*owner.api_version, &*owner.kind);
    (OWNERS.contains(&kind) && is_subdomain(&owner.name) && is_uid(&owner.uid)).then(|| ObjectReference {
        api_version: Some(owner.api_version.to_string()),
        kind: Some(owner.kind.to_string()),
        name: Some(owner.name.to_string()),
        namespace: Some(namespace.to_owned()),
        uid: Some(owner.uid.to_string()),
        ..ObjectReference::default()
    })
}

/// Whether it is a UUID as the API server writes it.
fn is_uid(uid: &str) -> bool {
    uid.len() == UUID.len()
        && uid.bytes().zip(UUID.bytes()).all(|(byte, form)| match form {
            b'-' => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

impl NoticeReceiver {
    /// The next notice; none once admission is gone.
    pub async fn recv(&mut self) -> Option<OwnerNotice> {
        self.0.recv().await
    }

    /// Counts what is dropped after it was received.
    pub fn dropped(&self, reason: DropReason, count: usize) {
        self.1.count(reason, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::dns::MAX_SUBDOMAIN;
    use crate::policy::rules::Rule;

    const UID: &str = "d9607e19-f88f-4be7-a2a1-5a5b8a2f2b1d";

    fn owner(
        api_version: &'static str,
        kind: &'static str,
        name: &'static str,
        uid: &'static str,
    ) -> Owner<'static> {
        Owner {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            is_controller: true,
        }
    }

    fn sent(owner: &Owner<'_>) -> Option<OwnerNotice> {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        sender.send("apps", owner, Matter::Denied(Rule::Unattached), "why");
        receiver.0.try_recv().ok()
    }

    #[test]
    fn controllers_of_pods_are_told() {
        for (api_version, kind) in OWNERS {
            let notice = sent(&owner(api_version, kind, "web-7d9f.v1", UID)).unwrap();
            assert_eq!(notice.owner.api_version.as_deref(), Some(api_version));
            assert_eq!(notice.owner.kind.as_deref(), Some(kind));
            assert_eq!(notice.owner.name.as_deref(), Some("web-7d9f.v1"));
            assert_eq!(notice.owner.namespace.as_deref(), Some("apps"));
            assert_eq!(notice.owner.uid.as_deref(), Some(UID));
        }
    }

    #[test]
    fn nothing_else_can_be_aimed_at() {
        for (api_version, kind, name, uid) in [
            ("v1", "Secret", "web", UID),
            ("v1", "Namespace", "apps", UID),
            ("v1", "ReplicaSet", "web", UID),
            ("apps/v1", "replicaset", "web", UID),
            ("example.com/v1", "Rollout", "web", UID),
            ("", "", "", ""),
            ("apps/v1", "ReplicaSet", "", UID),
            ("apps/v1", "ReplicaSet", "Call 555-0100 now", UID),
            ("apps/v1", "ReplicaSet", "web\n", UID),
            ("apps/v1", "ReplicaSet", "-web", UID),
            ("apps/v1", "ReplicaSet", "web..v1", UID),
            ("apps/v1", "ReplicaSet", "web", ""),
            ("apps/v1", "ReplicaSet", "web", "d9607e19"),
            (
                "apps/v1",
                "ReplicaSet",
                "web",
                "D9607E19-F88F-4BE7-A2A1-5A5B8A2F2B1D",
            ),
            (
                "apps/v1",
                "ReplicaSet",
                "web",
                "d9607e19-f88f-4be7-a2a1-5a5b8a2f2b1g",
            ),
            (
                "apps/v1",
                "ReplicaSet",
                "web",
                "d9607e19f88f-4be7-a2a1-5a5b8a2f2b1d-",
            ),
        ] {
            assert_eq!(
                sent(&owner(api_version, kind, name, uid)),
                None,
                "{api_version} {kind} {name:?} {uid:?}"
            );
        }
        let long: &'static str = "a".repeat(MAX_SUBDOMAIN + 1).leak();
        assert_eq!(sent(&owner("apps/v1", "ReplicaSet", long, UID)), None);
    }

    #[test]
    fn a_full_queue_says_what_it_drops() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        for _ in 0..BACKLOG + 2 {
            sender.send(
                "apps",
                &owner("apps/v1", "ReplicaSet", "web", UID),
                Matter::Spelling,
                "no",
            );
        }
        assert_eq!(receiver.0.len(), BACKLOG);
        receiver.dropped(DropReason::Expired, 2);
        for reason in ["full", "expired"] {
            let counted =
                format!("pullpass_queue_dropped_total{{queue=\"owner-event\",reason=\"{reason}\"}} 2\n");
            assert!(metrics.encode().unwrap().contains(&counted), "{reason}");
        }
    }
}
