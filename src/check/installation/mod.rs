//! Whether pullpass itself is well: facts about the cluster become findings, each fault with a code of its own, a sentence
//! and the command that repairs it. Who gathers the facts reads the cluster, and creates nothing but by dry run.

mod answer;
mod custom_domains;
mod definitions;
mod egress;
mod fence;
mod pre;
mod replicas;
mod rights;
mod settings;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::Value;

pub use self::answer::{Answer, Distrust};
pub use self::custom_domains::Unasked;
pub use self::definitions::is_current;
pub use self::egress::{Egress, SHIPPED_PORTS};
pub use self::fence::{FENCES, FencePolicy, REPORT_FENCES};
pub use self::pre::{APIS, INSTALL_RIGHTS, PreFacts};
pub use self::replicas::{Leader, image, is_replica, version_of_image};
pub use self::rights::{BINDING_RIGHTS, OWN_CERTIFICATE, REPORT_RIGHTS, RIGHTS, Right};
pub use self::webhook::bundle;
use super::advice::{apply_again, kubectl};
use super::finding::{Code, Cure, Finding, Step, StepOutcome, failed, passed};
use crate::policy::scope::Membership;

/// What was read, or why it could not be: without the right to read it, it is not checked.
pub type Known<T> = Result<T, String>;

/// A step of the check of an installation, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InstallationStep {
    /// Before the installation: the version of Kubernetes.
    Kubernetes,
    /// Before the installation: the resources that the API server has.
    Apis,
    /// Before the installation: what the user may create.
    InstallRights,
    /// Before the installation: no other one is there.
    Vacancy,
    /// Before the installation: the ports of API servers.
    Egress,
    /// The `CustomResourceDefinitions`.
    Definitions,
    /// Every object names the namespace that pullpass runs in.
    Namespace,
    /// The rights of the service account.
    Rights,
    /// The policies that keep pullpass off foreign Secrets and tokens.
    Fence,
    /// The webhook's configuration.
    Webhook,
    /// Flags and selectors name the same namespaces.
    Settings,
    /// The API server asks about Pods with images on custom domains.
    CustomDomains,
    /// Ready replicas behind the Service.
    Replicas,
    /// One of them leads.
    Leader,
    /// All of them, and this program, are of one version.
    Version,
    /// The namespace that is looked at is injected.
    Injection,
    /// The API server reaches pullpass, and pullpass answers.
    Answer,
}

impl Step for InstallationStep {
    fn title(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::Apis => "APIs",
            Self::InstallRights => "Your rights",
            Self::Vacancy => "Vacancy",
            Self::Egress => "Egress",
            Self::Definitions => "Definitions",
            Self::Namespace => "Namespace",
            Self::Rights => "Rights",
            Self::Fence => "Fence",
            Self::Webhook => "Webhook",
            Self::Settings => "Settings",
            Self::CustomDomains => "Custom domains",
            Self::Replicas => "Replicas",
            Self::Leader => "Leader",
            Self::Version => "Version",
            Self::Injection => "Injection",
            Self::Answer => "Answer",
        }
    }
}

/// A namespace whose Pods are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAt {
    /// Its name.
    pub name: String,
    /// Whether the webhook's selectors pick it.
    pub membership: Membership,
}

