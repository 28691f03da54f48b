//! What an identity proves itself by, and how another proof is made and given to pullpass.

use super::{Handover, Puller, Situation};
use crate::api::names::SUBJECT_PREFIX;
use crate::azure::entra::CertificateError;
use crate::azure::identity::{Application, MintIdentity};
use crate::base::remedy::{Remedy, joined, run, say};
use crate::registry::cloud::Cloud;
use crate::registry::login_server::LoginServer;

/// About a client secret that Entra ID refuses.
pub(crate) fn of_secret(
    login_server: &LoginServer,
    app: &Application,
    handover: Handover<'_>,
    origin: &str,
) -> Vec<Remedy> {
    let client_id = &app.client_id;
    let new = run(
        "make a new client secret (its value is what counts, not its ID)",
        // Without --append, every other credential of the application is deleted.
        format!(
            "az ad app credential reset --id {client_id} --append --query password --output tsv > secret.txt"
        ),
    );
    let delivery = match handover {
        Handover::InPlace => say(format!("put its value into {origin}, then remove the file")),
        Handover::Attach(registry) => attach(login_server, registry, app, "--client-secret-file secret.txt"),
    };
    vec![new, delivery]
}

fn attach(login_server: &LoginServer, registry: Option<&str>, app: &Application, proof: &str) -> Remedy {
    let Application { tenant_id, client_id } = app;
    let named = match registry {
        Some(registry) if registry != login_server.resource_name() => format!(" --name {registry}"),
        _ => String::new(),
    };
    run(
        "give it to pullpass, then remove the file",
        format!(
            "pullpass attach {login_server}{named} --tenant-id {tenant_id} --client-id {client_id} {proof}"
        ),
    )
}

fn new_certificate(client_id: &str) -> Remedy {
    run(
        "make a certificate with an RSA key; the command prints the name of the file that has both",
        // Without --append, every other credential of the application is deleted.
        format!(
            "az ad app credential reset --id {client_id} --append --create-cert --query fileWithCertAndPrivateKey \
             --output tsv"
        ),
    )
}

/// What helps where a client certificate can't be used.
enum CertificateCure {
    /// Only another certificate.
    Replace,
    /// Nothing but the right time.
    SetClock,
    /// The same certificate, given in another form or with its own key.
    Correct,
}

impl CertificateCure {
    fn of(error: CertificateError) -> Self {
        match error {
            CertificateError::NotRsa
            | CertificateError::ShortKey { .. }
            | CertificateError::Expired { .. } => Self::Replace,
            CertificateError::NotYetValid { .. } => Self::SetClock,
            CertificateError::NoCertificate
            | CertificateError::Pfx
            | CertificateError::NoKey
            | CertificateError::EncryptedKey
            | CertificateError::Key
            | CertificateError::Mismatch
            | CertificateError::Certificate
            | CertificateError::Signing => Self::Correct,
        }
    }
}

/// About a client certificate that was given to a command, which can't be used.
pub(crate) fn of_given_certificate(client_id: &str, error: CertificateError) -> Option<String> {
    joined(match CertificateCure::of(error) {
        CertificateCure::SetClock => vec![clock()],
        CertificateCure::Replace => vec![new_certificate(client_id), say("then give that file")],
        CertificateCure::Correct => Vec::new(),
    })
}

/// The audience that service account tokens need; of another cloud nobody says, and it is the worldwide cloud's usually.
pub(crate) fn token_exchange_audience(login_server: &LoginServer) -> &'static str {
    let cloud = login_server.cloud().unwrap_or(Cloud::Public);
    cloud.token_exchange_audience()
}

/// What stands for the cluster's issuer where it is not known.
pub(crate) const ISSUER: &str = "ISSUER";
/// How long the name of a federated credential may be.
const MAX_CREDENTIAL_NAME: usize = 120;

/// The command by which an identity trusts a ServiceAccount's tokens. A credential of the same name would be replaced, so each
/// subject has its own.
pub(crate) fn federated_credential(issuer: &str, subject: &str, audience: &str) -> String {
    let account = subject.strip_prefix(SUBJECT_PREFIX).unwrap_or(subject);
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let name: String = format!("pullpass-{account}")
        .chars()
        .map(plain)
        .take(MAX_CREDENTIAL_NAME)
        .collect();
    format!(
        "az identity federated-credential create --name {name} --identity-name IDENTITY --resource-group GROUP --issuer \
         {issuer} --subject {subject} --audiences {audience}"
    )
}

/// About an application that trusts no token of the service account.
pub(super) fn of_trust(identity: &MintIdentity, client_id: &str, audience: &str) -> Remedy {
    match identity {
        MintIdentity::FederatedToken { subject, .. } => run(
            "give the identity a federated credential with the cluster's issuer and this subject (of an application: az ad app \
             federated-credential create)",
            federated_credential(ISSUER, subject, audience),
        ),
        MintIdentity::ClientSecret { .. }
        | MintIdentity::ClientCertificate { .. }
        | MintIdentity::WorkloadIdentity { .. }
        | MintIdentity::ManagedIdentity(_) => run(
            "give the application a federated credential with the cluster's issuer and the subject of pullpass' service account",
            format!(
                "az ad app federated-credential create --id {client_id} --parameters '{{\"name\": \"pullpass\", \
                 \"issuer\": \"ISSUER\", \"subject\": \"SUBJECT\", \"audiences\": [\"{audience}\"]}}'"
            ),
        ),
    }
}

/// About a service account token for workload identity that is nowhere, or can't be read.
pub(crate) fn of_no_token_file(login_server: &LoginServer) -> Vec<Remedy> {
    let audience = token_exchange_audience(login_server);
    vec![say(format!(
        "install the component workload-identity (of the chart: workloadIdentity.projectedToken), or Azure's \
         webhook, if the Pods have the label azure.workload.identity/use=true; or project a service account \
         token with audience \
         {audience} and name its file in AZURE_FEDERATED_TOKEN_FILE"
    ))]
}

/// About a clock that differs from Entra ID's.
pub(crate) fn clock() -> Remedy {
    run(
        "set this machine's clock, and synchronize it by NTP",
        "timedatectl set-ntp true",
    )
}

impl Situation<'_> {
    /// About a client certificate that can't be used.
    pub(super) fn of_certificate(&self, error: CertificateError) -> Vec<Remedy> {
        match CertificateCure::of(error) {
            CertificateCure::SetClock => vec![clock()],
            CertificateCure::Replace => self.certificate(),
            CertificateCure::Correct => vec![say(format!("correct {}", self.origin()))],
        }
    }

    /// A client certificate that Entra ID accepts, in place of one that it does not.
    pub(super) fn certificate(&self) -> Vec<Remedy> {
        let Puller::Identity(identity) = self.puller else {
            return Vec::new();
        };
        let Some(app) = identity.app() else {
            return Vec::new();
        };
        let delivery = match self.handover {
            Handover::InPlace => say(format!("put the file's content into {}", self.origin())),
            Handover::Attach(registry) => {
                attach(self.login_server, registry, app, "--client-certificate-file FILE")
            }
        };
        vec![new_certificate(&app.client_id), delivery]
    }
}

/// About a cluster whose service account tokens Entra ID can't take.
pub(super) fn issuer_with_rsa() -> Remedy {
    run(
        "let the cluster sign service account tokens with an RSA key (kube-apiserver \
         --service-account-signing-key-file), or use another kind of identity; see which keys it has",
        "kubectl get --raw /openid/v1/jwks",
    )
}
