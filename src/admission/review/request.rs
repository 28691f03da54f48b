//! The request: read from the wire in one pass, borrowed, and without what no decision needs.
//!
//! The API server puts at least the Pod, its `managedFields` and, on an update, the old Pod into a review. Building
//! all that as a typed `Pod` costs several times what the rest of an answer costs.

use std::borrow::Cow;

use thiserror::Error;

use crate::admission::json::{JsonError, Reader};
use crate::api::names::{INJECT_LABEL, MIRROR_POD_ANNOTATION};
use crate::policy::request::{ImageField, Operation, Owner, PodImage, PodView, ReviewRequest};

/// Why a body is not a review that can be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The body is not JSON, or a field has the wrong type.
    #[error("the body is not a JSON AdmissionReview: {0}")]
    Json(#[from] JsonError),
    /// It is JSON, but of another kind or version.
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1")]
    Kind,
    /// It is a review without a request that can be answered.
    #[error("the AdmissionReview has no request, or one without a uid")]
    NoRequest,
}

impl<'a> ReviewRequest<'a> {
    /// Reads a review from the wire.
    pub fn decode(body: &'a [u8]) -> Result<Self, ReviewError> {
        let mut reader = Reader::new(body);
        let (mut is_review, mut is_v1, mut request) = (false, false, None);
        reader.object(|reader, key| {
            match key {
                "kind" => is_review = reader.string()? == "AdmissionReview",
                "apiVersion" => is_v1 = reader.string()? == "admission.k8s.io/v1",
                "request" => request = read_request(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if !(is_review && is_v1 && reader.at_end()) {
            return Err(ReviewError::Kind);
        }
        request.ok_or(ReviewError::NoRequest)
    }
}

fn read_request<'a>(reader: &mut Reader<'a>) -> Result<Option<ReviewRequest<'a>>, JsonError> {
    let mut operation = None;
    let mut request = ReviewRequest {
        uid: Cow::Borrowed(""),
        operation: Operation::Connect,
        is_pod: false,
        sub_resource: None,
        namespace: Cow::Borrowed(""),
        name: Cow::Borrowed(""),
        dry_run: false,
        user: Cow::Borrowed(""),
        pod: PodView::default(),
        old_images: Vec::new(),
    };
    reader.object(|reader, key| {
        match key {
            "uid" => request.uid = reader.string()?,
            "operation" => {
                operation = match reader.string()?.as_ref() {
                    "CREATE" => Some(Operation::Create),
                    "UPDATE" => Some(Operation::Update),
                    "DELETE" => Some(Operation::Delete),
                    "CONNECT" => Some(Operation::Connect),
                    _ => None,
                }
            }
            "kind" => request.is_pod = read_is_pod(reader)?,
            "subResource" => request.sub_resource = reader.optional_string()?,
            "namespace" => request.namespace = reader.string()?,
            "name" => request.name = reader.string()?,
            "dryRun" => request.dry_run = reader.bool()?,
            "userInfo" => reader.object(|reader, key| match key {
                "username" => reader.string().map(|user| request.user = user),
                _ => reader.skip(),
            })?,
            "object" => request.pod = PodView::read(reader)?,
            "oldObject" => request.old_images = PodView::read(reader)?.images,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let Some(operation) = operation.filter(|_| !request.uid.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(ReviewRequest { operation, ..request }))
}

/// Whether a `GroupVersionKind` is the Pod of the core group.
fn read_is_pod(reader: &mut Reader<'_>) -> Result<bool, JsonError> {
    let (mut core, mut pod) = (true, false);
    reader.object(|reader, key| {
        match key {
            "group" => core = reader.string()?.is_empty(),
            "kind" => pod = reader.string()? == "Pod",
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(core && pod)
}

impl<'a> PodView<'a> {
    /// Reads a Pod; whatever is not a Pod yields an empty one.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut pod = Self::default();
        reader.object(|reader, key| match key {
            "metadata" => pod.read_metadata(reader),
            "spec" => pod.read_spec(reader),
            _ => reader.skip(),
        })?;
        Ok(pod)
    }

    fn read_metadata(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        reader.object(|reader, key| {
            match key {
                "name" => self.name = reader.optional_string()?,
                "generateName" => self.generate_name = reader.optional_string()?,
                "labels" => reader.object(|reader, key| match key {
                    INJECT_LABEL => reader.optional_string().map(|value| self.inject_label = value),
                    _ => reader.skip(),
                })?,
                "annotations" => reader.object(|reader, key| {
                    self.is_mirror |= key == MIRROR_POD_ANNOTATION;
                    reader.skip()
                })?,
                "ownerReferences" => reader.array(|reader| {
                    let owner = Owner::read(reader)?;
                    if owner.is_controller || self.owner.is_none() {
                        self.owner = Some(owner);
                    }
                    Ok(())
                })?,
                _ => reader.skip()?,
            }
            Ok(())
        })
    }

    fn read_spec(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        reader.object(|reader, key| match key {
            "containers" => self.read_containers(reader, ImageField::Containers),
            "initContainers" => self.read_containers(reader, ImageField::InitContainers),
            "ephemeralContainers" => self.read_containers(reader, ImageField::EphemeralContainers),
            "volumes" => self.read_volumes(reader),
            "imagePullSecrets" => self.read_pull_secrets(reader),
            "serviceAccountName" => reader.optional_string().map(|name| self.service_account = name),
            _ => reader.skip(),
        })
    }

    fn read_containers(&mut self, reader: &mut Reader<'a>, field: ImageField) -> Result<(), JsonError> {
        reader.array(|reader| {
            let (mut name, mut reference) = (Cow::Borrowed(""), None);
            reader.object(|reader, key| match key {
                "name" => reader.string().map(|text| name = text),
                "image" => reader.optional_string().map(|text| reference = text),
                _ => reader.skip(),
            })?;
            self.images.extend(reference.map(|reference| PodImage {
                field,
                name,
                reference,
            }));
            Ok(())
        })
    }

    fn read_volumes(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        reader.array(|reader| {
            let (mut name, mut reference) = (Cow::Borrowed(""), None);
            reader.object(|reader, key| match key {
                "name" => reader.string().map(|text| name = text),
                "image" => reader.object(|reader, key| match key {
                    "reference" => reader.optional_string().map(|text| reference = text),
                    _ => reader.skip(),
                }),
                _ => reader.skip(),
            })?;
            let image = reference.map(|reference| PodImage {
                field: ImageField::Volumes,
                name,
                reference,
            });
            self.images.extend(image);
            Ok(())
        })
    }

    fn read_pull_secrets(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        // `null` is no list, and a patch can't append to it.
        if reader.null()? {
            return Ok(());
        }
        let mut names = Vec::new();
        reader.array(|reader| {
            reader.object(|reader, key| match key {
                "name" => reader.optional_string().map(|name| names.extend(name)),
                _ => reader.skip(),
            })
        })?;
        self.pull_secrets = Some(names);
        Ok(())
    }
}

impl<'a> Owner<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut owner = Self::default();
        reader.object(|reader, key| {
            match key {
                "apiVersion" => owner.api_version = reader.string()?,
                "kind" => owner.kind = reader.string()?,
                "name" => owner.name = reader.string()?,
                "uid" => owner.uid = reader.string()?,
                "controller" => owner.is_controller = reader.bool()?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn review(request: &Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
            .to_string()
            .into_bytes()
    }

    fn create(pod: &Value) -> Value {
        json!({
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "apps", "userInfo": {"username": "jane", "groups": ["a"]}, "object": pod, "oldObject": null,
            "dryRun": true,
        })
    }

    #[test]
    fn it_takes_what_a_decision_needs() {
        let body = review(&create(&json!({
            "metadata": {
                "generateName": "web-", "managedFields": [{"fieldsV1": {"f:spec": {"f:containers": {}}}}],
                "labels": {"app": "web", "pullpass.dev/inject": "disabled"},
                "ownerReferences": [
                    {"kind": "Node", "name": "n", "apiVersion": "v1", "uid": "1"},
                    {"kind": "ReplicaSet", "name": "web-1", "apiVersion": "apps/v1", "uid": "2", "controller": true},
                ],
            },
            "spec": {
                "volumes": [{"name": "v", "image": {"reference": "r.azurecr.io/v", "pullPolicy": "Always"}}, {"name": "e", "emptyDir": {}}],
                "initContainers": [{"image": "init", "name": "i"}],
                "containers": [{"name": "c\"1", "image": "r.azurecr.io/\u{e9}", "env": [{"name": "image", "value": "}]\\\""}]}, {"name": "none"}],
                "ephemeralContainers": null,
                "imagePullSecrets": [{"name": "own"}, {}],
                "serviceAccountName": "default",
            },
        })));
        let request = ReviewRequest::decode(&body).unwrap();
        assert_eq!((request.uid.as_ref(), request.user.as_ref()), ("u-1", "jane"));
        assert!(request.is_pod && request.dry_run && request.old_images.is_empty());
        let pod = request.pod;
        let images: Vec<_> = pod
            .images
            .iter()
            .map(|image| (image.path().to_string(), image.reference.as_ref()))
            .collect();
        assert_eq!(
            images,
            [
                ("spec.containers[c\"1]".to_owned(), "r.azurecr.io/\u{e9}"),
                ("spec.initContainers[i]".to_owned(), "init"),
                ("spec.volumes[v].image".to_owned(), "r.azurecr.io/v"),
            ]
        );
        assert_eq!(pod.owner.unwrap().name, "web-1");
        assert_eq!(pod.pull_secrets.unwrap(), ["own"]);
        assert_eq!(pod.inject_label.unwrap(), "disabled");
        assert_eq!((pod.name, pod.generate_name.as_deref()), (None, Some("web-")));
    }

    #[test]
    fn a_null_list_of_pull_secrets_is_no_list() {
        let body = review(&create(&json!({"spec": {"imagePullSecrets": null}})));
        assert_eq!(ReviewRequest::decode(&body).unwrap().pod.pull_secrets, None);
        let body = review(&create(&json!({"spec": {"imagePullSecrets": []}})));
        assert_eq!(
            ReviewRequest::decode(&body).unwrap().pod.pull_secrets,
            Some(Vec::new())
        );
    }

    #[test]
    fn other_kinds_are_told_from_pods() {
        for (kind, is_pod) in [
            (json!({"group": "", "version": "v1", "kind": "Pod"}), true),
            (
                json!({"group": "evil.example", "version": "v1", "kind": "Pod"}),
                false,
            ),
            (
                json!({"group": "apps", "version": "v1", "kind": "Deployment"}),
                false,
            ),
        ] {
            let mut request = create(&json!({}));
            request["kind"] = kind.clone();
            assert_eq!(
                ReviewRequest::decode(&review(&request)).unwrap().is_pod,
                is_pod,
                "{kind}"
            );
        }
    }

    #[test]
    fn what_is_not_a_review_is_refused() {
        let whole = review(&create(&json!({"spec": {}})));
        for cut in 0..whole.len() {
            assert!(ReviewRequest::decode(&whole[..cut]).is_err(), "{cut}");
        }
        let beta = String::from_utf8(whole.clone())
            .unwrap()
            .replace("k8s.io/v1\"", "k8s.io/v1beta1\"");
        assert_eq!(ReviewRequest::decode(beta.as_bytes()), Err(ReviewError::Kind));
        assert_eq!(ReviewRequest::decode(b"{}"), Err(ReviewError::Kind));
        assert_eq!(
            ReviewRequest::decode(b"[]").unwrap_err().to_string(),
            "the body is not a JSON AdmissionReview: expected an object at byte 0"
        );
        let trailing = [whole.as_slice(), b"{}"].concat();
        assert_eq!(ReviewRequest::decode(&trailing), Err(ReviewError::Kind));
        assert_eq!(
            ReviewRequest::decode(&review(&json!(null))),
            Err(ReviewError::NoRequest)
        );
        assert_eq!(
            ReviewRequest::decode(&review(&json!({"uid": "", "operation": "CREATE"}))),
            Err(ReviewError::NoRequest)
        );
    }
}
