//! What to do where Entra ID, a registry or the host of its layers gives no sound answer, and where a registry lacks something.

use super::{Situation, show_login_server};
use crate::azure::service_error::ServiceError;
use crate::base::remedy::{Remedy, run, say};
use crate::http::{HttpError, HttpFailure};
use crate::registry::login_server::LoginServer;

/// About Entra ID that gives no sound answer; nothing about what passes by itself.
pub(super) fn of_entra_service(trouble: &ServiceError) -> Vec<Remedy> {
    match trouble {
        ServiceError::NoAnswer(error) => error.remedies(),
        ServiceError::Redirected { .. } | ServiceError::Garbled { .. } => {
            vec![say("check whether a proxy is in between")]
        }
        ServiceError::Throttled { .. } | ServiceError::Unavailable { .. } => Vec::new(),
    }
}

impl Situation<'_> {
    /// About a registry that gives no sound answer; nothing about what passes by itself.
    pub(super) fn of_service(&self, trouble: &ServiceError) -> Vec<Remedy> {
        match trouble {
            ServiceError::NoAnswer(error) => self.of_no_answer(error),
            ServiceError::Redirected { .. } | ServiceError::Garbled { .. } => vec![self.proxy()],
            ServiceError::Throttled { .. } | ServiceError::Unavailable { .. } => Vec::new(),
        }
    }

    /// About a registry that can't be reached, or whose answer does not come.
    pub(crate) fn of_no_answer(&self, error: &HttpError) -> Vec<Remedy> {
        let remedies = error.remedies();
        match error.failure() {
            HttpFailure::Dns => {
                // What is known of another cloud is its suffix, and nothing of its private endpoints.
                let zone = self.login_server.cloud().map(|cloud| {
                    let zone = cloud.login_server_suffix();
                    say(format!(
                        "a registry's private DNS zone is called privatelink.{zone}"
                    ))
                });
                let known = [show_login_server(self.login_server)];
                known.into_iter().chain(remedies).chain(zone).collect()
            }
            HttpFailure::Connect(_) | HttpFailure::ConnectTimeout | HttpFailure::Proxy(_) => {
                let needed = run(
                    "see which addresses and ports the registry needs",
                    format!(
                        "az acr show-endpoints --name {}",
                        self.login_server.resource_name()
                    ),
                );
                remedies.into_iter().chain([needed]).collect()
            }
            // The registry's hosts and ports are not what is missing.
            HttpFailure::NoRoute
            | HttpFailure::Tls(_)
            | HttpFailure::Timeout
            | HttpFailure::Reset
            | HttpFailure::Protocol
            | HttpFailure::TooLarge => remedies,
        }
    }
}

/// About a regional endpoint or a custom domain that does not answer as its registry does.
pub(crate) fn of_foreign_endpoint(host: &str) -> Vec<Remedy> {
    vec![run(
        "see what answers there in the registry's place, and where it sends clients for a token",
        format!("curl -sv https://{host}/v2/"),
    )]
}

/// About the host that a registry has clients get layers from, which can't be reached or refuses them.
pub(crate) fn of_data_endpoint(login_server: &LoginServer, host: &str) -> Vec<Remedy> {
    let registry = login_server.resource_name();
    let mut remedies = vec![
        say(format!(
            "let this machine, and the nodes, reach {host} on port 443; HTTPS_PROXY and NO_PROXY count for it too"
        )),
        run(
            "see which hosts the registry hands layers out from",
            format!("az acr show-endpoints --name {registry}"),
        ),
    ];
    if host.contains(".blob.") {
        remedies.push(run(
            "or have it do so from hosts of its own, NAME.REGION.data.azurecr.io, which a firewall can allow \
             (Premium registries)",
            format!("az acr update --name {registry} --data-endpoint-enabled true"),
        ));
    }
    remedies
}

/// About a repository that a registry does not have.
pub(crate) fn of_missing_repository(login_server: &LoginServer) -> Vec<Remedy> {
    vec![run(
        "see which there are",
        format!("az acr repository list --name {}", login_server.resource_name()),
    )]
}

/// About a tag that a repository does not have.
pub(crate) fn of_missing_tag(login_server: &LoginServer, repository: &str) -> Vec<Remedy> {
    vec![run(
        "see which tags there are, and name one as --repository REPOSITORY:TAG",
        format!(
            "az acr repository show-tags --name {} --repository {repository}",
            login_server.resource_name()
        ),
    )]
}
