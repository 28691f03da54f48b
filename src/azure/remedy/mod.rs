//! What to do about a failure of Entra ID, of the managed identity endpoint or of a registry.
//!
//! Statuses and Events join the remedies into a sentence; `pullpass check` lists them with their commands.

mod connection;
mod fault;
mod login;
mod proof;

use self::connection::of_entra_service;
pub(crate) use self::connection::{
    of_data_endpoint, of_foreign_endpoint, of_missing_repository, of_missing_tag,
};
pub(crate) use self::fault::EntraFault;
use self::login::token_name;
use self::proof::issuer_with_rsa;
pub(crate) use self::proof::{
    ISSUER, clock, federated_credential, of_given_certificate, of_no_token_file, of_secret,
    token_exchange_audience,
};
use super::acr::{AcrError, AcrRefusal, REGISTRY_AUDIENCE};
use super::entra::{EntraError, Refusal};
use super::identity::{Application, ManagedIdentity, MintIdentity};
use super::service_error::ServiceError;
use crate::base::remedy::{Remedy, run, say};
use crate::registry::login_server::LoginServer;
use crate::registry::resource_id::ResourceId;

/// What is known where something failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// The registry.
    pub(crate) login_server: &'a LoginServer,
    /// Its resource ID, where it is known.
    pub(crate) resource_id: Option<&'a ResourceId>,
    /// Who pulls.
    pub(crate) puller: Puller<'a>,
    /// The one audience to ask for, if it was chosen by hand.
    pub(crate) audience: Option<&'a str>,
    /// The repository to pull from, if one is named.
    pub(crate) repository: Option<&'a str>,
    /// How pullpass gets a new client secret.
    pub(crate) handover: Handover<'a>,
}

/// Who pulls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Puller<'a> {
    /// An identity of Entra ID.
    Identity(&'a MintIdentity),
    /// A user of the registry's own.
    User(&'a str),
    /// Nobody is named.
    Unknown,
}

/// How pullpass gets a new client secret.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handover<'a> {
    /// It is put where the former one is.
    InPlace,
    /// By `pullpass attach`, for the AcrRegistry of that name, if it has another than the registry.
    Attach(Option<&'a str>),
}

/// What was asked of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// What it asks of clients.
    Challenge,
    /// A refresh token.
    Exchange,
    /// Whether it takes a user name and a password.
    Login,
    /// To pull from a repository, or a token for that.
    Pull,
}

/// About a user name and password that no client could send.
pub(crate) fn of_unusable_password() -> Vec<Remedy> {
    vec![say("correct the Secret that spec.identity names")]
}

/// About a token, or a pull secret, that grew too large with the repositories that it is for.
pub(crate) fn of_too_many_repositories() -> Vec<Remedy> {
    vec![say(
        "name fewer repositories in spec.credential.repositories, or use spec.credential.kind RefreshToken",
    )]
}

/// About a host at which there is no registry.
fn show_login_server(login_server: &LoginServer) -> Remedy {
    run(
        "check that there is such a registry, and what its login server is called",
        format!(
            "az acr show --name {} --query loginServer --output tsv",
            login_server.resource_name()
        ),
    )
}

