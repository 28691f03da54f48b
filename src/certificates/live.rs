//! What is published: the live `MutatingWebhookConfiguration`, as far as it matters here.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};

/// A webhook of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWebhook {
    /// Its name.
    pub name: String,
    /// Its `caBundle`; empty if there is none.
    pub bundle: Vec<u8>,
}

/// A configuration with at least one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The object's identity: one that was recreated is another.
    pub uid: String,
    /// The version of the object that this is read from.
    pub version: Option<String>,
    /// Its webhooks.
    pub webhooks: Vec<LiveWebhook>,
}

impl Live {
    /// What a configuration publishes; nothing if it has no webhooks.
    pub fn of(configuration: MutatingWebhookConfiguration) -> Option<Self> {
        let uid = configuration.metadata.uid.unwrap_or_default();
        let version = configuration.metadata.resource_version;
        let webhooks: Vec<_> = configuration
            .webhooks
            .into_iter()
            .flatten()
            .map(|webhook| LiveWebhook {
                name: webhook.name,
                bundle: webhook.client_config.ca_bundle.unwrap_or_default().0,
            })
            .collect();
        (!webhooks.is_empty()).then_some(Self {
            uid,
            version,
            webhooks,
        })
    }

    /// Whether both say the same, be it in another version.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.uid, &self.webhooks) == (&other.uid, &other.webhooks)
    }

    /// Whether every webhook has this bundle.
    pub fn publishes(&self, bundle: &str) -> bool {
        self.webhooks
            .iter()
            .all(|webhook| webhook.bundle == bundle.as_bytes())
    }

    /// The object to apply, so that every webhook has this bundle. It names nothing else, so that others stay owners of
    /// the rest, and it has the object's identity, so that an object that was deleted is not created.
    pub fn patch(&self, configuration: &str, bundle: &str) -> Value {
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let webhooks: Vec<_> = self
            .webhooks
            .iter()
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": configuration, "uid": self.uid},
            "webhooks": webhooks,
        })
    }
}
