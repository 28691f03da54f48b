//! Which Pods have the pull secrets that their images need, and why others have not: what admission would say of Pods
//! that run already. A pure function of the Pod, the attached registries and the namespace's labels.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::api::names::registry_of;
use crate::policy::access::Accesses;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::exemption::{Exemption, Mirror, PodTraits, Treatment};
use crate::policy::mountable::Mountable;
use crate::policy::pod::{Pod, PodNames};
use crate::policy::scope::{Labels, Scope};
use crate::policy::verdict::{Breach, Credential, Grant, Verdict};

/// The state of a Pod for a registry that its images are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoverageState {
    /// It has no pull secret that its images can be pulled with.
    Uncovered(Gap),
    /// It names the pull secret of an AcrRegistry that has the images.
    Covered,
    /// It has no pull secret, and somebody wants it so.
    Skipped(Exemption),
}

/// Why a Pod is uncovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// No AcrRegistry has the host.
    Unattached,
    /// The AcrRegistry is not for the namespace.
    Forbidden,
    /// The Pod was admitted without the secret: before the registry was attached, or while nobody answered.
    NotInjected,
    /// The same, but it names pull secrets that are not pullpass'. They may work; nobody keeps them fresh.
    OtherSecret,
    /// The AcrRegistry's credential is not for the image's repository.
    OtherRepository,
    /// The host has upper-case letters, and kubelets match credentials by case: pullpass' pull secret does not help.
    Spelling,
    /// The same, but it names pull secrets that are not pullpass', by which it may pull.
    OtherSecretSpelling,
    /// The Pod's ServiceAccount enforces mountable secrets, and does not list the pull secret: the API server would refuse the
    /// Pod with it.
    MountableSecrets,
}

impl Gap {
    /// Every gap.
    pub const ALL: [Self; 8] = [
        Self::Unattached,
        Self::Forbidden,
        Self::NotInjected,
        Self::OtherSecret,
        Self::OtherRepository,
        Self::Spelling,
        Self::OtherSecretSpelling,
        Self::MountableSecrets,
    ];

    /// The gap's name, as tables and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unattached => "unattached",
            Self::Forbidden => "forbidden",
            Self::NotInjected => "not-injected",
            Self::OtherSecret => "other-secret",
            Self::OtherRepository => "other-repository",
            Self::Spelling => "spelling",
            Self::OtherSecretSpelling => "other-secret-spelling",
            Self::MountableSecrets => "mountable-secrets",
        }
    }

    /// What it means, and what to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unattached => "no AcrRegistry has the registry: attach it",
            Self::Forbidden => {
                "the AcrRegistry is not for the namespace: change its spec.namespaces or the namespace's labels"
            }
            Self::NotInjected => {
                "admitted before the registry was attached, or while pullpass was unavailable: re-create the Pods (kubectl rollout restart)"
            }
            Self::OtherSecret => {
                "they name pull secrets that pullpass does not manage: re-create the Pods to get one that it does"
            }
            Self::OtherRepository => {
                "spec.credential.repositories of the AcrRegistry does not list the repository: add it"
            }
            Self::Spelling => {
                "the registry's name is written with upper-case letters, for which a kubelet finds no credentials: write it in lower case"
            }
            Self::OtherSecretSpelling => {
                "they may pull with pull secrets that pullpass does not manage; the registry's name is \
                 written with upper-case letters, for which a kubelet does not find pullpass' pull secret: \
                 write it in lower case before you remove the others"
            }
            Self::MountableSecrets => {
                "the Pods' ServiceAccount enforces mountable secrets and does not list the pull secret: add it to the ServiceAccount's imagePullSecrets, then re-create the Pods"
            }
        }
    }
}

impl CoverageState {
    /// The state's name: one word of `covered`, `uncovered` and `skipped`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncovered(_) => "uncovered",
            Self::Covered => "covered",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why it is so, in a word; none for what is covered.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Uncovered(gap) => Some(gap.as_str()),
            Self::Covered => None,
            Self::Skipped(exemption) => Some(exemption.as_str()),
        }
    }
}

/// The state of a Pod for one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageFinding<'a> {
    /// The registry's host, in lower case.
    pub host: Cow<'a, str>,
    /// The AcrRegistry that has it, if one does.
    pub registry: Option<&'a str>,
    /// The state of the Pod for it.
    pub state: CoverageState,
    /// The images that this is about.
    pub images: Vec<&'a str>,
}

/// The states of a Pod for the registries of its images; empty if none of them is on ACR. Its ServiceAccount may let it
/// name only some pull secrets (`mountable`).
pub fn findings<'a>(
    pod: &'a Pod,
    namespace: &'a str,
    registries: &'a AttachedRegistries,
    labels: Option<&Labels>,
    scope: &Scope,
    mountable: Option<&Mountable>,
) -> Vec<CoverageFinding<'a>> {
    findings_of(
        &PodNames::of(pod, namespace),
        registries,
        labels,
        scope,
        mountable,
    )
}

