//! What the Secret holds when nothing is wrong with it, and the steps from one such state to the next.

use jiff::Timestamp;

use super::{Authority, AuthorityCertificate, Leaf};

/// The authority that will sign next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The authority.
    pub authority: Authority,
    /// Since when it was seen among what the API server trusts.
    pub trusted_since: Option<Timestamp>,
}

/// The authority that signed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its certificate; its key is not kept.
    pub certificate: AuthorityCertificate,
    /// When the next one took over.
    pub retired_at: Timestamp,
}

/// Authorities and serving certificate. The serving certificate is always the current authority's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// The authority that signs.
    pub authority: Authority,
    /// What is served.
    pub leaf: Leaf,
    /// In the first phases of a rotation.
    pub next: Option<Next>,
    /// In the last phase of a rotation.
    pub previous: Option<Previous>,
}

impl CertificateState {
    /// One from nothing.
    pub(super) fn create(host: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        Self::of(Authority::make(now)?, host, now)
    }

    /// An authority with a new certificate of its own.
    pub(super) fn of(authority: Authority, host: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        let leaf = Leaf::issue(&authority, host, now)?;
        Ok(Self {
            authority,
            leaf,
            next: None,
            previous: None,
        })
    }

    /// The authorities that are to be trusted, the newest first.
    pub fn trusted(&self) -> impl Iterator<Item = &AuthorityCertificate> {
        let next = self.next.as_ref().map(|next| next.authority.certificate());
        let previous = self.previous.as_ref().map(|previous| &previous.certificate);
        next.into_iter()
            .chain([self.authority.certificate()])
            .chain(previous)
    }

    /// What belongs into `caBundle`.
    pub fn bundle(&self) -> String {
        self.trusted().map(AuthorityCertificate::pem).collect()
    }

    /// The next authority takes over.
    pub(super) fn promoted(self, host: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        let Self {
            authority,
            leaf,
            next,
            previous,
        } = self;
        match next {
            Some(next) => Ok(Self {
                leaf: Leaf::issue(&next.authority, host, now)?,
                authority: next.authority,
                next: None,
                previous: Some(Previous {
                    certificate: authority.certificate().clone(),
                    retired_at: now,
                }),
            }),
            None => Ok(Self {
                authority,
                leaf,
                next: None,
                previous,
            }),
        }
    }
}
