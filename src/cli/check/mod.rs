//! `pullpass check`: what stands between an identity and the images of a registry.

mod bound;
mod cluster;
mod identity;
pub(super) mod installation;
mod printer;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use self::cluster::Named;
use self::identity::{CheckedIdentity, Given};
use self::installation::InstallationFlags;
use self::report::{About, Report};
use crate::check::runner::Runner;
use crate::check::{Subject, SubjectIdentity, Target};
use crate::cli::flags::azure::AzureFlags;
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::cli::flags::seconds::seconds;
use crate::cli::{CliError, block_on};
use crate::registry::login_server::LoginServer;

/// Check the installation, or find out why an identity can't pull from a registry, and how to fix it.
///
/// Without a registry, checks the installation. With a registry, checks each step from DNS to a pull token, with the
/// identity of the AcrRegistry or of the flags, or with --namespace that of the AcrPullBinding there; with --repository
/// also a manifest and its layers. It changes nothing. Exit code: 0; 1 if a step failed or the cluster can't be read; 2
/// for bad input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    pullpass check --wait 2m\n  \
    pullpass check --pre\n  \
    pullpass check myregistry\n  \
    pullpass check myregistry --repository team/app:v1\n  \
    pullpass check myregistry --in-cluster\n  \
    pullpass check myregistry --namespace shop --repository web\n  \
    pullpass check myregistry --namespace shop --in-cluster\n  \
    pullpass check myregistry.azurecr.io --anonymous\n  \
    pullpass check myregistry.azurecr.io --tenant-id TENANT --client-id ID --client-secret-file secret.txt\n  \
    pullpass check myregistry --output json | jq -r .code")]
