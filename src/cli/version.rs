//! `pullpass version`: the versions of this program, of the replicas and of the definitions.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::check::installation::gather::{SELECTOR, definitions, expected_definitions, listed};
use crate::check::installation::{Facts, image, is_current, version_of_image};
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::no_headers::NoHeaders;
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::cli::output::print;
use crate::cli::{CliError, block_on, table};

/// What the report in JSON is called by.
const SCHEMA: &str = "pullpass.dev/version/v1";

/// Print the versions of this program, of the replicas in the cluster, and of the custom resources there.
///
/// A replica's version is the one that the tag of its image names; `pullpass check` asks a replica itself. Exit code: 0; 1 if the
/// cluster can't be read.
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

/// What a cluster has.
struct Installed {
    replicas: Vec<Pod>,
    /// Names, served versions, and whether they have every field that this program knows.
    definitions: Vec<(String, Vec<String>, bool)>,
}

pub(super) fn run(args: &VersionArgs) -> Result<ExitCode, CliError> {
    let installed = if args.client {
        None
    } else {
        Some(block_on(Box::pin(look(args)))??)
    };
    print(match args.output {
        VersionOutput::Text => text(installed.as_ref(), args.no_headers.with_header()),
        VersionOutput::Json => {
            let report = serde_json::to_string_pretty(&report(installed.as_ref()));
            report.map_err(|error| CliError::Output(error.into()))? + "\n"
        }
        VersionOutput::Yaml => serde_saphyr::to_string(&report(installed.as_ref()))
            .map_err(|error| CliError::Input(error.to_string()))?,
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn look(args: &VersionArgs) -> Result<Installed, CliError> {
    let client = args.cluster.client().await?;
    let live = definitions(&client).await?.map_err(CliError::Cluster)?;
    let expected = expected_definitions()?;
    let definitions = live.iter().map(|(name, definition)| {
        let is_current = expected
            .get(name)
            .is_some_and(|expected| is_current(expected, definition));
        (name.clone(), served_versions(definition), is_current)
    });
    let replicas = listed(&client, args.own_namespace.as_str(), SELECTOR, "Pods").await?;
    Ok(Installed {
        definitions: definitions.collect(),
        replicas: replicas.map_err(CliError::Cluster)?,
    })
}

fn served_versions(definition: &Value) -> Vec<String> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions.into_iter().flatten();
    let served = served.filter(|version| version.get("served") == Some(&Value::Bool(true)));
    served
        .filter_map(|version| version.get("name")?.as_str().map(str::to_owned))
        .collect()
}

fn text(installed: Option<&Installed>, with_header: bool) -> String {
    let client = vec![
        "client".to_owned(),
        "pullpass".to_owned(),
        Facts::CLIENT_VERSION.to_owned(),
    ];
    let mut rows = vec![client];
    for pod in installed.iter().flat_map(|installed| &installed.replicas) {
        let version = image(pod).and_then(version_of_image).unwrap_or("unknown");
        rows.push(vec!["replica".to_owned(), pod.name_any(), version.to_owned()]);
    }
    for (name, versions, is_current) in installed.iter().flat_map(|installed| &installed.definitions) {
        let age = if *is_current { "" } else { " (older)" };
        let versions = format!("{}{age}", versions.join(","));
        rows.push(vec!["definition".to_owned(), name.clone(), versions]);
    }
    table::render_with(&["KIND", "NAME", "VERSION"], &rows, with_header)
}

fn report(installed: Option<&Installed>) -> Value {
    let replica = |pod: &Pod| {
        let image = image(pod);
        json!({"name": pod.name_any(), "image": image, "version": image.and_then(version_of_image)})
    };
    let definition = |(name, versions, is_current): &(String, Vec<String>, bool)| json!({"name": name, "versions": versions, "current": is_current});
    let replicas = installed.map(|installed| installed.replicas.iter().map(replica).collect::<Vec<_>>());
    let definitions =
        installed.map(|installed| installed.definitions.iter().map(definition).collect::<Vec<_>>());
    json!({
        "schema": SCHEMA,
        "client": {"version": Facts::CLIENT_VERSION},
        "replicas": replicas,
        "definitions": definitions,
    })
}
