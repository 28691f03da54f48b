//! The question that a decision answers: the part of an admission request that it needs, borrowed from wherever it was
//! read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::policy::exemption::Mirror;
use crate::policy::mountable::{DEFAULT_ACCOUNT, Mountable};
use crate::policy::scope::Picked;

/// What the API server is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An object is created.
    Create,
    /// An object is changed.
    Update,
    /// An object is deleted.
    Delete,
    /// A subresource is connected to.
    Connect,
}

impl Operation {
    /// The operation as the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The part of an admission request that a decision and its record need.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the request, and none follows from another"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewRequest<'a> {
    /// The request's id, to be given back in the answer.
    pub uid: Cow<'a, str>,
    /// What the API server is about to do.
    pub operation: Operation,
    /// Whether the object is a Pod of the core group.
    pub is_pod: bool,
    /// The subresource, if it is one.
    pub sub_resource: Option<Cow<'a, str>>,
    /// The object's namespace.
    pub namespace: Cow<'a, str>,
    /// The object's name: empty if the API server is still to make one.
    pub name: Cow<'a, str>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The user who asks.
    pub user: Cow<'a, str>,
    /// Whether the user is a node's kubelet.
    pub is_by_node: bool,
    /// The object as it shall be.
    pub pod: PodView<'a>,
    /// The images of the object as it was.
    pub old_images: Vec<PodImage<'a>>,
    /// Which of the API server's selectors picked the namespace; none if nobody says so.
    pub picked: Option<Picked>,
    /// The labels of the namespace are read since that: they are newer than what the selector picked it by.
    pub labels_are_read: bool,
    /// The pull secrets that the Pod's ServiceAccount lets it name; none if it allows all, or is not in the cache.
    pub mountable: Option<Arc<Mountable>>,
    /// The cache has no ServiceAccount of that name, so it is unknown whether it enforces mountable secrets.
    pub account_is_uncached: bool,
}

impl ReviewRequest<'_> {
    /// Whether ephemeral containers are being added.
    pub fn is_ephemeral_containers(&self) -> bool {
        self.sub_resource.as_deref() == Some("ephemeralcontainers")
    }

    /// Whether the Pod mirrors a static Pod. Who adds an ephemeral container can send any annotation, which the API server drops
    /// after the webhooks; and a mirror Pod takes no such containers.
    pub fn mirror(&self) -> Mirror {
        match (
            self.pod.is_mirror && !self.is_ephemeral_containers(),
            self.is_by_node,
        ) {
            (false, _) => Mirror::No,
            (true, false) => Mirror::Claimed,
            (true, true) => Mirror::Yes,
        }
    }
}

/// The part of a Pod that a decision and its record need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView<'a> {
    /// `metadata.name`.
    pub name: Option<Cow<'a, str>>,
    /// `metadata.generateName`.
    pub generate_name: Option<Cow<'a, str>>,
    /// The value of the Pod's own inject label.
    pub inject_label: Option<Cow<'a, str>>,
    /// Whether it says that it mirrors a Pod that a kubelet runs from a file.
    pub is_mirror: bool,
    /// Whether it says that an admission policy added pull secrets to it.
    pub is_injected_by_policy: bool,
    /// Its controller, or else its first owner.
    pub owner: Option<Owner<'a>>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<Cow<'a, str>>,
    /// Every image that it names, in order.
    pub images: Vec<PodImage<'a>>,
    /// The names in `spec.imagePullSecrets`, or none if there is no such list.
    pub pull_secrets: Option<Vec<Cow<'a, str>>>,
}

impl PodView<'_> {
    /// The name of its ServiceAccount. The API server fills it in before it calls webhooks.
    pub fn service_account(&self) -> &str {
        self.service_account.as_deref().unwrap_or(DEFAULT_ACCOUNT)
    }
}

/// Who owns a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `apiVersion`.
    pub api_version: Cow<'a, str>,
    /// `kind`.
    pub kind: Cow<'a, str>,
    /// `name`.
    pub name: Cow<'a, str>,
    /// `uid`.
    pub uid: Cow<'a, str>,
    /// Whether it is the managing controller.
    pub is_controller: bool,
}

/// The list of a Pod's spec that an image stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageField {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`.
    InitContainers,
    /// `spec.ephemeralContainers`.
    EphemeralContainers,
    /// `spec.volumes`: an OCI image as a volume (KEP-4639).
    Volumes,
}

/// An image that a Pod names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodImage<'a> {
    /// The list that it stands in.
    pub field: ImageField,
    /// The name of the container or volume.
    pub name: Cow<'a, str>,
    /// The image's reference, as it was written.
    pub reference: Cow<'a, str>,
}

impl PodImage<'_> {
    /// Where the image stands, for instance `spec.containers[nginx]`.
    pub fn path(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            let (before, after) = match self.field {
                ImageField::Containers => ("spec.containers[", "]"),
                ImageField::InitContainers => ("spec.initContainers[", "]"),
                ImageField::EphemeralContainers => ("spec.ephemeralContainers[", "]"),
                ImageField::Volumes => ("spec.volumes[", "].image"),
            };
            // It is written for each image of each review.
            [before, &self.name, after]
                .into_iter()
                .try_for_each(|part| f.write_str(part))
        })
    }
}
