//! What admission tells the writer of Events: whose Pods the policy refuses. The channel is bounded and never blocks an
//! answer.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::mpsc;

use super::drops::Drops;
use crate::metrics::{DropReason, Metrics, Queue};
use crate::policy::request::Owner;
use crate::policy::rules::Rule;

/// How many denials may wait for their Events. More are in the audit log alone.
pub const BACKLOG: usize = 256;
/// The longest texts of an object that can own a Pod, in bytes: `group/version` of a DNS subdomain and a label, a kind
/// that is a label, and a name that is a subdomain (`k8s.io/apimachinery/pkg/util/validation`; for kinds the validation of
/// `CustomResourceDefinitions`). The API server makes UUIDs. In a Pod they may be of any length.
const MAX_API_VERSION: usize = 253 + 1 + 63;
const MAX_KIND: usize = 63;
const MAX_NAME: usize = 253;
const MAX_UID: usize = 64;
/// How long a message the API server takes, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// A Pod was refused that somebody owns.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnerDenied {
    /// The Pod's namespace.
    pub namespace: String,
    /// Its owner.
    pub owner: ObjectReference,
    /// The rule that refuses it.
    pub rule: Rule,
    /// Why, cut to what an Event can hold.
    pub message: String,
}

/// Takes denials from admission; it never blocks.
#[derive(Debug, Clone)]
pub struct DenialSender(mpsc::Sender<OwnerDenied>, Arc<Drops>);

/// What the writer reads denials from.
#[derive(Debug)]
pub struct DenialReceiver(mpsc::Receiver<OwnerDenied>, Arc<Drops>);

/// A way from admission to the writer. What is dropped on it is counted.
pub fn channel(metrics: Arc<Metrics>) -> (DenialSender, DenialReceiver) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let drops = Arc::new(Drops::new(Queue::DenialEvent, metrics));
    (
        DenialSender(sender, Arc::clone(&drops)),
        DenialReceiver(receiver, drops),
    )
}

/// Whether an owner can be an object: nobody would see an Event about any other.
fn can_exist(owner: &Owner<'_>) -> bool {
    owner.api_version.len() <= MAX_API_VERSION
        && owner.kind.len() <= MAX_KIND
        && owner.name.len() <= MAX_NAME
        && owner.uid.len() <= MAX_UID
}

impl DenialSender {
    /// Says that a Pod of this owner was refused.
    pub fn send(&self, namespace: &str, owner: &Owner<'_>, rule: Rule, message: &str) {
        if !can_exist(owner) {
            return self.1.count(DropReason::OwnerInvalid, 1);
        }
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let denied = OwnerDenied {
            namespace: namespace.to_owned(),
            owner: ObjectReference {
                api_version: text(&owner.api_version),
                kind: text(&owner.kind),
                name: text(&owner.name),
                namespace: Some(namespace.to_owned()),
                uid: text(&owner.uid),
                ..ObjectReference::default()
            },
            rule,
            message: message
                .get(..message.floor_char_boundary(MAX_MESSAGE))
                .unwrap_or_default()
                .to_owned(),
        };
        if self.0.try_send(denied).is_err() {
            self.1.count(DropReason::Full, 1);
        }
    }
}

impl DenialReceiver {
    /// The next denial; none once admission is gone.
    pub async fn recv(&mut self) -> Option<OwnerDenied> {
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

    fn owner(name: &str) -> Owner<'_> {
        Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: name.into(),
            uid: "d9607e19".into(),
            is_controller: true,
        }
    }

    #[test]
    fn an_owner_that_can_not_exist_has_no_event() {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        let long = "x".repeat(318);
        for field in 0..4 {
            let mut owner = owner("web");
            let texts = [
                &mut owner.api_version,
                &mut owner.kind,
                &mut owner.name,
                &mut owner.uid,
            ];
            *texts.into_iter().nth(field).unwrap() = long.as_str().into();
            sender.send("apps", &owner, Rule::Unattached, "no");
        }
        assert!(receiver.0.try_recv().is_err());
    }

    #[test]
    fn a_full_queue_says_what_it_drops() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        for _ in 0..BACKLOG + 2 {
            sender.send("apps", &owner("web"), Rule::Unattached, "no");
        }
        assert_eq!(receiver.0.len(), BACKLOG);
        let counted = "pullpass_queue_dropped_total{queue=\"denial-event\",reason=\"full\"} 2\n";
        assert!(metrics.encode().unwrap().contains(counted));
    }
}
