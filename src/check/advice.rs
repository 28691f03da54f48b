//! What to do about a failure as a check lists it: as sentences, with the commands. What there is to do is in `azure::remedy`.

use super::finding::{CheckStep, Cure};
use super::subject::{Subject, SubjectIdentity, Target};
use crate::api::names::{INDEX, WEBHOOK_CONFIGURATION};
use crate::azure::acr::AcrError;
use crate::azure::entra::EntraError;
use crate::azure::identity::Application;
use crate::azure::remedy::{
    self, Handover, Puller, Request, Situation, of_data_endpoint, of_foreign_endpoint, of_missing_repository,
    of_missing_tag, of_secret, of_too_many_repositories, of_unusable_password,
};
use crate::azure::service_error::ServiceError;
use crate::base::remedy::Remedy;
use crate::http::HttpError;
use crate::registry::login_server::LoginServer;

fn say(text: impl Into<String>) -> Cure {
    Cure {
        text: text.into(),
        command: None,
    }
}

fn run(text: impl Into<String>, command: impl Into<String>) -> Cure {
    Cure {
        text: text.into(),
        command: Some(command.into()),
    }
}

/// Something to look at or to do in the cluster.
pub(super) fn kubectl(text: &str, command: String) -> Cure {
    run(text, command)
}

/// Remedies as a list has them: sentences, which a command follows or does not.
pub(super) fn listed(remedies: Vec<Remedy>) -> Vec<Cure> {
    remedies
        .into_iter()
        .map(|Remedy { text, command }| Cure {
            text: sentence(&text, if command.is_some() { ':' } else { '.' }),
            command,
        })
        .collect()
}

fn sentence(clause: &str, end: char) -> String {
    let mut chars = clause.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}{end}", chars.as_str())
}

/// What repairs objects that are not as they were shipped.
pub(super) fn apply_again() -> Cure {
    kubectl(
        "Apply the manifests of this version again, or `helm upgrade` the release:",
        "kubectl apply --server-side -k my-pullpass".to_owned(),
    )
}

/// What shows how pullpass' flags and the webhook's selectors differ.
pub(super) fn compare_settings() -> [Cure; 2] {
    [
        kubectl(
            "See what pullpass has by its flags:",
            format!("kubectl get acrindex {INDEX} --output yaml"),
        ),
        kubectl(
            "And what the API server asks it about; install both from one overlay, or with the same values of the chart:",
            format!("kubectl get mutatingwebhookconfiguration {WEBHOOK_CONFIGURATION} --output yaml"),
        ),
    ]
}

/// The advice that a status has.
pub(super) fn of_status(advice: &str) -> Cure {
    say(sentence(advice, '.'))
}

fn situation<'a>(subject: &'a Subject, target: Option<&'a Target>) -> Situation<'a> {
    let (puller, audience) = match &subject.identity {
        SubjectIdentity::Mint(request) => (Puller::Identity(&request.identity), request.audience.as_deref()),
        SubjectIdentity::Password { username, .. } => (Puller::User(username), None),
        SubjectIdentity::Nobody { .. } | SubjectIdentity::Broken { .. } => (Puller::Unknown, None),
    };
    Situation {
        login_server: &subject.login_server,
        resource_id: subject.resource_id.as_ref(),
        puller,
        audience,
        repository: target.map(|target| target.repository.as_str()),
        handover: Handover::Attach(subject.registry.as_deref()),
    }
}

/// Gives pullpass what it lacks of an identity.
pub(super) fn attach_again(subject: &Subject) -> Cure {
    run(
        "Or attach the registry again, with its identity; this lists how:",
        format!("pullpass attach {} --help", subject.login_server),
    )
}

/// A new client secret for an application, and how the AcrRegistry of that name gets it.
pub(super) fn new_secret(login_server: &LoginServer, registry: &str, app: &Application) -> Vec<Cure> {
    listed(of_secret(
        login_server,
        app,
        Handover::Attach(Some(registry)),
        registry,
    ))
}

/// About a registry that can't be reached.
pub(super) fn unreached(subject: &Subject, error: &HttpError) -> Vec<Cure> {
    listed(situation(subject, subject.target.as_ref()).of_no_answer(error))
}

pub(super) fn registry(subject: &Subject, step: CheckStep, error: &AcrError) -> Vec<Cure> {
    let is_answer = !matches!(error, AcrError::ServiceError(_));
    if step == CheckStep::Endpoint && is_answer {
        return listed(of_foreign_endpoint(subject.host_of(step)));
    }
    let asked = match step {
        CheckStep::Exchange => Request::Exchange,
        CheckStep::AccessToken | CheckStep::Manifest | CheckStep::Layers => Request::Pull,
        CheckStep::Dns
        | CheckStep::Tls
        | CheckStep::Challenge
        | CheckStep::Endpoint
        | CheckStep::Entra
        | CheckStep::Clock
        | CheckStep::Spec
        | CheckStep::Controller
        | CheckStep::Ready
        | CheckStep::PullAuthorized
        | CheckStep::Policies
        | CheckStep::CustomDomains
        | CheckStep::Credential
        | CheckStep::PullSecrets => Request::Challenge,
    };
    let remedies = situation(subject, subject.target.as_ref()).of_registry(asked, error);
    match error {
        AcrError::ServiceError(trouble) if remedies.is_empty() => vec![waiting(trouble)],
        _ => listed(remedies),
    }
}

/// About what passes by itself.
fn waiting(trouble: &ServiceError) -> Cure {
    say(match trouble.retry_after() {
        Some(wait) => format!("Wait {} s, then check again.", wait.as_secs()),
        None => "Wait a minute, then check again.".to_owned(),
    })
}

pub(super) fn repository(subject: &Subject, target: &Target) -> Vec<Cure> {
    listed(situation(subject, Some(target)).pull())
}

pub(super) fn missing(subject: &Subject, target: &Target, is_repository: bool) -> Vec<Cure> {
    let login_server = &subject.login_server;
    listed(if is_repository {
        of_missing_repository(login_server)
    } else {
        of_missing_tag(login_server, &target.repository)
    })
}

pub(super) fn entra(subject: &Subject, error: &EntraError) -> Vec<Cure> {
    let remedies = situation(subject, subject.target.as_ref()).of_entra(error);
    match error.service_error() {
        Some(trouble) if remedies.is_empty() => vec![waiting(trouble)],
        _ => listed(remedies),
    }
}

/// About a user name and password that no client could send.
pub(super) fn unusable_password() -> Vec<Cure> {
    listed(of_unusable_password())
}

/// About a pull secret that is too large.
pub(super) fn too_many_repositories() -> Vec<Cure> {
    listed(of_too_many_repositories())
}

/// About the host that layers come from.
pub(super) fn data_endpoint(subject: &Subject, host: &str) -> Vec<Cure> {
    listed(of_data_endpoint(&subject.login_server, host))
}

pub(super) fn clock() -> Vec<Cure> {
    listed(vec![remedy::clock()])
}