/// The same for a Pod of which only its names are known.
pub fn findings_of<'a>(
    pod: &PodNames<'a>,
    registries: &'a AttachedRegistries,
    labels: Option<&Labels>,
    scope: &Scope,
    mountable: Option<&Mountable>,
) -> Vec<CoverageFinding<'a>> {
    let traits = PodTraits {
        membership: scope.membership(pod.namespace, labels),
        // Who asked for it is not known any more. No kubelet runs a Pod that claims it: it deletes the Pod.
        mirror: if pod.is_mirror { Mirror::Yes } else { Mirror::No },
        inject_label: pod.inject_label,
    };
    let treatment = traits.treatment();
    let held: HashSet<&str> = pod.pull_secrets.iter().copied().collect();
    let mut findings: Vec<CoverageFinding<'a>> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    let accesses = Accesses::new(registries, labels);
    for image in pod.images.iter().copied() {
        let verdict = Verdict::of(image, &accesses);
        let Some((registry, gap)) = look_at(&verdict, &held, mountable) else {
            continue;
        };
        let Some(host) = verdict.known_host() else {
            continue;
        };
        let state = state_of(gap, treatment);
        let index = *known
            .entry((host.clone(), registry, state))
            .or_insert(findings.len());
        match findings.get_mut(index) {
            Some(finding) => finding.images.push(image),
            None => findings.push(CoverageFinding {
                host,
                registry,
                state,
                images: vec![image],
            }),
        }
    }
    findings
}

/// A Pod that gets no pull secret may be covered all the same: it may name the secret by itself. One whose own label
/// declines it is judged by the rules nevertheless.
fn state_of(gap: Option<Gap>, treatment: Treatment) -> CoverageState {
    match (gap, treatment) {
        (None, _) => CoverageState::Covered,
        (Some(_), Treatment::Exempt(exemption)) => CoverageState::Skipped(exemption),
        (Some(gap), Treatment::JudgedOnly(exemption)) => match gap {
            Gap::Unattached | Gap::Forbidden => CoverageState::Uncovered(gap),
            Gap::NotInjected
            | Gap::OtherSecret
            | Gap::OtherRepository
            | Gap::Spelling
            | Gap::OtherSecretSpelling
            | Gap::MountableSecrets => CoverageState::Skipped(exemption),
        },
        (Some(gap), Treatment::Injected { .. }) => CoverageState::Uncovered(gap),
    }
}

/// The AcrRegistry that an image's pull depends on, and what is amiss; none if the image is not on ACR.
fn look_at<'a>(
    verdict: &Verdict<'a>,
    held: &HashSet<&str>,
    mountable: Option<&Mountable>,
) -> Option<(Option<&'a str>, Option<Gap>)> {
    match verdict {
        Verdict::NoReference(_) | Verdict::Elsewhere(_) => None,
        Verdict::Refused(_, breach) => {
            let gap = match breach {
                Breach::Unattached => Gap::Unattached,
                Breach::Forbidden(_) => Gap::Forbidden,
            };
            Some((breach.registry(), Some(gap)))
        }
        Verdict::Granted(grant) => {
            let (registry, gap) = gap(grant, held, mountable);
            Some((registry.map(AttachedRegistry::name), gap))
        }
    }
}

fn gap<'a>(
    grant: &Grant<'a>,
    held: &HashSet<&str>,
    mountable: Option<&Mountable>,
) -> (Option<&'a AttachedRegistry>, Option<Gap>) {
    let holds = |registry: &AttachedRegistry| held.contains(registry.pull_secret());
    let may_have = |registry: &AttachedRegistry| {
        holds(registry) || mountable.is_none_or(|mountable| mountable.allows(registry.pull_secret()))
    };
    let (credential, registry) = grant.credential(holds);
    let gap = match credential {
        // Said before the Pod has the secret too: nobody should restart Pods to find that it does not help.
        Credential::Fits | Credential::Missing if !grant.host.is_matched_by_kubelets() => {
            let is_foreign = |secret: &&str| registry_of(secret).is_none();
            Some(if held.iter().any(is_foreign) {
                Gap::OtherSecretSpelling
            } else {
                Gap::Spelling
            })
        }
        Credential::NotNeeded | Credential::Fits => None,
        Credential::OtherRepository => Some(Gap::OtherRepository),
        Credential::Missing if grant.credential(may_have).0 == Credential::Missing => {
            Some(Gap::MountableSecrets)
        }
        Credential::Missing if held.is_empty() || grant.usable.iter().any(|usable| holds(usable)) => {
            Some(Gap::NotInjected)
        }
        Credential::Missing => Some(Gap::OtherSecret),
    };
    (registry, gap)
}

/// Pods that stand alike to a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The Pods' namespace.
    pub namespace: String,
    /// The registry's host.
    pub host: String,
    /// The AcrRegistry that has it, if one does.
    pub registry: Option<String>,
    /// Their state for it.
    pub state: CoverageState,
}

/// Pods of a namespace that are uncovered for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UncoveredGroup {
    /// The Pods' namespace.
    pub namespace: Arc<str>,
    /// The AcrRegistry that has the registry, if one does.
    pub registry: Option<Arc<str>>,
    /// Why.
    pub gap: Gap,
}

/// The Pods of a cluster, counted by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pods that have every pull secret that they need.
    pub covered: u64,
    /// Pods that lack one.
    pub uncovered: u64,
    /// Pods that are skipped.
    pub skipped: u64,
    /// Pods by namespace, registry and state. A Pod with images of several registries is in several groups.
    pub groups: BTreeMap<Group, u64>,
}

impl Summary {
    /// Counts a Pod. One without images on ACR counts nowhere.
    pub fn add(&mut self, namespace: &str, findings: &[CoverageFinding<'_>]) {
        for finding in findings {
            let group = Group {
                namespace: namespace.to_owned(),
                host: finding.host.clone().into_owned(),
                registry: finding.registry.map(str::to_owned),
                state: finding.state,
            };
            *self.groups.entry(group).or_default() += 1;
        }
        match findings.iter().map(|finding| finding.state).min() {
            Some(CoverageState::Uncovered(_)) => self.uncovered += 1,
            Some(CoverageState::Covered) => self.covered += 1,
            Some(CoverageState::Skipped(_)) => self.skipped += 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
