//! `pullpass detach`: a registry is detached, and its secrets are gone before the command ends.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::acr_registry::AcrRegistry;
use crate::api::names::{PULL_SECRETS_ANNOTATION, PULL_SECRETS_DELETED, minted_credential};
use crate::cli::attach::{WaitFlags, identity_secret};
use crate::cli::flags::dry_run::{DryRun, DryRunFlag};
use crate::cli::flags::kubeconfig::{KubeFlags, Role, refusal_without};
use crate::cli::flags::own_namespace::{NoNamespace, OwnNamespace};
use crate::cli::output::{KIND, ObjectOutput, live, print, say};
use crate::cli::target::{Attached, AttachedTarget};
use crate::cli::waiting::{Look, Progress, failed_look, wait};
use crate::cli::written::delete;
use crate::cli::{CliError, block_on};
use crate::kubernetes::call::call;
use crate::policy::attached::AttachedRegistry;

/// Detach a registry, and delete every Secret that was created for it.
///
/// Deletes the AcrRegistry, and waits until the Secrets are gone. Containers that run keep running. A container that
/// restarts is refused its image by kubelets of Kubernetes 1.35 and newer, because its pull secret is gone. Exit code:
/// 0, also if it was not attached; 1 if the Secrets were not deleted or the cluster refused; 2 for bad input.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass detach myregistry\n  pullpass detach myregistry.azurecr.io --dry-run"
)]
pub(super) struct DetachArgs {
    /// The registry: the name of its AcrRegistry or its own, its login server or its resource ID
    #[arg(value_name = "NAME|LOGIN-SERVER|RESOURCE-ID")]
    target: AttachedTarget,
    #[command(flatten)]
    own_namespace: OwnNamespace,
    #[command(flatten)]
    _namespace: NoNamespace,
    #[command(flatten)]
    dry_run: DryRunFlag,
    /// Print the object that is deleted
    #[arg(short, long, value_enum)]
    output: Option<ObjectOutput>,
    #[command(flatten)]
    waiting: WaitFlags,
    #[command(flatten)]
    cluster: KubeFlags,
}

pub(super) fn run(args: &DetachArgs) -> Result<ExitCode, CliError> {
    block_on(detach(args))??;
    Ok(ExitCode::SUCCESS)
}

async fn detach(args: &DetachArgs) -> Result<(), CliError> {
    let client = args.cluster.client().await?;
    let registries: Api<AcrRegistry> = Api::all(client.clone());
    let attached = call(registries.list(&ListParams::default()))
        .await
        .map_err(|error| {
            refusal_without(
                Role::Edit,
                "AcrRegistries can't be listed; is pullpass installed",
                &error,
            )
        })?;
    let object = match args.target.find(&attached.items) {
        Attached::One(object) => object,
        Attached::Nothing => return say(&format!("{} is not attached.\n", args.target), args.output),
        Attached::Several(objects) => {
            let names: Vec<_> = objects.into_iter().map(ResourceExt::name_any).collect();
            return Err(CliError::Input(format!(
                "{} is attached several times, as AcrRegistries {}: name the one to detach, as in `pullpass detach {}`",
                args.target,
                names.join(", "),
                names.first().map_or("NAME", String::as_str)
            )));
        }
    };
    let name = object.name_any();
    let served = served(object);
    let dry_run = args.dry_run.dry_run;
    if dry_run != DryRun::Client {
        delete(&registries, object, Role::Edit, dry_run).await?;
    }
    if let Some(output) = args.output {
        print(live(object, output)?)?;
    }
    let say = |text: String| say(&text, args.output);
    match dry_run {
        DryRun::None => say(format!("{KIND}/{name} deleted\n"))?,
        DryRun::Client | DryRun::Server => {
            let suffix = dry_run.suffix();
            return say(format!(
                "would delete {KIND}/{name}, and with it the pull secrets in {served}{suffix}\n"
            ));
        }
    }
    if args.waiting.no_wait {
        return Ok(());
    }
    let host =
        AttachedRegistry::parse(object).map_or(name.clone(), |registry| registry.login_server().to_string());
    if until_gone(args, &client, object, &served).await? {
        say(format!(
            "{host} is detached: its Secrets are deleted; its pull secrets were in {served}.\n"
        ))
    } else {
        say(format!(
            "{host} is detached. pullpass deletes the pull secrets, which were in {served}.\n"
        ))
    }
}

/// In how many namespaces there are pull secrets.
fn served(object: &AcrRegistry) -> String {
    let namespaces = object
        .status
        .as_ref()
        .and_then(|status| status.namespaces.as_ref());
    match namespaces.map_or(0, |namespaces| namespaces.served) {
        0 => "no namespace".to_owned(),
        1 => "1 namespace".to_owned(),
        many => format!("{many} namespaces"),
    }
}

/// Whether the pull secrets of a detached registry are deleted, as the Secret of its credential says. pullpass keeps that for
/// minutes, without the credential, and deletes the pull secrets once more.
fn is_swept(metadata: &ObjectMeta) -> bool {
    let annotation = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(PULL_SECRETS_ANNOTATION));
    annotation.is_some_and(|value| value == PULL_SECRETS_DELETED)
}

/// Waits until the AcrRegistry is gone; its pull secrets, and the credential that they were written from; and the
/// Secret that attaching wrote. Says whether they could be looked for, which needs only their metadata.
async fn until_gone(
    args: &DetachArgs,
    client: &Client,
    object: &AcrRegistry,
    served: &str,
) -> Result<bool, CliError> {
    let name = object.name_any();
    let registries: Api<AcrRegistry> = Api::all(client.clone());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), args.own_namespace.as_str());
    let (credential, identity) = (minted_credential(&name), identity_secret(&name));
    let is_owned = |metadata: &ObjectMeta| {
        let owners = metadata.owner_references.iter().flatten();
        owners
            .into_iter()
            .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
    };
    let pull_secrets = format!("Waiting until the pull secrets in {served} are gone");
    let progress = Progress::start(pull_secrets.clone());
    let gone = wait(args.waiting.timeout, progress, async |_: Duration| {
        match call(registries.get_metadata_opt(&name)).await {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Look::NotYet(format!("Waiting until {KIND}/{name} is gone"))),
            Err(error) => return failed_look("the AcrRegistry can't be read", &error),
        }
        match call(secrets.get_metadata_opt(&credential)).await {
            Ok(None) => {}
            Ok(Some(secret)) if is_swept(&secret.metadata) => {}
            Ok(Some(_)) => return Ok(Look::NotYet(pull_secrets.clone())),
            Err(error) if error.code() == Some(403) => return Ok(Look::Done(false)),
            Err(error) => return failed_look("the minted credential can't be looked for", &error),
        }
        match call(secrets.get_metadata_opt(&identity)).await {
            Ok(Some(secret)) if is_owned(&secret.metadata) => {
                Ok(Look::NotYet(format!("Waiting until secret/{identity} is gone")))
            }
            Ok(_) => Ok(Look::Done(true)),
            Err(error) => failed_look("the identity's Secret can't be looked for", &error),
        }
    })
    .await?;
    match gone {
        Some(true) => Ok(true),
        Some(false) => {
            eprintln!(
                "pullpass: you may not look for Secrets in namespace {}, so it can't be seen when the pull secrets are gone",
                args.own_namespace
            );
            Ok(false)
        }
        None => Err(CliError::Failed(format!(
            "the AcrRegistry is deleted, but its secrets are not gone after {} s: check that pullpass runs, with kubectl get \
             pods --namespace {}",
            args.waiting.timeout.as_secs(),
            args.own_namespace
        ))),
    }
}
