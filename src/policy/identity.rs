//! Who pulls from an attached registry: the identity of a valid spec, which is exactly one of the five.

use crate::api::acr_registry::{
    BasicSecretRef, CredentialKind, Identity, ManagedIdentitySpec, SecretKeyRef, ServicePrincipal,
};
use crate::api::identity::{Application, ManagedIdentity};
use crate::policy::invalid_spec::InvalidSpec;

/// Who pulls. Secrets are named here, and not held.
#[derive(Debug, Clone, PartialEq)]
pub enum AttachedIdentity {
    /// An Entra application with a secret of its own.
    ServicePrincipal {
        /// The application.
        application: Application,
        /// What it proves itself with.
        proof: ClientProof,
    },
    /// An Entra application that trusts the controller's own service account token. What is not set comes from the
    /// controller's environment.
    WorkloadIdentity {
        /// The Entra tenant.
        tenant_id: Option<String>,
        /// The application's client ID.
        client_id: Option<String>,
    },
    /// The identity of the machine that the controller runs on.
    ManagedIdentity(ManagedIdentity),
    /// A user name and a password of the registry's own.
    Basic(BasicSecretRef),
    /// The ServiceAccount of this name, in the namespace of the AcrPullBinding: its annotations say which Entra application it
    /// is.
    ServiceAccount(String),
    /// Nobody: pulls need no credential.
    Anonymous,
}

/// Where the proof of an Entra application is.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientProof {
    /// A client secret.
    Secret(SecretKeyRef),
    /// A client certificate and its private key, in PEM.
    Certificate(SecretKeyRef),
}

