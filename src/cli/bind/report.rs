//! What `pullpass bind` prints.

use serde_json::Value;

use super::account::{AccountIds, manifest};
use super::apply::Done;
use super::grant::Grant;
use super::plan::{BindPlan, Place};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::service_account_subject;
use crate::azure::remedy::{ISSUER, federated_credential, token_exchange_audience};
use crate::cli::CliError;
use crate::cli::attach::Problem;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::output::{expiry, named, unwritable};
use crate::registry::login_server::LoginServer;

/// The objects of a plan, in the order in which they are written.
pub(super) fn objects(
    plan: &BindPlan,
    place: Place<'_>,
    ids: Option<&AccountIds>,
    own_namespace: &str,
) -> Result<Vec<Value>, CliError> {
    let grant = Grant {
        namespace: place.namespace,
        account: place.account,
    };
    let account = ids.map(|ids| manifest(place.namespace, place.account, ids));
    let account = account.as_ref().map(serde_json::to_value);
    let mut binding = AcrPullBinding::new(place.name, plan.object.spec.clone());
    binding.metadata.namespace = Some(place.namespace.to_owned());
    let others = [
        serde_json::to_value(grant.role()),
        serde_json::to_value(grant.role_binding(own_namespace)),
        serde_json::to_value(binding),
    ];
    let all: Result<Vec<_>, _> = account.into_iter().chain(others).collect();
    all.map_err(unwritable)
}

/// What a dry run would have done.
pub(super) fn would_write(objects: &[Value], place: Place<'_>) -> String {
    let lines = objects.iter().map(|object| {
        let name = named(object);
        format!("would write {name} in namespace {}\n", place.namespace)
    });
    lines.collect::<Vec<_>>().concat()
}

/// The changes, one JSON object on each line.
pub(super) fn written(done: &Done, dry_run: DryRun) -> String {
    let suffix = dry_run.suffix();
    let lines = done.changes.iter();
    let lines = lines.map(|(name, change)| format!("{name} {}{suffix}\n", change.as_str()));
    lines.collect::<Vec<_>>().concat()
}

/// What there is now.
pub(super) fn ready(object: &AcrPullBinding, plan: &BindPlan, place: Place<'_>) -> String {
    let end = expiry(object.status.as_ref());
    let BindPlan {
        login_server,
        pull_secret,
        ..
    } = plan;
    let Place { namespace, .. } = place;
    format!(
        "{login_server} is ready in namespace {namespace}: {end}. New Pods there with its images get the pull secret \
         {pull_secret}.\n"
    )
}

/// What the identity has to trust, and the command.
pub(super) fn trust(login_server: &LoginServer, place: Place<'_>, issuer: Option<&str>) -> String {
    let subject = service_account_subject(place.namespace, place.account);
    let audience = token_exchange_audience(login_server);
    let command = federated_credential(issuer.unwrap_or(ISSUER), &subject, audience);
    let where_from = match issuer {
        Some(_) => "",
        None => "; ISSUER is what `kubectl get --raw /.well-known/openid-configuration` calls issuer",
    };
    format!("pullpass: the identity has to trust the ServiceAccount{where_from}:\n  {command}\n")
}

/// A message of the status with the cluster's issuer where that is known.
pub(super) fn with_issuer(message: &str, issuer: Option<&str>) -> String {
    match issuer {
        Some(issuer) => message.replace(&format!("--issuer {ISSUER} "), &format!("--issuer {issuer} ")),
        None => message.to_owned(),
    }
}

/// Why it is not ready, and what to do next.
pub(super) fn not_ready(login_server: &LoginServer, place: Place<'_>, problem: &Problem) -> CliError {
    let Place { namespace, name, .. } = place;
    CliError::Failed(format!(
        "{login_server} is bound to namespace {namespace}, but not ready: {}: {}\nTo see which step fails: pullpass check \
         {name} --namespace {namespace}",
        problem.reason, problem.message
    ))
}

/// What to do when the time was up.
pub(super) fn too_late(
    login_server: &LoginServer,
    place: Place<'_>,
    own_namespace: &str,
    seconds: u64,
    problem: Option<&Problem>,
) -> CliError {
    let Place { namespace, name, .. } = place;
    CliError::Failed(match problem {
        Some(problem) => format!(
            "{login_server} is bound to namespace {namespace}, but not ready after {seconds} s: {}: {}\npullpass tries again, \
             every 5 minutes at least: kubectl get acrpullbinding {name} --namespace {namespace} --watch. To see which step fails: pullpass check {name} \
             --namespace {namespace}",
            problem.reason, problem.message
        ),
        None => format!(
            "{login_server} is bound to namespace {namespace}, but pullpass has not updated its status for {seconds} s. Check \
             that pullpass runs, and has the component bindings: kubectl get pods --namespace {own_namespace}"
        ),
    })
}

/// Where the object that was written is.
pub(super) fn waiting(plan: &BindPlan, place: Place<'_>) -> String {
    format!(
        "Waiting for pullpass to mint a credential for {} as ServiceAccount {} of namespace {}",
        plan.login_server, place.account, place.namespace
    )
}

/// The generation of what was written.
pub(super) fn generation(done: &Done) -> i64 {
    done.object.metadata.generation.unwrap_or_default()
}
