//! `pullpass attach`: a registry is attached, and ready before the command ends.

mod apply;
mod flags;
mod namespaces;
mod plan;
mod readiness;
mod report;
mod secret_input;

use std::process::ExitCode;

pub(super) use self::flags::{AttachArgs, WaitFlags, audience, repository};
pub(super) use self::plan::identity_secret;
pub(super) use self::readiness::{Evidence, Problem, ReadyState, STALE_STATUS_TIMEOUT, judge};

use self::apply::{Cluster, Done};
use self::plan::{AttachPlan, Content, PlanError, Wanted};
use crate::api::acr_registry::AcrRegistry;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::output::{live, print, say};
use crate::cli::target::ObjectName;
use crate::cli::waiting::{Look, Progress, failed_look, wait};
use crate::cli::{CliError, block_on};
use crate::kubernetes::call::call;

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        Self::Input(error.to_string())
    }
}

pub(super) fn run(args: &AttachArgs) -> Result<ExitCode, CliError> {
    args.check()?;
    let name = args.object_name();
    match args.dry_run.dry_run {
        DryRun::Client => return dry_run(args, &name),
        DryRun::Server => block_on(dry_run_on_server(args, &name))??,
        DryRun::None => block_on(attach(args, &name))??,
    }
    Ok(ExitCode::SUCCESS)
}

fn dry_run(args: &AttachArgs, name: &ObjectName) -> Result<ExitCode, CliError> {
    let (plan, wanted) = decide(args, name, None)?;
    let content = wanted.as_ref().map(secret_input::read).transpose()?;
    match args.output {
        Some(output) => print(&report::objects(
            &plan,
            args.own_namespace.name(),
            content.as_ref(),
            output,
        )?)?,
        None => {
            print(report::would_write(
                &plan,
                args.own_namespace.name(),
                content.as_ref(),
            ))?;
            eprintln!("pullpass: nothing was written, and no cluster was asked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn decide(
    args: &AttachArgs,
    name: &ObjectName,
    existing: Option<&AcrRegistry>,
) -> Result<(AttachPlan, Option<Wanted>), PlanError> {
    let (identity, wanted) = match args.identity.who() {
        None => (None, None),
        Some(who) => {
            let (identity, wanted) = plan::identity(who, name, existing)?;
            (Some(identity), wanted)
        }
    };
    let plan = plan::plan(&args.target, name, &args.spec, identity.as_ref(), existing)?;
    Ok((plan, wanted))
}

/// Has the API server check everything, and keep nothing.
async fn dry_run_on_server(args: &AttachArgs, name: &ObjectName) -> Result<(), CliError> {
    let (_, _, done) = write(args, name).await?;
    match args.output {
        Some(output) => print(&live(&done.object, output)?),
        None => print(report::written(&done, args.dry_run.dry_run)),
    }
}

/// Writes what is asked for, as far as `--dry-run` lets it.
async fn write<'a>(
    args: &'a AttachArgs,
    name: &'a ObjectName,
) -> Result<(Cluster<'a>, AttachPlan, Done), CliError> {
    let cluster = Cluster {
        client: args.cluster.client().await?,
        own_namespace: args.own_namespace.name(),
        name,
        is_dry_run: args.dry_run.dry_run.is_of_server(),
    };
    let existing = cluster.existing().await?;
    let (plan, wanted) = decide(args, name, existing.as_ref())?;
    // Nobody is asked for a password before it is known that it can be put to use.
    let content: Option<Content> = wanted.as_ref().map(secret_input::read).transpose()?;
    for refused in cluster.refused_secrets(&plan, content.is_some()).await {
        eprintln!("pullpass: {refused}");
    }
    let done = cluster.write(&plan, content.as_ref(), existing.as_ref()).await?;
    Ok((cluster, plan, done))
}

async fn attach(args: &AttachArgs, name: &ObjectName) -> Result<(), CliError> {
    let (cluster, plan, done) = write(args, name).await?;
    if args.output.is_none() {
        print(report::written(&done, DryRun::None))?;
    }
    let object = if args.waiting.no_wait {
        done.object
    } else {
        let ready = until_ready(args, &cluster, &plan, &done).await?;
        let text = report::ready(&ready, &plan.login_server);
        say(&text, args.output)?;
        ready
    };
    match args.output {
        Some(output) => print(&live(&object, output)?),
        None => Ok(()),
    }
}

async fn until_ready(
    args: &AttachArgs,
    cluster: &Cluster<'_>,
    plan: &AttachPlan,
    done: &Done,
) -> Result<AcrRegistry, CliError> {
    let host = &plan.login_server;
    let name = cluster.name;
    let begin = format!("Waiting for pullpass to mint a credential for {host}");
    let mut last: Option<Problem> = None;
    let registries = cluster.registries();
    let waited = wait(
        args.waiting.timeout,
        Progress::start(begin.clone()),
        async |waited| {
            let object = match call(registries.get(name.as_str())).await {
                Ok(object) => object,
                Err(error) => return failed_look("the AcrRegistry can't be read", &error),
            };
            let is_minted = match cluster.is_minted(done, object.status.as_ref()).await {
                Ok(is_minted) => is_minted,
                Err(error) => return failed_look("the minted credential can't be looked at", &error),
            };
            match judge(object.status.as_ref(), &done.evidence, is_minted, waited) {
                ReadyState::Ready => Ok(Look::Done(object)),
                ReadyState::Failed(problem) => Err(report::not_ready(host, name, &problem)),
                ReadyState::NotYet(problem) => {
                    let text = problem.as_ref().map_or_else(
                        || begin.clone(),
                        |problem| format!("Not ready yet: {}: {}", problem.reason, problem.message),
                    );
                    last = problem;
                    Ok(Look::NotYet(text))
                }
            }
        },
    )
    .await?;
    let seconds = args.waiting.timeout.as_secs();
    waited.ok_or_else(|| report::too_late(host, name, cluster.own_namespace, seconds, last.as_ref()))
}
