//! What to do about a failure, with the commands.

use super::finding::{Code, Cure, Step};
use super::subject::{Identity, Subject, Target};
use crate::azure::acr::AcrError;
use crate::azure::entra::Refusal;
use crate::azure::identity::{Application, MintIdentity};
use crate::azure::mint::{MintCause, MintError, assignee, registry_name};
use crate::azure::trouble::Trouble;
use crate::registry::login_server::LoginServer;

/// The code of Entra ID for a wrong client secret, and for an expired one.
pub(super) const SECRETS: [u32; 2] = [7_000_215, 7_000_222];
/// The code for an application that the tenant does not have.
const NO_APPLICATION: u32 = 700_016;
/// The code for a tenant that is not there.
const NO_TENANT: u32 = 90_002;

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

/// The registry's resource, as `az` wants a scope.
fn scope(subject: &Subject) -> String {
    match &subject.resource_id {
        Some(id) => id.to_string(),
        None => format!(
            "$(az acr show --name {} --query id --output tsv)",
            name(&subject.login_server)
        ),
    }
}

fn name(login_server: &LoginServer) -> &str {
    registry_name(login_server)
}

fn role(subject: &Subject, role: &str) -> String {
    let assignee = match &subject.identity {
        Identity::Mint(request) => assignee(&request.identity),
        _ => "CLIENT-ID".to_owned(),
    };
    format!(
        "az role assignment create --role {role} --assignee {assignee} --scope {}",
        scope(subject)
    )
}

fn reader_role(subject: &Subject) -> Cure {
    run(
        "On a registry with Entra repository permissions (ABAC), AcrPull is not honoured; give the identity this role:",
        role(subject, "\"Container Registry Repository Reader\""),
    )
}

/// Gives pullpass what it lacks of an identity.
pub(super) fn attach_again(subject: &Subject) -> Cure {
    run(
        "Or attach the registry again, with its identity; this lists how:",
        format!("pullpass attach {} --help", subject.login_server),
    )
}

/// A new client secret for an application, and how the AcrRegistry of that name comes by it.
pub(super) fn new_secret(login_server: &LoginServer, registry: Option<&str>, app: &Application) -> Vec<Cure> {
    let Application { tenant_id, client_id } = app;
    let named = match registry {
        Some(registry) if registry != name(login_server) => format!(" --name {registry}"),
        _ => String::new(),
    };
    vec![
        run(
            "Make a new client secret (its value is what counts, not its ID):",
            format!(
                "az ad app credential reset --id {client_id} --append --query password --output tsv > secret.txt"
            ),
        ),
        run(
            "Give it to pullpass, then remove the file:",
            format!(
                "pullpass attach {login_server}{named} --tenant-id {tenant_id} --client-id {client_id} --client-secret-file \
                 secret.txt"
            ),
        ),
    ]
}

