//! `pullpass check` without a registry: whether the installation is well, or can be made.

mod components;
mod deployed;
pub(in crate::cli) mod gather;
mod pre;
mod settings;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::CheckOutput;
use super::cluster::in_time;
use super::printer::{Printer, step, verdict};
use crate::check::installation::{Facts, InstallationStep};
use crate::check::{Finding, Step, StepOutcome};
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::seconds::seconds;
use crate::cli::waiting::{Look, Progress, wait};

/// What the report in JSON is called by.
const SCHEMA: &str = "pullpass.dev/installation-check/v1";
/// How long it takes between two looks that waiting takes, beside the looks themselves.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct InstallationFlags {
    /// Check whether pullpass can be installed in the cluster
    #[arg(long, conflicts_with = "registry")]
    pre: bool,
    /// Repeat the checks until all pass, for at most this long
    #[arg(long, value_name = "DURATION", value_parser = seconds, conflicts_with = "registry")]
    wait: Option<Duration>,
    /// Without a registry: try a Pod of this namespace with a dry run; if absent, of `default` or of the first namespace
    /// that is injected. With a registry: check the AcrPullBinding of this namespace, with the identity of its
    /// ServiceAccount
    #[arg(short, long, value_name = "NAME", conflicts_with = "pre")]
    pub(super) namespace: Option<String>,
}

/// What was found in one look.
struct Report {
    findings: Vec<Finding<InstallationStep>>,
    /// The namespace whose Pods were looked at.
    namespace: Option<String>,
}

/// Checks, and prints; whether all is well.
pub(super) async fn run(
    flags: &InstallationFlags,
    output: CheckOutput,
    own_namespace: &str,
    cluster: &KubeFlags,
) -> Result<bool, CliError> {
    let report = match flags.wait {
        None => look(flags, own_namespace, cluster).await?,
        Some(timeout) => look_until_well(timeout, flags, own_namespace, cluster).await?,
    };
    report.print(flags, output, own_namespace)
}

async fn look(
    flags: &InstallationFlags,
    own_namespace: &str,
    cluster: &KubeFlags,
) -> Result<Report, CliError> {
    in_time(Box::pin(async {
        let client = cluster.client().await?;
        if flags.pre {
            let facts = pre::facts(&client, own_namespace).await?;
            return Ok(Report {
                findings: facts.findings(),
                namespace: None,
            });
        }
        let mut facts = gather::facts(&client, own_namespace, flags.namespace.as_deref()).await?;
        components::add(&client, own_namespace, &mut facts).await?;
        settings::add(&client, &mut facts).await?;
        let looked_at = facts.looked_at.as_ref().ok().and_then(Option::as_ref);
        Ok(Report {
            namespace: looked_at.map(|looked_at| looked_at.name.clone()),
            findings: facts.findings(),
        })
    }))
    .await
}

/// The last look, at which all is well or the time is up.
async fn look_until_well(
    timeout: Duration,
    flags: &InstallationFlags,
    own_namespace: &str,
    cluster: &KubeFlags,
) -> Result<Report, CliError> {
    let progress = Progress::start("looking at the installation".to_owned());
    let mut last = None;
    let well = wait(timeout, progress, async |elapsed| {
        if !elapsed.is_zero() {
            tokio::time::sleep(PAUSE).await;
        }
        let found = look(flags, own_namespace, cluster).await;
        let text = match &found {
            Ok(report) => report.first_failure(),
            Err(CliError::Cluster(error)) => Some(error.clone()),
            Err(_) => None,
        };
        match text {
            None => Ok(Look::Done(found?)),
            Some(text) => {
                last = Some(found);
                Ok(Look::NotYet(text))
            }
        }
    })
    .await?;
    match (well, last) {
        (Some(report), _) => Ok(report),
        (None, Some(last)) => last,
        (None, None) => Err(CliError::Cluster(
            "the time was too short to check anything".to_owned(),
        )),
    }
}

impl Report {
    fn first_failure(&self) -> Option<String> {
        let failure = self.findings.iter().find_map(Finding::failure)?;
        Some(format!("{}: {}", failure.code.as_str(), failure.cause))
    }

    fn print(
        &self,
        flags: &InstallationFlags,
        output: CheckOutput,
        own_namespace: &str,
    ) -> Result<bool, CliError> {
        if let Some(why) = self.reason_of_ignorance() {
            return Err(CliError::Cluster(format!(
                "you may not read any part of the installation: {why}"
            )));
        }
        let is_well = self.findings.iter().all(|finding| finding.failure().is_none());
        let mut printer = Printer::new(output);
        printer.headline(&if flags.pre {
            format!("The cluster, before pullpass is installed in {own_namespace}")
        } else {
            format!("pullpass in {own_namespace}")
        });
        for finding in &self.findings {
            printer.finding(finding);
        }
        let report = self.json(is_well, flags.pre, own_namespace);
        printer.end(&format!("\n{}", self.verdict()), &report)?;
        Ok(is_well)
    }

    fn verdict(&self) -> String {
        verdict(&self.findings, &self.unchecked(), "")
    }

    /// Why no step could be looked at, where that is so.
    fn reason_of_ignorance(&self) -> Option<&str> {
        let mut whys = self.findings.iter().map(|finding| match &finding.outcome {
            StepOutcome::Skipped { why } => Some(why.as_str()),
            StepOutcome::Passed { .. } | StepOutcome::Failed(_) => None,
        });
        let first = whys.next()??;
        whys.all(|why| why.is_some()).then_some(first)
    }

    fn unchecked(&self) -> Vec<&'static str> {
        let skipped = self
            .findings
            .iter()
            .filter(|finding| matches!(finding.outcome, StepOutcome::Skipped { .. }));
        skipped.map(|finding| finding.step.title()).collect()
    }

    fn json(&self, is_well: bool, is_before: bool, own_namespace: &str) -> Value {
        let failure = self.findings.iter().find_map(Finding::failure);
        json!({
            "schema": SCHEMA,
            "before": is_before,
            "version": Facts::CLIENT_VERSION,
            "ownNamespace": own_namespace,
            "namespace": self.namespace,
            "ok": is_well,
            "complete": is_well && self.unchecked().is_empty(),
            "code": failure.map(|failure| failure.code.as_str()),
            "steps": self.findings.iter().map(step).collect::<Vec<_>>(),
        })
    }
}
