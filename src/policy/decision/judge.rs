//! Judges the images of a Pod one by one, and concludes what happens to the Pod.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::few::FewSet;
use crate::policy::access::Accesses;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::decision::fresher::Fresher;
use crate::policy::decision::messages::Strictness;
use crate::policy::decision::warnings::Warnings;
use crate::policy::decision::{
    Decision, Denial, Injector, JudgedImage, Matter, Notice, Outcome, Violation, label_warnings, messages,
};
use crate::policy::exemption::Treatment;
use crate::policy::request::{Operation, PodImage, ReviewRequest};
use crate::policy::rules::{Action, Policy, Rule};
use crate::policy::scope::{Labels, Picked};
use crate::policy::verdict::{Breach, Credential, Grant, Verdict};
use crate::registry::docker_config::Keys;
use crate::registry::image::RegistryHost;
use crate::registry::login_server::LoginServer;

pub(super) struct Judge<'a, 'l> {
    request: &'a ReviewRequest<'a>,
    pub(super) registries: &'a AttachedRegistries,
    pub(super) labels: Option<&'l Labels>,
    policy: Policy,
    pub(super) treatment: Treatment,
    /// Whether the Pod exists, so that nothing can be added to it.
    pub(super) is_live: bool,
    /// The pull secrets that the Pod names.
    held: FewSet<&'a str>,
    /// The images that the Pod had before.
    old: FewSet<&'a str>,
}

/// Registries whose pull secrets a Pod needs, by the order in which it gets them.
type Needed<'a> = BTreeMap<(bool, &'a str), &'a AttachedRegistry>;

/// What the verdicts on a request's images say of the caches.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// What would have to be known better for one of them.
    fresher: Fresher,
    /// Whether one is on a host that could be a custom domain.
    is_elsewhere: bool,
    /// Whether one is on ACR.
    is_on_acr: bool,
}

impl Seen {
    fn see(&mut self, verdict: &Verdict<'_>, has_labels: bool) {
        match verdict {
            Verdict::Elsewhere(Some(host)) if host.is_default_port() => self.is_elsewhere = true,
            Verdict::Elsewhere(_) | Verdict::NoReference(_) => {}
            Verdict::Refused(..) | Verdict::Granted(_) => self.is_on_acr = true,
        }
        self.fresher = self.fresher.and(Fresher::of(verdict, has_labels));
    }
}

/// What follows from the images of a request, gathered image by image.
#[derive(Default)]
struct Tally<'a> {
    seen: Seen,
    is_on_acr: bool,
    /// Whether an image is on a registry that needs no credential.
    is_anonymous: bool,
    /// The lists of registries that were taken up, and whether with every key.
    granted: FewSet<(*const &'a AttachedRegistry, bool)>,
    /// In the order of their pull secrets.
    needed: Needed<'a>,
    needing_every_key: BTreeSet<&'a str>,
    uncovered: Option<Cow<'a, str>>,
    /// A pull secret that an image needs, and that the Pod's ServiceAccount does not let it name.
    unlisted: Option<&'a str>,
    violations: Vec<Violation<'a>>,
    known: FewSet<(Rule, Cow<'a, str>)>,
    denials: Vec<Denial>,
    notices: Vec<Notice>,
    warnings: Warnings,
}

impl Tally<'_> {
    /// Takes what the Pod's owner has to know, once for each matter.
    fn notice(&mut self, matter: Matter, message: String) {
        if self.notices.iter().all(|notice| notice.matter != matter) {
            self.notices.push(Notice { matter, message });
        }
    }
}

impl<'a, 'l> Judge<'a, 'l> {
    pub(super) fn new(
        request: &'a ReviewRequest<'a>,
        registries: &'a AttachedRegistries,
        labels: Option<&'l Labels>,
        policy: Policy,
        treatment: Treatment,
    ) -> Self {
        let is_live = request.operation == Operation::Update;
        let old = request.old_images.iter().filter(|_| is_live);
        Self {
            request,
            registries,
            labels,
            policy,
            treatment,
            is_live,
            held: request
                .pod
                .pull_secrets
                .iter()
                .flatten()
                .map(Cow::as_ref)
                .collect(),
            old: old.map(|image| image.reference.as_ref()).collect(),
        }
    }

