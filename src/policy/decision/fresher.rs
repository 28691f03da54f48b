//! What a decision should know better before it is final.

use serde::Serialize;

use super::judge::Judge;
use crate::policy::attached::AttachedRegistry;
use crate::policy::exemption::Treatment;
use crate::policy::scope::Picked;
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
}

/// What asking for something fresher led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitOutcome {
    /// The API server knew more, and the decision is another one.
    Changed,
    /// It knew no more than the caches.
    Unchanged,
    /// It did not answer in time: the decision rests on the caches.
    Failed,
}

impl WaitOutcome {
    /// The outcome's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
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
}

impl Waited {
    /// What was waited for, where that was `asked` in vain if it `failed`; the decision still `wants` what did not change.
    pub fn of(asked: Fresher, failed: Fresher, wants: Fresher) -> Option<Self> {
        let outcome = |asked, failed, wants| match (asked, failed, wants) {
            (false, ..) => None,
            (true, true, _) => Some(WaitOutcome::Failed),
            (true, false, true) => Some(WaitOutcome::Unchanged),
            (true, false, false) => Some(WaitOutcome::Changed),
        };
        asked.is_wanted().then(|| Self {
            registry: outcome(asked.registries, failed.registries, wants.registries),
            namespace: outcome(asked.labels, failed.labels, wants.labels),
        })
    }
}

impl Fresher {
    /// Whether there is any.
    pub fn is_wanted(self) -> bool {
        self.registries || self.labels
    }

    /// What of this is not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            registries: self.registries && !other.registries,
            labels: self.labels && !other.labels,
        }
    }

    /// What is in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            registries: self.registries || other.registries,
            labels: self.labels || other.labels,
        }
    }

    /// What a verdict on a new image could be another for.
    fn of(verdict: &Verdict<'_>, labels_are_known: bool) -> Self {
        match verdict {
            Verdict::NoReference(_) | Verdict::Elsewhere(_) => Self::default(),
            Verdict::Refused(_, Breach::Unattached) => Self {
                registries: true,
                labels: false,
            },
            Verdict::Refused(_, Breach::Forbidden(_)) => Self {
                registries: true,
                labels: true,
            },
            Verdict::Granted(grant) => Self {
                registries: false,
                labels: !labels_are_known
                    && grant
                        .usable
                        .iter()
                        .any(|registry| !registry.is_for_every_namespace()),
            },
        }
    }
}

impl<'a> Judge<'a, '_> {
    /// What would have to be known better, as the verdicts on the new images tell and the registries that they need.
    pub(super) fn fresher<'v>(
        &self,
        verdicts: impl Iterator<Item = &'v Verdict<'a>>,
        needed: &[&AttachedRegistry],
    ) -> Fresher
    where
        'a: 'v,
    {
        let (mut is_elsewhere, mut is_on_acr) = (false, false);
        let of_images = verdicts
            .inspect(|verdict| match verdict {
                Verdict::Elsewhere(Some(host)) if host.is_default_port() => is_elsewhere = true,
                Verdict::Elsewhere(_) | Verdict::NoReference(_) => {}
                Verdict::Refused(..) | Verdict::Granted(_) => is_on_acr = true,
            })
            .map(|verdict| Fresher::of(verdict, self.labels.is_some()))
            .fold(Fresher::default(), Fresher::and);
        // The API server asks about such a Pod where it names a custom domain, which an AcrRegistry may have by now.
        let has_a_domain = is_elsewhere && !is_on_acr && self.request.picked == Some(Picked::ByMode);
        let unknown = self.labels.is_none() && !self.is_live;
        Fresher {
            registries: of_images.registries || has_a_domain,
            labels: of_images.labels || (unknown && self.depends_on_always_inject(needed)),
        }
    }

    /// Whether labels that are not known could give a new Pod more pull secrets than those of its images, or fewer than
    /// those of every registry.
    fn depends_on_always_inject(&self, needed: &[&AttachedRegistry]) -> bool {
        let all = self.registries.all().into_iter();
        let mut all = all.filter(|registry| !registry.is_anonymous());
        match self.treatment {
            Treatment::Injected { always: true } => all.any(|registry| !registry.is_for_every_namespace()),
            Treatment::Injected { always: false } => {
                all.any(|registry| needed.iter().all(|needed| needed.name() != registry.name()))
            }
            Treatment::JudgedOnly(_) | Treatment::Exempt(_) => false,
        }
    }
}
