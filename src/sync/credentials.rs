//! Minted credentials: how they lie in pullpass' own namespace, and the copies that every replica holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::api::names::MANAGER;
use crate::base::clock::Instants;
use crate::sync::held_credential::HeldCredential;
use crate::sync::stored::Stored;

/// How far the clocks of two machines may be apart that both are right.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(10);

/// The place of a write in the API server's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u128);

impl Version {
    /// Reads a resource version. Since Kubernetes 1.35 they are promised to be numbers, and etcd's always were.
    pub fn parse(resource_version: Option<&str>) -> Option<Self> {
        resource_version?.parse().ok().map(Self)
    }

    /// The one before it.
    pub(super) fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a Secret was written by pullpass, as far as the API server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written(pub Option<Timestamp>);

impl Written {
    fn of(secret: &Secret) -> Self {
        let ours = secret.managed_fields().iter();
        let ours = ours.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
        Self(ours.filter_map(|entry| Some(entry.time.as_ref()?.0)).max())
    }
}

/// How this process came to hold a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instants,
    /// Where it was there already: when it was written, by the API server's clock. Otherwise it was minted just then,
    /// here, or the watch brought it as a change.
    pub written_at: Option<Written>,
}

impl Seen {
    /// One that is minted now.
    pub fn new() -> Self {
        Self {
            at: Instants::now(),
            written_at: None,
        }
    }

    /// One that was there already.
    pub fn listed(secret: &Secret) -> Self {
        Self {
            written_at: Some(Written::of(secret)),
            ..Self::new()
        }
    }

    /// The age of a credential that says that it was minted at that time, by the clock of the leader that minted it.
    /// Other clocks count only if this process did not see it arrive; `None` if one of them is ahead of this machine's.
    pub fn age(&self, refreshed_at: Timestamp, now: Instants) -> Option<SignedDuration> {
        let mut before = SignedDuration::ZERO;
        if let Some(Written(written_at)) = self.written_at {
            for time in written_at.into_iter().chain([refreshed_at]) {
                let age = self.at.wall.duration_since(time);
                if age < -CLOCK_SKEW {
                    return None;
                }
                before = before.max(age);
            }
        }
        Some(
            before
                .saturating_add(SignedDuration::try_from(now.since(self.at)).unwrap_or(SignedDuration::MAX)),
        )
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::new()
    }
}

/// What is news of a Secret with a minted credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that anybody has to hear of.
    None,
    /// The credential is the same, and may go to other namespaces.
    Noted,
    /// It holds another credential, or none.
    Credential,
}

/// What a replica knows of the Secrets with minted credentials, by AcrRegistry.
#[derive(Debug, Default)]
pub struct Credentials {
    held: RwLock<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    stored: Stored,
    version: Option<Version>,
    /// The version in which it was stored, as far as that was seen.
    stored_in: Option<Version>,
    seen: Seen,
}

impl Credentials {
    /// The credential that is held under a registry's name, whichever spec it was made of.
    pub fn of(&self, registry: &str) -> Option<Arc<HeldCredential>> {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(registry)
            .and_then(|held| held.stored.minted().cloned())
    }

    /// The same, and how this process got it.
    pub fn seen(&self, registry: &str) -> Option<(Arc<HeldCredential>, Seen)> {
        let (stored, seen) = self.stored(registry)?;
        Some((Arc::clone(stored.minted()?), seen))
    }

