//! What `pullpass audit` prints.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use super::bindings::described;
use super::registries::{RegistryRow, Told, unjudged, unmet};
use crate::api::condition::{DISTRIBUTED, READY};
use crate::api::names::{WEBHOOK_CONFIGURATION, pull_secret_of};
use crate::cli::{CliError, table};
use crate::policy::coverage::{CoverageFinding, CoverageState, Gap, Group, Summary};
use crate::policy::namespace_selector::NamespaceSelector;
use crate::policy::pod::Pod;
use crate::policy::reports::{ReportContext, reports};
use crate::policy::rules::Policy;
use crate::policy::scope::Mode;
use crate::policy::server_policies::ServerPolicies;
use crate::policy::workloads::Workloads;

/// What the report in JSON is called by.
const SCHEMA: &str = "pullpass.dev/audit-report/v1";

/// A Pod and a registry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodRow {
    namespace: String,
    pod: String,
    host: String,
    registry: Option<String>,
    state: &'static str,
    reason: Option<&'static str>,
    /// The secret that covers the Pod.
    secret: Option<String>,
    /// Every pull secret that it names.
    pull_secrets: Vec<String>,
    images: Vec<String>,
}

/// Everything that the command knows at its end.
pub(super) struct Findings {
    pub(super) mode: Mode,
    /// Which namespaces are injected, by labels of the platform.
    pub(super) selector: NamespaceSelector,
    pub(super) summary: Summary,
    pub(super) pods: Vec<PodRow>,
    /// The same by workload, where the output tells of workloads.
    pub(super) workloads: Workloads,
    /// The attached registries.
    pub(super) registries: Vec<RegistryRow>,
    /// Whether the cluster has the webhook at all.
    pub(super) is_installed: bool,
    /// What the API server does by itself.
    pub(super) policies: ServerPolicies,
    /// What pullpass does about images that no attached registry is there for, as far as that can be read.
    pub(super) rules: Policy,
}

impl PodRow {
    pub(super) fn new(pod: &Pod, namespace: &str, finding: &CoverageFinding<'_>) -> Self {
        let is_covered = finding.state == CoverageState::Covered;
        Self {
            namespace: namespace.to_owned(),
            pod: pod.name_any(),
            host: finding.host.clone().into_owned(),
            registry: finding.registry.map(str::to_owned),
            state: finding.state.as_str(),
            reason: finding.state.reason(),
            secret: finding.registry.filter(|_| is_covered).map(pull_secret_of),
            pull_secrets: pod.spec.pull_secrets().map(str::to_owned).collect(),
            images: finding.images.iter().map(|&image| image.to_owned()).collect(),
        }
    }
}

/// A value as YAML.
pub(super) fn yaml(value: &Value) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|error| CliError::Input(error.to_string()))
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// A table; nothing, not even its headings, if it has no row.
fn table_of(header: &[&str], rows: &[Vec<String>], with_header: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    table::render_with(header, rows, with_header)
}

impl Findings {
    /// What is wrong with registries that Pods lean on.
    fn unready(&self) -> Told {
        let invalid = self
            .registries
            .iter()
            .filter_map(|row| Some((row.name.clone(), row.invalid.clone()?)));
        invalid.chain(unmet(&self.registries, READY)).collect()
    }

    /// Why some namespaces have not the pull secrets of registries.
    fn undistributed(&self) -> Told {
        unmet(&self.registries, DISTRIBUTED)
    }

    fn groups(&self, uncovered: bool) -> impl Iterator<Item = (&Group, u64)> {
        self.summary
            .groups
            .iter()
            .map(|(group, pods)| (group, *pods))
            .filter(move |(group, _)| !uncovered || matches!(group.state, CoverageState::Uncovered(_)))
    }

    pub(super) fn table(&self, uncovered: bool, with_header: bool) -> String {
        let rows: Vec<Vec<String>> = self
            .groups(uncovered)
            .map(|(group, pods)| {
                vec![
                    group.namespace.clone(),
                    group.host.clone(),
                    or_dash(group.registry.as_deref()),
                    group.state.as_str().to_owned(),
                    pods.to_string(),
                    or_dash(group.state.reason()),
                ]
            })
            .collect();
        let header = ["NAMESPACE", "REGISTRY", "ACRREGISTRY", "STATE", "PODS", "REASON"];
        table_of(&header, &rows, with_header)
    }

    pub(super) fn wide(&self, with_header: bool) -> String {
        let rows: Vec<Vec<String>> = self
            .pods
            .iter()
            .map(|row| {
                vec![
                    row.namespace.clone(),
                    row.pod.clone(),
                    row.host.clone(),
                    row.state.to_owned(),
                    or_dash(row.secret.as_deref()),
                    or_dash(row.reason),
                ]
            })
            .collect();
        let header = ["NAMESPACE", "POD", "REGISTRY", "STATE", "SECRET", "REASON"];
        table_of(&header, &rows, with_header)
    }

