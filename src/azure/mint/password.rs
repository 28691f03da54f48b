//! User names and passwords that go into pull secrets as they are, and whether the registry accepts them.

use jiff::Timestamp;

use super::advice;
use super::{Credential, MintCause, MintError, MintStep, Minter};
use crate::azure::acr::{self, AcrError};
use crate::azure::identity::MintIdentity;
use crate::base::secret_text::SecretText;
use crate::registry::login_server::LoginServer;

/// A user name and a password of the registry's own, or a service principal's client ID and secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// The user name, or the client ID.
    pub username: String,
    /// The password, or the client secret.
    pub password: SecretText,
    /// The service principal that they belong to; none if they are the registry's own.
    pub principal: Option<MintIdentity>,
}

impl Password {
    /// The credential that a pull secret holds. Nobody is asked whether it is right.
    pub fn credential(&self, now: Timestamp) -> Result<Credential, MintError> {
        let (username, password) = (self.username.trim(), self.password.trimmed());
        // Basic authentication ends the user name at the first colon (RFC 7617).
        if username.is_empty() || password.is_empty() || username.contains(':') {
            return Err(MintError::unusable_password());
        }
        Ok(Credential {
            username: username.to_owned(),
            password,
            audience: None,
            issued_at: now,
            expires_at: None,
            repositories: Vec::new(),
        })
    }
}

impl Minter {
    /// The credential of a user name and a password, where the registry accepts them: it is asked for a token without
    /// any scope, as a client asks that pulls.
    pub async fn try_password(
        &self,
        login_server: &LoginServer,
        password: &Password,
    ) -> Result<Credential, MintError> {
        let now = (self.clock)();
        let credential = password.credential(now)?;
        let (username, secret) = (&credential.username, &credential.password);
        match acr::password_token(&self.http, login_server, username, secret, None, now).await {
            Ok(_) => Ok(credential),
            Err(error) => {
                let principal = password.principal.as_ref();
                let advice = advice::of_refused_password(login_server, principal, username, &error);
                let login_server = login_server.clone();
                let cause = MintCause::Registry { login_server, error };
                Err(MintError::with_advice(MintStep::AccessToken, cause, advice))
            }
        }
    }
}

impl Minter {
    /// The first of some repositories that a credential may not pull from, as [`acr::denied_pull`] finds out.
    pub async fn denied_pull(
        &self,
        login_server: &LoginServer,
        username: &str,
        password: &SecretText,
        repositories: &[String],
    ) -> Result<Option<String>, AcrError> {
        let now = (self.clock)();
        acr::denied_pull(&self.http, login_server, username, password, repositories, now).await
    }
}

/// What to do about a credential that may not pull from a repository, as a clause; `identity` is whose it is, if it is of
/// Entra ID.
pub fn denied_pull_advice(
    login_server: &LoginServer,
    identity: Option<&MintIdentity>,
    username: &str,
    repository: &str,
) -> Option<String> {
    advice::of_denied_pull(login_server, identity, username, repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reason::Reason;

    fn credential(username: &str, password: &str) -> Result<Credential, MintError> {
        let password = Password {
            username: username.to_owned(),
            password: password.into(),
            principal: None,
        };
        password.credential(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_password_is_taken_as_it_is_but_for_white_space() {
        let taken = credential("token1\n", "hunter2\n").unwrap();
        assert_eq!(taken.username, "token1");
        assert_eq!(taken.password.expose(), "hunter2");
        assert_eq!((taken.expires_at, taken.audience), (None, None));
        for (username, password) in [("", "p"), ("u", ""), ("u", " \n"), ("a:b", "p")] {
            let error = credential(username, password).unwrap_err();
            assert_eq!(error.reason(), Reason::CredentialSecretMissing);
        }
    }
}
