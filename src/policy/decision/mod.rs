//! What happens to a Pod: a pure function of the request, the attached registries, the namespace's labels and the
//! settings (`docs/policy.md`).

mod fresher;
mod judge;
mod messages;
mod warnings;

use std::borrow::Cow;

use serde::Serialize;

pub use self::fresher::{Fresher, WaitOutcome, Waited};
use crate::policy::attached::AttachedRegistries;
use crate::policy::decision::judge::Judge;
use crate::policy::decision::warnings::Warnings;
use crate::policy::exemption::{PodTraits, Treatment};
use crate::policy::request::{Operation, PodImage, ReviewRequest};
use crate::policy::rules::{Action, Policy, Rule};
use crate::policy::scope::{Labels, Scope, unknown_values};
use crate::registry::image::ImageReference;
use crate::registry::login_server::LoginServer;

/// The settings that a decision depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which namespaces are injected.
    pub scope: Scope,
    /// What is done about violations.
    pub policy: Policy,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Pull secrets were added.
    Injected,
    /// Every pull secret that the Pod needs was there.
    AlreadyPresent,
    /// The namespace opted out or is excluded, or the Pod is a mirror Pod; or the Pod opted out, and no rule refuses it.
    Skipped,
    /// The Pod names no image on ACR that this request is about.
    NotApplicable,
    /// The Pod names an image on ACR that it gets no pull secret for: nothing can be patched on a live Pod, or the
    /// policy lets an image through whose registry is not there for it.
    Uncovered,
    /// The policy refuses the Pod.
    Denied,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Injected,
        Self::AlreadyPresent,
        Self::Skipped,
        Self::NotApplicable,
        Self::Uncovered,
        Self::Denied,
    ];

    /// The outcome's name, as records and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::AlreadyPresent => "already-present",
            Self::Skipped => "skipped",
            Self::NotApplicable => "not-applicable",
            Self::Uncovered => "uncovered",
            Self::Denied => "denied",
        }
    }
}

/// Who added the pull secrets that a Pod has when it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Injector {
    /// This answer.
    Webhook,
    /// An admission policy in the API server, as the Pod says.
    AdmissionPolicy,
}

/// A decision, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What was decided.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: Cow<'static, str>,
    /// Every image of the Pod, and the registry that it was found on.
    pub images: Vec<JudgedImage<'a>>,
    /// The names of the pull secrets that are added, ordered by registry.
    pub secrets: Vec<&'a str>,
    /// Who added what is added, or was before the webhook was asked; none if nothing was.
    pub injected_by: Option<Injector>,
    /// The registries whose pull secrets the Pod has after this, whether added now or there before.
    pub demanded: Vec<&'a str>,
    /// Those registries of which the Pod writes a host so that its kubelet finds a credential only under a key with a port or a
    /// wildcard; ordered by name.
    pub needing_every_key: Vec<&'a str>,
    /// The rules that were violated.
    pub violations: Vec<Violation<'a>>,
    /// The message for the sender of the request.
    pub warnings: Vec<String>,
    /// Why the request is refused: one for each rule that refuses it.
    pub denials: Vec<Denial>,
    /// What else the Pod's owner has to know, since nobody reads the warnings that its controller gets: one for each matter.
    pub notices: Vec<Notice>,
    /// What should be known better before this is final, where somebody can be asked.
    pub fresher: Fresher,
}

/// A rule that refuses a Pod, and what is said about the first image that violates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The rule.
    pub rule: Rule,
    /// The message for the sender of the request.
    pub message: String,
    /// What an Event says: nothing that the sender wrote, except for a host that was parsed.
    pub event: String,
}

/// What an Event tells the owner of a Pod: nothing that the sender wrote, except for a host that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub matter: Matter,
    /// What it says.
    pub message: String,
}

/// What an Event on the owner of a Pod is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matter {
    /// The Pod was refused by this rule.
    Denied(Rule),
    /// A kubelet does not find the pull secret, as the image's host is written.
    Spelling,
    /// The Pod's ServiceAccount does not let it name its pull secret.
    MountableSecrets,
}

impl Matter {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied(rule) => rule.as_str(),
            Self::Spelling => "spelling",
            Self::MountableSecrets => "mountable-secrets",
        }
    }
}

