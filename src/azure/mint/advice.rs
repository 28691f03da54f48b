//! What to do about a failure.
//!
//! Source of the codes: Microsoft Learn, "Microsoft Entra authentication and authorization error codes".

use super::{MintCause, MintRequest, MintStep};
use crate::azure::acr::{AcrError, AcrRefusal};
use crate::azure::entra::{EntraError, Refusal};
use crate::azure::identity::{Application, ManagedIdentity, MintIdentity};
use crate::registry::login_server::LoginServer;

/// Codes that another audience can't mend: they speak of the client, its secret, or its tenant.
const ABOUT_THE_IDENTITY: [u32; 14] = [
    50_027,    // an assertion that is no token
    70_021,    // no matching federated identity (older)
    90_002,    // tenant not found
    700_016,   // application not found
    700_023,   // an assertion for another audience than Entra ID
    700_024,   // an assertion outside its time
    700_027,   // an assertion with an unknown certificate or a wrong signature
    700_211,   // no federated identity with this issuer
    700_212,   // … with this audience
    700_213,   // … with this subject
    5_000_131, // an assertion that its issuer's keys did not sign
    7_000_112, // application disabled
    7_000_215, // wrong client secret
    7_000_222, // expired client secret
];

/// Whether a refusal with this code speaks of the identity, whatever it asked for.
pub(super) fn is_about_the_identity(code: u32) -> bool {
    ABOUT_THE_IDENTITY.contains(&code)
}

pub(super) fn advice(request: &MintRequest, step: MintStep, cause: &MintCause) -> Option<String> {
    match cause {
        MintCause::Password => None,
        MintCause::Entra(error) => of_entra(request, error),
        MintCause::Registry { error, .. } => match error {
            AcrError::Refused(refusal) if step == MintStep::AccessToken => Some(of_scope(request, refusal)),
            AcrError::Refused(refusal) => of_exchange(request, refusal),
            AcrError::NoAccess { .. } => Some(repository_reader(request)),
            AcrError::Token(_) => Some(
                "compare the clocks of this machine and of the registry, and look for a proxy in between"
                    .to_owned(),
            ),
            AcrError::Trouble(_) | AcrError::NoChallenge | AcrError::WrongRealm { .. } => None,
        },
    }
}

fn of_entra(request: &MintRequest, error: &EntraError) -> Option<String> {
    let identity = &request.identity;
    match error {
        EntraError::Refused(refusal) => identity.app().and_then(|app| of_code(request, app, refusal)),
        EntraError::ImdsRefused(_) => Some(of_managed_identity(identity)),
        EntraError::ImdsTrouble(trouble) if trouble.retry_after().is_none() => Some(
            "managed identities are on Azure's machines only; elsewhere, and where the endpoint \
             169.254.169.254 is closed to Pods, use another kind of spec.identity"
                .to_owned(),
        ),
        EntraError::Certificate(_) | EntraError::EmptySecret => Some(format!("correct {}", origin(identity))),
        EntraError::TokenFile { .. } => Some(
            "let the cluster's workload identity webhook mount the token (Pod label azure.workload.identity/use), or \
             project a service account token with audience api://AzureADTokenExchange and name its file in \
             AZURE_FEDERATED_TOKEN_FILE"
                .to_owned(),
        ),
        EntraError::Identity(_) => Some("correct spec.identity".to_owned()),
        EntraError::Trouble(_) | EntraError::ImdsTrouble(_) => None,
    }
}

fn of_code(request: &MintRequest, app: &Application, refusal: &Refusal) -> Option<String> {
    let Application { tenant_id, client_id } = app;
    let origin = origin(&request.identity);
    Some(match refusal.code? {
        7_000_215 => format!(
            "put the current client secret's value, not its ID, into {origin}; \
             `az ad sp credential reset --id {client_id}` makes a new one"
        ),
        7_000_222 => format!(
            "make a new client secret with `az ad sp credential reset --id {client_id}` and put its value into {origin}"
        ),
        700_016 => format!(
            "compare clientId {client_id} and tenantId {tenant_id} with what `az ad sp show --id {client_id}` prints"
        ),
        90_002 => format!(
            "compare tenantId {tenant_id} with what `az account show --query tenantId` prints, and see that spec.cloud \
             is the tenant's"
        ),
        700_027 => format!(
            "upload the certificate to the application, as `az ad app credential reset --id {client_id} --append \
             --cert @certificate.pem` does, or put one that it knows into {origin}"
        ),
        700_024 => "set this machine's clock; it differs from Entra ID's by minutes, or the token file is no longer \
             renewed"
            .to_owned(),
        70_021 | 700_211 | 700_212 | 700_213 | 5_000_131 => format!(
            "give the application a federated credential with the cluster's issuer, the subject of pullpass' service \
             account and the audience api://AzureADTokenExchange: `az ad app federated-credential create --id \
             {client_id} --parameters …`"
        ),
        7_000_112 => format!(
            "enable the service principal: `az ad sp update --id {client_id} --set accountEnabled=true`"
        ),
        500_011 | 500_014 | 650_052 => format!(
            "set spec.audience to one that the tenant has; none of those tried is there, and {} is the usual one",
            super::REGISTRY_AUDIENCE
        ),
        53_000..=53_999 => {
            "leave this application out of the Conditional Access policies that block it, or let the cluster's \
             outgoing addresses in"
                .to_owned()
        }
        _ => return None,
    })
}