    pub(super) fn judge(&self) -> Decision<'a> {
        let accesses = Accesses::new(self.registries, self.labels);
        let mut tally = Tally {
            needed: self.needed_by_every_pod(),
            ..Tally::default()
        };
        let images = self.request.pod.images.iter().map(|image| {
            let verdict = Verdict::of(&image.reference, &accesses);
            // What was admitted before is not judged again because something else changed.
            if !self.old.contains(&image.reference.as_ref()) {
                tally.seen.see(&verdict, self.labels.is_some());
                self.weigh(image, &verdict, &mut tally);
            }
            self.named(image, &verdict)
        });
        let images = images.collect();
        let fresher = self.fresher(&tally);
        self.conclude(images, tally, fresher)
    }

    /// The registries whose pull secrets every new Pod of the namespace gets, whatever its images are.
    fn needed_by_every_pod(&self) -> Needed<'a> {
        if self.treatment != (Treatment::Injected { always: true }) || self.is_live {
            return Needed::new();
        }
        let all = self.registries.each();
        all.filter(|registry| registry.gives_secret_to(self.labels))
            .filter(|registry| self.may_have(registry))
            .filter(|registry| !registry.is_unminted())
            .map(|registry| (registry.order(), registry))
            .collect()
    }

    /// What would have to be known better, as the new images tell and the registries that they need.
    fn fresher(&self, tally: &Tally<'_>) -> Fresher {
        let Seen {
            fresher,
            is_elsewhere,
            is_on_acr,
        } = tally.seen;
        // The API server asks about such a Pod where it names a custom domain, which an AcrRegistry may have by now.
        let has_a_domain = is_elsewhere && !is_on_acr && self.request.picked == Some(Picked::ByMode);
        let unknown = self.labels.is_none() && !self.is_live;
        Fresher {
            registries: fresher.registries || has_a_domain,
            labels: fresher.labels || (unknown && self.depends_on_always_inject(&tally.needed)),
            account: self.depends_on_account(tally),
        }
    }

    /// Whether the API server could refuse a Pod for a pull secret that is added to it, since nobody knows yet what its
    /// ServiceAccount lets it name.
    fn depends_on_account(&self, tally: &Tally<'_>) -> bool {
        let is_unknown = self.request.account_is_uncached && self.request.mountable.is_none();
        let mut needed = tally.needed.values();
        is_unknown
            && !self.is_live
            && tally.denials.is_empty()
            && needed.any(|registry| !self.holds(registry))
    }

    /// Whether labels that are not known could give a new Pod more pull secrets than those of its images, or fewer than
    /// those of every registry.
    fn depends_on_always_inject(&self, needed: &Needed<'_>) -> bool {
        let mut all = self.registries.each().filter(|registry| !registry.is_anonymous());
        match self.treatment {
            Treatment::Injected { always: true } => all.any(|registry| !registry.is_for_every_namespace()),
            Treatment::Injected { always: false } => {
                all.any(|registry| !needed.contains_key(&registry.order()))
            }
            Treatment::JudgedOnly(_) | Treatment::Exempt(_) => false,
        }
    }

    /// Adds what follows from one image.
    fn weigh(&self, image: &PodImage<'_>, verdict: &Verdict<'a>, tally: &mut Tally<'a>) {
        match verdict {
            Verdict::Elsewhere(_) => {}
            Verdict::Refused(host, breach) => {
                tally.is_on_acr = true;
                self.refuse(image, host, *breach, tally);
            }
            // What else is said helps a Pod to pull, and this one wants no help.
            _ if matches!(self.treatment, Treatment::JudgedOnly(_)) => {}
            Verdict::NoReference(error) => tally.warnings.push(messages::not_a_reference(image, *error)),
            Verdict::Granted(grant) => {
                tally.is_on_acr = true;
                self.grant(image, grant, tally);
            }
        }
    }

    fn refuse(
        &self,
        image: &PodImage<'_>,
        host: &RegistryHost<'a>,
        breach: Breach<'a>,
        tally: &mut Tally<'a>,
    ) {
        let (rule, host) = (breach.rule(), LoginServer::known_host(host));
        let action = self.policy.action(rule);
        let message = || messages::violation(image, breach, &host, &self.request.namespace);
        match action {
            Action::Allow => {}
            Action::Warn => tally.warnings.push(message()),
            Action::Deny if tally.denials.iter().any(|denial| denial.rule == rule) => {}
            Action::Deny => tally.denials.push(Denial {
                rule,
                message: message(),
                event: messages::denial_event(breach, &host, &self.request.namespace),
            }),
        }
        if tally.known.add((rule, host.clone())) {
            tally.violations.push(Violation {
                rule,
                host,
                registry: breach.registry(),
                action,
            });
        }
    }

    fn grant(&self, image: &PodImage<'_>, grant: &Grant<'a>, tally: &mut Tally<'a>) {
        let credential = self.credential(grant);
        if credential.0 == Credential::NotNeeded {
            tally.is_anonymous = true;
        } else {
            tally.warnings.extend(messages::spelling(image, &grant.host));
            if let Some(message) = messages::spelling_event(&grant.host) {
                tally.notice(Matter::Spelling, message);
            }
        }
        match credential {
            (Credential::OtherRepository, Some(registry)) => tally.warnings.push(
                messages::other_repositories(image, &registry.described(), grant.repository),
            ),
            (Credential::Missing, Some(registry)) if !self.is_live => {
                let (account, secret) = (self.request.pod.service_account(), registry.pull_secret());
                let host = LoginServer::known_host(&grant.host);
                let strictness = self.strictness();
                let warning = messages::unlisted(image, &host, strictness, account, secret);
                tally.warnings.push(warning);
                tally.unlisted = tally.unlisted.or(Some(secret));
                let message = messages::unlisted_event(&host, strictness, secret);
                tally.notice(Matter::MountableSecrets, message);
            }
            (Credential::Missing, _) => {
                let host = LoginServer::known_host(&grant.host);
                let debugging = self.request.is_ephemeral_containers();
                tally.warnings.push(messages::uncovered(image, &host, debugging));
                tally.uncovered = Some(host);
            }
            (Credential::NotNeeded | Credential::Fits | Credential::OtherRepository, _) => {}
        }
        let needs_every_key = Keys::of(&grant.host) == Keys::Every;
        // Most images of a Pod share a registry.
        if !tally.granted.add((grant.usable.as_ptr(), needs_every_key)) {
            return;
        }
        let usable = grant.usable.iter().copied();
        let usable = usable.filter(|registry| !registry.is_anonymous());
        let usable = usable.filter(|registry| self.may_have(registry));
        if needs_every_key {
            tally
                .needing_every_key
                .extend(usable.clone().map(AttachedRegistry::name));
        }
        tally
            .needed
            .extend(usable.map(|registry| (registry.order(), registry)));
    }

    /// Whether the image can be pulled with the pull secrets that the Pod has after this.
    fn credential(&self, grant: &Grant<'a>) -> (Credential, Option<&'a AttachedRegistry>) {
        let is_injected = matches!(self.treatment, Treatment::Injected { .. });
        grant.credential(|registry| self.holds(registry) || (is_injected && self.may_have(registry)))
    }

    /// Whether the Pod names the registry's pull secret, or can be given it: a live Pod can't, nor one whose ServiceAccount does
    /// not let it.
    fn may_have(&self, registry: &AttachedRegistry) -> bool {
        let mountable = self.request.mountable.as_ref();
        let is_allowed = || mountable.is_none_or(|mountable| mountable.allows(registry.pull_secret()));
        self.holds(registry) || (!self.is_live && is_allowed())
    }

    fn strictness(&self) -> Strictness {
        match &self.request.mountable {
            Some(mountable) if !mountable.is_known() => Strictness::Possible,
            Some(_) | None => Strictness::Known,
        }
    }

    fn named(&self, image: &'a PodImage<'a>, verdict: &Verdict<'a>) -> JudgedImage<'a> {
        let registry = match verdict {
            Verdict::Granted(grant) => self.credential(grant).1,
            Verdict::NoReference(_) | Verdict::Elsewhere(_) | Verdict::Refused(..) => None,
        };
        JudgedImage {
            image,
            host: verdict.known_host(),
            registry: registry.map(AttachedRegistry::name),
        }
    }

    fn conclude(&self, images: Vec<JudgedImage<'a>>, tally: Tally<'a>, fresher: Fresher) -> Decision<'a> {
        let needed = tally.needed;
        let missing: Vec<_> = needed
            .values()
            .filter(|registry| !self.holds(registry))
            .map(|registry| registry.pull_secret())
            .collect();
        let (outcome, reason) = if !tally.denials.is_empty() {
            (Outcome::Denied, Cow::Borrowed("the policy refuses an image"))
        } else if let Treatment::JudgedOnly(exemption) = self.treatment {
            (Outcome::Skipped, Cow::Borrowed(exemption.sentence()))
        } else if let Some(host) = tally.uncovered {
            let reason = format!(
                "the existing Pod has no pull secret for {host}, and its imagePullSecrets can't change"
            );
            (Outcome::Uncovered, Cow::Owned(reason))
        } else {
            let (outcome, reason) = match (needed.is_empty(), missing.is_empty()) {
                (_, false) if tally.is_on_acr => {
                    (Outcome::Injected, "the Pod names images of attached registries")
                }
                (_, false) => (
                    Outcome::Injected,
                    "the namespace is labelled pullpass.dev/always-inject=true",
                ),
                (_, true) if tally.unlisted.is_some() => (
                    Outcome::Uncovered,
                    match self.strictness() {
                        Strictness::Known => {
                            "the Pod's ServiceAccount enforces mountable secrets, and does not list a pull secret that the Pod needs"
                        }
                        Strictness::Possible => {
                            "the Pod's namespace has too many ServiceAccounts that enforce mountable secrets: its Pods get no pull secrets"
                        }
                    },
                ),
                (false, true) if self.is_injected_by_policy() => (
                    Outcome::AlreadyPresent,
                    "the Pod has every pull secret that it needs: an admission policy in the API server added them, as the Pod's annotation says",
                ),
                (false, true) => (
                    Outcome::AlreadyPresent,
                    "the Pod has every pull secret that it needs",
                ),
                (true, true) if !tally.violations.is_empty() => (
                    Outcome::Uncovered,
                    "no attached registry serves the Pod's images in this namespace",
                ),
                (true, true) if tally.is_anonymous => (
                    Outcome::AlreadyPresent,
                    "the registries of the Pod's images need no credential",
                ),
                (true, true) if self.is_live => (Outcome::NotApplicable, "no image on ACR was added"),
                (true, true) => (Outcome::NotApplicable, "the Pod names no image on ACR"),
            };
            (outcome, Cow::Borrowed(reason))
        };
        let injected_by = match outcome {
            Outcome::Injected => Some(Injector::Webhook),
            Outcome::AlreadyPresent if !needed.is_empty() && self.is_injected_by_policy() => {
                Some(Injector::AdmissionPolicy)
            }
            Outcome::AlreadyPresent
            | Outcome::Skipped
            | Outcome::NotApplicable
            | Outcome::Uncovered
            | Outcome::Denied => None,
        };
        let names_some = outcome == Outcome::Uncovered && tally.unlisted.is_some();
        let gets_its_secrets = names_some || matches!(outcome, Outcome::Injected | Outcome::AlreadyPresent);
        let mut warnings = tally.warnings;
        if outcome != Outcome::NotApplicable {
            warnings.extend(label_warnings(self.request, self.labels));
        }
        Decision {
            outcome,
            reason,
            images,
            secrets: if gets_its_secrets { missing } else { Vec::new() },
            injected_by,
            demanded: if gets_its_secrets {
                needed.into_values().map(AttachedRegistry::name).collect()
            } else {
                Vec::new()
            },
            needing_every_key: if gets_its_secrets {
                tally.needing_every_key.into_iter().collect()
            } else {
                Vec::new()
            },
            violations: tally.violations,
            warnings: warnings.into_texts(),
            denials: tally.denials,
            notices: tally.notices,
            fresher,
        }
    }

    /// Whether a policy added pull secrets to this new Pod. A live one keeps the annotation.
    fn is_injected_by_policy(&self) -> bool {
        !self.is_live && self.request.pod.is_injected_by_policy
    }

    /// Whether the Pod names the registry's pull secret already.
    fn holds(&self, registry: &AttachedRegistry) -> bool {
        self.held.contains(&registry.pull_secret())
    }
}
