//! What a review says, as `serde_json` reads it into typed structs: the shape that the API server's encoder writes.
//!
//! Nothing here is shared with the decoder. Where a field that the decoder reads is there twice, or is of another type,
//! this is no such shape.

use std::fmt;
use std::marker::PhantomData;

use pullpass::admission::review::ReviewError;
use pullpass::policy::request::{ImageField, Operation, PodView, ReviewRequest};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The bounds, as they are documented.
const MAX_UID: usize = 64;
const MAX_NAMESPACE: usize = 63;
const MAX_IMAGES: usize = 131_072;
const MAX_PULL_SECRETS: usize = 524_288;

/// What the decoder is expected to give; none where the bytes have not the shape of a review.
pub(super) fn read(body: &[u8]) -> Option<Result<Request, ReviewError>> {
    let Members(review) = serde_json::from_slice::<Members<Review>>(body).ok()?;
    if review.kind != "AdmissionReview" || review.api_version != "admission.k8s.io/v1" {
        return Some(Err(ReviewError::Kind));
    }
    let request = review.request.0;
    if request.uid.is_empty() || operation(&request.operation).is_none() {
        return Some(Err(ReviewError::NoRequest));
    }
    Some(request.check().map(|()| request))
}

fn operation(text: &str) -> Option<Operation> {
    match text {
        "CREATE" => Some(Operation::Create),
        "UPDATE" => Some(Operation::Update),
        "DELETE" => Some(Operation::Delete),
        "CONNECT" => Some(Operation::Connect),
        _ => None,
    }
}

/// An object, or `null`, which has no members. Never a list, which serde would take for a struct.
#[derive(Debug, Default)]
struct Members<T>(T);

impl<'de, T: DeserializeOwned + Default> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned + Default> Visitor<'de> for MembersVisitor<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
            fn visit_unit<E: Error>(self) -> Result<T, E> {
                Ok(T::default())
            }
        }
        deserializer
            .deserialize_any(MembersVisitor(PhantomData))
            .map(Self)
    }
}

/// A list, or `null`, which is an empty one.
#[derive(Debug)]
struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Vec<T>>::deserialize(deserializer).map(|list| Self(list.unwrap_or_default()))
    }
}

/// Whether a key is there, whatever its value.
#[derive(Debug, Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// `null` is what it is by default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Review {
    kind: String,
    api_version: String,
    request: Members<Request>,
}

/// The request of a review.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    uid: String,
    operation: String,
    kind: Members<Kind>,
    sub_resource: Option<String>,
    namespace: String,
    name: String,
    #[serde(deserialize_with = "or_default")]
    dry_run: bool,
    user_info: Members<User>,
    object: Members<Pod>,
    old_object: Members<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kind {
    group: String,
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    groups: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Members<Metadata>,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    labels: Members<Labels>,
    annotations: Members<Annotations>,
    owner_references: List<Members<Owner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "pullpass.dev/inject")]
    inject: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Present,
    #[serde(rename = "pullpass.dev/injected-by")]
    injected_by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(deserialize_with = "or_default")]
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    image: Members<ImageSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageSource {
    reference: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: Option<String>,
}

