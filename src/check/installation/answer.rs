//! What a dry run shows: a Pod that is never created, with an image that pullpass answers with a warning.

use super::{Facts, StepOutcome, fault, judged, skipped, well};
use crate::api::names::{ECHO_WARNING, PODS_WEBHOOK};
use crate::check::advice::kubectl;
use crate::check::finding::Code;

/// How a refusal of the component `enforce` can be told.
const ENFORCED: &str = "ValidatingAdmissionPolicy 'pullpass-enforce'";

/// What a dry run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// pullpass answered.
    Answered {
        /// The version of the replica that did.
        version: String,
    },
    /// The Pod would be admitted, and pullpass did not answer.
    Silence,
    /// The API server says that it can't call the webhook.
    NotCalled {
        /// Its words.
        message: String,
    },
    /// Something else refused the Pod, so that nothing is known.
    Refused {
        /// Its words.
        message: String,
    },
}

impl Answer {
    /// What the warnings of an answer show, and the API server's words where it refused.
    pub fn of<'a>(warnings: impl IntoIterator<Item = &'a str>, refusal: Option<&str>) -> Self {
        // Each is `299 - "TEXT"`.
        let echo = warnings.into_iter().find_map(|warning| {
            let (_, version) = warning.split_once(ECHO_WARNING)?;
            Some(version.trim_end_matches('"').to_owned())
        });
        let message = refusal.map(str::to_owned);
        match (echo, message) {
            (Some(version), _) => Self::Answered { version },
            (None, None) => Self::Silence,
            // The API server asks its policies after the webhooks: that one of them refuses says that pullpass has not answered.
            (None, Some(message))
                if message.contains(&format!("failed calling webhook \"{PODS_WEBHOOK}\""))
                    || message.contains(ENFORCED) =>
            {
                Self::NotCalled { message }
            }
            (None, Some(message)) => Self::Refused { message },
        }
    }
}

/// An entry of the webhook's configuration by which the certificate that is served is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// The entry's name.
    pub entry: String,
    /// The result of a client that trusts the published authorities.
    pub reason: String,
}

impl Facts {
    pub(super) fn answer(&self) -> StepOutcome {
        if let Ok(Err(distrust)) = &self.trust {
            let Distrust { entry, reason } = distrust;
            let said = match &self.answer {
                Ok(Answer::NotCalled { message }) => format!(" ({message})"),
                _ => String::new(),
            };
            return fault(
                Code::CaWrong,
                format!(
                    "the API server does not trust the certificate of pullpass by the caBundle of {entry}: {reason}{said}"
                ),
                vec![self.leaders_log(), self.certificates_secret()],
            );
        }
        judged(&self.answer, |answer| {
            let words = match answer {
                Answer::Answered { version } => {
                    let rest = match &self.trust {
                        Err(why) if self.bundles_differ() => {
                            format!(
                                "; whether it trusts the certificate by each caBundle is not known: {why}"
                            )
                        }
                        _ => String::new(),
                    };
                    return well(format!("pullpass {version} answered the API server{rest}"));
                }
                Answer::Refused { message } => {
                    return skipped(format!("the dry run was refused: {message}"));
                }
                Answer::Silence => None,
                Answer::NotCalled { message } => Some(message),
            };
            let said = words.map_or_else(String::new, |message| format!(" ({message})"));
            fault(
                Code::Unreachable,
                format!(
                    "the API server got no answer from pullpass in a dry run, although replicas are ready{said}"
                ),
                vec![
                    kubectl(
                        "Let the API servers reach the webhook's port, 8443, of the Pods: docs/install.md \
                         says how on EKS and GKE. See what restricts it in the cluster:",
                        "kubectl get networkpolicy --all-namespaces".to_owned(),
                    ),
                    self.own(
                        "Check whether reviews arrive, and how they end:",
                        "logs --selector app.kubernetes.io/name=pullpass --tail 20",
                    ),
                ],
            )
        })
    }
}
