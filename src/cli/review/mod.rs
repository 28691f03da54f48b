//! `pullpass review`: the webhook's decision on files, with what a directory or a cluster knows.

mod cluster;
mod input;
mod report;
mod subject;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::cluster::Known;
use self::input::Input;
use self::report::Report;
use self::subject::{PassedOver, ReviewSubject, gather};
use crate::base::abridged::abridged;
use crate::cli::audit::described;
use crate::cli::flags::decisions::ClusterDecisionFlags;
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::no_headers::NoHeaders;
use crate::cli::output::print;
use crate::cli::{CliError, block_on};
use crate::policy::decision::decide;
use crate::policy::scope::Membership;
use crate::registry::other_cloud::OtherCloud;
use crate::view::manifests::Manifests;

/// How many namespaces a note names.
const MAX_NAMED: usize = 10;

/// Show what the webhook would do with the Pods and workloads in files.
///
/// Registries and the labels of namespaces come from --manifests, or from a cluster that you name with --context or
/// another flag for the cluster; without either, no registry is attached. Namespaces, ServiceAccounts and
/// AcrPullBindings in the reviewed files count as if you applied them. A namespace that is found nowhere counts as
/// having no labels, and a note says so. Pod templates are found in objects of every kind; objects without a Pod
/// template are skipped, and counted. Exit code: 0; 1 if the cluster can't be read; 2 for bad input; 3 if something
/// would be denied.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass review -f deployment.yaml --manifests ./cluster\n  pullpass review -f apps/ -R --context production\n  helm template shop ./chart | pullpass review -f - --manifests ./cluster\n  kubectl get deployments -A -o yaml | pullpass review -f - --context production"
)]
pub(super) struct ReviewArgs {
    /// A file with Pods, workloads, Lists or an AdmissionReview, in YAML or JSON, or a directory of such files; - for standard
    /// input. May be repeated
    #[arg(short, long, value_name = "FILE", required = true, value_delimiter = ',')]
    filename: Vec<PathBuf>,
    /// Read the directories within directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Read AcrRegistry, AcrPullBinding, Namespace and ServiceAccount objects from the YAML files in this directory
    #[arg(
        long,
        value_name = "DIR",
        env = "PULLPASS_MANIFESTS",
        conflicts_with_all = ["kubeconfig", "context", "cluster_name", "user_name"]
    )]
    manifests: Option<PathBuf>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReviewOutput,
    #[command(flatten)]
    no_headers: NoHeaders,
    /// The namespace of objects that name none; if absent, that of the cluster's context, or else default
    #[arg(short, long, visible_alias = "default-namespace", value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    decisions: ClusterDecisionFlags,
    #[command(flatten)]
    cluster: KubeFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ReviewOutput {
    /// A table of decisions
    #[default]
    Table,
    /// The same with the images
    Wide,
    /// The decisions, for scripts
    Json,
    /// The resulting Pods
    Yaml,
    /// The reviewed objects as kind/name, one on each line
    Name,
    /// The JSON Patch of each Pod, one on each line
    Patch,
    /// The AdmissionReview that answers each Pod, one on each line
    Review,
}

impl ReviewOutput {
    /// Whether notes may be part of what is printed; scripts read the other formats.
    fn has_notes(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

pub(super) fn run(args: &ReviewArgs) -> Result<ExitCode, CliError> {
    let inputs = input::read(&args.filename, args.recursive)?;
    let namespace = args.default_namespace();
    let (mut subjects, mut passed_over) = (Vec::new(), PassedOver::default());
    for object in inputs.iter().flat_map(|input| &input.objects) {
        gather(object, &namespace, &mut subjects, &mut passed_over)?;
    }
    let mut known = args.known(&subjects)?;
    // What is applied together is decided on together: a chart has its Namespace, and a team its AcrPullBinding, beside the Pods.
    for Input { path, objects } in &inputs {
        known.manifests.apply(path, objects, &namespace)?;
    }
    let mut report = Report::new(args.output);
    let mut unknown = BTreeSet::new();
    for subject in &subjects {
        let mut request = subject.request()?;
        let Known {
            manifests, settings, ..
        } = &known;
        // There is no API server whose selectors picked the namespace, so that nothing but the manifests can tell of it.
        let labels = manifests.effective_labels(&request.namespace);
        let registries = manifests.registries_in(&request.namespace);
        request.mountable = manifests.mountable(&request.namespace, request.pod.service_account());
        let decision = decide(&request, &registries, Some(&labels), settings);
        let membership = settings.scope.membership(&request.namespace, None);
        if manifests.labels(&request.namespace).is_none() && membership != Membership::Excluded {
            unknown.insert(request.namespace.to_string());
        }
        report.add(subject, &request, &decision)?;
    }
    notes(&mut report, &known, &unknown, &passed_over);
    let with_header = args.no_headers.with_header();
    print(report.finish(with_header)?)?;
    if !(args.output.has_notes() && with_header) {
        for note in &report.notes {
            writeln!(io::stderr(), "{note}").map_err(CliError::Output)?;
        }
    }
    Ok(if report.denied {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

impl ReviewArgs {
    /// Whether a cluster is asked.
    fn asks_cluster(&self) -> bool {
        !self.cluster.is_unnamed()
    }

    fn default_namespace(&self) -> String {
        let given = self.namespace.clone();
        let of_context = || self.cluster.context_namespace().filter(|_| self.asks_cluster());
        given.or_else(of_context).unwrap_or_else(|| "default".to_owned())
    }

    /// What is attached and labelled, where these are.
    fn known(&self, subjects: &[ReviewSubject]) -> Result<Known, CliError> {
        if self.asks_cluster() {
            let namespaces = subjects.iter().map(ReviewSubject::namespace);
            let namespaces = namespaces.collect::<Result<BTreeSet<_>, _>>()?;
            return block_on(cluster::read(&self.cluster, &self.decisions, &namespaces))?;
        }
        let directory = self.manifests.as_deref();
        let manifests = directory.map(|directory| Manifests::read(directory, &OtherCloud::default()));
        Ok(Known {
            manifests: manifests.transpose()?.unwrap_or_default(),
            settings: self.decisions.settings(),
            ..Known::default()
        })
    }
}

/// What a reader should know beside the decisions.
fn notes(report: &mut Report, known: &Known, unknown: &BTreeSet<String>, passed_over: &PassedOver) {
    if !unknown.is_empty() {
        let names = abridged(unknown, MAX_NAMED);
        report.note(if known.is_of_cluster {
            format!(
                "the cluster does not have these namespaces, which count as having no labels: {names}. Create them, add their \
                 Namespace objects to the files, or name another one with --namespace"
            )
        } else {
            format!(
                "no file has these namespaces, which count as having no labels: {names}. Add their Namespace objects if they \
                 have any"
            )
        });
    }
    for gap in &known.gaps {
        report.note((*gap).to_owned());
    }
    for registry in known.manifests.in_other_cloud() {
        report.note(format!(
            "{} is in another cloud and counts as attached: whether pullpass accepts its host depends on \
             --other-cloud-suffix of `pullpass serve`, which this command does not know",
            described(registry)
        ));
    }
    for note in passed_over.notes() {
        report.note(note);
    }
}