impl Situation<'_> {
    /// About a failure of Entra ID or of the managed identity endpoint; nothing about one that passes by itself.
    pub(crate) fn of_entra(&self, error: &EntraError) -> Vec<Remedy> {
        match error {
            EntraError::Refused(refusal) => self.of_code(refusal),
            EntraError::ImdsRefused(_) => vec![
                run(
                    format!(
                        "check that {} is assigned to the machine or scale set, for instance with",
                        self.managed_identity()
                    ),
                    "az vmss identity show",
                ),
                say("with several identities, name one in spec.identity.managedIdentity"),
            ],
            EntraError::ImdsServiceError(trouble) if !is_managed_identity_endpoint(trouble) => vec![say(
                "managed identities exist only on Azure's machines; elsewhere, or if Pods can't reach the \
                 endpoint 169.254.169.254, use another kind of spec.identity",
            )],
            EntraError::Certificate(error) => self.of_certificate(*error),
            EntraError::EmptySecret => vec![say(format!("correct {}", self.origin()))],
            EntraError::TokenAlgorithm(_) => vec![issuer_with_rsa()],
            EntraError::TokenFile { .. } => of_no_token_file(self.login_server),
            EntraError::Identity(_) => vec![say("correct spec.identity")],
            EntraError::ServiceError(trouble) => of_entra_service(trouble),
            EntraError::ImdsServiceError(_) => Vec::new(),
        }
    }

    fn of_code(&self, refusal: &Refusal) -> Vec<Remedy> {
        let Puller::Identity(identity) = self.puller else {
            return Vec::new();
        };
        match (identity.app(), refusal.fault()) {
            (Some(app), Some(fault)) => self.of_fault(fault, identity, app),
            _ => Vec::new(),
        }
    }

    /// That a tenant is in another cloud than the authority that was asked.
    fn tenants_cloud(&self) -> Remedy {
        let setting = match self.login_server.cloud() {
            Some(_) => "AZURE_AUTHORITY_HOST names another authority",
            None => "--other-cloud-authority names its authority",
        };
        say(format!(
            "check that the tenant is in the registry's cloud; {setting}"
        ))
    }

    fn of_fault(&self, fault: EntraFault, identity: &MintIdentity, app: &Application) -> Vec<Remedy> {
        let Application { tenant_id, client_id } = app;
        let token_audience = proof::token_exchange_audience(self.login_server);
        let has_file = matches!(identity, MintIdentity::WorkloadIdentity { .. });
        let is_federated = has_file || matches!(identity, MintIdentity::FederatedToken { .. });
        match fault {
            EntraFault::Secret => of_secret(self.login_server, app, self.handover, self.origin()),
            EntraFault::Application => vec![run(
                "check that the application is in this tenant; its client ID is not its object ID",
                format!(
                    "az ad sp show --id {client_id} --query '{{clientId:appId,tenant:appOwnerOrganizationId}}'"
                ),
            )],
            EntraFault::Tenant => vec![
                run(
                    format!("compare the tenant ID {tenant_id}"),
                    "az account show --query tenantId --output tsv",
                ),
                self.tenants_cloud(),
            ],
            EntraFault::Disabled => vec![run(
                "enable the service principal",
                format!("az ad sp update --id {client_id} --set accountEnabled=true"),
            )],
            EntraFault::Time => {
                let token = say("check that the file of AZURE_FEDERATED_TOKEN_FILE is still renewed");
                if has_file {
                    vec![clock(), token]
                } else {
                    vec![clock()]
                }
            }
            EntraFault::Assertion if has_file => vec![say(format!(
                "check that the file of AZURE_FEDERATED_TOKEN_FILE holds a service account token with the audience \
                 {token_audience}"
            ))],
            EntraFault::Assertion => vec![self.tenants_cloud()],
            EntraFault::Signature if is_federated => vec![
                run(
                    "check that the cluster's issuer publishes the keys that the cluster signs with now",
                    "kubectl get --raw /openid/v1/jwks",
                ),
                run(
                    "compare the issuer that the application trusts with the cluster's",
                    format!("az ad app federated-credential list --id {client_id}"),
                ),
            ],
            EntraFault::Signature => vec![
                run(
                    "upload the certificate, without its private key, to the application",
                    format!("az ad app credential reset --id {client_id} --append --cert @certificate.pem"),
                ),
                say(format!(
                    "or put one that the application knows into {}",
                    self.origin()
                )),
            ],
            EntraFault::Algorithm if is_federated => vec![issuer_with_rsa()],
            EntraFault::Algorithm => self.certificate(),
            EntraFault::Trust => vec![proof::of_trust(identity, client_id, token_audience)],
            EntraFault::Audience => vec![say(format!(
                "set spec.audience to one that the tenant has; it has none of those tried, and \
                 {REGISTRY_AUDIENCE} is the usual one"
            ))],
            EntraFault::ConditionalAccess => vec![say(
                "leave this application out of the Conditional Access policies that block it, or let the outgoing \
                 addresses in",
            )],
        }
    }

    /// About a failure of the registry; nothing about one that passes by itself.
    pub(crate) fn of_registry(&self, request: Request, error: &AcrError) -> Vec<Remedy> {
        match error {
            AcrError::Refused(refusal) => self.of_refusal(request, refusal),
            AcrError::NoAccess { .. } => self.pull(),
            AcrError::TooLong => match request {
                Request::Pull => of_too_many_repositories(),
                Request::Challenge | Request::Exchange | Request::Login => {
                    vec![say("use spec.credential.kind AccessToken for a few repositories")]
                }
            },
            AcrError::NoChallenge | AcrError::WrongRealm { .. } => vec![self.proxy()],
            AcrError::Token(_) => vec![say(
                "compare the clocks of this machine and of the registry, and check whether a proxy is in between",
            )],
            AcrError::ServiceError(trouble) => self.of_service(trouble),
        }
    }

    fn of_refusal(&self, request: Request, refusal: &AcrRefusal) -> Vec<Remedy> {
        let registry = self.login_server.resource_name();
        if refusal.is_about_encryption {
            return vec![run(
                "see the key and the identity, and bring back the one that is gone",
                format!("az acr encryption show --name {registry}"),
            )];
        }
        match (request, refusal.status) {
            (Request::Pull, _) => self.pull(),
            (Request::Challenge | Request::Exchange | Request::Login, 403) => vec![
                run(
                    "let the outgoing address through the registry's firewall",
                    format!("az acr network-rule add --name {registry} --ip-address ADDRESS"),
                ),
                run(
                    "or open the registry to all networks",
                    format!("az acr update --name {registry} --public-network-enabled true"),
                ),
                say("or reach it by a private endpoint"),
            ],
            (Request::Challenge | Request::Exchange | Request::Login, 404) => {
                vec![show_login_server(self.login_server)]
            }
            (Request::Exchange, 400 | 401) => self.role(),
            (Request::Login, 400 | 401) => self.login(),
            (Request::Exchange, 413) => vec![say(
                "use an identity that is in fewer groups: its token lists them",
            )],
            (Request::Challenge | Request::Exchange | Request::Login, _) => vec![self.proxy()],
        }
    }

    fn proxy(&self) -> Remedy {
        run(
            "check whether a proxy answers in the registry's place",
            format!("curl -sv https://{}/v2/", self.login_server),
        )
    }

    fn role(&self) -> Vec<Remedy> {
        let mut remedies = vec![
            run(
                "give the identity a role on the registry",
                self.assignment("AcrPull"),
            ),
            self.reader(),
            say("wait some minutes if the role was just given, or is given through a group"),
        ];
        remedies.extend(self.tenant());
        remedies.extend(self.audience.map(|audience| {
            say(format!(
                "or the registry does not accept tokens for {audience}: remove spec.audience"
            ))
        }));
        remedies
    }

    /// A registry accepts only tokens of its subscription's tenant.
    fn tenant(&self) -> Option<Remedy> {
        let Puller::Identity(identity) = self.puller else {
            return None;
        };
        let subscription = match self.resource_id {
            Some(id) => id.subscription().to_owned(),
            None => format!(
                "$(az acr show --name {} --query id --output tsv | cut -d/ -f3)",
                self.login_server.resource_name()
            ),
        };
        Some(run(
            format!(
                "check that the registry belongs to the tenant {}",
                identity.app()?.tenant_id
            ),
            format!("az account show --subscription {subscription} --query tenantId --output tsv"),
        ))
    }

    /// About a repository, or a password, that the registry refuses.
    pub(crate) fn pull(&self) -> Vec<Remedy> {
        let registry = self.login_server.resource_name();
        match (self.puller, self.repository) {
            (Puller::User(user), Some(repository)) => vec![run(
                format!("check that the scope map of the token allows content/read on {repository}"),
                format!(
                    "az acr token show --name {} --registry {registry} --query scopeMapId",
                    token_name(user)
                ),
            )],
            (Puller::User(_), None) => self.login(),
            (Puller::Identity(_) | Puller::Unknown, Some(repository)) => vec![
                self.reader(),
                run(
                    "check that the repository is spelt right",
                    format!("az acr repository show --name {registry} --repository {repository}"),
                ),
            ],
            (Puller::Identity(_) | Puller::Unknown, None) => vec![self.reader()],
        }
    }

    /// A registry with Entra repository permissions passes everybody at the exchange, and asks for this role afterwards.
    fn reader(&self) -> Remedy {
        run(
            "on a registry with Entra repository permissions (ABAC), AcrPull is not honoured; give the identity this role",
            self.assignment("\"Container Registry Repository Reader\""),
        )
    }

    fn assignment(&self, role: &str) -> String {
        let assignee = match self.puller {
            Puller::Identity(identity) => assignee(identity),
            Puller::User(_) | Puller::Unknown => "CLIENT-ID".to_owned(),
        };
        let scope = match self.resource_id {
            Some(id) => id.to_string(),
            None => format!(
                "$(az acr show --name {} --query id --output tsv)",
                self.login_server.resource_name()
            ),
        };
        format!("az role assignment create --role {role} --assignee {assignee} --scope {scope}")
    }

    fn managed_identity(&self) -> String {
        match self.puller {
            Puller::Identity(MintIdentity::ManagedIdentity(ManagedIdentity::ClientId(id))) => {
                format!("the identity with client ID {id}")
            }
            Puller::Identity(MintIdentity::ManagedIdentity(ManagedIdentity::ResourceId(id))) => {
                format!("the identity {id}")
            }
            Puller::Identity(_) | Puller::User(_) | Puller::Unknown => {
                "a system-assigned identity".to_owned()
            }
        }
    }

    fn origin(&self) -> &str {
        match self.puller {
            Puller::Identity(
                MintIdentity::ClientSecret { origin, .. } | MintIdentity::ClientCertificate { origin, .. },
            ) => origin,
            Puller::Identity(
                MintIdentity::WorkloadIdentity { .. }
                | MintIdentity::FederatedToken { .. }
                | MintIdentity::ManagedIdentity(_),
            )
            | Puller::User(_)
            | Puller::Unknown => "spec.identity",
        }
    }
}

