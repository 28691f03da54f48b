//! What happens to a Pod: a pure function of the request, the attached registries, the namespace's labels and the
//! settings (`docs/policy.md`).

mod messages;

use std::borrow::Cow;

use serde::Serialize;

use crate::policy::attached::{Access, Registries, Registry};
use crate::policy::exemption::Subject;
use crate::policy::request::{Operation, PodImage, ReviewRequest};
use crate::policy::rules::{Action, Policy, Rule};
use crate::policy::scope::{Labels, Scope, unknown_values};
use crate::registry::image::ImageReference;

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
    /// Namespace or Pod opted out, the namespace is excluded, or the Pod is a mirror Pod.
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

/// A decision, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What was decided.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: Cow<'static, str>,
    /// Every image of the Pod, and the registry that it was found on.
    pub images: Vec<JudgedImage<'a>>,
    /// The registries whose pull secrets are added, ordered by name.
    pub injected: Vec<&'a str>,
    /// The names of the pull secrets that are added, in the same order.
    pub secrets: Vec<&'a str>,
    /// The registries whose pull secrets the Pod has after this, whether added now or there before.
    pub demanded: Vec<&'a str>,
    /// The rules that were violated.
    pub violations: Vec<Violation<'a>>,
    /// What is said to whoever sent the request.
    pub warnings: Vec<String>,
    /// Why the request is refused: one for each rule that refuses it.
    pub denials: Vec<Denial>,
}

/// A rule that refuses a Pod, and what is said about the first image that violates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The rule.
    pub rule: Rule,
    /// What whoever sent the request is told.
    pub message: String,
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

/// Decides. The labels are absent where the cache does not have the namespace yet.
pub fn decide<'a>(
    request: &'a ReviewRequest<'a>,
    registries: &'a Registries,
    labels: Option<&Labels>,
    settings: &Settings,
) -> Decision<'a> {
    let mut decision = Decision {
        outcome: Outcome::NotApplicable,
        reason: Cow::Borrowed(""),
        images: request
            .pod
            .images
            .iter()
            .map(|image| JudgedImage {
                image,
                host: None,
                registry: None,
            })
            .collect(),
        injected: Vec::new(),
        secrets: Vec::new(),
        demanded: Vec::new(),
        violations: Vec::new(),
        warnings: Vec::new(),
        denials: Vec::new(),
    };
    let (outcome, reason) = match exemption(request, labels, settings) {
        Err(exemption) => {
            decision.name_hosts();
            exemption
        }
        Ok(always) => Judge {
            request,
            registries,
            labels,
            settings,
            always,
        }
        .judge(&mut decision),
    };
    if !matches!(outcome, Outcome::NotApplicable) {
        decision.warnings.extend(label_warnings(request, labels));
    }
    messages::bound(&mut decision.warnings);
    Decision {
        outcome,
        reason,
        ..decision
    }
}

/// Whether the Pod is left alone whatever its images are; else whether every registry is injected.
fn exemption(
    request: &ReviewRequest<'_>,
    labels: Option<&Labels>,
    settings: &Settings,
) -> Result<bool, (Outcome, Cow<'static, str>)> {
    let not_applicable = |reason| Err((Outcome::NotApplicable, Cow::Borrowed(reason)));
    if !request.is_pod {
        return not_applicable("the object is not a Pod");
    }
    match (request.operation, request.sub_resource.as_deref()) {
        (Operation::Create, None | Some(""))
        | (Operation::Update, None | Some("" | "ephemeralcontainers")) => {}
        _ => return not_applicable("the operation changes no image"),
    }
    let subject = Subject {
        namespace: &request.namespace,
        labels,
        is_mirror: request.pod.is_mirror,
        inject_label: request.pod.inject_label.as_deref(),
    };
    subject
        .exemption(&settings.scope)
        .map_err(|exemption| (Outcome::Skipped, Cow::Borrowed(exemption.sentence())))
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

impl Decision<'_> {
    /// What is said to whoever sent a request that is refused.
    pub fn refusal(&self) -> Option<String> {
        let messages: Vec<_> = self
            .denials
            .iter()
            .map(|denial| denial.message.as_str())
            .collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    }

    fn name_hosts(&mut self) {
        for judged in &mut self.images {
            let parsed = ImageReference::parse(&judged.image.reference).ok();
            judged.host = parsed
                .and_then(|parsed| parsed.registry())
                .map(|host| host.canonical());
        }
    }
}

struct Judge<'a, 'l> {
    request: &'a ReviewRequest<'a>,
    registries: &'a Registries,
    labels: Option<&'l Labels>,
    settings: &'l Settings,
    /// Whether every registry that the namespace may use is injected.
    always: bool,
}

