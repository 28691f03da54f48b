//! What `credential-NAME` in pullpass' own namespace holds: a minted credential, or the note that the registry is detached.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api::names::{
    EMPTIED_AT_ANNOTATION, PULL_SECRETS_ANNOTATION, PULL_SECRETS_DELETED, minted_credential,
};
use crate::sync::held_credential::{DOCKER_CONFIG_KEY, HeldCredential, secret};

/// How long an emptied credential is kept once the namespaces are swept: longer than the watch of a replica may be
/// behind. kube's watcher gives up a silent watch after about 295 s.
pub const EMPTIED_INTERVAL: Duration = Duration::from_mins(6);
/// A docker config without any credential, in the one form that pullpass writes.
const EMPTY_DOCKER_CONFIG: &[u8] = b"{}";

/// What the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A credential.
    Minted(Arc<HeldCredential>),
    /// None any more, since the registry is detached.
    Emptied(Emptied),
    /// Nothing that can be used: somebody spoilt it.
    Unreadable,
}

/// A credential that was removed from its Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emptied {
    /// When, by the clock of the replica that led.
    pub at: Timestamp,
    /// Whether every namespace was swept since.
    pub is_swept: bool,
}

impl Stored {
    /// Reads a Secret.
    pub fn parse(secret: &Secret) -> Self {
        Emptied::parse(secret)
            .map(Self::Emptied)
            .or_else(|| HeldCredential::parse(secret).map(Into::into))
            .unwrap_or(Self::Unreadable)
    }

    /// The credential, if there is one.
    pub fn minted(&self) -> Option<&Arc<HeldCredential>> {
        match self {
            Self::Minted(credential) => Some(credential),
            Self::Emptied(_) | Self::Unreadable => None,
        }
    }
}

impl Stored {
    /// Whether another one is the same credential, of which something else is noted: its inputs, or to which namespaces it may
    /// go.
    pub(super) fn is_noted_otherwise(&self, other: &Self) -> bool {
        let (Some(held), Some(other)) = (self.minted(), other.minted()) else {
            return false;
        };
        let noted = HeldCredential {
            inputs: other.inputs.clone(),
            namespaces: other.namespaces.clone(),
            ..(**held).clone()
        };
        held != other && noted == **other
    }
}

impl From<HeldCredential> for Stored {
    fn from(credential: HeldCredential) -> Self {
        Self::Minted(Arc::new(credential))
    }
}

impl Emptied {
    /// The annotation alone does not count: it may be written by anyone on a credential that is in use.
    fn parse(secret: &Secret) -> Option<Self> {
        let annotations = secret.annotations();
        let docker_config = secret.data.as_ref()?.get(DOCKER_CONFIG_KEY)?;
        if docker_config.0 != EMPTY_DOCKER_CONFIG {
            return None;
        }
        Some(Self {
            at: annotations.get(EMPTIED_AT_ANNOTATION)?.parse().ok()?,
            is_swept: annotations
                .get(PULL_SECRETS_ANNOTATION)
                .is_some_and(|value| value == PULL_SECRETS_DELETED),
        })
    }

    /// The Secret in the own namespace, to be applied in place of the version that was read.
    pub fn manifest(self, registry: &str, namespace: &str, in_place_of: Option<&str>) -> Value {
        let mut annotations = json!({EMPTIED_AT_ANNOTATION: self.at.to_string()});
        if let Some(annotations) = annotations.as_object_mut().filter(|_| self.is_swept) {
            annotations.insert(PULL_SECRETS_ANNOTATION.to_owned(), json!(PULL_SECRETS_DELETED));
        }
        let name = minted_credential(registry);
        let nothing = ByteString(EMPTY_DOCKER_CONFIG.to_vec());
        let mut manifest = secret(&name, namespace, registry, &annotations, &nothing);
        let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
        if let (Some(metadata), Some(version)) = (metadata, in_place_of) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names::REFRESHED_AT_ANNOTATION;

    fn emptied(is_swept: bool) -> Emptied {
        Emptied {
            at: "2026-11-22T18:00:00Z".parse().unwrap(),
            is_swept,
        }
    }

    fn parsed(manifest: Value) -> Stored {
        Stored::parse(&serde_json::from_value(manifest).unwrap())
    }

    #[test]
    fn an_emptied_credential_is_read_back() {
        for emptied in [emptied(false), emptied(true)] {
            let manifest = emptied.manifest("mine", "own", Some("7"));
            assert_eq!(manifest["metadata"]["name"], "credential-mine");
            assert_eq!(manifest["metadata"]["resourceVersion"], "7");
            assert_eq!(parsed(manifest), Stored::Emptied(emptied));
        }
    }

    #[test]
    fn an_annotation_alone_empties_nothing() {
        let credential = HeldCredential {
            docker_config: ByteString(b"{\"auths\":{}}".to_vec()),
            audience: None,
            refreshed_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: String::new(),
            fingerprint: None,
            namespaces: None,
        };
        let mut manifest = credential.manifest("mine", "own");
        manifest["metadata"]["annotations"][EMPTIED_AT_ANNOTATION] = json!("2026-11-22T18:00:00Z");
        assert_eq!(parsed(manifest.clone()), Stored::from(credential));
        manifest["metadata"]["annotations"][REFRESHED_AT_ANNOTATION] = json!("yesterday");
        assert_eq!(parsed(manifest), Stored::Unreadable);
    }

    #[test]
    fn an_empty_one_without_a_time_is_unreadable() {
        let mut manifest = emptied(true).manifest("mine", "own", None);
        manifest["metadata"]["annotations"][EMPTIED_AT_ANNOTATION] = json!("yesterday");
        assert_eq!(parsed(manifest), Stored::Unreadable);
    }
}
