//! The request: read from the wire in one pass, borrowed, and without what no decision needs.
//!
//! The API server puts at least the Pod, its `managedFields` and, on an update, the old Pod into a review. Building
//! all that as a typed `Pod` costs several times what the rest of an answer costs.

use std::borrow::Cow;

use thiserror::Error;

use crate::admission::json::{JsonError, Reader};
use crate::api::names::{INJECT_LABEL, INJECTED_BY_ANNOTATION, INJECTED_BY_POLICY, MIRROR_POD_ANNOTATION};
use crate::base::dns::{MAX_LABEL, is_label};
use crate::policy::request::{ImageField, Operation, Owner, PodImage, PodView, ReviewRequest};

/// The longest id of a request, in bytes. The API server makes a UUID for each, which has 36 (`NewUUID`, called by
/// `CreateAdmissionObjects` in `k8s.io/apiserver/pkg/admission/plugin/webhook/request`); the API's description promises
/// no form, so there is room for another one.
const MAX_UID: usize = 64;
/// The most images of one Pod.
///
/// An object is stored as one request to etcd, of 1.5 MiB unless etcd is configured otherwise (`--max-request-bytes`).
/// Of all fields with an image, a volume needs the fewest bytes in protobuf: 23, with a name of four letters, a
/// reference of one, and a pull policy. That allows 68,000 images; this limit is twice as many, for an etcd with a
/// higher limit. The API server's own limit for the body of a request is also twice etcd's (`MaxRequestBodyBytes` in
/// `k8s.io/apiserver/pkg/server`).
const MAX_IMAGES: usize = 1 << 17;
/// The most pull secrets of one Pod: 5 bytes each in protobuf with the least name, 315,000 in 1.5 MiB.
const MAX_PULL_SECRETS: usize = 1 << 19;
/// The group of the users that kubelets are.
const NODES_GROUP: &str = "system:nodes";

/// A Pod's own label, as it is compared with keys.
const INJECT_KEY: &[u8] = INJECT_LABEL.as_bytes();

/// Why a body is not a review that can be answered.
///
/// A review from the API server never leads here, so only this is refused. A mutating webhook is called before objects
/// are validated, so every text of an object may have any length, and some keep it (the API server limits neither a
/// user's name nor an owner's). Those are cut where they are kept.
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
    /// The request's id is longer than any that the API server makes.
    #[error("request.uid has {length} bytes: the API server sends at most {MAX_UID}")]
    Uid {
        /// How long it is, in bytes.
        length: usize,
    },
    /// The namespace is none that can exist.
    #[error(
        "request.namespace is not the name of a namespace: it must be a DNS label of at most {MAX_LABEL} bytes, \
         and is empty only where the object has no namespace"
    )]
    Namespace,
    /// A Pod names more images than can be stored.
    #[error("the Pod names more than {MAX_IMAGES} images, which is more than can be stored of one Pod")]
    TooManyImages,
    /// A Pod names more pull secrets than can be stored.
    #[error(
        "the Pod names more than {MAX_PULL_SECRETS} pull secrets, which is more than can be stored of one Pod"
    )]
    TooManyPullSecrets,
}