impl<'a> Judge<'a, '_> {
    fn judge(&self, decision: &mut Decision<'a>) -> (Outcome, Cow<'static, str>) {
        let mut needed: Vec<&'a Registry> = Vec::new();
        let live = self.request.operation == Operation::Update;
        let (mut on_acr, mut uncovered) = (false, None);
        for index in 0..decision.images.len() {
            let Some(judged) = decision.images.get_mut(index) else {
                break;
            };
            let image = judged.image;
            let reference = match ImageReference::parse(&image.reference) {
                Ok(reference) => reference,
                Err(error) => {
                    decision.warnings.push(messages::not_a_reference(image, error));
                    continue;
                }
            };
            let Some(host) = reference.registry() else {
                continue;
            };
            let named = host.canonical();
            judged.host = Some(named.clone());
            // What was admitted before is not judged again because something else changed.
            let is_new = !live
                || !self
                    .request
                    .old_images
                    .iter()
                    .any(|old| old.reference == image.reference);
            let access = self.registries.access(&host, self.labels);
            if let Access::Granted(usable) = &access {
                judged.registry = usable.first().map(|registry| registry.name());
            }
            if !is_new {
                continue;
            }
            let usable = match access {
                Access::Elsewhere => continue,
                Access::Unattached => {
                    on_acr = true;
                    self.violate(decision, image, Rule::Unattached, named, None);
                    continue;
                }
                Access::Forbidden(registry) => {
                    on_acr = true;
                    self.violate(decision, image, Rule::Forbidden, named, Some(registry.name()));
                    continue;
                }
                Access::Granted(usable) => usable,
            };
            on_acr = true;
            if let Some(warning) = messages::spelling(image, &host) {
                decision.warnings.push(warning);
            }
            if let Some(first) = usable.first()
                && !usable
                    .iter()
                    .any(|registry| registry.covers(reference.repository()))
            {
                decision.warnings.push(messages::other_repositories(
                    image,
                    first.name(),
                    reference.repository(),
                ));
            }
            if live && !usable.iter().all(|registry| self.holds(registry)) {
                uncovered = Some(named.clone().into_owned());
                decision.warnings.push(messages::uncovered(
                    image,
                    &named,
                    self.request.is_ephemeral_containers(),
                ));
            }
            needed.extend(usable);
        }
        if self.always && !live {
            needed.extend(
                self.registries
                    .all()
                    .into_iter()
                    .filter(|registry| registry.allows(self.labels)),
            );
        }
        self.conclude(decision, needed, on_acr, uncovered)
    }

    fn conclude(
        &self,
        decision: &mut Decision<'a>,
        mut needed: Vec<&'a Registry>,
        on_acr: bool,
        uncovered: Option<String>,
    ) -> (Outcome, Cow<'static, str>) {
        if !decision.denials.is_empty() {
            return (Outcome::Denied, Cow::Borrowed("the policy refuses an image"));
        }
        if let Some(host) = uncovered {
            let reason = format!(
                "the live Pod holds no pull secret for {host}, and its imagePullSecrets can't change"
            );
            return (Outcome::Uncovered, Cow::Owned(reason));
        }
        needed.sort_by(|a, b| a.name().cmp(b.name()));
        needed.dedup_by(|a, b| a.name() == b.name());
        decision.demanded = needed.iter().map(|registry| registry.name()).collect();
        let missing: Vec<_> = needed.iter().filter(|registry| !self.holds(registry)).collect();
        decision.injected = missing.iter().map(|registry| registry.name()).collect();
        decision.secrets = missing.iter().map(|registry| registry.pull_secret()).collect();
        let (outcome, reason) = match (needed.is_empty(), missing.is_empty()) {
            (_, false) if on_acr => (Outcome::Injected, "the Pod names images of attached registries"),
            (_, false) => (
                Outcome::Injected,
                "the namespace is labelled pullpass.dev/always-inject=true",
            ),
            (false, true) => (
                Outcome::AlreadyPresent,
                "the Pod has every pull secret that it needs",
            ),
            (true, true) if !decision.violations.is_empty() => (
                Outcome::Uncovered,
                "no attached registry is there for the Pod's images in this namespace",
            ),
            (true, true) if self.request.operation == Operation::Update => {
                (Outcome::NotApplicable, "no image on ACR was added")
            }
            (true, true) => (Outcome::NotApplicable, "the Pod names no image on ACR"),
        };
        (outcome, Cow::Borrowed(reason))
    }

    /// Whether the Pod names the registry's pull secret already.
    fn holds(&self, registry: &Registry) -> bool {
        self.request
            .pod
            .pull_secrets
            .iter()
            .flatten()
            .any(|name| name == registry.pull_secret())
    }

    fn violate(
        &self,
        decision: &mut Decision<'a>,
        image: &PodImage<'_>,
        rule: Rule,
        host: Cow<'a, str>,
        registry: Option<&'a str>,
    ) {
        let action = self.settings.policy.action(rule);
        let message = || messages::violation(image, rule, &host, registry, &self.request.namespace);
        match action {
            Action::Allow => {}
            Action::Warn => decision.warnings.push(message()),
            Action::Deny if decision.denials.iter().any(|denial| denial.rule == rule) => {}
            Action::Deny => decision.denials.push(Denial {
                rule,
                message: message(),
            }),
        }
        if !decision
            .violations
            .iter()
            .any(|known| known.rule == rule && known.host == host)
        {
            decision.violations.push(Violation {
                rule,
                host,
                registry,
                action,
            });
        }
    }
}

#[cfg(test)]
mod tests;