    /// The summary, and what a reader should know or do; each on a line.
    pub(super) fn notes(&self) -> String {
        let Summary {
            covered,
            uncovered,
            skipped,
            ..
        } = self.summary;
        let mut notes = vec![match covered + uncovered + skipped {
            0 => "No running Pod has an image on Azure Container Registry.".to_owned(),
            all => format!(
                "Pods with images on Azure Container Registry: {all}. Covered: {covered}; uncovered: {uncovered}; skipped: {skipped}."
            ),
        }];
        let has = |gap| {
            self.groups(true)
                .any(|(group, _)| group.state == CoverageState::Uncovered(gap))
        };
        let gaps = Gap::ALL.into_iter().filter(|gap| has(*gap));
        notes.extend(gaps.map(|gap| format!("{}: {}.", gap.as_str(), gap.advice())));
        let unready = self.unready();
        let unready = unready.iter();
        notes.extend(unready.map(|(registry, why)| format!("{} is not ready: {why}", described(registry))));
        notes.extend(unjudged(&self.registries).map(|registry| {
            format!(
                "{} is in another cloud and counts as attached: whether pullpass accepts its host depends on \
                 --other-cloud-suffix of `pullpass serve`, which this command does not know",
                described(registry)
            )
        }));
        let undistributed = self.undistributed();
        let undistributed = undistributed.iter();
        notes.extend(
            undistributed.map(|(registry, why)| {
                format!("{} lacks some of its pull secrets: {why}", described(registry))
            }),
        );
        if !self.is_installed {
            notes.push(format!(
                "There is no MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}: new Pods get no pull secrets. Namespaces are judged as in mode {}.",
                self.mode.as_str()
            ));
        }
        notes.extend(self.policies.notes());
        notes.join("\n") + "\n"
    }

    /// Each Pod once.
    pub(super) fn names(&self) -> String {
        let pods: BTreeSet<_> = self.pods.iter().map(|row| (&row.namespace, &row.pod)).collect();
        let names = pods.into_iter().flat_map(|(_, pod)| ["pod/", pod.as_str(), "\n"]);
        names.collect()
    }

    /// A List of Reports.
    pub(super) fn open_reports(&self, now: Timestamp, uncovered: bool) -> Value {
        let anonymous = self.registries.iter().filter(|row| row.is_anonymous);
        let context = ReportContext {
            rules: self.rules,
            anonymous: anonymous.map(|row| row.name.clone()).collect(),
        };
        let reports = reports(&self.workloads, &context, uncovered);
        let items: Vec<_> = reports.map(|report| report.at(now)).collect();
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    pub(super) fn json(&self, uncovered: bool) -> Result<String, CliError> {
        serde_json::to_string_pretty(&self.report(uncovered))
            .map(|text| text + "\n")
            .map_err(|error| CliError::Input(error.to_string()))
    }

    pub(super) fn yaml(&self, uncovered: bool) -> Result<String, CliError> {
        yaml(&self.report(uncovered))
    }

    fn report(&self, uncovered: bool) -> Value {
        let groups: Vec<_> = self
            .groups(uncovered)
            .map(|(group, pods)| {
                serde_json::json!({
                    "namespace": group.namespace, "host": group.host, "registry": group.registry,
                    "state": group.state.as_str(), "reason": group.state.reason(), "pods": pods,
                })
            })
            .collect();
        serde_json::json!({
            "schema": SCHEMA,
            "mode": self.mode,
            "installed": self.is_installed,
            "admissionPolicies": self.policies,
            "summary": {
                "covered": self.summary.covered,
                "uncovered": self.summary.uncovered,
                "skipped": self.summary.skipped,
            },
            "groups": groups,
            "pods": self.pods,
            "unreadyRegistries": self.unready(),
            "undistributedRegistries": self.undistributed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_say_that_another_cloud_is_unknown() {
        let row = RegistryRow {
            name: "appliance".to_owned(),
            is_in_other_cloud: true,
            ..RegistryRow::default()
        };
        let findings = Findings {
            mode: Mode::ClusterWide,
            selector: NamespaceSelector::default(),
            summary: Summary::default(),
            pods: Vec::new(),
            workloads: Workloads::default(),
            registries: vec![row],
            is_installed: true,
            policies: ServerPolicies::default(),
            rules: Policy::default(),
        };
        let note = "\nAcrRegistry appliance is in another cloud and counts as attached";
        let notes = findings.notes();
        assert!(notes.contains(note), "{notes}");
    }
}
