//! `pullpass unbind`: a namespace pulls from a registry as its own identity no more, and its pull secret is gone before the
//! command ends.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{namesake_of_binding, pull_secret};
use crate::cli::attach::WaitFlags;
use crate::cli::bind::{Grant, named, namespace, unlisted};
use crate::cli::flags::dry_run::{DryRun, DryRunFlag};
use crate::cli::flags::kubeconfig::{KubeFlags, Role};
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::cli::output::{BINDING_KIND, ObjectOutput, live, print, say};
use crate::cli::target::{Attached, AttachedTarget, Attaching, ObjectName};
use crate::cli::waiting::{Look, Progress, failed_look, wait};
use crate::cli::written::delete;
use crate::cli::{CliError, block_on};
use crate::kubernetes::call::call;

/// Unbind a registry from a namespace, and delete the pull secret there.
///
/// Deletes the AcrPullBinding, and the Role and the RoleBinding that `pullpass bind` wrote, unless another
/// AcrPullBinding of the namespace needs them; waits until the pull secret is gone. The ServiceAccount is kept.
/// Containers that run keep running. Exit code: 0, also if it was not bound; 1 if the pull secret was not deleted or
/// the cluster refused; 2 for bad input.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass unbind myregistry --namespace shop\n  pullpass unbind myregistry.azurecr.io --namespace shop --dry-run"
)]
pub(super) struct UnbindArgs {
    /// The registry: the name of its AcrPullBinding or its own, its login server or its resource ID
    #[arg(value_name = "NAME|LOGIN-SERVER|RESOURCE-ID")]
    target: AttachedTarget,
    /// The namespace; if absent, that of the context, in a Pod that of the Pod, or else default
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<ObjectName>,
    #[command(flatten)]
    own_namespace: OwnNamespace,
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

pub(super) fn run(args: &UnbindArgs) -> Result<ExitCode, CliError> {
    let namespace = namespace(args.namespace.as_ref(), &args.cluster)?;
    block_on(unbind(args, namespace.as_str()))??;
    Ok(ExitCode::SUCCESS)
}

async fn unbind(args: &UnbindArgs, namespace: &str) -> Result<(), CliError> {
    let client = args.cluster.client().await?;
    let bindings: Api<AcrPullBinding> = Api::namespaced(client.clone(), namespace);
    let bound = call(bindings.list(&ListParams::default()))
        .await
        .map_err(|error| unlisted(namespace, &error))?;
    let object = match args.target.find(&bound.items) {
        Attached::One(object) => object,
        Attached::Nothing => {
            let text = format!("{} is not bound to namespace {namespace}.\n", args.target);
            return say(&text, args.output);
        }
        Attached::Several(objects) => {
            let names: Vec<_> = objects.into_iter().map(ResourceExt::name_any).collect();
            return Err(CliError::Input(format!(
                "{} is bound to namespace {namespace} several times, as AcrPullBindings {}: name the one to unbind, as in \
                 `pullpass unbind {} --namespace {namespace}`",
                args.target,
                names.join(", "),
                names.first().map_or("NAME", String::as_str)
            )));
        }
    };
    let name = object.name_any();
    let secret = pull_secret(&namesake_of_binding(&name));
    let account = object.spec.service_account_name.as_str();
    let grant = Grant { namespace, account };
    let (own_namespace, dry_run) = (args.own_namespace.as_str(), args.dry_run.dry_run);
    let say = |text: String| say(&text, args.output);
    // Before the AcrPullBinding: where this fails, it is there to be unbound once more.
    let withdrawn = grant.withdraw(&client, own_namespace, &name, dry_run).await?;
    for kind in withdrawn {
        let grant = named(kind, account);
        say(match dry_run {
            DryRun::None => format!("{grant} deleted\n"),
            DryRun::Client | DryRun::Server => {
                format!(
                    "would delete {grant} in namespace {namespace}{}\n",
                    dry_run.suffix()
                )
            }
        })?;
    }
    if dry_run != DryRun::Client {
        delete(&bindings, object, Role::Bind(namespace), dry_run).await?;
    }
    if let Some(output) = args.output {
        print(live(object, output)?)?;
    }
    match dry_run {
        DryRun::None => say(format!("{BINDING_KIND}/{name} deleted\n"))?,
        DryRun::Client | DryRun::Server => {
            return say(format!(
                "would delete {BINDING_KIND}/{name} in namespace {namespace}, and with it secret/{secret} there{}\n",
                dry_run.suffix()
            ));
        }
    }
    if args.waiting.no_wait {
        return Ok(());
    }
    let host = object.login_server().map_or(name, |host| host.to_string());
    let unbound = format!("{host} is unbound from namespace {namespace}");
    if until_gone(args, &client, object, namespace, &secret).await? {
        say(format!("{unbound}: its pull secret is gone.\n"))
    } else {
        say(format!("{unbound}. pullpass deletes its pull secret.\n"))
    }
}

/// Waits until the AcrPullBinding and its pull secret are gone. Says whether the latter could be looked for, which is
/// done by only its metadata. One that is not the AcrPullBinding's is somebody else's.
async fn until_gone(
    args: &UnbindArgs,
    client: &Client,
    object: &AcrPullBinding,
    namespace: &str,
    secret: &str,
) -> Result<bool, CliError> {
    let name = object.name_any();
    let bindings: Api<AcrPullBinding> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let uid = object.metadata.uid.as_ref();
    let begin = format!("Waiting until secret/{secret} in namespace {namespace} is gone");
    let progress = Progress::start(begin.clone());
    let gone = wait(args.waiting.timeout, progress, async |_: Duration| {
        match call(bindings.get_metadata_opt(&name)).await {
            Ok(Some(found)) if found.metadata.uid.as_ref() == uid => {
                return Ok(Look::NotYet(format!(
                    "Waiting until {BINDING_KIND}/{name} is gone"
                )));
            }
            Ok(_) => {}
            Err(error) => return failed_look("the AcrPullBinding can't be read", &error),
        }
        match call(secrets.get_metadata_opt(secret)).await {
            Ok(Some(found)) => {
                let mut owners = found.metadata.owner_references.iter().flatten();
                if owners.any(|owner| Some(&owner.uid) == uid) {
                    Ok(Look::NotYet(begin.clone()))
                } else {
                    Ok(Look::Done(true))
                }
            }
            Ok(None) => Ok(Look::Done(true)),
            Err(error) if error.code() == Some(403) => Ok(Look::Done(false)),
            Err(error) => failed_look("the pull secret can't be looked for", &error),
        }
    })
    .await?;
    match gone {
        Some(true) => Ok(true),
        Some(false) => {
            eprintln!(
                "pullpass: you may not look for Secrets in namespace {namespace}, so it can't be seen when the pull secret is \
                 gone"
            );
            Ok(false)
        }
        None => Err(CliError::Failed(format!(
            "the AcrPullBinding is deleted, but its pull secret is not gone after {} s: check that pullpass runs, with kubectl \
             get pods --namespace {}",
            args.waiting.timeout.as_secs(),
            args.own_namespace
        ))),
    }
}
