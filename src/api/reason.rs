//! Why an `AcrRegistry` is not ready, in one word.

use std::fmt;

/// The `reason` of the condition `Ready=False`, or, for some, of `Distributed=False`, `PullAuthorized=False` or `CustomDomains=False`. Scripts and alerts lean on these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The spec can't be carried out as it is.
    InvalidSpec,
    /// A Secret or token file that the spec leans on is not there, or holds nothing that can be used.
    CredentialSecretMissing,
    /// The ServiceAccount that an AcrPullBinding names is not there, or does not say which identity it is.
    ServiceAccountMissing,
    /// The namespace's owner has not granted pullpass tokens of the ServiceAccount that an AcrPullBinding names.
    NotGranted,
    /// The namespace of an AcrPullBinding gets no pull secrets.
    NamespaceNotInjected,
    /// The namespace of an AcrPullBinding has more of them than are served, and older ones.
    TooManyBindings,
    /// Entra ID, or the managed identity endpoint, refuses the identity.
    EntraRejected,
    /// The registry refuses the identity.
    ExchangeRejected,
    /// Entra ID or the registry asks to be called less often.
    Throttled,
    /// Entra ID or the registry gives no sound answer.
    Unreachable,
    /// A foreign object has a name that is needed.
    NameConflict,
    /// The API server does not take pull secrets in some namespaces.
    SecretsRefused,
    /// The credential may not pull from a repository.
    PullDenied,
    /// The API server does not ask the webhook about Pods with images on a custom domain.
    NotAsked,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::InvalidSpec,
        Self::CredentialSecretMissing,
        Self::ServiceAccountMissing,
        Self::NotGranted,
        Self::NamespaceNotInjected,
        Self::TooManyBindings,
        Self::EntraRejected,
        Self::ExchangeRejected,
        Self::Throttled,
        Self::Unreachable,
        Self::NameConflict,
        Self::SecretsRefused,
        Self::PullDenied,
        Self::NotAsked,
    ];

    /// The reason of that name; none for another word, as for that of a condition that is `True`.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether it is temporary: nobody has to do anything but wait.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unreachable)
    }

    /// The word in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::CredentialSecretMissing => "CredentialSecretMissing",
            Self::ServiceAccountMissing => "ServiceAccountMissing",
            Self::NotGranted => "NotGranted",
            Self::NamespaceNotInjected => "NamespaceNotInjected",
            Self::TooManyBindings => "TooManyBindings",
            Self::EntraRejected => "EntraRejected",
            Self::ExchangeRejected => "ExchangeRejected",
            Self::Throttled => "Throttled",
            Self::Unreachable => "Unreachable",
            Self::NameConflict => "NameConflict",
            Self::SecretsRefused => "SecretsRefused",
            Self::PullDenied => "PullDenied",
            Self::NotAsked => "NotAsked",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
