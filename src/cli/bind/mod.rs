//! `pullpass bind`: a namespace pulls from a registry as an identity of its own, and does so before the command ends.

mod account;
mod apply;
mod flags;
mod grant;
mod plan;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use kube::Client;
use serde::Deserialize;

pub(super) use self::flags::{BindArgs, namespace};
pub(super) use self::grant::{Grant, named, unlisted};

use self::apply::{Cluster, Done};
use self::plan::{BindPlan, Place, PlanError, plan};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::reason::Reason;
use crate::cli::attach::{Evidence, Problem, ReadyState, STALE_STATUS_TIMEOUT, judge};
use crate::cli::flags::dry_run::DryRun;
use crate::cli::output::{live, print, render, say};
use crate::cli::waiting::{Look, Progress, failed_look, wait};
use crate::cli::{CliError, block_on};
use crate::kubernetes::call::call;

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        Self::Input(error.to_string())
    }
}

pub(super) fn run(args: &BindArgs) -> Result<ExitCode, CliError> {
    args.check()?;
    let (namespace, name) = (args.namespace()?, args.object_name());
    let place = Place {
        namespace: namespace.as_str(),
        name: name.as_str(),
        account: args.service_account.as_str(),
    };
    match args.dry_run.dry_run {
        DryRun::Client => dry_run(args, place)?,
        DryRun::Server | DryRun::None => block_on(bind(args, place))??,
    }
    Ok(ExitCode::SUCCESS)
}

fn dry_run(args: &BindArgs, place: Place<'_>) -> Result<(), CliError> {
    let plan = plan(&args.target, place, &args.spec, None)?;
    let ids = args.ids();
    let objects = report::objects(&plan, place, ids.as_ref(), args.own_namespace.as_str())?;
    match args.output {
        Some(output) => print(render(&objects, output)?)?,
        None => {
            print(report::would_write(&objects, place))?;
            eprintln!("pullpass: nothing was written, and no cluster was asked");
        }
    }
    eprint!("{}", report::trust(&plan.login_server, place, None));
    Ok(())
}

async fn bind(args: &BindArgs, place: Place<'_>) -> Result<(), CliError> {
    let cluster = Cluster {
        client: args.cluster.client().await?,
        own_namespace: args.own_namespace.as_str(),
        place,
        dry_run: args.dry_run.dry_run,
    };
    let existing = cluster.existing().await?;
    let plan = plan(&args.target, place, &args.spec, existing.as_ref())?;
    let ids = args.ids();
    let account = cluster.account(ids.as_ref()).await?;
    let done = cluster
        .write(&plan, &account, ids.as_ref(), existing.as_ref())
        .await?;
    if args.output.is_none() {
        print(report::written(&done, cluster.dry_run))?;
    }
    let issuer = issuer(&cluster.client).await;
    let object = if args.waiting.no_wait || cluster.dry_run.is_of_server() {
        eprint!("{}", report::trust(&plan.login_server, place, issuer.as_deref()));
        done.object
    } else {
        let ready = until_ready(args, &cluster, &plan, &done, issuer.as_deref()).await?;
        let text = report::ready(&ready, &plan, place);
        say(&text, args.output)?;
        ready
    };
    match args.output {
        Some(output) => print(&live(&object, output)?),
        None => Ok(()),
    }
}

/// Who signs the cluster's ServiceAccount tokens; none if the caller may not ask, or it is no URL for a command.
async fn issuer(client: &Client) -> Option<String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    let request = http::Request::get("/.well-known/openid-configuration");
    let request = request.body(Vec::new()).ok()?;
    let Discovery { issuer } = call(client.request(request)).await.ok()?;
    is_issuer(&issuer).then_some(issuer)
}

/// Whether a text is a URL that a shell takes as it stands.
fn is_issuer(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_~%".contains(&byte);
    text.starts_with("https://") && text.bytes().all(is_plain)
}

