//! Which step brought no credential, and why.

use thiserror::Error;

use crate::azure::acr::{AcrError, AcrFault};
use crate::azure::entra::EntraError;
use crate::registry::login_server::LoginServer;

const NO_PULL_TOKEN: &str = "no pull token from ";

/// What was being done, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MintStep {
    /// Nothing was asked yet.
    Prepare,
    /// A token of Entra ID.
    Entra,
    /// The exchange for a refresh token.
    Exchange,
    /// A scoped access token.
    AccessToken,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MintCause {
    /// A user name and password that no client could send.
    #[error("the user name or the password is empty, or the user name has a colon in it")]
    Password,
    /// A pull secret that no Secret could hold.
    #[error(
        "a pull secret with a key for each of the {repositories} repositories is larger than the 1 MiB that a Secret can hold"
    )]
    TooLarge {
        /// How many repositories it is for.
        repositories: usize,
    },
    /// No token of Entra ID.
    #[error("{0}")]
    Entra(EntraError),
    /// No token of the registry.
    #[error("{NO_PULL_TOKEN}{login_server}: {error}")]
    Registry {
        /// The registry.
        login_server: LoginServer,
        /// What it did.
        error: AcrError,
    },
}

/// Which service gave no token, and what that is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintFault {
    /// Entra ID, or the managed identity endpoint.
    Entra,
    /// The registry.
    Registry(AcrFault),
}

impl MintFault {
    /// The fault that a cause tells of, by its text, which is all that a status has of it; none if the cause is no
    /// service's.
    pub fn told_in(cause: &str) -> Option<Self> {
        if EntraError::is_of_service(cause) {
            return Some(Self::Entra);
        }
        let (_, error) = cause.strip_prefix(NO_PULL_TOKEN)?.split_once(": ")?;
        Some(Self::Registry(AcrError::fault_in(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::acr::AcrRefusal;
    use crate::azure::entra::Refusal;
    use crate::azure::jwt::JwtError;
    use crate::azure::service_error::ServiceError;
    use crate::http::{HttpError, HttpFailure};

    /// What a text has to tell of a cause.
    fn fault(cause: &MintCause) -> Option<MintFault> {
        let error = match cause {
            MintCause::Entra(EntraError::ServiceError(_) | EntraError::ImdsServiceError(_)) => {
                return Some(MintFault::Entra);
            }
            // The reason of a condition says all of these.
            MintCause::Password | MintCause::TooLarge { .. } | MintCause::Entra(_) => return None,
            MintCause::Registry { error, .. } => error,
        };
        let barrier = |error: &HttpError| error.failure().barrier();
        Some(MintFault::Registry(match error {
            AcrError::ServiceError(ServiceError::NoAnswer(error)) => {
                barrier(error).map_or(AcrFault::NoToken, AcrFault::Barred)
            }
            AcrError::Refused(refusal) if refusal.status == 403 => AcrFault::Forbidden,
            AcrError::NoAccess { .. } => AcrFault::NoAccess,
            AcrError::ServiceError(_)
            | AcrError::Refused(_)
            | AcrError::NoChallenge
            | AcrError::WrongRealm { .. }
            | AcrError::Token(_)
            | AcrError::TooLong => AcrFault::NoToken,
        }))
    }

    #[test]
    fn faults_are_read_back_from_the_texts_of_causes() {
        let why = || "the token does not allow pulling from a".to_owned();
        let no_answer = [
            HttpFailure::Dns,
            HttpFailure::Connect(why()),
            HttpFailure::NoRoute,
            HttpFailure::ConnectTimeout,
            HttpFailure::Proxy(why()),
            HttpFailure::Tls(why()),
            HttpFailure::Timeout,
            HttpFailure::Reset,
        ];
        let no_answer =
            no_answer.map(|failure| ServiceError::NoAnswer(HttpError::new("a.example".to_owned(), failure)));
        let (status, retry_after) = (503, None);
        let troubles = [
            ServiceError::Throttled { retry_after },
            ServiceError::Unavailable { status, retry_after },
            ServiceError::Redirected { status: 307 },
            ServiceError::Garbled {
                status: 200,
                what: "no token",
            },
        ];
        let troubles = no_answer.into_iter().chain(troubles);
        let refused = |status, code: Option<&str>| {
            AcrError::Refused(AcrRefusal {
                status,
                code: code.map(str::to_owned),
                is_about_encryption: false,
            })
        };
        let repository = "team/app".to_owned();
        let realm = "evil.example".to_owned();
        let of_registry = troubles.clone().map(AcrError::ServiceError).chain([
            refused(403, Some("DENIED")),
            refused(403, None),
            refused(401, Some("UNAUTHORIZED")),
            AcrError::NoChallenge,
            AcrError::WrongRealm { realm },
            AcrError::Token(JwtError::Malformed),
            AcrError::TooLong,
            AcrError::NoAccess { repository },
        ]);
        let login_server = LoginServer::parse("myregistry.azurecr.io").unwrap();
        let of_registry = of_registry.map(|error| MintCause::Registry {
            login_server: login_server.clone(),
            error,
        });
        let of_entra = troubles
            .flat_map(|trouble| {
                [
                    EntraError::ServiceError(trouble.clone()),
                    EntraError::ImdsServiceError(trouble),
                ]
            })
            .chain([
                EntraError::EmptySecret,
                EntraError::Refused(Refusal {
                    status: 401,
                    code: Some(7_000_215),
                    text: Some(why()),
                }),
            ])
            .map(MintCause::Entra);
        let others = [MintCause::Password, MintCause::TooLarge { repositories: 9 }];
        for cause in of_registry.chain(of_entra).chain(others) {
            assert_eq!(MintFault::told_in(&cause.to_string()), fault(&cause), "{cause}");
        }
        assert_eq!(
            MintFault::told_in("the minted credential could not be stored"),
            None
        );
    }
}
