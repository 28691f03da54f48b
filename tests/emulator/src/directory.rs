//! What exists, and who may do what: the state that tests change.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cloud::Cloud;
use crate::config::{Config, ConfigPatch, Lifetimes, Principal, Registry, Role, RoleAssignment, Tenant};
use crate::jwt::text;
use crate::storage;

/// The user name that goes with a refresh token.
///
/// Source: Azure/acr `docs/AAD-OAuth.md`.
pub(crate) const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

const READ: [&str; 2] = ["pull", "metadata_read"];
const WRITE: [&str; 3] = ["pull", "metadata_read", "push"];
const ADMIN: [&str; 5] = ["pull", "metadata_read", "push", "metadata_write", "delete"];

/// Whom a registry has recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// An Entra application or managed identity, by its client ID.
    Principal(String),
    /// The registry's admin user.
    Admin(String),
    /// A repository-scoped token, by its name.
    ScopedToken(String),
    /// Nobody, where everybody may pull.
    Anonymous,
}

impl Identity {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Principal(name) | Self::Admin(name) | Self::ScopedToken(name) => name,
            Self::Anonymous => NULL_GUID,
        }
    }
}

/// What becomes of a client secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretCheck {
    Right,
    Wrong,
    Expired,
}

#[derive(Debug, Clone)]
struct ActiveRole {
    assignment: RoleAssignment,
    /// None when it acts immediately, and still does when the clock is set back.
    acts_from: Option<Timestamp>,
}

/// Tenants, principals, registries, roles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    tenants: Vec<Tenant>,
    pub(crate) principals: Vec<Principal>,
    registries: Vec<Registry>,
    roles: Vec<ActiveRole>,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) backend: Option<String>,
}

impl Directory {
    pub(crate) fn new(config: Config, now: Timestamp) -> Self {
        let mut directory = Self::default();
        let patch = ConfigPatch {
            tenants: Some(config.tenants),
            principals: Some(config.principals),
            registries: Some(config.registries),
            roles: Some(config.roles),
            lifetimes: Some(config.lifetimes),
            backend: config.backend,
        };
        directory.patch(patch, now);
        directory
    }

    pub(crate) fn patch(&mut self, patch: ConfigPatch, now: Timestamp) {
        if let Some(tenants) = patch.tenants {
            self.tenants = tenants;
        }
        if let Some(principals) = patch.principals {
            self.principals = principals;
        }
        if let Some(registries) = patch.registries {
            self.registries.clear();
            for registry in registries {
                self.put_registry(registry);
            }
        }
        if let Some(roles) = patch.roles {
            let before = std::mem::take(&mut self.roles);
            self.roles = roles
                .into_iter()
                .map(|assignment| ActiveRole {
                    acts_from: before
                        .iter()
                        .find(|old| old.assignment == assignment)
                        .map_or_else(|| acts_from(&assignment, now), |old| old.acts_from),
                    assignment,
                })
                .collect();
        }
        if let Some(lifetimes) = patch.lifetimes {
            self.lifetimes = lifetimes;
        }
        if let Some(backend) = patch.backend {
            self.backend = Some(backend);
        }
    }

    /// Adds a registry, in place of one with the same host.
    pub(crate) fn put_registry(&mut self, mut registry: Registry) {
        registry.host.make_ascii_lowercase();
        self.registries.retain(|known| known.host != registry.host);
        self.registries.push(registry);
    }

    /// Adds a tenant, in place of one with the same ID.
    pub(crate) fn put_tenant(&mut self, tenant: Tenant) {
        self.tenants
            .retain(|known| !known.id.eq_ignore_ascii_case(&tenant.id));
        self.tenants.push(tenant);
    }

    /// Adds a principal, in place of one with the same client ID.
    pub(crate) fn put_principal(&mut self, principal: Principal) {
        self.principals
            .retain(|known| !known.client_id.eq_ignore_ascii_case(&principal.client_id));
        self.principals.push(principal);
    }

    pub(crate) fn grant(&mut self, assignment: RoleAssignment, now: Timestamp) {
        self.roles.push(ActiveRole {
            acts_from: acts_from(&assignment, now),
            assignment,
        });
    }

    /// Takes all roles of a principal on a registry away.
    pub(crate) fn revoke(&mut self, client_id: &str, registry: &str) {
        self.roles
            .retain(|role| !concerns(&role.assignment, client_id, registry));
    }

    pub(crate) fn tenant(&self, cloud: Cloud, id: &str) -> Option<&Tenant> {
        self.tenants
            .iter()
            .find(|tenant| tenant.cloud == cloud && tenant.id.eq_ignore_ascii_case(id))
    }

    /// A principal's tenant, whichever its cloud.
    pub(crate) fn tenant_of(&self, principal: &Principal) -> Option<&Tenant> {
        self.tenants
            .iter()
            .find(|tenant| tenant.id.eq_ignore_ascii_case(&principal.tenant))
    }

    pub(crate) fn principal(&self, client_id: &str) -> Option<&Principal> {
        self.principals
            .iter()
            .find(|known| known.client_id.eq_ignore_ascii_case(client_id))
    }