async fn until_ready(
    args: &BindArgs,
    cluster: &Cluster<'_>,
    plan: &BindPlan,
    done: &Done,
    issuer: Option<&str>,
) -> Result<AcrPullBinding, CliError> {
    let (host, place) = (&plan.login_server, cluster.place);
    let begin = report::waiting(plan, place);
    let of_spec = Evidence::Generation(report::generation(done));
    // The spec is the same, and the identity may be another: pullpass looks at it within moments.
    let of_account =
        (done.is_account_changed && !done.is_changed).then(|| Evidence::After(done.status_before.clone()));
    let mut last: Option<Problem> = None;
    let bindings = cluster.bindings();
    let waited = wait(
        args.waiting.timeout,
        Progress::start(begin.clone()),
        async |waited| {
            let object = match call(bindings.get(place.name)).await {
                Ok(object) => object,
                Err(error) => return failed_look("the AcrPullBinding can't be read", &error),
            };
            let of_account = of_account.as_ref().filter(|_| waited < STALE_STATUS_TIMEOUT);
            let evidence = of_account.unwrap_or(&of_spec);
            let problem = match judge(object.status.as_ref(), evidence, None, waited) {
                ReadyState::Ready => return Ok(Look::Done(object)),
                ReadyState::NotYet(None) => return Ok(Look::NotYet(begin.clone())),
                ReadyState::Failed(problem) | ReadyState::NotYet(Some(problem)) => Problem {
                    message: report::with_issuer(&problem.message, issuer),
                    ..problem
                },
            };
            if is_final(&problem, done.is_changed, waited) {
                return Err(report::not_ready(host, place, &problem));
            }
            let text = format!("Not ready yet: {}: {}", problem.reason, problem.message);
            last = Some(problem);
            Ok(Look::NotYet(text))
        },
    )
    .await?;
    let seconds = args.waiting.timeout.as_secs();
    waited.ok_or_else(|| report::too_late(host, place, cluster.own_namespace, seconds, last.as_ref()))
}

/// Whether waiting does not help. A status that was there before does not show what somebody put right since, and is not
/// written again where it says the same.
fn is_final(problem: &Problem, is_changed: bool, waited: Duration) -> bool {
    let is_news = is_changed || waited >= STALE_STATUS_TIMEOUT;
    // The identity's owner may be about to do it, and Entra ID needs minutes to know of it.
    let awaits_trust = problem.message.contains("federated-credential create");
    let is_lasting = match Reason::named(&problem.reason) {
        Some(
            Reason::InvalidSpec
            | Reason::NameConflict
            | Reason::NamespaceNotInjected
            | Reason::TooManyBindings,
        ) => true,
        Some(Reason::EntraRejected) => !awaits_trust && is_changed,
        _ => false,
    };
    is_lasting && is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(reason: Reason, message: &str) -> Problem {
        Problem {
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_trust_that_is_missing_is_waited_for() {
        let trust = problem(
            Reason::EntraRejected,
            "no: `az identity federated-credential create --x`",
        );
        assert!(!is_final(&trust, true, Duration::from_hours(1)));
        let unknown = problem(Reason::EntraRejected, "there is no such application");
        assert!(is_final(&unknown, true, Duration::ZERO));
        // Somebody may have put it right.
        assert!(!is_final(&unknown, false, Duration::ZERO));
    }

    #[test]
    fn an_old_status_is_believed_after_a_while() {
        let problem = problem(Reason::NamespaceNotInjected, "said");
        assert!(is_final(&problem, true, Duration::ZERO));
        assert!(!is_final(&problem, false, Duration::ZERO));
        assert!(is_final(&problem, false, STALE_STATUS_TIMEOUT));
        for reason in [
            Reason::NotGranted,
            Reason::ServiceAccountMissing,
            Reason::Throttled,
        ] {
            let problem = Problem {
                reason: reason.as_str().to_owned(),
                ..problem.clone()
            };
            assert!(!is_final(&problem, true, STALE_STATUS_TIMEOUT), "{reason}");
        }
    }

    #[test]
    fn an_issuer_is_a_plain_url() {
        for (text, expected) in [
            (
                "https://westeurope.oic.prod-aks.azure.com/11111111-1111/2222/",
                true,
            ),
            ("https://kubernetes.default.svc.cluster.local", true),
            ("http://kubernetes.default", false),
            ("https://a.example/$(x)", false),
            ("https://a.example/;x", false),
            ("", false),
        ] {
            assert_eq!(is_issuer(text), expected, "{text}");
        }
    }
}
