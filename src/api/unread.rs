//! Objects of pullpass' own kinds as the API server has them, whether or not this version of the program can read
//! them.
//!
//! Somebody who may write such an object can fill its metadata up to the API server's limit, 1.5 MiB: labels,
//! annotations, finalizers, owners, and managed fields. Nothing here depends on them, so they are skipped while an
//! object is read, and never use memory. The schema bounds the rest.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object as the API server has it, or why it can't be read. Of its metadata, it has only what identifies it.
#[derive(Debug, Clone)]
pub struct Unread<K>(pub Result<K, InvalidObject>);

/// What is read of an object.
#[derive(Deserialize)]
struct Read {
    metadata: Identifying,
    spec: Option<Value>,
    status: Option<Value>,
}

/// What is read of its metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identifying {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
}

impl From<Identifying> for ObjectMeta {
    fn from(read: Identifying) -> Self {
        let Identifying {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            creation_timestamp,
        } = read;
        Self {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            creation_timestamp,
            ..Self::default()
        }
    }
}

impl<'de, K> Deserialize<'de> for Unread<K>
where
    K: Resource + DeserializeOwned,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read {
            metadata,
            spec,
            status,
        } = Read::deserialize(deserializer)?;
        let metadata = ObjectMeta::from(metadata);
        let parts = [("spec", spec), ("status", status)];
        let parts = parts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let metadata_to_come = ("metadata".to_owned(), Value::Object(Map::new()));
        let object: Map<_, _> = parts.chain([metadata_to_come]).collect();
        Ok(Self(match K::deserialize(Value::Object(object)) {
            Ok(mut object) => {
                *object.meta_mut() = metadata;
                Ok(object)
            }
            Err(error) => Err(InvalidObject {
                error: error.to_string(),
                metadata,
            }),
        }))
    }
}

impl<K: Resource> Resource for Unread<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::acr_pull_binding::AcrPullBinding;

    fn filled(spec: &Value) -> Unread<AcrPullBinding> {
        let text = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {
                "name": "app", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-11-28T10:00:00Z",
                "labels": {"long": "text"}, "annotations": {"long": "text"}, "finalizers": ["a.example/long"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "v"}],
                "managedFields": [{"manager": "long"}], "selfLink": "/long", "generateName": "long-",
            },
            "spec": spec,
            "status": {"loginServer": "registry1.azurecr.io"},
        });
        serde_json::from_str(&text.to_string()).unwrap()
    }

    #[test]
    fn metadata_of_any_length_is_skipped() {
        let sound = json!({"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"});
        let of_later = json!({"serviceAccountName": "puller", "cloud": "OfLater"});
        for (spec, is_readable) in [(sound, true), (of_later, false)] {
            let object = filled(&spec);
            let expected = json!({
                "name": "app", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-11-28T10:00:00Z",
            });
            assert_eq!(serde_json::to_value(object.meta()).unwrap(), expected);
            assert_eq!(object.0.is_ok(), is_readable);
        }
    }

    #[test]
    fn a_spec_and_a_status_are_read_whole() {
        let spec = json!({"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"});
        let object = filled(&spec).0.unwrap();
        assert_eq!(serde_json::to_value(&object.spec).unwrap(), spec);
        let status = object.status.unwrap();
        assert_eq!(status.login_server.as_deref(), Some("registry1.azurecr.io"));
    }

    #[test]
    fn an_unreadable_object_says_why() {
        let unreadable = filled(&json!({"serviceAccountName": "puller", "cloud": "OfLater"}))
            .0
            .unwrap_err();
        assert!(
            unreadable.error.contains("unknown variant `OfLater`"),
            "{unreadable}"
        );
        let without: Unread<AcrPullBinding> =
            serde_json::from_value(json!({"metadata": {"name": "app"}})).unwrap();
        assert_eq!(without.0.unwrap_err().error, "missing field `spec`");
    }
}
