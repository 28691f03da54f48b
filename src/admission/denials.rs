//! What admission tells whoever writes Events: whose Pods the policy refuses. The channel is bounded and never blocks
//! an answer.

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::mpsc;

use crate::policy::request::Owner;
use crate::policy::rules::Rule;

/// How many denials may wait for their Events. More are in the audit log alone.
const BACKLOG: usize = 256;
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
pub struct DenialSender(mpsc::Sender<OwnerDenied>);

/// What the writer reads denials from.
#[derive(Debug)]
pub struct DenialReceiver(mpsc::Receiver<OwnerDenied>);

/// A way from admission to the writer.
pub fn channel() -> (DenialSender, DenialReceiver) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (DenialSender(sender), DenialReceiver(receiver))
}

impl DenialSender {
    /// Says that a Pod of this owner was refused.
    pub fn send(&self, namespace: &str, owner: &Owner<'_>, rule: Rule, message: &str) {
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
            tracing::debug!(namespace, "too many denials at once: no Event for this one");
        }
    }
}

impl DenialReceiver {
    /// The next denial; none once admission is gone.
    pub async fn recv(&mut self) -> Option<OwnerDenied> {
        self.0.recv().await
    }
}
