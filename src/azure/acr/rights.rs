//! What a user name and password, or a token in the place of one, may pull.

use jiff::Timestamp;

use super::{AcrError, AcrRefusal, password_token, scoped_password_token};
use crate::base::secret_text::SecretText;
use crate::http::HttpClient;
use crate::registry::login_server::LoginServer;

/// The first of some repositories from which the credential may not pull; `None` if it may pull from all of them.
///
/// The registry is asked as a client asks that pulls. It is not documented whether it refuses a token altogether if it
/// denies a part of the scope. So after a refusal it is asked about each repository by itself; and without any
/// repository, which distinguishes a missing right from a wrong password and from a firewall.
pub async fn denied_pull(
    http: &HttpClient,
    login_server: &LoginServer,
    username: &str,
    password: &SecretText,
    repositories: &[String],
    now: Timestamp,
) -> Result<Option<String>, AcrError> {
    let ask = |repositories| scoped_password_token(http, login_server, username, password, repositories, now);
    match denied_in(ask(repositories).await.map(drop))? {
        PullAnswer::Granted => return Ok(None),
        PullAnswer::Denied(repository) => return Ok(Some(repository)),
        PullAnswer::Refused => {}
    }
    password_token(http, login_server, username, password, None, now).await?;
    for repository in repositories {
        match denied_in(ask(std::slice::from_ref(repository)).await.map(drop))? {
            PullAnswer::Granted => {}
            PullAnswer::Denied(_) | PullAnswer::Refused => return Ok(Some(repository.clone())),
        }
    }
    Ok(None)
}

enum PullAnswer {
    Granted,
    /// Not in the token that was given.
    Denied(String),
    /// There is no token; for which of them is not said.
    Refused,
}

fn denied_in(answer: Result<(), AcrError>) -> Result<PullAnswer, AcrError> {
    match answer {
        Ok(()) => Ok(PullAnswer::Granted),
        Err(AcrError::NoAccess { repository }) => Ok(PullAnswer::Denied(repository)),
        Err(AcrError::Refused(AcrRefusal {
            status: 401 | 403, ..
        })) => Ok(PullAnswer::Refused),
        Err(error) => Err(error),
    }
}