/// Whether an answer looks as if a managed identity endpoint had given it, in its bad moments. Other clouds have something at
/// the same address, which says 404.
fn is_managed_identity_endpoint(trouble: &ServiceError) -> bool {
    match trouble {
        ServiceError::Throttled { .. } => true,
        ServiceError::Unavailable { status, .. } => *status != 404,
        ServiceError::NoAnswer(_) | ServiceError::Redirected { .. } | ServiceError::Garbled { .. } => false,
    }
}

/// Whom `az role assignment create --assignee` gives a role to.
fn assignee(identity: &MintIdentity) -> String {
    match identity {
        MintIdentity::ManagedIdentity(ManagedIdentity::System) => "PRINCIPAL-ID".to_owned(),
        MintIdentity::ManagedIdentity(ManagedIdentity::ClientId(id)) => id.clone(),
        MintIdentity::ManagedIdentity(ManagedIdentity::ResourceId(id)) => {
            format!("$(az identity show --ids {id} --query clientId --output tsv)")
        }
        MintIdentity::ClientSecret { app, .. }
        | MintIdentity::ClientCertificate { app, .. }
        | MintIdentity::WorkloadIdentity { app, .. }
        | MintIdentity::FederatedToken { app, .. } => app.client_id.clone(),
    }
}

#[cfg(test)]
mod tests;