fn of_managed_identity(identity: &MintIdentity) -> String {
    let which = match identity {
        MintIdentity::ManagedIdentity(ManagedIdentity::ClientId(id)) => {
            format!("the identity with client ID {id}")
        }
        MintIdentity::ManagedIdentity(ManagedIdentity::ResourceId(id)) => format!("the identity {id}"),
        _ => "a system-assigned identity".to_owned(),
    };
    format!(
        "see that {which} is assigned to the machine or scale set that pullpass runs on, for instance with \
         `az vmss identity show`; with several identities, name one in spec.identity.managedIdentity"
    )
}

fn of_exchange(request: &MintRequest, refusal: &AcrRefusal) -> Option<String> {
    Some(match refusal.status {
        400 | 401 => {
            let role = role_assignment(request, "AcrPull");
            let audience = match &request.audience {
                Some(audience) => {
                    format!("; or the registry does not take tokens for {audience}: leave spec.audience out")
                }
                None => String::new(),
            };
            format!(
                "give the identity a role on the registry: {role} (a role that was just given, or is given through a \
                 group, takes some minutes to act){audience}"
            )
        }
        403 => {
            "let the cluster's outgoing addresses through the registry's firewall, or reach it by a private \
             endpoint; see the registry's Networking page"
                .to_owned()
        }
        404 => format!(
            "see that there is such a registry: `az acr show --name {}`",
            registry_name(&request.login_server)
        ),
        413 => "use an identity that is in fewer groups: its Entra token is too large for the registry"
            .to_owned(),
        _ => return None,
    })
}

fn of_scope(request: &MintRequest, refusal: &AcrRefusal) -> String {
    match refusal.status {
        401 | 403 | 404 => repository_reader(request),
        _ => "compare spec.credential.repositories with what `az acr repository list` prints".to_owned(),
    }
}

/// A registry with Entra repository permissions passes everybody at the exchange, and asks for this role here.
fn repository_reader(request: &MintRequest) -> String {
    format!(
        "see that spec.credential.repositories names repositories that the identity may pull; on a registry with Entra \
         repository permissions (ABAC), AcrPull is not honoured and this is needed: {}",
        role_assignment(request, "Container Registry Repository Reader")
    )
}

fn role_assignment(request: &MintRequest, role: &str) -> String {
    let assignee = assignee(&request.identity);
    let role = if role.contains(' ') {
        format!("\"{role}\"")
    } else {
        role.to_owned()
    };
    let registry = registry_name(&request.login_server);
    format!(
        "`az role assignment create --role {role} --assignee {assignee} \
         --scope $(az acr show --name {registry} --query id --output tsv)`"
    )
}

/// Whom `az role assignment create --assignee` gives a role to.
pub(crate) fn assignee(identity: &MintIdentity) -> String {
    match identity {
        MintIdentity::ManagedIdentity(ManagedIdentity::System) => "PRINCIPAL-ID".to_owned(),
        MintIdentity::ManagedIdentity(ManagedIdentity::ClientId(id)) => id.clone(),
        MintIdentity::ManagedIdentity(ManagedIdentity::ResourceId(id)) => {
            format!("$(az identity show --ids {id} --query clientId --output tsv)")
        }
        MintIdentity::ClientSecret { app, .. }
        | MintIdentity::ClientCertificate { app, .. }
        | MintIdentity::WorkloadIdentity { app, .. } => app.client_id.clone(),
    }
}

/// The resource's name: what comes before the suffix, and before a domain name label's hash.
pub(crate) fn registry_name(login_server: &LoginServer) -> &str {
    let host = login_server.as_str();
    host.split(['.', '-']).next().unwrap_or(host)
}

fn origin(identity: &MintIdentity) -> &str {
    match identity {
        MintIdentity::ClientSecret { origin, .. } | MintIdentity::ClientCertificate { origin, .. } => origin,
        MintIdentity::WorkloadIdentity { .. } | MintIdentity::ManagedIdentity(_) => "spec.identity",
    }
}
