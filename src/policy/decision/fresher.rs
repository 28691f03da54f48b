//! What a decision should know better before it is final.

use serde::Serialize;

use crate::policy::verdict::{Breach, Verdict};

/// What a decision rests on that the caches may have in an older version than the API server, where a newer one could
/// change the decision. Nothing for a Pod whose registries and labels are known, so that the usual Pod waits for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fresher {
    /// Which registries are attached: an image's host is not, or not for the namespace.
    pub registries: bool,
    /// The labels of the namespace: they are not known, and a selector or always-inject could depend on them; or a selector
    /// leaves them out.
    pub labels: bool,
    /// The Pod's ServiceAccount: the cache does not have it, and it may not let the Pod name a pull secret that would be added.
    pub account: bool,
}

/// What asking for something fresher led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitOutcome {
    /// The API server knew more, and the decision is another one.
    Changed,
    /// It knew no more than the caches.
    Unchanged,
    /// It took the pull secret, which is there before the Pod.
    Written,
    /// It did not answer in time: the caches decided, or the pull secret may come after the Pod.
    Failed,
}

impl WaitOutcome {
    /// The outcome's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Written => "written",
            Self::Failed => "failed",
        }
    }
}

/// What a review waited for before it was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// The attached registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<WaitOutcome>,
    /// The labels of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<WaitOutcome>,
    /// Its ServiceAccount.
    #[serde(rename = "serviceAccount", skip_serializing_if = "Option::is_none")]
    pub account: Option<WaitOutcome>,
    /// The pull secrets of its Pod.
    #[serde(rename = "pullSecret", skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<WaitOutcome>,
}

impl Waited {
    /// What was waited for, where that was `asked` in vain if it `failed`; the decision still `wants` what did not change.
    pub fn of(
        asked: Fresher,
        failed: Fresher,
        wants: Fresher,
        pull_secret: Option<WaitOutcome>,
    ) -> Option<Self> {
        let outcome = |asked, failed, wants| match (asked, failed, wants) {
            (false, ..) => None,
            (true, true, _) => Some(WaitOutcome::Failed),
            (true, false, true) => Some(WaitOutcome::Unchanged),
            (true, false, false) => Some(WaitOutcome::Changed),
        };
        (asked.is_wanted() || pull_secret.is_some()).then(|| Self {
            registry: outcome(asked.registries, failed.registries, wants.registries),
            namespace: outcome(asked.labels, failed.labels, wants.labels),
            account: outcome(asked.account, failed.account, wants.account),
            pull_secret,
        })
    }

    /// What was waited for, and how that ended.
    pub fn outcomes(self) -> impl Iterator<Item = (&'static str, WaitOutcome)> {
        let all = [
            ("registry", self.registry),
            ("namespace", self.namespace),
            ("service-account", self.account),
            ("pull-secret", self.pull_secret),
        ];
        all.into_iter()
            .filter_map(|(word, outcome)| Some((word, outcome?)))
    }
}

impl Fresher {
    /// Whether there is any.
    pub fn is_wanted(self) -> bool {
        self.registries || self.labels || self.account
    }

    /// What of this is not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            registries: self.registries && !other.registries,
            labels: self.labels && !other.labels,
            account: self.account && !other.account,
        }
    }

    /// What is in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            registries: self.registries || other.registries,
            labels: self.labels || other.labels,
            account: self.account || other.account,
        }
    }

    /// What a verdict on a new image could be another for.
    pub(super) fn of(verdict: &Verdict<'_>, labels_are_known: bool) -> Self {
        match verdict {
            Verdict::NoReference(_) | Verdict::Elsewhere(_) => Self::default(),
            Verdict::Refused(_, Breach::Unattached) => Self {
                registries: true,
                ..Self::default()
            },
            Verdict::Refused(_, Breach::Forbidden(_)) => Self {
                registries: true,
                labels: true,
                ..Self::default()
            },
            Verdict::Granted(grant) => Self {
                labels: !labels_are_known
                    && grant
                        .usable
                        .iter()
                        .any(|registry| !registry.is_for_every_namespace()),
                ..Self::default()
            },
        }
    }
}