pub(super) fn network(subject: &Subject, code: Code) -> Vec<Cure> {
    let host = &subject.login_server;
    let registry = name(host);
    match code {
        Code::Dns => vec![
            run(
                "See that there is such a registry, and what its login server is called:",
                format!("az acr show --name {registry} --query loginServer --output tsv"),
            ),
            run(
                format!(
                    "With a private endpoint, the private DNS zone privatelink.{} must be linked to this network; see \
                     what its name comes to here:",
                    host.cloud().login_server_suffix()
                ),
                format!("nslookup {host}"),
            ),
        ],
        Code::Ssl => vec![
            run(
                "See whose certificate comes: one of a proxy that opens TLS needs its authority given by --extra-ca.",
                format!("openssl s_client -connect {host}:443 -servername {host} </dev/null"),
            ),
            say("See that this machine's clock is right."),
        ],
        _ => vec![
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
    let registry = name(&subject.login_server);
    match code {
        Code::Dns | Code::Ssl | Code::Tcp => return network(subject, code),
        Code::Forbidden => {
            return vec![
                run(
                    "Let this machine's outgoing address through the registry's firewall:",
                    format!("az acr network-rule add --name {registry} --ip-address ADDRESS"),
                ),
                run(
                    "Or open the registry to all networks:",
                    format!("az acr update --name {registry} --public-network-enabled true"),
                ),
                say("Or reach it by a private endpoint."),
            ];
        }
        Code::LoginServer => {
            return vec![run(
                "See what the registry's login server is called:",
                format!("az acr show --name {registry} --query loginServer --output tsv"),
            )];
        }
        Code::Cmk => {
            return vec![run(
                "See the key and the identity, and bring back the one that is gone:",
                format!("az acr encryption show --name {registry}"),
            )];
        }
        _ => {}
    }
    match error {
        AcrError::Trouble(trouble) => waiting(trouble),
        AcrError::Refused(refusal) if step == Step::Exchange && refusal.status == 413 => vec![say(
            "Use an identity that is in fewer groups: its token lists them.",
        )],
        AcrError::Refused(_) if step == Step::Exchange => of_role(subject),
        AcrError::Refused(_) | AcrError::NoAccess { .. } => match &subject.target {
            Some(target) => repository(subject, target),
            None => password(subject),
        },
        AcrError::NoChallenge | AcrError::WrongRealm { .. } => vec![run(
            "Look for a proxy in between that answers in the registry's place:",
            format!("curl -sv https://{}/v2/", subject.login_server),
        )],
        AcrError::Token(_) => vec![say(
            "Compare the clocks of this machine and of the registry, and look for a proxy in between.",
        )],
    }
}

fn of_role(subject: &Subject) -> Vec<Cure> {
    let mut cures = vec![
        run(
            "Give the identity a role on the registry:",
            role(subject, "AcrPull"),
        ),
        reader_role(subject),
        say(
            "A role that was just given, or is given through a group, takes some minutes to act: check again then.",
        ),
    ];
    let audience = match &subject.identity {
        Identity::Mint(request) => request.audience.as_deref(),
        _ => None,
    };
    cures.extend(audience.map(|audience| {
        say(format!(
            "Or the registry does not take tokens for {audience}: leave spec.audience out."
        ))
    }));
    cures
}

fn waiting(trouble: &Trouble) -> Vec<Cure> {
    match trouble.retry_after() {
        Some(wait) => vec![say(format!("Wait {} s, then check again.", wait.as_secs()))],
        None => match trouble {
            Trouble::Throttled { .. } | Trouble::Unavailable { .. } => {
                vec![say("Wait a minute, then check again.")]
            }
            _ => vec![say(
                "Check again; if it stays so, look for a proxy or a firewall in between.",
            )],
        },
    }
}

fn password(subject: &Subject) -> Vec<Cure> {
    match &subject.identity {
        Identity::Password { username, .. } => vec![run(
            "Make a new password, and put it into the Secret that spec.identity names:",
            format!(
                "az acr token credential generate --name {username} --registry {} --password1",
                name(&subject.login_server)
            ),
        )],
        _ => Vec::new(),
    }
}

pub(super) fn repository(subject: &Subject, target: &Target) -> Vec<Cure> {
    let registry = name(&subject.login_server);
    if let Identity::Password { username, .. } = &subject.identity {
        return vec![run(
            format!(
                "See that the scope map of the token allows content/read on {}:",
                target.repository
            ),
            format!("az acr token show --name {username} --registry {registry} --query scopeMapId"),
        )];
    }
    vec![
        reader_role(subject),
        run(
            "See that the repository is spelt right:",
            format!(
                "az acr repository show --name {registry} --repository {}",
                target.repository
            ),
        ),
    ]
}

pub(super) fn missing(subject: &Subject, target: &Target, is_repository: bool) -> Vec<Cure> {
    let registry = name(&subject.login_server);
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

pub(super) fn entra(subject: &Subject, error: &MintError) -> Vec<Cure> {
    let refusal = match error.cause() {
        MintCause::Entra(entra) => {
            if let Some(trouble) = entra.trouble()
                && error.advice().is_none()
            {
                return waiting(trouble);
            }
            entra.refusal()
        }
        _ => None,
    };
    let identity = match &subject.identity {
        Identity::Mint(request) => Some(&request.identity),
        _ => None,
    };
    let of_app = refusal
        .zip(identity.and_then(MintIdentity::app))
        .and_then(|(refusal, app)| of_code(subject, refusal, app));
    of_app.unwrap_or_else(|| error.advice().map(sentence).into_iter().collect())
}

fn of_code(subject: &Subject, refusal: &Refusal, app: &Application) -> Option<Vec<Cure>> {
    let Application { client_id, .. } = app;
    match refusal.code? {
        code if SECRETS.contains(&code) => Some(new_secret(
            &subject.login_server,
            subject.registry.as_deref(),
            app,
        )),
        NO_APPLICATION => Some(vec![run(
            "See that the application is in this tenant; its client ID is not its object ID:",
            format!(
                "az ad sp show --id {client_id} --query '{{clientId:appId,tenant:appOwnerOrganizationId}}'"
            ),
        )]),
        NO_TENANT => Some(vec![
            run(
                "Compare the tenant ID:",
                "az account show --query tenantId --output tsv",
            ),
            say(
                "See that the tenant is in the registry's cloud; AZURE_AUTHORITY_HOST names another authority.",
            ),
        ]),
        _ => None,
    }
}

/// Advice of the minting itself, which goes into the middle of a sentence there.
pub(super) fn sentence(text: &str) -> Cure {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    say(format!("{first}{}.", chars.as_str()))
}

pub(super) fn clock() -> Vec<Cure> {
    vec![run(
        "Set this machine's clock; let it be kept by NTP:",
        "timedatectl set-ntp true",
    )]
}