/// An image, and the attached registry that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedImage<'a> {
    /// The image.
    pub image: &'a PodImage<'a>,
    /// The registry's host in lower case, without HTTPS' own port; none for Docker Hub's short names and for what is
    /// no reference.
    pub host: Option<Cow<'a, str>>,
    /// The name of the AcrRegistry that serves it here.
    pub registry: Option<&'a str>,
}

/// A rule that an image violates. One is kept for each rule and host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation<'a> {
    /// The rule.
    pub rule: Rule,
    /// The image's host, in lower case.
    pub host: Cow<'a, str>,
    /// The AcrRegistry that has the host, if one does.
    pub registry: Option<&'a str>,
    /// What was done.
    pub action: Action,
}

/// Decides. The labels are absent if the cache does not have the namespace yet.
pub fn decide<'a>(
    request: &'a ReviewRequest<'a>,
    registries: &'a AttachedRegistries,
    labels: Option<&Labels>,
    settings: &Settings,
) -> Decision<'a> {
    if let Some(reason) = why_not_applicable(request) {
        return Decision::unjudged(request, Outcome::NotApplicable, reason, Vec::new());
    }
    // As the labels have it: of a namespace that the API server has just picked, they may be old.
    let membership = settings.scope.membership(&request.namespace, labels);
    let traits = PodTraits {
        membership: membership.of_picked(request.picked),
        mirror: request.mirror(),
        inject_label: request.pod.inject_label.as_deref(),
    };
    match traits.treatment() {
        Treatment::Exempt(exemption) => {
            let warnings = label_warnings(request, labels);
            Decision::unjudged(request, Outcome::Skipped, exemption.sentence(), warnings)
        }
        treatment @ (Treatment::JudgedOnly(_) | Treatment::Injected { .. }) => {
            let picked = request.picked.filter(|_| !request.labels_are_read);
            let labels = labels.filter(|_| membership.is_current(picked));
            Judge::new(request, registries, labels, settings.policy, treatment).judge()
        }
    }
}

/// Why the request is about no image that could be judged, if it is not.
fn why_not_applicable(request: &ReviewRequest<'_>) -> Option<&'static str> {
    if !request.is_pod {
        return Some("the object is not a Pod");
    }
    match (request.operation, request.sub_resource.as_deref()) {
        (Operation::Create, None | Some(""))
        | (Operation::Update, None | Some("" | "ephemeralcontainers")) => None,
        (Operation::Create | Operation::Update | Operation::Delete | Operation::Connect, _) => {
            Some("the operation changes no image")
        }
    }
}

fn label_warnings(request: &ReviewRequest<'_>, labels: Option<&Labels>) -> Vec<String> {
    let of_pod = request
        .pod
        .inject_label
        .as_deref()
        .filter(|value| *value != "disabled");
    labels
        .into_iter()
        .flat_map(unknown_values)
        .map(|(label, value, expected)| messages::unknown_label("namespace", label, value, expected))
        .chain(
            of_pod.map(|value| {
                messages::unknown_label("Pod", crate::api::names::INJECT_LABEL, value, "disabled")
            }),
        )
        .collect()
}

impl<'a> Decision<'a> {
    /// A decision that no image has a part in.
    fn unjudged(
        request: &'a ReviewRequest<'a>,
        outcome: Outcome,
        reason: &'static str,
        warnings: Vec<String>,
    ) -> Self {
        let images = request.pod.images.iter().map(JudgedImage::unjudged);
        Self {
            outcome,
            reason: Cow::Borrowed(reason),
            images: images.collect(),
            secrets: Vec::new(),
            injected_by: None,
            demanded: Vec::new(),
            needing_every_key: Vec::new(),
            violations: Vec::new(),
            warnings: Warnings::from_iter(warnings).into_texts(),
            denials: Vec::new(),
            notices: Vec::new(),
            fresher: Fresher::default(),
        }
    }

    /// What the sender of a request that is refused is told.
    pub fn refusal(&self) -> Option<String> {
        let messages: Vec<_> = self
            .denials
            .iter()
            .map(|denial| denial.message.as_str())
            .collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    }
}

impl<'a> JudgedImage<'a> {
    /// An image that nothing depends on but its record.
    fn unjudged(image: &'a PodImage<'a>) -> Self {
        let reference = ImageReference::parse(&image.reference).ok();
        let host = reference.and_then(|reference| reference.registry());
        Self {
            image,
            host: host.map(|host| LoginServer::known_host(&host)),
            registry: None,
        }
    }
}

#[cfg(test)]
mod tests;
