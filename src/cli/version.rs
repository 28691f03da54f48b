//! `pullpass version`: the versions of this program, of the replicas and of the definitions.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::check::installation::gather::{SELECTOR, definitions, known_definitions, listed};
use crate::check::installation::{Facts, image, is_current, is_replica, version_of_image};
use crate::cli::flags::kubeconfig::{KubeFlags, Role};
use crate::cli::flags::no_headers::NoHeaders;
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::cli::output::print;
use crate::cli::{CliError, block_on, table};

/// What the report in JSON is called by.
const SCHEMA: &str = "pullpass.dev/version/v1";

/// Print the versions of this program, of the replicas in the cluster, and of the custom resources there.
///
/// A replica's version is the one that the tag of its image names; `pullpass check` asks a replica itself. If the
/// cluster can't be read, this program's version is printed all the same. Exit code: 0; 1 if the cluster can't be read.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass version\n  pullpass version --client\n  pullpass version --output json"
)]
pub(super) struct VersionArgs {
    /// Print only the version of this program, without contacting a cluster
    #[arg(long)]
    client: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: VersionOutput,
    #[command(flatten)]
    no_headers: NoHeaders,
    #[command(flatten)]
    own_namespace: OwnNamespace,
    #[command(flatten)]
    cluster: KubeFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum VersionOutput {
    /// A table
    #[default]
    Text,
    /// The same, for scripts
    Json,
    /// The same in YAML
    Yaml,
}

/// What a cluster has; none of what can't be read.
#[derive(Default)]
struct Installed {
    replicas: Option<Vec<Pod>>,
    definitions: Option<Vec<Definition>>,
}

struct Definition {
    name: String,
    served: Vec<String>,
    /// Whether it has every field that this program knows.
    is_current: bool,
}

pub(super) fn run(args: &VersionArgs) -> Result<ExitCode, CliError> {
    let mut installed = Installed::default();
    let looked = if args.client {
        Ok(())
    } else {
        block_on(Box::pin(look(args, &mut installed)))?
    };
    print(match args.output {
        VersionOutput::Text => text(&installed, args.no_headers.with_header()),
        VersionOutput::Json => {
            let report = serde_json::to_string_pretty(&report(&installed));
            report.map_err(|error| CliError::Output(error.into()))? + "\n"
        }
        VersionOutput::Yaml => serde_saphyr::to_string(&report(&installed))
            .map_err(|error| CliError::Input(error.to_string()))?,
    })?;
    looked?;
    Ok(ExitCode::SUCCESS)
}

/// Reads as much as the user may. The error says each right that is missing, and who gives it.
async fn look(args: &VersionArgs, installed: &mut Installed) -> Result<(), CliError> {
    let client = args.cluster.client().await?;
    let own_namespace = args.own_namespace.as_str();
    let mut refusals = Vec::new();
    match definitions(&client).await? {
        Ok(live) => installed.definitions = Some(compared(&live)?),
        Err(why) => refusals.push(Role::View.told(&why)),
    }
    match listed(&client, own_namespace, SELECTOR, "Pods").await? {
        Ok(pods) => installed.replicas = Some(pods.into_iter().filter(is_replica).collect()),
        Err(why) => refusals.push(Role::Namespace(Some(own_namespace)).told(&why)),
    }
    if refusals.is_empty() {
        return Ok(());
    }
    Err(CliError::Cluster(refusals.join(". ")))
}

/// The definitions that a cluster has, beside those of this program.
fn compared(live: &BTreeMap<String, Value>) -> Result<Vec<Definition>, CliError> {
    let expected = known_definitions()?;
    let definitions = live.iter().map(|(name, definition)| Definition {
        name: name.clone(),
        served: served_versions(definition),
        is_current: expected
            .get(name)
            .is_some_and(|expected| is_current(expected, definition)),
    });
    Ok(definitions.collect())
}

fn served_versions(definition: &Value) -> Vec<String> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions.into_iter().flatten();
    let served = served.filter(|version| version.get("served") == Some(&Value::Bool(true)));
    served
        .filter_map(|version| version.get("name")?.as_str().map(str::to_owned))
        .collect()
}

fn text(installed: &Installed, with_header: bool) -> String {
    let client = vec![
        "client".to_owned(),
        "pullpass".to_owned(),
        Facts::CLIENT_VERSION.to_owned(),
    ];
    let mut rows = vec![client];
    for pod in installed.replicas.iter().flatten() {
        let version = image(pod).and_then(version_of_image).unwrap_or("unknown");
        rows.push(vec!["replica".to_owned(), pod.name_any(), version.to_owned()]);
    }
    for definition in installed.definitions.iter().flatten() {
        let age = if definition.is_current { "" } else { " (older)" };
        let versions = format!("{}{age}", definition.served.join(","));
        rows.push(vec!["definition".to_owned(), definition.name.clone(), versions]);
    }
    table::render_with(&["KIND", "NAME", "VERSION"], &rows, with_header)
}

fn report(installed: &Installed) -> Value {
    let replica = |pod: &Pod| {
        let image = image(pod);
        json!({"name": pod.name_any(), "image": image, "version": image.and_then(version_of_image)})
    };
    let definition = |found: &Definition| json!({"name": found.name, "versions": found.served, "current": found.is_current});
    let replicas = installed.replicas.as_ref();
    let definitions = installed.definitions.as_ref();
    json!({
        "schema": SCHEMA,
        "client": {"version": Facts::CLIENT_VERSION},
        "replicas": replicas.map(|pods| pods.iter().map(replica).collect::<Vec<_>>()),
        "definitions": definitions.map(|found| found.iter().map(definition).collect::<Vec<_>>()),
    })
}
