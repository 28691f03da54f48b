//! `pullpass audit`: which running Pods have the pull secrets that their images need.

pub(super) mod bindings;
pub mod installed;
mod page;
pub(super) mod policies;
pub(super) mod registries;
mod report;

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

pub(super) use self::bindings::described;

use self::bindings::Attached;
use self::page::Subject;
use self::report::{Findings, PodRow};
use crate::api::names::{OWN_NAMESPACE, WEBHOOK_CONFIGURATION};
use crate::cli::flags::decisions::mode;
use crate::cli::flags::kubeconfig::{KubeFlags, Role, refusal_without};
use crate::cli::flags::no_headers::NoHeaders;
use crate::cli::output::print;
use crate::cli::{CliError, block_on};
use crate::kubernetes::call::call;
use crate::kubernetes::pages::{pages, pages_of};
use crate::kubernetes::pods;
use crate::policy::coverage::{CoverageState, Summary, findings};
use crate::policy::mountable::{DEFAULT_ACCOUNT, Mountable};
use crate::policy::pod::{has_ended, service_account};
use crate::policy::rules::Policy;
use crate::policy::scope::{Labels, Mode, Scope};
use crate::policy::workloads::{Workloads, add as add_to};
use crate::view::StrictAccounts;

/// Show which running Pods with images on Azure Container Registry have a pull secret for them, and which do not.
///
/// Reads Pods, Namespaces, ServiceAccounts, AcrRegistries, AcrPullBindings and the admission configuration, and no Secret.
/// Exit code: 0; 1 if the cluster can't be read; 2 for bad input; 3 if some Pods are uncovered.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass audit\n  pullpass audit --namespace apps --output wide\n  pullpass audit --uncovered --output json\n  pullpass audit --output html > report.html\n  pullpass audit --output openreports | kubectl apply --server-side -f -"
)]
pub(super) struct AuditArgs {
    /// Read only this namespace; if absent, all namespaces, regardless of the context
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look at all namespaces, as without --namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Include only Pods whose labels match, for instance app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Show only uncovered Pods
    #[arg(long)]
    uncovered: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: AuditOutput,
    #[command(flatten)]
    no_headers: NoHeaders,
    /// Which namespaces are injected unless a label says otherwise; if absent, as the webhook's configuration says
    #[arg(long, value_parser = mode())]
    mode: Option<Mode>,
    #[command(flatten)]
    cluster: KubeFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum AuditOutput {
    /// A table of Pod counts by state, namespace and registry
    #[default]
    Table,
    /// A table of Pods
    Wide,
    /// Both, for scripts
    Json,
    /// The same in YAML
    Yaml,
    /// The names of Pods, in the form that kubectl accepts
    Name,
    /// A page for a browser, which needs no network
    Html,
    /// Reports of openreports.io for each workload, in YAML, for tools that show the results of policies
    #[value(name = "openreports")]
    OpenReports,
}

impl AuditOutput {
    /// Whether notes belong to it; scripts and other programs read the other formats.
    fn has_notes(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// Whether it tells of each Pod.
    fn has_pods(self) -> bool {
        match self {
            Self::Wide | Self::Json | Self::Yaml | Self::Name => true,
            Self::Table | Self::Html | Self::OpenReports => false,
        }
    }

    /// Whether it tells of workloads.
    fn has_workloads(self) -> bool {
        match self {
            Self::Html | Self::OpenReports => true,
            Self::Table | Self::Wide | Self::Json | Self::Yaml | Self::Name => false,
        }
    }
}

pub(super) fn run(args: &AuditArgs) -> Result<ExitCode, CliError> {
    let findings = block_on(look(args))??;
    let with_header = args.no_headers.with_header();
    let text = match args.output {
        AuditOutput::Table => findings.table(args.uncovered, with_header),
        AuditOutput::Wide => findings.wide(with_header),
        AuditOutput::Json => findings.json(args.uncovered)?,
        AuditOutput::Yaml => findings.yaml(args.uncovered)?,
        AuditOutput::Name => findings.names(),
        AuditOutput::Html => page::render(&findings, &args.subject()),
        AuditOutput::OpenReports => report::yaml(&findings.open_reports(Timestamp::now(), args.uncovered))?,
    };
    let notes = findings.notes();
    match (args.output.has_notes(), with_header) {
        (true, true) => {
            let gap = if text.is_empty() { "" } else { "\n" };
            print(format!("{text}{gap}{notes}"))?;
        }
        (true, false) => {
            print(text)?;
            io::stderr()
                .write_all(notes.as_bytes())
                .map_err(CliError::Output)?;
        }
        (false, _) => print(text)?,
    }
    Ok(if findings.summary.uncovered > 0 {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

impl AuditArgs {
    fn subject(&self) -> Subject {
        Subject {
            now: Timestamp::now(),
            context: self.cluster.context_name(),
            given_context: self.cluster.given_context().map(str::to_owned),
            namespace: self.namespace.clone(),
            selector: self.selector.clone(),
            uncovered: self.uncovered,
        }
    }
}

async fn look(args: &AuditArgs) -> Result<Findings, CliError> {
    let client = args.cluster.client().await?;
    let installed = installed_scope(&client).await?;
    let is_installed = installed.is_some();
    let policies = policies::read(&client, installed.as_ref()).await;
    let rules = if args.output == AuditOutput::OpenReports {
        policies::rules(&client).await?.unwrap_or_default()
    } else {
        Policy::default()
    };
    let scope = installed.unwrap_or_else(|| Scope::new(Mode::default(), OWN_NAMESPACE, []));
    let scope = match args.mode {
        Some(mode) => scope.with_mode(mode),
        None => scope,
    };
    let only = args.namespace.as_deref();
    let (attached, mut registries) = registries::read(&client).await?;
    let (bindings, bound) = bindings::read(&client, only).await?;
    let attached = Attached::new(attached, bindings);
    registries.extend(bound);
    let namespaces = namespaces(&client, only).await?;
    let mut accounts = StrictAccounts::default();
    strict_accounts(&client, only, &mut accounts).await?;

    let progress = ProgressBar::no_length().with_style(progress_style());
    let (mut summary, mut rows, mut workloads) = (Summary::default(), Vec::new(), Workloads::new());
    let selected = ListParams {
        label_selector: args.selector.clone(),
        ..ListParams::default()
    };
    let mut pages = std::pin::pin!(pages_of(pods::api(client, only), selected));
    while let Some(page) = pages
        .try_next()
        .await
        .map_err(|error| refusal_without(Role::Namespace(only), "Pods can't be listed", &error))?
    {
        for pod in page.iter().filter(|pod| !has_ended(pod)) {
            let namespace = pod.namespace().unwrap_or_default();
            let here = attached.in_namespace(&namespace);
            let account = service_account(pod).unwrap_or(DEFAULT_ACCOUNT);
            let found = findings(
                pod,
                &namespace,
                here,
                namespaces.get(&namespace),
                &scope,
                accounts.of(&namespace, account).as_deref(),
            );
            summary.add(&namespace, &found);
            if args.output.has_workloads() {
                add_to(&mut workloads, pod, &namespace, &found);
            }
            if args.output.has_pods() {
                let wanted = found.iter().filter(|finding| {
                    !args.uncovered || matches!(finding.state, CoverageState::Uncovered(_))
                });
                rows.extend(wanted.map(|finding| PodRow::new(pod, &namespace, finding)));
            }
        }
        progress.inc(page.len() as u64);
    }
    progress.finish_and_clear();
    rows.sort();
    Ok(Findings {
        mode: scope.mode(),
        selector: scope.selector().clone(),
        summary,
        pods: rows,
        workloads,
        registries,
        is_installed,
        policies,
        rules,
    })
}

/// Reads the `ServiceAccounts` that enforce mountable secrets.
pub(super) async fn strict_accounts(
    client: &Client,
    only: Option<&str>,
    accounts: &mut StrictAccounts,
) -> Result<(), CliError> {
    let api: Api<ServiceAccount> = match only {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut pages = std::pin::pin!(pages(api));
    while let Some(page) = pages
        .try_next()
        .await
        .map_err(|error| refusal_without(Role::Namespace(only), "ServiceAccounts can't be listed", &error))?
    {
        for account in page {
            let (namespace, name) = (account.namespace().unwrap_or_default(), account.name_any());
            accounts.take(&namespace, &name, Mountable::of(&account));
        }
    }
    Ok(())
}

/// It is drawn only on a terminal.
fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {human_pos} Pods read")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What the installed webhook's selectors say, if it is installed.
pub(super) async fn installed_scope(client: &Client) -> Result<Option<Scope>, CliError> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let installed = call(configurations.get_opt(WEBHOOK_CONFIGURATION))
        .await
        .map_err(|error| refusal_without(Role::View, "the webhook's configuration can't be read", &error))?;
    Ok(installed.as_ref().and_then(installed::scope))
}

async fn namespaces(client: &Client, only: Option<&str>) -> Result<HashMap<String, Labels>, CliError> {
    let api: Api<Namespace> = Api::all(client.clone());
    if let Some(name) = only {
        let namespace = call(api.get_metadata_opt(name))
            .await
            .map_err(|error| refusal_without(Role::Namespace(only), "the namespace can't be read", &error))?
            .ok_or_else(|| CliError::Input(format!("there is no namespace {name}")))?;
        return Ok([(name.to_owned(), namespace.metadata.labels.unwrap_or_default())].into());
    }
    let mut pages = std::pin::pin!(pages(api));
    let mut namespaces = HashMap::new();
    while let Some(page) = pages
        .try_next()
        .await
        .map_err(|error| refusal_without(Role::Namespace(only), "namespaces can't be listed", &error))?
    {
        namespaces.extend(page.into_iter().map(|namespace| {
            (
                namespace.name_any(),
                namespace.metadata.labels.unwrap_or_default(),
            )
        }));
    }
    Ok(namespaces)
}