impl<'a> ReviewRequest<'a> {
    /// Reads a review from the wire.
    pub fn decode(body: &'a [u8]) -> Result<Self, ReviewError> {
        let mut reader = Reader::new(body);
        let (mut is_review, mut is_v1, mut request) = (false, false, None);
        reader.object(|reader, key| {
            match key {
                b"kind" => is_review = reader.string()? == "AdmissionReview",
                b"apiVersion" => is_v1 = reader.string()? == "admission.k8s.io/v1",
                b"request" => request = read_request(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if !(is_review && is_v1 && reader.at_end()) {
            return Err(ReviewError::Kind);
        }
        request.ok_or(ReviewError::NoRequest)?.checked()
    }

    /// Refuses what the API server never sends. Only what has a bound may be kept once the request is answered.
    pub fn checked(self) -> Result<Self, ReviewError> {
        if self.uid.len() > MAX_UID {
            return Err(ReviewError::Uid {
                length: self.uid.len(),
            });
        }
        // The API server looks the namespace up before it calls a webhook, for the selector and for the namespace's own
        // end, so its name was validated when the namespace was created (`ValidateNamespaceName`). Objects of some other
        // kinds have no namespace.
        let has_none = self.namespace.is_empty() && !self.is_pod;
        if !has_none && !is_label(&self.namespace) {
            return Err(ReviewError::Namespace);
        }
        let secrets = self.pod.pull_secrets.as_ref().map_or(0, Vec::len);
        if self.pod.images.len().max(self.old_images.len()) > MAX_IMAGES {
            Err(ReviewError::TooManyImages)
        } else if secrets > MAX_PULL_SECRETS {
            Err(ReviewError::TooManyPullSecrets)
        } else {
            Ok(self)
        }
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
        is_by_node: false,
        pod: PodView::default(),
        old_images: Vec::new(),
        picked: None,
        labels_are_read: false,
        mountable: None,
        account_is_uncached: false,
    };
    reader.object(|reader, key| {
        match key {
            b"uid" => request.uid = reader.string()?,
            b"operation" => {
                operation = match reader.string()?.as_ref() {
                    "CREATE" => Some(Operation::Create),
                    "UPDATE" => Some(Operation::Update),
                    "DELETE" => Some(Operation::Delete),
                    "CONNECT" => Some(Operation::Connect),
                    _ => None,
                }
            }
            b"kind" => request.is_pod = read_is_pod(reader)?,
            b"subResource" => request.sub_resource = reader.optional_string()?,
            b"namespace" => request.namespace = reader.string()?,
            b"name" => request.name = reader.string()?,
            b"dryRun" => request.dry_run = reader.bool()?,
            b"userInfo" => reader.object(|reader, key| match key {
                b"username" => reader.string().map(|user| request.user = user),
                b"groups" => reader.array(|reader| {
                    request.is_by_node |= reader.string()? == NODES_GROUP;
                    Ok(())
                }),
                _ => reader.skip(),
            })?,
            b"object" => request.pod = PodView::read(reader)?,
            b"oldObject" => request.old_images = PodView::read(reader)?.images,
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
            b"group" => core = reader.string()?.is_empty(),
            b"kind" => pod = reader.string()? == "Pod",
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(core && pod)
}

impl<'a> PodView<'a> {
    /// Reads a Pod that stands by itself, as the webhook reads one in a review.
    pub fn decode(text: &'a [u8]) -> Result<Self, JsonError> {
        Self::read(&mut Reader::new(text))
    }

    /// Reads a Pod; whatever is not a Pod yields an empty one.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut pod = Self::default();
        reader.object(|reader, key| match key {
            b"metadata" => pod.read_metadata(reader),
            b"spec" => pod.read_spec(reader),
            _ => reader.skip(),
        })?;
        Ok(pod)
    }

    fn read_metadata(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        reader.object(|reader, key| {
            match key {
                b"name" => self.name = reader.optional_string()?,
                b"generateName" => self.generate_name = reader.optional_string()?,
                b"labels" => reader.object(|reader, key| match key {
                    INJECT_KEY => reader.optional_string().map(|value| self.inject_label = value),
                    _ => reader.skip(),
                })?,
                b"annotations" => reader.object(|reader, key| {
                    self.is_mirror |= key == MIRROR_POD_ANNOTATION.as_bytes();
                    if key == INJECTED_BY_ANNOTATION.as_bytes() {
                        let value = reader.optional_string()?;
                        self.is_injected_by_policy = value.as_deref() == Some(INJECTED_BY_POLICY);
                        return Ok(());
                    }
                    reader.skip()
                })?,
                b"ownerReferences" => reader.array(|reader| {
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
            b"containers" => self.read_containers(reader, ImageField::Containers),
            b"initContainers" => self.read_containers(reader, ImageField::InitContainers),
            b"ephemeralContainers" => self.read_containers(reader, ImageField::EphemeralContainers),
            b"volumes" => self.read_volumes(reader),
            b"imagePullSecrets" => self.read_pull_secrets(reader),
            b"serviceAccountName" => reader.optional_string().map(|name| self.service_account = name),
            _ => reader.skip(),
        })
    }

    fn read_containers(&mut self, reader: &mut Reader<'a>, field: ImageField) -> Result<(), JsonError> {
        reader.array(|reader| {
            let (mut name, mut reference) = (Cow::Borrowed(""), None);
            reader.object(|reader, key| match key {
                b"name" => reader.string().map(|text| name = text),
                b"image" => reader.optional_string().map(|text| reference = text),
                _ => reader.skip(),
            })?;
            self.add(reference.map(|reference| PodImage {
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
                b"name" => reader.string().map(|text| name = text),
                b"image" => reader.object(|reader, key| match key {
                    b"reference" => reader.optional_string().map(|text| reference = text),
                    _ => reader.skip(),
                }),
                _ => reader.skip(),
            })?;
            self.add(reference.map(|reference| PodImage {
                field: ImageField::Volumes,
                name,
                reference,
            }));
            Ok(())
        })
    }

    /// Takes an image. One more than there can be is enough to refuse the request, and the rest takes no memory.
    fn add(&mut self, image: Option<PodImage<'a>>) {
        if self.images.len() <= MAX_IMAGES {
            self.images.extend(image);
        }
    }

    fn read_pull_secrets(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        // `null` is no list, and a patch can't append to it.
        if reader.null()? {
            return Ok(());
        }
        let mut names = Vec::new();
        reader.array(|reader| {
            reader.object(|reader, key| match key {
                // As with images, one too many is enough.
                b"name" if names.len() <= MAX_PULL_SECRETS => {
                    reader.optional_string().map(|name| names.extend(name))
                }
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
                b"apiVersion" => owner.api_version = reader.string()?,
                b"kind" => owner.kind = reader.string()?,
                b"name" => owner.name = reader.string()?,
                b"uid" => owner.uid = reader.string()?,
                b"controller" => owner.is_controller = reader.bool()?,
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
        let alone =
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["request"]["object"].to_string();
        assert_eq!(
            PodView::decode(alone.as_bytes()).unwrap(),
            request.pod,
            "a Pod by itself"
        );
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
        assert_eq!(pod.service_account.unwrap(), "default");
        assert_eq!((pod.name, pod.generate_name.as_deref()), (None, Some("web-")));
    }

    #[test]
    fn a_pod_is_told_by_its_name_and_its_controller() {
        let owner = |name: &str, is_controller: bool| json!({"kind": "ReplicaSet", "name": name, "apiVersion": "apps/v1", "uid": name, "controller": is_controller});
        for (owners, name) in [
            (vec![owner("a", true), owner("b", false)], "a"),
            (vec![owner("a", false), owner("b", true)], "b"),
            (vec![owner("a", false), owner("b", false)], "a"),
        ] {
            let mut request = create(&json!({"metadata": {"name": "web", "ownerReferences": owners}}));
            request["name"] = json!("web-of-the-request");
            let body = review(&request);
            let request = ReviewRequest::decode(&body).unwrap();
            assert_eq!(request.name, "web-of-the-request");
            let pod = request.pod;
            assert_eq!(pod.owner.unwrap().name, name, "{owners:?}");
            assert_eq!(pod.name.as_deref(), Some("web"));
        }
    }

    #[test]
    fn as_many_pull_secrets_as_can_be_stored_are_read() {
        let secrets: Vec<_> = (0..MAX_PULL_SECRETS).map(|_| json!({"name": "s"})).collect();
        let spec = json!({"spec": {"imagePullSecrets": secrets, "serviceAccountName": "runner"}});
        let body = review(&create(&spec));
        let pod = ReviewRequest::decode(&body).unwrap().pod;
        assert_eq!(
            pod.pull_secrets.map(|secrets| secrets.len()),
            Some(MAX_PULL_SECRETS)
        );
        assert_eq!(pod.service_account.as_deref(), Some("runner"));
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
    fn bodies_that_are_no_review_are_refused() {
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

    fn with(field: &str, value: &Value) -> Result<usize, ReviewError> {
        let mut request = create(&json!({"spec": {}}));
        request[field] = value.clone();
        ReviewRequest::decode(&review(&request)).map(|request| request.pod.images.len())
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        for namespace in ["a", "0", "apps", "team-a-1", &"n".repeat(63)] {
            assert_eq!(with("namespace", &json!(namespace)), Ok(0), "{namespace}");
        }
        for namespace in [
            "",
            "Apps",
            "-a",
            "a-",
            "a.b",
            "a/b",
            "\u{e9}",
            "a\n",
            &"n".repeat(64),
        ] {
            let refused = with("namespace", &json!(namespace));
            assert_eq!(refused, Err(ReviewError::Namespace), "{namespace}");
        }
    }

    #[test]
    fn other_kinds_may_have_no_namespace() {
        let mut request = create(&json!({}));
        request["kind"]["kind"] = json!("Node");
        request.as_object_mut().unwrap().remove("namespace");
        assert!(ReviewRequest::decode(&review(&request)).is_ok());
        request["namespace"] = json!("n".repeat(64));
        assert_eq!(
            ReviewRequest::decode(&review(&request)),
            Err(ReviewError::Namespace)
        );
    }

    #[test]
    fn a_uid_is_bounded() {
        assert_eq!(with("uid", &json!("u".repeat(64))), Ok(0));
        let refused = with("uid", &json!("u".repeat(65))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "request.uid has 65 bytes: the API server sends at most 64"
        );
    }

    #[test]
    fn texts_without_a_limit_in_kubernetes_are_judged() {
        let long = "x".repeat(100_000);
        let pod = json!({
            "metadata": {"name": long, "generateName": long, "ownerReferences": [
                {"apiVersion": long, "kind": long, "name": long, "uid": long, "controller": true}]},
            "spec": {"serviceAccountName": long, "containers": [{"name": long, "image": long}]},
        });
        assert_eq!(with("object", &pod), Ok(1));
        assert_eq!(with("userInfo", &json!({"username": long})), Ok(0));
        assert_eq!(with("name", &json!(long)), Ok(0));
    }

    #[test]
    fn more_images_than_can_be_stored_are_refused() {
        let spec = |field: &str, item: &str, count: usize| {
            let items = vec![item; count].join(",");
            let before = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE","namespace":"apps","object":{"spec":{"#;
            format!(r#"{before}"{field}":[{items}]}}}}}}}}"#).into_bytes()
        };
        let image = r#"{"image":"a"}"#;
        let most = spec("containers", image, MAX_IMAGES);
        assert_eq!(ReviewRequest::decode(&most).unwrap().pod.images.len(), MAX_IMAGES);
        let more = spec("containers", image, MAX_IMAGES + 1);
        assert_eq!(ReviewRequest::decode(&more), Err(ReviewError::TooManyImages));
        let volumes = spec("volumes", r#"{"image":{"reference":"a"}}"#, MAX_IMAGES + 1);
        assert_eq!(ReviewRequest::decode(&volumes), Err(ReviewError::TooManyImages));
        let secrets = spec("imagePullSecrets", r#"{"name":""}"#, MAX_PULL_SECRETS + 2);
        assert_eq!(
            ReviewRequest::decode(&secrets),
            Err(ReviewError::TooManyPullSecrets)
        );
    }
}