/// A Pod's spec. Its lists are read in the order in which they stand, which a derived struct would forget.
#[derive(Debug, Default)]
struct Spec {
    service_account: Option<String>,
    pull_secrets: Option<Vec<String>>,
    /// The list, the name and the reference of each image.
    images: Vec<(ImageField, String, String)>,
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = Spec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Spec, E> {
        Ok(Spec::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Spec, A::Error> {
        Err(A::Error::custom("a list is no spec"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Spec, A::Error> {
        let mut spec = Spec::default();
        let mut seen = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            let field = match key.as_str() {
                "containers" => Some(ImageField::Containers),
                "initContainers" => Some(ImageField::InitContainers),
                "ephemeralContainers" => Some(ImageField::EphemeralContainers),
                "volumes" => Some(ImageField::Volumes),
                "imagePullSecrets" => {
                    let list: Option<Vec<Members<Reference>>> = members.next_value()?;
                    let names = |list: Vec<Members<Reference>>| {
                        list.into_iter().filter_map(|entry| entry.0.name).collect()
                    };
                    spec.pull_secrets = list.map(names);
                    None
                }
                "serviceAccountName" => {
                    spec.service_account = members.next_value()?;
                    None
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            match field {
                Some(ImageField::Volumes) => {
                    let List(volumes) = members.next_value::<List<Members<Volume>>>()?;
                    spec.images
                        .extend(volumes.into_iter().filter_map(|Members(volume)| {
                            Some((ImageField::Volumes, volume.name, volume.image.0.reference?))
                        }));
                }
                Some(field) => {
                    let List(containers) = members.next_value::<List<Members<Container>>>()?;
                    spec.images.extend(
                        containers
                            .into_iter()
                            .filter_map(|Members(container)| Some((field, container.name, container.image?))),
                    );
                }
                None => {}
            }
            if seen.contains(&key) {
                return Err(A::Error::custom("a field is there twice"));
            }
            seen.push(key);
        }
        Ok(spec)
    }
}

impl Request {
    fn is_pod(&self) -> bool {
        self.kind.0.kind == "Pod" && self.kind.0.group.is_empty()
    }

    fn check(&self) -> Result<(), ReviewError> {
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let name = self.namespace.as_bytes();
        let is_label = name.iter().all(|byte| edge(byte) || *byte == b'-')
            && name.len() <= MAX_NAMESPACE
            && name.first().is_some_and(edge)
            && name.last().is_some_and(edge);
        let images = |pod: &Members<Pod>| pod.0.spec.images.len();
        let secrets = self.object.0.spec.pull_secrets.as_ref().map_or(0, Vec::len);
        if self.uid.len() > MAX_UID {
            Err(ReviewError::Uid {
                length: self.uid.len(),
            })
        } else if !is_label && (self.is_pod() || !name.is_empty()) {
            Err(ReviewError::Namespace)
        } else if images(&self.object) > MAX_IMAGES || images(&self.old_object) > MAX_IMAGES {
            Err(ReviewError::TooManyImages)
        } else if secrets > MAX_PULL_SECRETS {
            Err(ReviewError::TooManyPullSecrets)
        } else {
            Ok(())
        }
    }

    /// Holds every field of the decoded request against this one.
    pub(super) fn assert_is(&self, decoded: &ReviewRequest<'_>) {
        let ReviewRequest {
            uid,
            operation: decoded_operation,
            is_pod,
            sub_resource,
            namespace,
            name,
            dry_run,
            user,
            is_by_node,
            pod,
            old_images,
            picked,
            labels_are_read,
            mountable,
            account_is_uncached,
        } = decoded;
        assert_eq!((mountable, *account_is_uncached), (&None, false));
        assert_eq!((*picked, *labels_are_read), (None, false));
        assert_eq!(*uid, self.uid);
        assert_eq!(Some(*decoded_operation), operation(&self.operation));
        assert_eq!(*is_pod, self.is_pod());
        assert_eq!(sub_resource.as_deref(), self.sub_resource.as_deref());
        assert_eq!(*namespace, self.namespace);
        assert_eq!(*name, self.name);
        assert_eq!(*dry_run, self.dry_run);
        assert_eq!(*user, self.user_info.0.username);
        let groups = &self.user_info.0.groups.0;
        assert_eq!(*is_by_node, groups.iter().any(|group| group == "system:nodes"));
        self.object.0.assert_is(pod);
        assert_images_are(old_images, &self.old_object.0.spec.images);
    }
}

impl Pod {
    fn assert_is(&self, decoded: &PodView<'_>) {
        let PodView {
            name,
            generate_name,
            inject_label,
            is_mirror,
            is_injected_by_policy,
            owner,
            service_account,
            images,
            pull_secrets,
        } = decoded;
        let metadata = &self.metadata.0;
        assert_eq!(name.as_deref(), metadata.name.as_deref());
        assert_eq!(generate_name.as_deref(), metadata.generate_name.as_deref());
        assert_eq!(inject_label.as_deref(), metadata.labels.0.inject.as_deref());
        assert_eq!(*is_mirror, metadata.annotations.0.mirror.0);
        assert_eq!(
            *is_injected_by_policy,
            metadata.annotations.0.injected_by.as_deref() == Some("admission-policy")
        );
        assert_eq!(service_account.as_deref(), self.spec.service_account.as_deref());
        let owners = &metadata.owner_references.0;
        let controller = owners.iter().rev().find(|owner| owner.0.controller);
        match (owner, controller.or(owners.first())) {
            (None, None) => {}
            (Some(decoded), Some(Members(owner))) => {
                let pullpass::policy::request::Owner {
                    api_version,
                    kind,
                    name,
                    uid,
                    is_controller,
                } = decoded;
                assert_eq!(*api_version, owner.api_version);
                assert_eq!(*kind, owner.kind);
                assert_eq!(*name, owner.name);
                assert_eq!(*uid, owner.uid);
                assert_eq!(*is_controller, owner.controller);
            }
            (decoded, owner) => panic!("expected {owner:?}, got {decoded:?}"),
        }
        assert_images_are(images, &self.spec.images);
        match (pull_secrets, &self.spec.pull_secrets) {
            (None, None) => {}
            (Some(decoded), Some(names)) => assert_eq!(decoded, names),
            (decoded, names) => panic!("expected {names:?}, got {decoded:?}"),
        }
    }
}

fn assert_images_are(
    decoded: &[pullpass::policy::request::PodImage<'_>],
    images: &[(ImageField, String, String)],
) {
    assert_eq!(decoded.len(), images.len());
    for (decoded, (field, name, reference)) in decoded.iter().zip(images) {
        assert_eq!(decoded.field, *field);
        assert_eq!(decoded.name, *name);
        assert_eq!(decoded.reference, *reference);
    }
}
