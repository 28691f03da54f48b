//! What the emulator is told to be: tenants, principals, registries and roles.

use std::net::{Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cloud::{Cloud, REGISTRY_AUDIENCE};

/// Everything that an emulator starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Entra tenants.
    pub tenants: Vec<Tenant>,
    /// Applications and managed identities.
    pub principals: Vec<Principal>,
    /// Container registries.
    pub registries: Vec<Registry>,
    /// Who may do what on which registry.
    pub roles: Vec<RoleAssignment>,
    /// How long tokens live.
    pub lifetimes: Lifetimes,
    /// `http://host:port` of the docker-registry that holds the content; without one every repository is empty.
    pub backend: Option<String>,
    /// Where to listen.
    pub listen: Listen,
}

/// A change to a running emulator: a part that is present replaces that part as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigPatch {
    /// Replaces all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Tenant>>,
    /// Replaces all principals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principals: Option<Vec<Principal>>,
    /// Replaces all registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registries: Option<Vec<Registry>>,
    /// Replaces all roles; an assignment that was there before keeps the time from which it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<RoleAssignment>>,
    /// Replaces the lifetimes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetimes: Option<Lifetimes>,
    /// Replaces the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// An Entra tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// The tenant's ID, a GUID.
    pub id: String,
    /// The cloud it lives in, which decides the authority that knows it.
    #[serde(default)]
    pub cloud: Cloud,
    /// The audiences that it gives tokens for; absent: the registry audience and the cloud's ARM audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
}

impl Tenant {
    /// A tenant of the public cloud that gives tokens for the usual audiences.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Whether the tenant gives out tokens for an audience.
    pub(crate) fn issues(&self, audience: &str) -> bool {
        match &self.audiences {
            Some(audiences) => audiences.iter().any(|known| same_audience(known, audience)),
            None => {
                same_audience(audience, REGISTRY_AUDIENCE)
                    || same_audience(audience, self.cloud.arm_audience())
            }
        }
    }
}

/// An application or a managed identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Principal {
    /// The tenant it lives in.
    pub tenant: String,
    /// Its client (application) ID.
    pub client_id: String,
    /// Its passwords.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Its certificates in PEM, with which it may sign assertions.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Whose tokens it takes in place of a secret (workload identity).
    #[serde(default)]
    pub federated_credentials: Vec<FederatedCredential>,
    /// Set when IMDS gives out its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,
}

impl Principal {
    /// An application without any credential.
    pub fn new(tenant: &str, client_id: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            client_id: client_id.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a password that does not expire.
    #[must_use]
    pub fn with_secret(mut self, value: &str) -> Self {
        self.secrets.push(Secret {
            value: value.to_owned(),
            expires_at: None,
        });
        self
    }
}

/// A password of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// The password.
    pub value: String,
    /// When it expires; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A federated identity credential: whose tokens an application takes.
///
/// Source: Microsoft Learn, "Workload identity federation"; all three of issuer, subject and audience must be equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederatedCredential {
    /// The token's `iss`.
    pub issuer: String,
    /// The token's `sub`.
    pub subject: String,
    /// One of the token's `aud`.
    #[serde(default = "exchange_audience")]
    pub audience: String,
    /// The issuer's public keys, as a Kubernetes API server shows them at `/openid/v1/jwks`.
    pub jwks: Jwks,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A public JSON Web Key (RFC 7518). One that is not RSA is nothing to Entra.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Jwk {
    /// Key type: `RSA`, or one that is not used.
    pub kty: String,
    /// Key ID.
    pub kid: String,
    /// RSA modulus.
    pub n: String,
    /// RSA exponent.
    pub e: String,
}

/// How IMDS names an identity, beside its client ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedIdentity {
    /// The resource ID of a user-assigned identity; absent: the system-assigned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// The field `tenant` of an exchange, which is never another's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TenantField {
    /// It may be left out.
    #[default]
    Optional,
    /// It may not.
    Required,
}

/// A container registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// The login server.
    pub host: String,
    /// The tenant it belongs to: tokens of others are refused.
    pub tenant: String,
    /// Whether an exchange has to name the tenant of its token.
    #[serde(default)]
    pub tenant_field: TenantField,
    /// Entra repository permissions (ABAC): registry-wide roles are not honoured, repository roles are.
    #[serde(default)]
    pub abac: bool,
    /// Whether everybody may pull without credentials.
    #[serde(default)]
    pub anonymous_pull: bool,
    /// Whether tokens for the ARM audience are taken.
    #[serde(default = "yes")]
    pub authentication_as_arm: bool,
    /// The audiences taken, when not the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    /// The admin user, who may pull and push everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminUser>,
    /// Repository-scoped tokens.
    #[serde(default)]
    pub tokens: Vec<ScopedToken>,
    /// What the token endpoint answers when nothing of the asked scope is granted.
    #[serde(default)]
    pub denied_scope: DeniedScope,
    /// Further hosts, in lower case, under which it answers as under its login server, which its challenges name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_domains: Vec<String>,
}

