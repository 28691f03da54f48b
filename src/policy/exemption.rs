//! Why a Pod gets no pull secret whatever its images are, and whether the rules hold for it all the same
//! (`docs/policy.md`). Admission and the view on running Pods share it, so that both say the same.

use serde::Serialize;

use crate::policy::scope::Membership;

/// Why a Pod gets no pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exemption {
    /// It mirrors a static Pod, which no admission can change.
    MirrorPod,
    /// It says that it mirrors a static Pod, and no kubelet asks for it. The rules hold for it all the same.
    ClaimedMirrorPod,
    /// Its namespace is always excluded, or was excluded by a flag.
    NamespaceExcluded,
    /// Its namespace's label says `disabled`.
    NamespaceOptedOut,
    /// The mode is `opt-in`, and its namespace's label does not say `enabled`.
    NamespaceNotOptedIn,
    /// The namespace selector does not pick its namespace.
    NamespaceNotSelected,
    /// Its own label says `disabled`. The rules hold for it all the same.
    PodOptedOut,
}

impl Exemption {
    /// The exemption's name, as tables and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MirrorPod => "mirror-pod",
            Self::ClaimedMirrorPod => "claimed-mirror-pod",
            Self::NamespaceExcluded => "namespace-excluded",
            Self::NamespaceOptedOut => "namespace-opted-out",
            Self::NamespaceNotOptedIn => "namespace-not-opted-in",
            Self::NamespaceNotSelected => "namespace-not-selected",
            Self::PodOptedOut => "pod-opted-out",
        }
    }

    /// Why, in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::MirrorPod => "the Pod mirrors a static Pod, whose kubelet reads it from a file",
            Self::ClaimedMirrorPod => {
                "the Pod says that it mirrors a static Pod, and the API server refuses such a Pod if it names \
                 a Secret"
            }
            Self::NamespaceExcluded => "the namespace is excluded",
            Self::NamespaceOptedOut => "the namespace is labelled pullpass.dev/inject=disabled",
            Self::NamespaceNotOptedIn => {
                "the mode is opt-in and the namespace is not labelled pullpass.dev/inject=enabled"
            }
            Self::NamespaceNotSelected => "the namespace's labels do not match the namespace selector",
            Self::PodOptedOut => "the Pod is labelled pullpass.dev/inject=disabled",
        }
    }
}

/// What is done with a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It gets the pull secrets of its images, and the rules hold for it.
    Injected {
        /// It gets the secret of every registry that its namespace may use.
        always: bool,
    },
    /// It gets no pull secret, but the rules hold for it: a Pod can do without the former, not without the latter.
    JudgedOnly(Exemption),
    /// It is skipped.
    Exempt(Exemption),
}

/// Whether a Pod mirrors a static Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirror {
    /// It does not say so.
    No,
    /// It says so, and the user who sends it is no kubelet: anybody can write the annotation.
    Claimed,
    /// It does, as a kubelet says, or as far as a running Pod shows.
    Yes,
}

/// What of a Pod decides how it is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodTraits<'a> {
    /// Whether the Pod's namespace is injected.
    pub membership: Membership,
    /// Whether the Pod mirrors a static Pod.
    pub mirror: Mirror,
    /// The value of the Pod's own inject label.
    pub inject_label: Option<&'a str>,
}

impl PodTraits<'_> {
    /// What is done with the Pod.
    pub fn treatment(&self) -> Treatment {
        if self.mirror == Mirror::Yes {
            return Treatment::Exempt(Exemption::MirrorPod);
        }
        match self.membership {
            Membership::Excluded => Treatment::Exempt(Exemption::NamespaceExcluded),
            Membership::OptedOut => Treatment::Exempt(Exemption::NamespaceOptedOut),
            Membership::NotOptedIn => Treatment::Exempt(Exemption::NamespaceNotOptedIn),
            Membership::NotSelected => Treatment::Exempt(Exemption::NamespaceNotSelected),
            Membership::Injected { .. } if self.mirror == Mirror::Claimed => {
                Treatment::JudgedOnly(Exemption::ClaimedMirrorPod)
            }
            Membership::Injected { .. } if self.inject_label == Some("disabled") => {
                Treatment::JudgedOnly(Exemption::PodOptedOut)
            }
            Membership::Injected { always } => Treatment::Injected { always },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exemption_has_its_word_and_its_sentence() {
        for (exemption, word, says) in [
            (Exemption::MirrorPod, "mirror-pod", "mirrors a static Pod"),
            (
                Exemption::ClaimedMirrorPod,
                "claimed-mirror-pod",
                "says that it mirrors a static Pod",
            ),
            (Exemption::NamespaceExcluded, "namespace-excluded", "is excluded"),
            (
                Exemption::NamespaceOptedOut,
                "namespace-opted-out",
                "the namespace is labelled pullpass.dev/inject=disabled",
            ),
            (
                Exemption::NamespaceNotOptedIn,
                "namespace-not-opted-in",
                "not labelled pullpass.dev/inject=enabled",
            ),
            (
                Exemption::NamespaceNotSelected,
                "namespace-not-selected",
                "do not match the namespace selector",
            ),
            (
                Exemption::PodOptedOut,
                "pod-opted-out",
                "the Pod is labelled pullpass.dev/inject=disabled",
            ),
        ] {
            assert_eq!(exemption.as_str(), word);
            assert!(exemption.sentence().contains(says), "{}", exemption.sentence());
        }
    }
}