/// What was read of an installation.
#[derive(Debug, Clone)]
pub struct Facts {
    /// pullpass' own namespace, as the user names it.
    pub own_namespace: String,
    /// The definitions of this program, by name.
    pub expected_definitions: BTreeMap<String, Value>,
    /// Those of the cluster.
    pub definitions: Known<BTreeMap<String, Value>>,
    /// Whether there are `AcrPullBindings` although pullpass runs without `--bindings`.
    pub idle_bindings: Known<bool>,
    /// The namespaces that have a Deployment of pullpass.
    pub deployed_in: Known<Vec<String>>,
    /// What the service account may not do that it needs to.
    pub missing_rights: Known<Vec<Right>>,
    /// The policies of [`FENCES`], and those of components that are turned on.
    pub fence: Known<Vec<FencePolicy>>,
    /// The webhook's configuration, if it is there.
    pub webhook: Known<Option<MutatingWebhookConfiguration>>,
    /// How pullpass' flags differ from the webhook's selectors; none if no leader has recorded them yet.
    pub disagreements: Known<Option<Vec<String>>>,
    /// The hosts of `AcrRegistries`, outside the zones of Azure's clouds, that the webhook's conditions do not name.
    pub unasked: Known<Unasked>,
    /// Whether a client that trusts the `caBundle` of any entry accepts the serving certificate; else what it says.
    pub trust: Known<Result<(), Distrust>>,
    /// The replicas.
    pub replicas: Known<Vec<Pod>>,
    /// How many of them the Service sends requests to.
    pub endpoints: Known<usize>,
    /// The way from replicas to API servers, which is of interest where no replica is ready.
    pub egress: Known<Egress>,
    /// Who leads.
    pub leader: Known<Leader>,
    /// The namespace that is looked at; none if no namespace is injected.
    pub looked_at: Known<Option<LookedAt>>,
    /// What a dry run there showed.
    pub answer: Known<Answer>,
}

impl Facts {
    /// The version of this program.
    pub const CLIENT_VERSION: &'static str = env!("CARGO_PKG_VERSION");

    /// Its state.
    pub fn findings(&self) -> Vec<Finding<InstallationStep>> {
        let mut findings = vec![
            finding(InstallationStep::Definitions, self.definitions()),
            finding(InstallationStep::Namespace, self.namespace()),
            finding(InstallationStep::Rights, self.rights()),
            finding(InstallationStep::Fence, self.fence()),
            finding(InstallationStep::Webhook, self.webhook()),
            finding(InstallationStep::Settings, self.settings()),
            finding(InstallationStep::CustomDomains, self.custom_domains()),
            finding(InstallationStep::Replicas, self.replicas()),
            finding(InstallationStep::Leader, self.leader()),
            finding(InstallationStep::Version, self.version()),
            finding(InstallationStep::Injection, self.injection()),
        ];
        let needed = [
            InstallationStep::Webhook,
            InstallationStep::Replicas,
            InstallationStep::Injection,
        ];
        let failed = findings
            .iter()
            .find(|finding| needed.contains(&finding.step) && finding.failure().is_some());
        let answer = match failed {
            Some(failed) => skipped(format!("not tried, since this failed: {}", failed.step.title())),
            None => self.answer(),
        };
        findings.push(finding(InstallationStep::Answer, answer));
        findings
    }

    /// Whether a dry run could show something.
    pub fn can_be_asked(&self) -> bool {
        let outcomes = [self.webhook(), self.replicas(), self.injection()];
        !outcomes
            .iter()
            .any(|outcome| matches!(outcome, StepOutcome::Failed(_)))
    }

    /// Whether the Service has no replica to send requests to, as far as it is known.
    pub fn has_no_replica(&self) -> bool {
        matches!(self.endpoints, Ok(0))
    }

    /// A command about pullpass' own namespace.
    fn own(&self, text: &str, command: &str) -> Cure {
        kubectl(
            text,
            format!("kubectl --namespace {} {command}", self.own_namespace),
        )
    }
}

fn finding(step: InstallationStep, outcome: StepOutcome) -> Finding<InstallationStep> {
    Finding {
        step,
        took: None,
        outcome,
    }
}

fn skipped(why: String) -> StepOutcome {
    StepOutcome::Skipped { why }
}

/// Judges what could be read; the rest is not checked.
fn judged<T>(known: &Known<T>, judge: impl FnOnce(&T) -> StepOutcome) -> StepOutcome {
    match known {
        Ok(value) => judge(value),
        Err(why) => skipped(why.clone()),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn fault(code: Code, cause: impl Into<String>, cures: Vec<Cure>) -> StepOutcome {
    failed(code, cause.into(), cures)
}

fn well(detail: impl Into<String>) -> StepOutcome {
    passed(detail.into())
}