    pub(crate) fn registry(&self, host: &str) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.host == host)
    }

    /// The login server of the registry that has a host: its own, a regional endpoint or a custom domain. Others stay as they are.
    pub(crate) fn login_server(&self, host: String) -> String {
        let mut registries = self.registries.iter();
        let owner = registries.find(|registry| {
            registry.regional_endpoint().as_ref() == Some(&host) || registry.custom_domains.contains(&host)
        });
        owner.map_or(host, |registry| registry.host.clone())
    }

    /// Every host that is served: the authorities, the registries with their regional endpoints and custom domains, and the
    /// storage account.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let authorities = Cloud::ALL.iter().map(|cloud| cloud.authority().to_owned());
        authorities
            .chain(self.registries.iter().map(|registry| registry.host.clone()))
            .chain(self.registries.iter().filter_map(Registry::regional_endpoint))
            .chain(
                self.registries
                    .iter()
                    .flat_map(|registry| registry.custom_domains.clone()),
            )
            .chain([storage::HOST.to_owned()])
            .collect()
    }

    /// Whether a principal has any role on a registry that acts by now.
    pub(crate) fn has_role(&self, client_id: &str, registry: &str, now: Timestamp) -> bool {
        self.acting_roles(client_id, registry, now).next().is_some()
    }

    /// Whom a user name and password belong to at a registry.
    pub(crate) fn log_in(
        &self,
        registry: &Registry,
        username: &str,
        password: &str,
        now: Timestamp,
    ) -> Option<Identity> {
        if let Some(admin) = &registry.admin
            && admin.username == username
        {
            return (admin.password == password).then(|| Identity::Admin(username.to_owned()));
        }
        if let Some(token) = registry.tokens.iter().find(|token| token.name == username) {
            let is_right = token.passwords.iter().any(|known| known == password)
                && !token.disabled
                && token.expires_at.is_none_or(|at| at > now);
            return is_right.then(|| Identity::ScopedToken(username.to_owned()));
        }
        let principal = self.principal(username)?;
        (check_secret(principal, password, now) == SecretCheck::Right
            && principal.tenant.eq_ignore_ascii_case(&registry.tenant)
            && (registry.abac || self.has_role(username, &registry.host, now)))
        .then(|| Identity::Principal(principal.client_id.clone()))
    }

    /// What an identity may do with a repository.
    pub(crate) fn rights(
        &self,
        registry: &Registry,
        identity: &Identity,
        repository: &str,
        now: Timestamp,
    ) -> Vec<String> {
        let owned = |actions: &[&str]| actions.iter().map(|&action| action.to_owned()).collect();
        match identity {
            Identity::Admin(_) => owned(&ADMIN),
            Identity::Anonymous => owned(&READ),
            Identity::ScopedToken(name) => registry
                .tokens
                .iter()
                .filter(|token| &token.name == name)
                .flat_map(|token| &token.scopes)
                .filter(|scope| covers(&scope.repository, repository))
                .flat_map(|scope| scope.actions.iter().cloned())
                .collect(),
            Identity::Principal(client_id) => self
                .acting_roles(client_id, &registry.host, now)
                .flat_map(|assignment| actions(assignment, registry.abac, repository))
                .map(|&action| action.to_owned())
                .collect(),
        }
    }

    fn acting_roles(
        &self,
        client_id: &str,
        registry: &str,
        now: Timestamp,
    ) -> impl Iterator<Item = &RoleAssignment> {
        self.roles
            .iter()
            .filter(move |role| role.acts_from.is_none_or(|at| at <= now))
            .map(|role| &role.assignment)
            .filter(move |assignment| concerns(assignment, client_id, registry))
    }
}

/// Holds a client secret against a principal's.
pub(crate) fn check_secret(principal: &Principal, value: &str, now: Timestamp) -> SecretCheck {
    let mut check = SecretCheck::Wrong;
    for secret in principal.secrets.iter().filter(|secret| secret.value == value) {
        if secret.expires_at.is_none_or(|at| at > now) {
            return SecretCheck::Right;
        }
        check = SecretCheck::Expired;
    }
    check
}

/// The client ID that a token's claims name.
pub(crate) fn client_of(claims: &Value) -> &str {
    text(claims, "appid")
}

fn acts_from(assignment: &RoleAssignment, now: Timestamp) -> Option<Timestamp> {
    let delay = SignedDuration::from_secs(assignment.propagation_seconds.into());
    (!delay.is_zero()).then(|| now.checked_add(delay).unwrap_or(Timestamp::MAX))
}

fn concerns(assignment: &RoleAssignment, client_id: &str, registry: &str) -> bool {
    assignment.client_id.eq_ignore_ascii_case(client_id) && assignment.registry.eq_ignore_ascii_case(registry)
}

/// Registry-wide roles act only on classic registries, repository roles only on ABAC registries.
///
/// Source: Microsoft Learn, "Microsoft Entra attribute-based access control for repository permissions".
fn actions(assignment: &RoleAssignment, abac: bool, repository: &str) -> &'static [&'static str] {
    let named = assignment.repositories.is_empty()
        || assignment
            .repositories
            .iter()
            .any(|pattern| covers(pattern, repository));
    match assignment.role {
        Role::AcrPull if !abac => &READ,
        Role::AcrPush if !abac => &WRITE,
        Role::RepositoryReader if abac && named => &READ,
        Role::RepositoryWriter if abac && named => &WRITE,
        _ => &[],
    }
}

fn covers(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => repository.starts_with(prefix),
        None => pattern == repository,
    }
}