impl Registry {
    /// The endpoint that it has in the one region of the emulator, as geo-replicated registries have (a preview of Azure's).
    /// It answers as the login server does, which its challenges name.
    pub fn regional_endpoint(&self) -> Option<String> {
        let (name, domain) = self.host.split_once('.')?;
        Some(format!("{name}.westeurope.geo.{domain}"))
    }

    /// A classic registry of a tenant that takes both audiences.
    pub fn new(tenant: &str, host: &str) -> Self {
        Self {
            host: host.to_ascii_lowercase(),
            tenant: tenant.to_owned(),
            tenant_field: TenantField::default(),
            abac: false,
            anonymous_pull: false,
            authentication_as_arm: true,
            audiences: None,
            admin: None,
            tokens: Vec::new(),
            denied_scope: DeniedScope::default(),
            custom_domains: Vec::new(),
        }
    }

    /// A registry with Entra repository permissions.
    pub fn abac(tenant: &str, host: &str) -> Self {
        Self {
            abac: true,
            ..Self::new(tenant, host)
        }
    }

    /// Switches the admin user on.
    #[must_use]
    pub fn with_admin(mut self, username: &str, password: &str) -> Self {
        self.admin = Some(AdminUser {
            username: username.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// Whether an Entra token for an audience is taken.
    pub(crate) fn takes(&self, audience: &str) -> bool {
        if let Some(audiences) = &self.audiences {
            return audiences.iter().any(|known| same_audience(known, audience));
        }
        let arm = Cloud::of_login_server(&self.host).arm_audience();
        same_audience(audience, REGISTRY_AUDIENCE)
            || (self.authentication_as_arm && same_audience(audience, arm))
    }
}

/// A registry's admin user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminUser {
    /// The user's name: the registry's.
    pub username: String,
    /// The user's password.
    pub password: String,
}

/// A repository-scoped token with its scope map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScopedToken {
    /// The token's name, which is the user name.
    pub name: String,
    /// Its passwords, two at most in the real service.
    pub passwords: Vec<String>,
    /// Its scope map.
    pub scopes: Vec<RepositoryScope>,
    /// Whether its status is `disabled`.
    #[serde(default)]
    pub disabled: bool,
    /// When its passwords expire; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// One entry of a scope map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositoryScope {
    /// The repository, or a prefix that ends in `*`.
    pub repository: String,
    /// `pull`, `push`, `delete`, `metadata_read`.
    pub actions: Vec<String>,
}

/// What the token endpoint answers when nothing of the asked scope is granted; which of them a registry does is documented nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeniedScope {
    /// 401.
    #[default]
    Unauthorized,
    /// 403.
    Forbidden,
    /// A token without that access, as the distribution specification has it.
    Omit,
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Pull everything on a classic registry.
    AcrPull,
    /// Pull and push everything on a classic registry.
    AcrPush,
    /// Pull from the named repositories of an ABAC registry.
    #[serde(rename = "Container Registry Repository Reader")]
    RepositoryReader,
    /// Pull from and push to the named repositories of an ABAC registry.
    #[serde(rename = "Container Registry Repository Writer")]
    RepositoryWriter,
}

/// A role given to a principal on a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleAssignment {
    /// The principal's client ID.
    pub client_id: String,
    /// The registry's login server.
    pub registry: String,
    /// The role.
    pub role: Role,
    /// For the repository roles: which repositories, or prefixes that end in `*`; none: all.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// How long after it was given the role begins to act, as one given through a group does.
    #[serde(default)]
    pub propagation_seconds: u32,
}

impl RoleAssignment {
    /// A role on all repositories that acts immediately.
    pub fn new(client_id: &str, registry: &str, role: Role) -> Self {
        Self {
            client_id: client_id.to_owned(),
            registry: registry.to_owned(),
            role,
            repositories: Vec::new(),
            propagation_seconds: 0,
        }
    }
}

/// How long tokens live.
///
/// Source of the defaults: Azure/acr `docs/AAD-OAuth.md` (refresh 3 h, access 75 min); Entra's `expires_in` is 3599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Lifetimes {
    /// Entra access tokens.
    pub entra_seconds: u32,
    /// ACR refresh tokens.
    pub refresh_seconds: u32,
    /// ACR access tokens.
    pub access_seconds: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            entra_seconds: 3599,
            refresh_seconds: 3 * 3600,
            access_seconds: 75 * 60,
        }
    }
}

/// Where to listen; port 0 takes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// TLS: the Entra authorities and the registries.
    pub tls: SocketAddr,
    /// The CONNECT proxy.
    pub proxy: SocketAddr,
    /// The managed identity endpoint.
    pub imds: SocketAddr,
    /// The control API; absent: none.
    pub control: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            tls: free,
            proxy: free,
            imds: free,
            control: None,
        }
    }
}

/// Audiences are the same with and without a trailing slash.
pub(crate) fn same_audience(one: &str, other: &str) -> bool {
    one.trim_end_matches('/')
        .eq_ignore_ascii_case(other.trim_end_matches('/'))
}

fn yes() -> bool {
    true
}

fn exchange_audience() -> String {
    "api://AzureADTokenExchange".to_owned()
}
