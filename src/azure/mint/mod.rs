//! Pull credentials: which steps make one, and what it means when a step fails.

mod advice;
mod cause;
mod error;
mod password;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::advice::of_no_token_file as no_token_file_advice;
pub use self::cause::{MintCause, MintFault, MintStep};
pub use self::error::MintError;
pub use self::password::{Password, denied_pull_advice};
pub use crate::azure::acr::REGISTRY_AUDIENCE;
use crate::azure::acr::{self, AcrError, RegistryToken, TOKEN_USERNAME};
use crate::azure::entra::Entra;
pub use crate::azure::identity::{Application, ManagedIdentity, MintIdentity};
use crate::base::clock::Clock;
use crate::base::guid::is_guid;
use crate::base::secret_text::SecretText;
use crate::http::{HttpClient, RequestObserver};
use crate::registry::cloud::Cloud;
use crate::registry::docker_config::{Keys, docker_config, for_every_host};
use crate::registry::login_server::LoginServer;

/// What the API server lets the values of a Secret have, in bytes.
///
/// Source: Kubernetes' API, `MaxSecretSize`.
const MAX_DOCKER_CONFIG: usize = 1024 * 1024;

/// A credential to be minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintRequest {
    /// The registry.
    pub login_server: LoginServer,
    /// Azure's cloud whose Entra ID is asked; none for the other cloud that the settings describe.
    pub cloud: Option<Cloud>,
    /// The one audience to ask for, if it was chosen by hand.
    pub audience: Option<String>,
    /// The audience that worked the last time.
    pub remembered_audience: Option<String>,
    /// Who asks.
    pub identity: MintIdentity,
    /// What for.
    pub kind: MintKind,
}

/// What is minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MintKind {
    /// A refresh token: everything that the identity may pull.
    RefreshToken,
    /// An access token for some repositories.
    AccessToken {
        /// The repositories.
        repositories: Vec<String>,
    },
}

/// What a pull secret is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user name.
    pub username: String,
    /// The password, or the token in its place.
    pub password: SecretText,
    /// The audience that Entra ID and the registry accepted, where they were asked.
    pub audience: Option<String>,
    /// When it was made, by our clock.
    pub issued_at: Timestamp,
    /// When it expires, by our clock; none if it does not say.
    pub expires_at: Option<Timestamp>,
    /// The repositories it is for; empty: all of the registry's.
    pub repositories: Vec<String>,
}

impl Credential {
    /// The `.dockerconfigjson` that holds it.
    pub fn docker_config(&self, login_server: &LoginServer) -> Vec<u8> {
        docker_config(login_server, &self.username, &self.password, &self.repositories)
    }
}

/// Mints credentials. It keeps nothing between calls: no token, no audience, no failure.
#[derive(Clone)]
pub struct Minter {
    http: HttpClient,
    entra: Entra,
    clock: Clock,
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minter").finish_non_exhaustive()
    }
}

impl Minter {
    /// A minter that asks `entra`, and registries by `http`.
    pub fn new(http: HttpClient, entra: Entra, clock: Clock) -> Self {
        Self { http, entra, clock }
    }

    /// The same, whose requests an observer is told about.
    #[must_use]
    pub fn observed_by(self, observer: &Arc<dyn RequestObserver>) -> Self {
        Self {
            http: self.http.observed_by(Arc::clone(observer)),
            entra: self.entra.observed_by(Arc::clone(observer)),
            ..self
        }
    }

    /// Mints a credential.
    ///
    /// Audiences are tried in turn, and the next one only where Entra ID or the registry refuses the last: an outage
    /// says nothing about an audience, and neither does a wrong secret, which is not tried again and again.
    pub async fn mint(&self, request: &MintRequest) -> Result<Credential, MintError> {
        self.mint_watched(request, &mut |_| {}).await
    }

    /// The same, and reports each step when it succeeds; with several audiences, each time.
    pub async fn mint_watched(
        &self,
        request: &MintRequest,
        passed: &mut (dyn FnMut(MintStep) + Send),
    ) -> Result<Credential, MintError> {
        let (first, others) = audiences(request, self.entra.other_audience());
        let mut told = match self.attempt(request, first, passed).await {
            Err(error) if error.may_be_the_audience() => error,
            outcome => return outcome,
        };
        for audience in others {
            match self.attempt(request, audience, passed).await {
                // Of several refusals the one that came furthest says most.
                Err(error) if error.may_be_the_audience() => told = told.further_of(error),
                outcome => return outcome,
            }
        }
        Err(told)
    }

