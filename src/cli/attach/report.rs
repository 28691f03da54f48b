//! What `pullpass attach` prints.

use std::io::{self, IsTerminal};

use kube::ResourceExt;
use kube::core::Selector;
use serde_json::Value;

use super::apply::Done;
use super::plan::{AttachPlan, Content, identity_secret, secret_manifest, users};
use super::readiness::Problem;
use crate::api::acr_registry::AcrRegistry;
use crate::api::condition::{CUSTOM_DOMAINS, PULL_AUTHORIZED};
use crate::api::identity::ManagedIdentity;
use crate::api::names::REGISTRIES_ANNOTATION;
use crate::cli::CliError;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::output::{KIND, ObjectOutput, expiry, render, unwritable};
use crate::cli::target::ObjectName;
use crate::policy::identity::AttachedIdentity;

/// The changes, one JSON object on each line.
pub(super) fn written(done: &Done, dry_run: DryRun) -> String {
    let suffix = dry_run.suffix();
    let secret = done
        .secret
        .iter()
        .map(|(name, outcome)| format!("secret/{name} {}{suffix}\n", outcome.as_str()));
    let name = done.object.name_any();
    let registry = format!("{KIND}/{name} {}{suffix}\n", done.registry.as_str());
    secret.chain([registry]).collect()
}

/// What there is now.
pub(super) fn ready(object: &AcrRegistry, login_server: &str) -> String {
    let spec = &object.spec;
    let end = expiry(object.status.as_ref());
    let namespaces = match spec.namespaces.clone().map(Selector::try_from) {
        Some(Ok(selector)) => format!("injected namespaces with {selector}"),
        _ => "every injected namespace".to_owned(),
    };
    let domains = custom_domains(object);
    if spec.identity.anonymous.is_some() {
        return format!(
            "{login_server} is ready: Pods in {namespaces} may name its images, and get no pull secret for it.\n{domains}"
        );
    }
    let right = pull_right(object);
    format!("{login_server} is ready: {end}. Pods in {namespaces} get its pull secret. {right}\n{domains}")
}

/// What is wrong with its hosts outside the zones of Azure's clouds, as a line.
fn custom_domains(object: &AcrRegistry) -> String {
    let mut conditions = object.status.iter().flat_map(|status| &status.conditions);
    let condition = conditions.find(|known| known.type_ == CUSTOM_DOMAINS && known.status != "True");
    condition
        .map(|condition| {
            format!(
                "But not all of its hosts have an effect yet: {}.\n",
                condition.message
            )
        })
        .unwrap_or_default()
}

/// What the credential may pull, as far as anybody knows.
fn pull_right(object: &AcrRegistry) -> String {
    let status = object.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    match conditions.find(|known| known.type_ == PULL_AUTHORIZED && known.status != "Unknown") {
        Some(known) if known.status == "True" => format!("The registry says that {}.", known.message),
        Some(known) => format!("But {}.", known.message.trim_end_matches('.')),
        None => format!(
            "Whether it may pull is known when a Pod names an image (condition {PULL_AUTHORIZED}), or by: pullpass check {} \
             --repository REPOSITORY",
            object.name_any()
        ),
    }
}

/// Why it is not ready, and what to do next.
pub(super) fn not_ready(login_server: &str, name: &ObjectName, problem: &Problem) -> CliError {
    CliError::Failed(format!(
        "{login_server} is attached, but not ready: {}: {}\nTo see which step fails: pullpass check {name}",
        problem.reason, problem.message
    ))
}

/// What to do when the time was up.
pub(super) fn too_late(
    login_server: &str,
    name: &ObjectName,
    own_namespace: &ObjectName,
    seconds: u64,
    problem: Option<&Problem>,
) -> CliError {
    CliError::Failed(match problem {
        Some(problem) => format!(
            "{login_server} is attached, but not ready after {seconds} s: {}: {}\npullpass keeps trying: kubectl get \
             acr {name} --watch. To see which step fails: pullpass check {name}",
            problem.reason, problem.message
        ),
        None => format!(
            "{login_server} is attached, but pullpass has not updated its status for {seconds} s. Check that pullpass \
             runs: kubectl get pods --namespace {own_namespace}"
        ),
    })
}

/// What a dry run would have done.
pub(super) fn would_write(
    plan: &AttachPlan,
    own_namespace: &ObjectName,
    content: Option<&Content>,
) -> String {
    let name = plan.object.name_any();
    let secret = content.map(|content| {
        let keys: Vec<_> = content.keys().copied().collect();
        format!(
            "would write secret/{} in namespace {own_namespace}, with {} and the annotation {REGISTRIES_ANNOTATION}={}\n",
            identity_secret(&name),
            keys.join(", "),
            users(None, &name)
        )
    });
    let registry = format!(
        "would write {KIND}/{name}: {}, {}\n",
        plan.login_server,
        describe(&plan.identity)
    );
    secret.into_iter().chain([registry]).collect()
}

fn describe(identity: &AttachedIdentity) -> String {
    match identity {
        AttachedIdentity::ServicePrincipal { application, .. } => format!(
            "service principal {} of tenant {}",
            application.client_id, application.tenant_id
        ),
        AttachedIdentity::WorkloadIdentity { client_id, .. } => {
            let id = client_id.as_deref().unwrap_or("that pullpass was given");
            format!("workload identity {id}")
        }
        AttachedIdentity::ManagedIdentity(ManagedIdentity::System) => {
            "managed identity of the system".to_owned()
        }
        AttachedIdentity::ManagedIdentity(
            ManagedIdentity::ClientId(id) | ManagedIdentity::ResourceId(id),
        ) => format!("managed identity {id}"),
        AttachedIdentity::Basic(_) => "a user name and a password of the registry".to_owned(),
        AttachedIdentity::ServiceAccount(name) => format!("ServiceAccount {name}"),
        AttachedIdentity::Anonymous => "anonymous pull".to_owned(),
    }
}

/// The objects of a plan. The value of a Secret is not shown on a terminal.
pub(super) fn objects(
    plan: &AttachPlan,
    own_namespace: &ObjectName,
    content: Option<&Content>,
    output: ObjectOutput,
) -> Result<String, CliError> {
    let secret_name = identity_secret(&plan.object.name_any());
    let hides = io::stdout().is_terminal() && output != ObjectOutput::Name;
    let secret = content.map(|content| {
        let shown = (!hides).then_some(content);
        let users = users(None, &plan.object.name_any());
        secret_manifest(&secret_name, own_namespace.as_str(), shown, &users, None)
    });
    if secret.is_some() && output != ObjectOutput::Name {
        if hides {
            eprintln!(
                "pullpass: the data of secret/{secret_name} is not shown on a terminal; write the output to a file or a pipe"
            );
        } else {
            eprintln!("pullpass: the output has the value of secret/{secret_name}");
        }
    }
    let objects: Vec<Value> = secret.into_iter().chain([bare(&plan.object)?]).collect();
    render(&objects, output)
}

/// An object without what only the server gives it.
fn bare(object: &AcrRegistry) -> Result<Value, CliError> {
    serde_json::to_value(AcrRegistry::new(&object.name_any(), object.spec.clone())).map_err(unwritable)
}
