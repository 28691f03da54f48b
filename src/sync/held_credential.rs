//! A minted credential: how it lies in pullpass' own namespace, and the pull secrets that are made of it.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{
    AUDIENCE_ANNOTATION, BINDING_LABEL, BINDING_NAMESPACE_LABEL, EXPIRES_AT_ANNOTATION,
    FINGERPRINT_ANNOTATION, INPUTS_ANNOTATION, MANAGED_BY_LABEL, MANAGER, NAMESPACES_ANNOTATION,
    REFRESHED_AT_ANNOTATION, REGISTRY_LABEL, binding_of_key, minted_credential,
};
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::azure::mint::Credential;
use crate::policy::attached::AttachedRegistry;
use crate::registry::custom_domain::CustomDomain;
use crate::registry::docker_config::{Keys, for_every_host};
/// The type of a Secret that a kubelet takes credentials from.
pub const DOCKER_CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The one key in its data.
pub const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// A minted credential, as it lies in the own namespace.
#[derive(Clone, PartialEq, Eq)]
pub struct HeldCredential {
    /// The content of the pull secrets.
    pub docker_config: ByteString,
    /// The audience that was accepted, where one was asked for.
    pub audience: Option<String>,
    /// When it was minted.
    pub refreshed_at: Timestamp,
    /// When it expires; `None` if it has no expiry.
    pub expires_at: Option<Timestamp>,
    /// What it was minted from: differs when the spec or the Secret that it names changes.
    pub inputs: String,
    /// The fingerprint of the spec that it was made of; none if an earlier release made it.
    pub fingerprint: Option<String>,
    /// The fingerprint of the selector of namespaces under which the leader last found its identity to be the spec's;
    /// empty where the identity's Secret is missing or refuses, none if an earlier release stored it.
    pub namespaces: Option<String>,
}

impl fmt::Debug for HeldCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldCredential")
            .field("refreshed_at", &self.refreshed_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl HeldCredential {
    /// What is to be held of a credential that was just minted.
    pub fn of(credential: &Credential, registry: &AttachedRegistry, inputs: String) -> Self {
        Self {
            docker_config: ByteString(credential.docker_config(registry.login_server())),
            audience: credential.audience.clone(),
            refreshed_at: credential.issued_at,
            expires_at: credential.expires_at,
            inputs,
            fingerprint: Some(registry.fingerprint().to_owned()),
            namespaces: Some(registry.namespaces_fingerprint().to_owned()),
        }
    }

    /// Whether it is what the spec of a registry asks for: it goes nowhere else than that spec allows.
    pub fn is_of(&self, registry: &AttachedRegistry) -> bool {
        self.fingerprint.as_deref() == Some(registry.fingerprint())
    }

    /// Whether it may be written for a registry now. It is of the spec, and its identity was still the spec's when the leader
    /// read that for the selector in force: who the identity is may stand in a Secret, which no fingerprint of a spec knows,
    /// and namespaces that an edit lets in get nothing of an identity that was replaced before the edit.
    pub fn may_go_out_for(&self, registry: &AttachedRegistry) -> bool {
        let is_confirmed = |namespaces: &String| namespaces == registry.namespaces_fingerprint();
        self.is_of(registry) && self.namespaces.as_ref().is_none_or(is_confirmed)
    }

    /// Whether another one of the same spec and inputs holds the same, whenever either was minted.
    pub(super) fn is_as_good_as(&self, other: &Self) -> bool {
        let of = |held: &Self| {
            (
                held.docker_config.clone(),
                held.inputs.clone(),
                held.fingerprint.clone(),
            )
        };
        of(self) == of(other)
    }

    /// Reads it back; `None` for a Secret that is not one, or that somebody spoilt: it is minted again then.
    pub fn parse(secret: &Secret) -> Option<Self> {
        let annotations = secret.annotations();
        let time = |key: &str| {
            annotations
                .get(key)
                .map(|text| text.parse::<Timestamp>())
                .transpose()
                .ok()
        };
        Some(Self {
            docker_config: secret.data.as_ref()?.get(DOCKER_CONFIG_KEY)?.clone(),
            audience: annotations.get(AUDIENCE_ANNOTATION).cloned(),
            refreshed_at: time(REFRESHED_AT_ANNOTATION)??,
            expires_at: time(EXPIRES_AT_ANNOTATION)?,
            inputs: annotations.get(INPUTS_ANNOTATION)?.clone(),
            fingerprint: annotations.get(FINGERPRINT_ANNOTATION).cloned(),
            namespaces: annotations.get(NAMESPACES_ANNOTATION).cloned(),
        })
    }

    /// The Secret in the own namespace, to be applied.
    pub fn manifest(&self, registry: &str, namespace: &str) -> Value {
        let mut annotations = self.times();
        let mut annotate = |key: &str, value: &str| {
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(key.to_owned(), json!(value));
            }
        };
        annotate(INPUTS_ANNOTATION, &self.inputs);
        if let Some(fingerprint) = &self.fingerprint {
            annotate(FINGERPRINT_ANNOTATION, fingerprint);
        }
        if let Some(namespaces) = &self.namespaces {
            annotate(NAMESPACES_ANNOTATION, namespaces);
        }
        if let Some(audience) = &self.audience {
            annotate(AUDIENCE_ANNOTATION, audience);
        }
        let name = minted_credential(registry);
        secret(&name, namespace, registry, &annotations, &self.docker_config)
    }

    /// The pull secret in a namespace, to be applied. It is the same each time, so that applying it twice writes once.
    pub fn pull_secret(
        &self,
        namespace: &str,
        registry: &AttachedRegistry,
        domains: &[CustomDomain],
        keys: Keys,
        chosen: &PullSecretMetadata,
    ) -> Value {
        let every = for_every_host(&self.docker_config.0, registry.login_server(), domains, keys);
        let docker_config = ByteString(every);
        let (name, key) = (registry.pull_secret(), registry.name());
        let mut manifest = secret(name, namespace, key, &self.times(), &docker_config);
        chosen.add_to(&mut manifest);
        // The garbage collector takes it when the binding is deleted, whichever replica leads.
        let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some((owner, metadata)) = registry.owner().zip(metadata) {
            let owner = json!({
                "apiVersion": AcrPullBinding::api_version(&()),
                "kind": AcrPullBinding::kind(&()),
                "name": owner.name,
                "uid": owner.uid,
            });
            metadata.insert("ownerReferences".to_owned(), json!([owner]));
        }
        manifest
    }

    fn times(&self) -> Value {
        let mut annotations = json!({REFRESHED_AT_ANNOTATION: self.refreshed_at.to_string()});
        if let (Some(expires_at), Some(annotations)) = (self.expires_at, annotations.as_object_mut()) {
            annotations.insert(EXPIRES_AT_ANNOTATION.to_owned(), json!(expires_at.to_string()));
        }
        annotations
    }
}