    async fn attempt(
        &self,
        request: &MintRequest,
        audience: &str,
        passed: &mut (dyn FnMut(MintStep) + Send),
    ) -> Result<Credential, MintError> {
        let entra_token = self
            .entra
            .token(request.cloud, &request.identity, audience, (self.clock)())
            .await
            .map_err(|error| MintError::in_request(request, MintStep::Entra, MintCause::Entra(error)))?;
        passed(MintStep::Entra);
        let tenant = request.identity.app().map(|app| app.tenant_id.as_str());
        // The exchange compares it with the token's, which is a GUID; a domain name would never be equal.
        let tenant = tenant.filter(|tenant| is_guid(tenant));
        let (http, login_server) = (&self.http, &request.login_server);
        let issued_at = (self.clock)();
        let refresh = acr::exchange(http, login_server, tenant, &entra_token, issued_at)
            .await
            .map_err(|error| registry_error(request, MintStep::Exchange, error))?;
        passed(MintStep::Exchange);
        let credential = |issued_at, token: RegistryToken, repositories: &[String]| Credential {
            username: TOKEN_USERNAME.to_owned(),
            password: token.token,
            audience: Some(audience.to_owned()),
            issued_at,
            expires_at: Some(token.expires_at),
            repositories: repositories.to_vec(),
        };
        match &request.kind {
            MintKind::RefreshToken => {
                refresh
                    .check_as_password()
                    .map_err(|error| registry_error(request, MintStep::Exchange, error))?;
                Ok(credential(issued_at, refresh, &[]))
            }
            MintKind::AccessToken { repositories } => {
                let issued_at = (self.clock)();
                let token = acr::access_token(http, login_server, &refresh.token, repositories, issued_at)
                    .await
                    .and_then(|token| token.check_as_password().map(|()| token))
                    .map_err(|error| registry_error(request, MintStep::AccessToken, error))?;
                let credential = credential(issued_at, token, repositories);
                // As it is in a pull secret, which has the most keys.
                let docker_config = for_every_host(
                    &credential.docker_config(login_server),
                    login_server,
                    &[],
                    Keys::Every,
                );
                if docker_config.len() > MAX_DOCKER_CONFIG {
                    let repositories = repositories.len();
                    let cause = MintCause::TooLarge { repositories };
                    return Err(MintError::in_request(request, MintStep::AccessToken, cause));
                }
                passed(MintStep::AccessToken);
                Ok(credential)
            }
        }
    }
}

fn registry_error(request: &MintRequest, step: MintStep, error: AcrError) -> MintError {
    let login_server = request.login_server.clone();
    MintError::in_request(request, step, MintCause::Registry { login_server, error })
}

/// The audiences to try: the first, and those after it, each once. `other` is the one of the other cloud.
fn audiences<'a>(request: &'a MintRequest, other: Option<&'a str>) -> (&'a str, Vec<&'a str>) {
    if let Some(audience) = &request.audience {
        return (audience, Vec::new());
    }
    let Some(cloud) = request.cloud else {
        return (other.unwrap_or(REGISTRY_AUDIENCE), Vec::new());
    };
    let known = [REGISTRY_AUDIENCE, cloud.resource_manager_audience()];
    let first = request
        .remembered_audience
        .as_deref()
        .unwrap_or(REGISTRY_AUDIENCE);
    (
        first,
        known.into_iter().filter(|audience| *audience != first).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(audience: Option<&str>, remembered_audience: Option<&str>, cloud: Cloud) -> MintRequest {
        MintRequest {
            login_server: LoginServer::of_registry("myregistry", cloud).unwrap(),
            cloud: Some(cloud),
            audience: audience.map(str::to_owned),
            remembered_audience: remembered_audience.map(str::to_owned),
            identity: MintIdentity::ManagedIdentity(ManagedIdentity::System),
            kind: MintKind::RefreshToken,
        }
    }

    #[test]
    fn audiences_are_tried_in_order_and_once() {
        let arm = "https://management.azure.com";
        for (explicit, remembered, expected) in [
            (None, None, (REGISTRY_AUDIENCE, vec![arm])),
            (None, Some(REGISTRY_AUDIENCE), (REGISTRY_AUDIENCE, vec![arm])),
            (None, Some(arm), (arm, vec![REGISTRY_AUDIENCE])),
            (
                None,
                Some("https://x"),
                ("https://x", vec![REGISTRY_AUDIENCE, arm]),
            ),
            (Some("https://y"), Some(arm), ("https://y", vec![])),
        ] {
            let request = request(explicit, remembered, Cloud::Public);
            assert_eq!(audiences(&request, Some("https://z")), expected);
            let request = MintRequest {
                cloud: None,
                ..request
            };
            let expected = explicit.unwrap_or("https://z");
            assert_eq!(audiences(&request, Some("https://z")), (expected, vec![]));
        }
        let government = request(None, None, Cloud::USGovernment);
        assert_eq!(
            audiences(&government, None).1,
            ["https://management.usgovcloudapi.net"]
        );
    }
}
