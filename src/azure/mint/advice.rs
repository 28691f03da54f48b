//! What to do about a failure, as a clause for statuses and Events.

use super::cause::{MintCause, MintStep};
use super::{MintKind, MintRequest};
use crate::azure::acr::AcrError;
use crate::azure::identity::MintIdentity;
use crate::azure::remedy::{
    self, Handover, Puller, Request, Situation, of_too_many_repositories, of_unusable_password,
};
use crate::base::remedy::joined;
use crate::registry::login_server::LoginServer;

pub(super) fn advice(request: &MintRequest, step: MintStep, cause: &MintCause) -> Option<String> {
    let situation = Situation {
        login_server: &request.login_server,
        resource_id: None,
        puller: Puller::Identity(&request.identity),
        audience: request.audience.as_deref(),
        repository: match &request.kind {
            MintKind::RefreshToken => None,
            MintKind::AccessToken { repositories } => repositories.first().map(String::as_str),
        },
        handover: Handover::InPlace,
    };
    joined(match cause {
        MintCause::Password => of_unusable_password(),
        MintCause::TooLarge { .. } => of_too_many_repositories(),
        MintCause::Entra(error) => situation.of_entra(error),
        MintCause::Registry { error, .. } => {
            let asked = match step {
                MintStep::Prepare | MintStep::Entra | MintStep::Exchange => Request::Exchange,
                MintStep::AccessToken => Request::Pull,
            };
            situation.of_registry(asked, error)
        }
    })
}

/// About a user name and a password that a registry does not take.
pub(super) fn of_refused_password(
    login_server: &LoginServer,
    principal: Option<&MintIdentity>,
    username: &str,
    error: &AcrError,
) -> Option<String> {
    let situation = of_puller(login_server, principal, username, None);
    joined(situation.of_registry(Request::Login, error))
}

/// About a credential that may not pull from a repository.
pub(super) fn of_denied_pull(
    login_server: &LoginServer,
    identity: Option<&MintIdentity>,
    username: &str,
    repository: &str,
) -> Option<String> {
    joined(of_puller(login_server, identity, username, Some(repository)).denied_pull())
}

fn of_puller<'a>(
    login_server: &'a LoginServer,
    identity: Option<&'a MintIdentity>,
    username: &'a str,
    repository: Option<&'a str>,
) -> Situation<'a> {
    Situation {
        login_server,
        resource_id: None,
        puller: match identity {
            Some(identity) => Puller::Identity(identity),
            None => Puller::User(username),
        },
        audience: None,
        repository,
        handover: Handover::InPlace,
    }
}

/// Advice about workload identity in a process without a service account token.
pub fn of_no_token_file(login_server: &LoginServer) -> Option<String> {
    joined(remedy::of_no_token_file(login_server))
}

pub(super) fn of_password() -> Option<String> {
    joined(of_unusable_password())
}