/// A Secret of pullpass, to be applied, for what is known by a key.
pub(super) fn secret(
    name: &str,
    namespace: &str,
    key: &str,
    annotations: &Value,
    docker_config: &ByteString,
) -> Value {
    let labels = match binding_of_key(key) {
        Some((of, binding)) => {
            json!({MANAGED_BY_LABEL: MANAGER, BINDING_LABEL: binding, BINDING_NAMESPACE_LABEL: of})
        }
        None => json!({MANAGED_BY_LABEL: MANAGER, REGISTRY_LABEL: key}),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "type": DOCKER_CONFIG_TYPE,
        "data": {DOCKER_CONFIG_KEY: docker_config},
    })
}

#[cfg(test)]
pub(in crate::sync) mod tests {
    use super::*;

    pub(in crate::sync) fn held() -> HeldCredential {
        HeldCredential {
            docker_config: ByteString(b"{\"auths\":{}}".to_vec()),
            audience: Some("https://containerregistry.azure.net".to_owned()),
            refreshed_at: "2026-11-22T18:00:00Z".parse().unwrap(),
            expires_at: Some("2026-11-22T21:00:00Z".parse().unwrap()),
            inputs: "abc".to_owned(),
            fingerprint: Some("def".to_owned()),
            namespaces: None,
        }
    }

    #[test]
    fn a_credential_is_read_back_as_it_was_written() {
        for held in [
            held(),
            HeldCredential {
                audience: None,
                expires_at: None,
                fingerprint: None,
                ..held()
            },
        ] {
            let secret: Secret = serde_json::from_value(held.manifest("mine", "own")).unwrap();
            assert_eq!(secret.name_any(), "credential-mine");
            assert_eq!(HeldCredential::parse(&secret), Some(held));
        }
    }

    #[test]
    fn a_spoilt_secret_holds_nothing() {
        let good = held().manifest("mine", "own");
        for (pointer, value) in [
            ("/data", json!({})),
            (
                "/metadata/annotations/pullpass.dev~1refreshed-at",
                json!("yesterday"),
            ),
            (
                "/metadata/annotations/pullpass.dev~1expires-at",
                json!("tomorrow"),
            ),
            ("/metadata/annotations", json!({})),
        ] {
            let mut spoilt = good.clone();
            *spoilt.pointer_mut(pointer).unwrap() = value;
            assert_eq!(
                HeldCredential::parse(&serde_json::from_value(spoilt).unwrap()),
                None,
                "{pointer}"
            );
        }
    }

    #[test]
    fn it_is_not_printed() {
        assert!(!format!("{:?}", held()).contains("auths"));
    }
}