    /// The version in which what is held under a registry's name was stored, where this process saw that.
    pub(super) fn stored_in(&self, registry: &str) -> Option<Version> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(registry)?.stored_in
    }

    /// What the Secret of a registry's credential holds, and how this process came to know; none if there is no Secret.
    pub fn stored(&self, registry: &str) -> Option<(Stored, Seen)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let held = held.get(registry)?;
        Some((held.stored.clone(), held.seen))
    }

    /// Takes what such a Secret holds; says what is news of that. The same credential
    /// under other inputs is none: an annotation on the identity's Secret must not have every pull secret written. One of which
    /// something else is noted is as old as it was. The API server's order decides, and no clock does: one
    /// that is older than what is held, by the versions that the API server gave both, is not taken. One without a
    /// version, as a list brings it, always is.
    pub fn set(
        &self,
        registry: &str,
        stored: impl Into<Stored>,
        version: Option<Version>,
        seen: Seen,
    ) -> News {
        let stored = stored.into();
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get_mut(registry) {
            if known.version.zip(version).is_some_and(|(known, new)| known > new) {
                return News::None;
            }
            known.version = version;
            if known.stored == stored {
                return News::None;
            }
            if known.stored.is_noted_otherwise(&stored) {
                let namespaces = |stored: &Stored| stored.minted().map(|held| held.namespaces.clone());
                let is_told = namespaces(&known.stored) != namespaces(&stored);
                known.stored = stored;
                return if is_told { News::Noted } else { News::None };
            }
        }
        held.insert(
            registry.to_owned(),
            Held {
                stored,
                version,
                stored_in: version,
                seen,
            },
        );
        News::Credential
    }

    /// Forgets a credential whose Secret is gone.
    pub fn remove(&self, registry: &str) {
        self.held
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(registry);
    }

    /// The registries that have such a Secret, whatever it holds.
    pub fn registries(&self) -> Vec<String> {
        self.registries_that(|_| true)
    }

    /// Those of them of which this is true: no name of another is copied.
    pub(super) fn registries_that<C: FromIterator<String>>(&self, is_true: impl Fn(&str) -> bool) -> C {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let names = held.keys().filter(|name| is_true(name));
        names.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::held_credential::tests::held;

    #[test]
    fn api_servers_order_decides_and_no_clock() {
        let credentials = Credentials::default();
        let set = |hour: i8, version: Option<&str>| {
            let refreshed_at = format!("2026-11-22T{hour:02}:00:00Z").parse().unwrap();
            let credential = HeldCredential {
                refreshed_at,
                ..held()
            };
            let is_new = credentials.set("mine", credential, Version::parse(version), Seen::new());
            (
                is_new,
                credentials.of("mine").unwrap().refreshed_at == refreshed_at,
            )
        };
        assert_eq!(set(18, Some("9")), (News::Credential, true));
        assert_eq!(
            set(17, Some("10")),
            (News::Credential, true),
            "later, by a clock that is behind"
        );
        assert_eq!(set(19, Some("9")), (News::None, false), "an old event comes late");
        assert_eq!(set(16, None), (News::Credential, true), "a list is taken");
        assert_eq!(set(16, Some("11")), (News::None, true), "the same again");
        assert_eq!(set(17, Some("10")), (News::None, false));
    }

    #[test]
    fn a_credential_under_other_inputs_is_no_news_and_no_younger() {
        let credentials = Credentials::default();
        let seen = Seen {
            at: Instants {
                wall: Timestamp::UNIX_EPOCH,
                ..Instants::now()
            },
            written_at: None,
        };
        let first = credentials.set("mine", held(), Version::parse(Some("1")), seen);
        assert_eq!(first, News::Credential);
        let renamed = HeldCredential {
            inputs: "other".to_owned(),
            ..held()
        };
        let set = |credential, version| {
            credentials.set("mine", credential, Version::parse(Some(version)), Seen::new())
        };
        assert_eq!(set(renamed.clone(), "2"), News::None);
        assert!(credentials.seen("mine") == Some((Arc::new(renamed.clone()), seen)));
        assert_eq!(set(held(), "1"), News::None, "an old event comes late");
        let going_elsewhere = HeldCredential {
            namespaces: Some("others".to_owned()),
            ..renamed.clone()
        };
        assert_eq!(set(going_elsewhere.clone(), "3"), News::Noted);
        assert!(credentials.seen("mine") == Some((Arc::new(going_elsewhere), seen)));
        let of_another_spec = HeldCredential {
            fingerprint: Some("another".to_owned()),
            ..renamed
        };
        assert_eq!(set(of_another_spec, "3"), News::Credential);
    }
}
