//! What to do about a failure, with the commands.

use super::finding::{Code, Cure, Step};
use super::subject::{Identity, Subject, Target};
use crate::azure::acr::AcrError;
use crate::azure::entra::EntraError;
use crate::azure::identity::Application;
use crate::azure::remedy::{
    self, Handover, Puller, Remedy, Request, Situation, of_secret, of_too_many_repositories,
    of_unusable_password, show_login_server,
};
use crate::azure::service_error::ServiceError;
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
fn listed(remedies: Vec<Remedy>) -> Vec<Cure> {
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

/// The advice that a status has.
pub(super) fn of_status(advice: &str) -> Cure {
    say(sentence(advice, '.'))
}

fn situation<'a>(subject: &'a Subject, target: Option<&'a Target>) -> Situation<'a> {
    let (puller, audience) = match &subject.identity {
        Identity::Mint(request) => (Puller::Identity(&request.identity), request.audience.as_deref()),
        Identity::Password { username, .. } => (Puller::User(username), None),
        Identity::Nobody { .. } | Identity::Broken { .. } => (Puller::Unknown, None),
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

pub(super) fn network(subject: &Subject, code: Code) -> Vec<Cure> {
    let host = &subject.login_server;
    let registry = host.resource_name();
    match code {
        Code::Dns => {
            let mut cures = listed(vec![show_login_server(host)]);
            cures.push(run(
                format!(
                    "With a private endpoint, the private DNS zone privatelink.{} must be linked to this network; see \
                     what its name comes to here:",
                    host.cloud().login_server_suffix()
                ),
                format!("nslookup {host}"),
            ));
            cures
        }
        Code::Ssl => vec![
            run(
                "See whose certificate comes: one of a proxy that opens TLS needs its authority given by --extra-ca.",
                format!("openssl s_client -connect {host}:443 -servername {host} </dev/null"),
            ),
            say("See that this machine's clock is right."),
        ],
        Code::Tcp
        | Code::DataEndpoint
        | Code::Forbidden
        | Code::Challenge
        | Code::AadLogin
        | Code::RefreshToken
        | Code::AccessToken
        | Code::LoginServer
        | Code::Cmk
        | Code::Manifest
        | Code::ClockSkew
        | Code::Controller
        | Code::PullSecret
        | Code::Policy
        | Code::CustomDomain => vec![
            say(
                "Look at what is between: firewalls, network policies, private endpoints, and HTTPS_PROXY and NO_PROXY.",
            ),
            run(
                "See which addresses and ports the registry needs:",
                format!("az acr show-endpoints --name {registry}"),
            ),
        ],
    }
}

pub(super) fn registry(subject: &Subject, step: Step, code: Code, error: &AcrError) -> Vec<Cure> {
    if matches!(code, Code::Dns | Code::Ssl | Code::Tcp) {
        return network(subject, code);
    }
    if let AcrError::ServiceError(trouble) = error {
        return waiting(trouble);
    }
    let asked = match step {
        Step::Exchange => Request::Exchange,
        Step::AccessToken | Step::Manifest | Step::Layers => Request::Pull,
        Step::Dns
        | Step::Tls
        | Step::Challenge
        | Step::Entra
        | Step::Clock
        | Step::Spec
        | Step::Controller
        | Step::Ready
        | Step::PullAuthorized
        | Step::Policies
        | Step::CustomDomains
        | Step::Credential
        | Step::PullSecrets => Request::Challenge,
    };
    listed(situation(subject, subject.target.as_ref()).of_registry(asked, error))
}

fn waiting(trouble: &ServiceError) -> Vec<Cure> {
    match trouble.retry_after() {
        Some(wait) => vec![say(format!("Wait {} s, then check again.", wait.as_secs()))],
        None => match trouble {
            ServiceError::Throttled { .. } | ServiceError::Unavailable { .. } => {
                vec![say("Wait a minute, then check again.")]
            }
            ServiceError::NoAnswer(_) | ServiceError::Redirected { .. } | ServiceError::Garbled { .. } => {
                vec![say(
                    "Check again; if it stays so, look for a proxy or a firewall in between.",
                )]
            }
        },
    }
}

pub(super) fn repository(subject: &Subject, target: &Target) -> Vec<Cure> {
    listed(situation(subject, Some(target)).pull())
}

pub(super) fn missing(subject: &Subject, target: &Target, is_repository: bool) -> Vec<Cure> {
    let registry = subject.login_server.resource_name();
    vec![if is_repository {
        run(
            "See which there are:",
            format!("az acr repository list --name {registry}"),
        )
    } else {
        run(
            "See which tags there are, and name one as --repository REPOSITORY:TAG:",
            format!(
                "az acr repository show-tags --name {registry} --repository {}",
                target.repository
            ),
        )
    }]
}

pub(super) fn entra(subject: &Subject, error: &EntraError) -> Vec<Cure> {
    let remedies = situation(subject, subject.target.as_ref()).of_entra(error);
    match error.service_error() {
        Some(trouble) if remedies.is_empty() => waiting(trouble),
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
    let registry = subject.login_server.resource_name();
    let mut cures = vec![
        say(format!(
            "Let this machine, and the nodes, reach {host} on port 443; HTTPS_PROXY and NO_PROXY count for it too."
        )),
        run(
            "See which hosts the registry hands layers out from:",
            format!("az acr show-endpoints --name {registry}"),
        ),
    ];
    if host.contains(".blob.") {
        cures.push(run(
            "Or have it do so from hosts of its own, NAME.REGION.data.azurecr.io, which a firewall can name (Premium registries):",
            format!("az acr update --name {registry} --data-endpoint-enabled true"),
        ));
    }
    cures
}

pub(super) fn clock() -> Vec<Cure> {
    listed(vec![remedy::clock()])
}