pub(super) struct CheckArgs {
    /// The registry: an AcrRegistry by its name, or a login server; without it the installation of pullpass is checked
    #[arg(value_name = "NAME|LOGIN-SERVER")]
    registry: Option<String>,
    #[command(flatten, next_help_heading = "The installation, without a registry")]
    installation: InstallationFlags,
    /// Also fetch a manifest of this repository; without a tag or digest, that of its first tag
    #[arg(
        long,
        value_name = "REPOSITORY[:TAG]",
        requires = "registry",
        conflicts_with = "in_cluster"
    )]
    repository: Option<String>,
    /// Report what the running pullpass has recorded about the registry in the cluster; contact neither pullpass nor Azure
    #[arg(long, requires = "registry", conflicts_with_all = ["kind", "tenant_id", "client_id"])]
    in_cluster: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: CheckOutput,
    /// How long a step may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    own_namespace: OwnNamespace,
    #[command(
        flatten,
        next_help_heading = "Identity, if it is not the AcrRegistry's: one of them"
    )]
    identity: CheckedIdentity,
    #[command(flatten)]
    azure: AzureFlags,
    #[command(flatten)]
    cluster: KubeFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum CheckOutput {
    /// A line for each step, and what to do
    #[default]
    Text,
    /// The same, for scripts
    Json,
    /// The same in YAML
    Yaml,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let is_well = match &args.registry {
        None => {
            args.identity.refuse_without_registry()?;
            let (flags, own_namespace) = (&args.installation, args.own_namespace.as_str());
            block_on(installation::run(
                flags,
                args.output,
                own_namespace,
                &args.cluster,
            ))??
        }
        Some(registry) if args.in_cluster => block_on(in_cluster(args, registry))??.finish()?,
        Some(registry) => block_on(Box::pin(from_here(args, registry)))??.finish()?,
    };
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn from_here(args: &CheckArgs, registry: &str) -> Result<Report, CliError> {
    // The easiest mistakes are reported before any call.
    let http = args.azure.http_within(args.timeout)?;
    let minter = args.azure.minter_by(http.clone());
    let subject = subject(args, registry).await?;
    // Who may write AcrRegistries chooses no host that a secret is sent to.
    let asks_entra = matches!(subject.identity, SubjectIdentity::Mint(_));
    let other_cloud = args.azure.other_cloud();
    other_cloud
        .check(&subject.login_server, asks_entra)
        .map_err(|error| CliError::Input(format!("{error}. pullpass check has the same flags")))?;
    let mut report = Report::begin(args.output, About::of(&subject));
    let clock = Arc::new(Timestamp::now);
    let runner = Runner {
        http: &http,
        minter: &minter,
        clock,
        subject: &subject,
    };
    runner.run(&mut |finding| report.add(finding)).await;
    Ok(report)
}

async fn subject(args: &CheckArgs, registry: &str) -> Result<Subject, CliError> {
    let given = args.identity.given()?;
    let mut subject = if let Some(namespace) = &args.installation.namespace {
        if given.is_some() {
            return Err(CliError::Input(
                "an AcrPullBinding is checked as its own ServiceAccount: leave --namespace or the identity out".to_owned(),
            ));
        }
        bound::subject(&args.cluster, args.own_namespace.as_str(), namespace, registry).await?
    } else {
        of_cluster(args, registry, given).await?
    };
    subject.endpoint = subject
        .endpoint
        .or_else(|| regional_endpoint(registry, &subject.login_server));
    subject.target = args
        .repository
        .as_deref()
        .map(|text| Target::parse(text, &subject.login_server, subject.endpoint.as_deref()))
        .transpose()
        .map_err(|error| CliError::Input(format!("--repository: {error}")))?;
    Ok(subject)
}

/// A registry as the cluster knows it, or as nobody does.
async fn of_cluster(args: &CheckArgs, registry: &str, given: Option<Given>) -> Result<Subject, CliError> {
    let named = Named::parse(registry, &args.azure.other_cloud())?;
    Ok(match (named, given) {
        (Named::LoginServer(login_server), Some(given)) => Subject {
            identity: match given.identity(&login_server, None) {
                Ok(identity) => identity,
                Err(identity) => {
                    Box::pin(cluster::of_secret(
                        &args.cluster,
                        args.own_namespace.as_str(),
                        &login_server,
                        identity,
                    ))
                    .await?
                }
            },
            login_server,
            registry: None,
            resource_id: None,
            endpoint: None,
            target: None,
        },
        (Named::LoginServer(login_server), None) => {
            match cluster::attached(&args.cluster, args.own_namespace.as_str(), &login_server).await {
                Ok(Some(subject)) => subject,
                // A registry can be looked at from where there is no cluster.
                outcome @ (Ok(None) | Err(CliError::Cluster(_))) => Subject {
                    identity: SubjectIdentity::Nobody {
                        why: match outcome {
                            Err(error) => format!("no identity was named, and {error}"),
                            Ok(_) => {
                                "no identity was named, and no AcrRegistry has this login server".to_owned()
                            }
                        },
                    },
                    login_server,
                    registry: None,
                    resource_id: None,
                    endpoint: None,
                    target: None,
                },
                Err(error) => return Err(error),
            }
        }
        (Named::Registry(name), given) => {
            cluster::named(&args.cluster, args.own_namespace.as_str(), &name, given).await?
        }
    })
}

/// The regional endpoint of the registry that a text is, if it is one.
fn regional_endpoint(text: &str, login_server: &LoginServer) -> Option<String> {
    let host = text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase();
    let is_its = LoginServer::of_host(&host).is_ok_and(|known| known == *login_server);
    (is_its && host != login_server.as_str()).then_some(host)
}

async fn in_cluster(args: &CheckArgs, registry: &str) -> Result<Report, CliError> {
    let (flags, own_namespace) = (&args.cluster, args.own_namespace.as_str());
    let (facts, events) = match &args.installation.namespace {
        Some(namespace) => bound::facts(flags, own_namespace, namespace, registry).await?,
        None => {
            let named = Named::parse(registry, &args.azure.other_cloud())?;
            cluster::facts(flags, own_namespace, &named).await?
        }
    };
    let mut report = Report::begin(args.output, About::in_cluster(&facts));
    for finding in facts.findings() {
        report.add(finding);
    }
    report.events(events);
    Ok(report)
}
