//! Events in namespaces whose pull secret can't be written. The status of the AcrRegistry counts those namespaces, which their
//! own users may not read; without the Event they see only that a kubelet finds no pull secret.

use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use tokio::sync::mpsc;

use super::pair::Pair;
use super::pull_secret::WriteError;
use super::warnings::{EVENT_INTERVAL, LOG_INTERVAL, Said, Turn, Warning, name_of};
use crate::api::advice::with_advice;
use crate::api::names::pull_secret;
use crate::api::reason::Reason;
use crate::base::occasional::Occasional;
use crate::kubernetes::events::note;

/// How many Events may wait. A write that fails is tried again, and told again.
const BACKLOG: usize = 256;

/// Takes failures from the secrets controller; it never blocks.
#[derive(Debug)]
pub(super) struct UnwrittenSender {
    sender: mpsc::Sender<Warning>,
    said: Said,
}

/// A way from the secrets controller to the writer.
pub(super) fn channel() -> (UnwrittenSender, mpsc::Receiver<Warning>) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let said = Said::default();
    (UnwrittenSender { sender, said }, receiver)
}

impl UnwrittenSender {
    /// Says that a pull secret could not be written, unless that was said a short time ago.
    pub(super) fn tell(&mut self, pair: &Pair, error: &WriteError, now: Instant) {
        let Some(warning) = warning(pair, error) else {
            return;
        };
        let event = (pair.0.clone(), warning.name.clone());
        if self.said.take(event.clone(), now) == Turn::Write && self.sender.try_send(warning).is_err() {
            self.said.take_back(&event);
        }
    }
}

/// What there is to tell of a failure. Where the API server did not answer, it would take no Event either.
fn warning((namespace, registry): &Pair, error: &WriteError) -> Option<Warning> {
    let secret = pull_secret(registry);
    let (reason, cause, advice) = match error {
        WriteError::Foreign => (
            Reason::NameConflict,
            format!(
                "Pods here can't pull from the registry of AcrRegistry {registry}: a Secret that is not pullpass' has the \
                 name {secret}"
            ),
            format!(
                "delete it, or create it again under another name; pullpass writes its own within minutes: kubectl delete \
                 secret {secret} --namespace {namespace}"
            ),
        ),
        WriteError::Api(said) => (
            Reason::SecretsRefused,
            format!("the pull secret of AcrRegistry {registry} could not be written: {said}"),
            format!(
                "check whether a quota is used up: kubectl describe resourcequotas --namespace {namespace}; if none is, \
                 ask a cluster administrator, who can see more with: kubectl describe acrregistry {registry}"
            ),
        ),
        WriteError::NamespaceGone | WriteError::Unreachable(_) | WriteError::Timeout => return None,
    };
    Some(Warning {
        name: format!("pullpass-unwritten-{}", name_of(registry)),
        about: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(secret),
            namespace: Some(namespace.clone()),
            ..ObjectReference::default()
        },
        reason: reason.as_str(),
        action: "Write",
        message: note(&with_advice(&cause, Some(&advice))).to_owned(),
    })
}

/// Writes the Events, until it is dropped.
pub(super) async fn write_events(client: &Client, mut warnings: mpsc::Receiver<Warning>) {
    let logged = Occasional::new(LOG_INTERVAL);
    while let Some(warning) = warnings.recv().await {
        if let Err(error) = warning.write(client).await
            && let Some(failed) = logged.take(1, Instant::now())
        {
            let namespace = warning.about.namespace.as_deref();
            tracing::warn!(namespace, %error, failed, "could not write Events about pull secrets");
        }
        tokio::time::sleep(EVENT_INTERVAL).await;
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::events::MAX_NOTE;
    use crate::sync::warnings::REPEAT_INTERVAL;

    fn pair(namespace: &str) -> Pair {
        (namespace.to_owned(), "mine".to_owned())
    }

    fn told(receiver: &mut mpsc::Receiver<Warning>) -> Vec<&'static str> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|warning| warning.reason)
            .collect()
    }

    #[test]
    fn a_namespace_is_told_once_in_five_minutes() {
        let (mut sender, mut receiver) = channel();
        let begin = Instant::now();
        let refused = WriteError::Api("exceeded quota".to_owned());
        sender.tell(&pair("apps"), &refused, begin);
        sender.tell(&pair("apps"), &refused, begin + REPEAT_INTERVAL / 2);
        sender.tell(&pair("other"), &WriteError::Foreign, begin);
        assert_eq!(told(&mut receiver), ["SecretsRefused", "NameConflict"]);
        sender.tell(&pair("apps"), &WriteError::Foreign, begin + REPEAT_INTERVAL);
        assert_eq!(told(&mut receiver), ["NameConflict"]);
    }

    #[test]
    fn a_failure_without_an_answer_is_not_told() {
        let (mut sender, mut receiver) = channel();
        for error in [
            WriteError::NamespaceGone,
            WriteError::Timeout,
            WriteError::Unreachable("connection refused".to_owned()),
        ] {
            sender.tell(&pair("apps"), &error, Instant::now());
        }
        assert_eq!(told(&mut receiver), [""; 0]);
    }

    #[test]
    fn a_failure_without_room_is_told_when_it_is_tried_again() {
        let (mut sender, mut receiver) = channel();
        let begin = Instant::now();
        for number in 0..=BACKLOG {
            sender.tell(&pair(&number.to_string()), &WriteError::Foreign, begin);
        }
        assert_eq!(told(&mut receiver).len(), BACKLOG);
        for number in 0..=BACKLOG {
            sender.tell(&pair(&number.to_string()), &WriteError::Foreign, begin);
        }
        assert_eq!(told(&mut receiver).len(), 1);
    }

    #[test]
    fn a_message_fits_an_event_and_names_what_to_do() {
        let conflict = warning(&pair("apps"), &WriteError::Foreign).unwrap();
        assert!(
            conflict
                .message
                .ends_with("kubectl delete secret pullpass-mine --namespace apps"),
            "{}",
            conflict.message
        );
        let long = WriteError::Api("é".repeat(MAX_NOTE));
        assert_eq!(warning(&pair("apps"), &long).unwrap().message.len(), MAX_NOTE);
    }
}