impl AttachedIdentity {
    /// Reads the identity of a spec.
    pub fn parse(spec: &Identity) -> Result<Self, InvalidSpec> {
        let Identity {
            service_principal,
            workload_identity,
            managed_identity,
            basic,
            anonymous,
        } = spec;
        let workload_identity = workload_identity.as_ref().map(|identity| {
            Ok(Self::WorkloadIdentity {
                tenant_id: identity.tenant_id.clone(),
                client_id: identity.client_id.clone(),
            })
        });
        let kinds = [
            service_principal.as_ref().map(Self::service_principal),
            workload_identity,
            managed_identity.as_ref().map(Self::managed_identity),
            basic
                .as_ref()
                .map(|basic| Ok(Self::Basic(basic.secret_ref.clone()))),
            anonymous.as_ref().map(|_| Ok(Self::Anonymous)),
        ];
        let mut given = kinds.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(identity), None) => identity,
            (None, _) | (Some(_), Some(_)) => Err(InvalidSpec::Identity),
        }
    }

    /// Whether it is the ServiceAccount of this name.
    pub fn is_account(&self, account: &str) -> bool {
        matches!(self, Self::ServiceAccount(name) if name == account)
    }

    fn service_principal(spec: &ServicePrincipal) -> Result<Self, InvalidSpec> {
        let proof = match (&spec.client_secret_ref, &spec.client_certificate_ref) {
            (Some(reference), None) => ClientProof::Secret(reference.clone()),
            (None, Some(reference)) => ClientProof::Certificate(reference.clone()),
            (None, None) | (Some(_), Some(_)) => return Err(InvalidSpec::ClientProof),
        };
        let application = Application {
            tenant_id: spec.tenant_id.clone(),
            client_id: spec.client_id.clone(),
        };
        Ok(Self::ServicePrincipal { application, proof })
    }

    fn managed_identity(spec: &ManagedIdentitySpec) -> Result<Self, InvalidSpec> {
        let identity = match (&spec.client_id, &spec.resource_id) {
            (None, None) => ManagedIdentity::System,
            (Some(client_id), None) => ManagedIdentity::ClientId(client_id.clone()),
            (None, Some(resource_id)) => ManagedIdentity::ResourceId(resource_id.clone()),
            (Some(_), Some(_)) => return Err(InvalidSpec::ManagedIdentity),
        };
        Ok(Self::ManagedIdentity(identity))
    }

    /// Whether Entra ID gives its tokens.
    pub(super) fn asks_entra(&self) -> bool {
        match self {
            Self::ServicePrincipal { .. }
            | Self::WorkloadIdentity { .. }
            | Self::ManagedIdentity(_)
            | Self::ServiceAccount(_) => true,
            Self::Basic(_) | Self::Anonymous => false,
        }
    }

    /// Whether a credential of this kind can be made of it.
    pub(super) fn check_kind(&self, kind: CredentialKind) -> Result<(), InvalidSpec> {
        let has_secret = matches!(
            self,
            Self::ServicePrincipal {
                proof: ClientProof::Secret(_),
                ..
            }
        );
        if kind == CredentialKind::ServicePrincipalPassword && !has_secret {
            return Err(InvalidSpec::NoClientSecret);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(spec: &Value) -> Result<AttachedIdentity, InvalidSpec> {
        AttachedIdentity::parse(&serde_json::from_value(spec.clone()).unwrap())
    }

    #[test]
    fn each_kind_of_identity_is_read() {
        let reference = json!({"name": "acr-sp", "key": "password"});
        let key = || SecretKeyRef {
            name: "acr-sp".to_owned(),
            key: "password".to_owned(),
        };
        let application = || Application {
            tenant_id: "t".to_owned(),
            client_id: "c".to_owned(),
        };
        let principal =
            |field: &str| json!({"servicePrincipal": {"tenantId": "t", "clientId": "c", field: reference}});
        for (spec, expected) in [
            (
                principal("clientSecretRef"),
                AttachedIdentity::ServicePrincipal {
                    application: application(),
                    proof: ClientProof::Secret(key()),
                },
            ),
            (
                principal("clientCertificateRef"),
                AttachedIdentity::ServicePrincipal {
                    application: application(),
                    proof: ClientProof::Certificate(key()),
                },
            ),
            (
                json!({"workloadIdentity": {"clientId": "c"}}),
                AttachedIdentity::WorkloadIdentity {
                    tenant_id: None,
                    client_id: Some("c".to_owned()),
                },
            ),
            (
                json!({"managedIdentity": {}}),
                AttachedIdentity::ManagedIdentity(ManagedIdentity::System),
            ),
            (
                json!({"managedIdentity": {"clientId": "c"}}),
                AttachedIdentity::ManagedIdentity(ManagedIdentity::ClientId("c".to_owned())),
            ),
            (
                json!({"managedIdentity": {"resourceId": "/r"}}),
                AttachedIdentity::ManagedIdentity(ManagedIdentity::ResourceId("/r".to_owned())),
            ),
            (
                json!({"basic": {"secretRef": {"name": "token"}}}),
                AttachedIdentity::Basic(BasicSecretRef {
                    name: "token".to_owned(),
                    username_key: "username".to_owned(),
                    password_key: "password".to_owned(),
                }),
            ),
            (json!({"anonymous": {}}), AttachedIdentity::Anonymous),
        ] {
            assert_eq!(parsed(&spec), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn an_identity_that_is_none_or_several_is_refused() {
        let reference = json!({"name": "acr-sp", "key": "password"});
        for (spec, error) in [
            (json!({}), InvalidSpec::Identity),
            (
                json!({"managedIdentity": {}, "workloadIdentity": {}}),
                InvalidSpec::Identity,
            ),
            (
                json!({"managedIdentity": {}, "basic": {"secretRef": {"name": "token"}}}),
                InvalidSpec::Identity,
            ),
            (
                json!({"anonymous": {}, "managedIdentity": {}}),
                InvalidSpec::Identity,
            ),
            (
                json!({"servicePrincipal": {"tenantId": "t", "clientId": "c"}}),
                InvalidSpec::ClientProof,
            ),
            (
                json!({"servicePrincipal": {
                    "tenantId": "t", "clientId": "c", "clientSecretRef": reference, "clientCertificateRef": reference,
                }}),
                InvalidSpec::ClientProof,
            ),
            (
                json!({"managedIdentity": {"clientId": "c", "resourceId": "/r"}}),
                InvalidSpec::ManagedIdentity,
            ),
        ] {
            assert_eq!(parsed(&spec), Err(error), "{spec}");
        }
    }

    #[test]
    fn a_password_is_handed_out_of_a_client_secret_alone() {
        let reference = json!({"name": "acr-sp", "key": "password"});
        let principal =
            |field: &str| json!({"servicePrincipal": {"tenantId": "t", "clientId": "c", field: reference}});
        for (spec, is_possible) in [
            (principal("clientSecretRef"), true),
            (principal("clientCertificateRef"), false),
            (json!({"managedIdentity": {}}), false),
            (json!({"basic": {"secretRef": {"name": "token"}}}), false),
        ] {
            let identity = parsed(&spec).unwrap();
            let outcome = identity.check_kind(CredentialKind::ServicePrincipalPassword);
            assert_eq!(outcome.is_ok(), is_possible, "{spec}");
            assert_eq!(identity.check_kind(CredentialKind::RefreshToken), Ok(()));
        }
    }

    #[test]
    fn entra_is_asked_for_all_but_passwords_and_nobody() {
        for (spec, asks) in [
            (
                json!({"servicePrincipal": {"tenantId": "t", "clientId": "c", "clientSecretRef": {"name": "n", "key": "k"}}}),
                true,
            ),
            (json!({"workloadIdentity": {}}), true),
            (json!({"managedIdentity": {}}), true),
            (json!({"basic": {"secretRef": {"name": "n"}}}), false),
            (json!({"anonymous": {}}), false),
        ] {
            assert_eq!(parsed(&spec).unwrap().asks_entra(), asks, "{spec}");
        }
        assert!(AttachedIdentity::ServiceAccount("puller".to_owned()).asks_entra());
    }
}
