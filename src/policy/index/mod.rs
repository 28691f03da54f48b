//! What the API server's own admission policies are told about the attached registries, so that they decide as
//! admission does while no replica answers.

mod accounts;
pub mod bindings;
pub mod fair;

use std::collections::{BTreeSet, HashMap};

use kube::core::Expression;

pub use self::accounts::strict_accounts;
use crate::api::acr_index::{AcrIndexSpec, IndexedRegistry, Requirement};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::decision::Settings;
use crate::registry::custom_domain::CustomDomain;

/// How many bytes the registries of an index may take. An API server takes a request of 3 MiB and an object of 1.5 MiB, of
/// which its own bookkeeping is a part.
pub const MAX_INDEX_BYTES: usize = 768 * 1024;
/// How many bytes the login servers may take, beside that, of which no registry has room.
pub const MAX_LISTED_BYTES: usize = 256 * 1024;

/// An index, and what had no room in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    /// What the admission policies know.
    pub spec: AcrIndexSpec,
    /// The names of the registries that they are not told about: Pods with their images are left to the webhook.
    pub left_out: Vec<String>,
}

/// How many bytes the parts of an index may take.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// The registries that it tells of, with what it says of others that share their hosts.
    registries: usize,
    /// The login servers of the others.
    listed: usize,
}

/// The index of the registries under these settings.
pub fn index(registries: &AttachedRegistries, settings: &Settings) -> Index {
    let room = Room {
        registries: MAX_INDEX_BYTES,
        listed: MAX_LISTED_BYTES,
    };
    index_within(registries, settings, room)
}

/// The same with other limits. The registries that take most, be it by their selectors or by their custom domains, are
/// left out first. What one takes depends on no other, and one that is left out takes nothing of it: however many are
/// attached, as many as have room are told about.
fn index_within(registries: &AttachedRegistries, settings: &Settings, room: Room) -> Index {
    let mut spec = AcrIndexSpec {
        mode: settings.scope.mode().as_str().to_owned(),
        excluded_namespaces: settings.scope.excluded().map(str::to_owned).collect(),
        namespace_selector: settings
            .scope
            .selector()
            .requirements()
            .cloned()
            .map(requirement)
            .collect(),
        unattached: settings.policy.unattached.as_str().to_owned(),
        forbidden: settings.policy.forbidden.as_str().to_owned(),
        ..AcrIndexSpec::default()
    };
    let all = registries.all();
    let mut fitting = fit(&all, room.registries);
    let mut without_room = Vec::new();
    for registry in all {
        match fitting.remove(registry.name()) {
            Some(indexed) => tell(&mut spec, registries, registry, &indexed),
            None => without_room.push(registry),
        }
    }
    allow(&mut spec, registries, &without_room, room.listed);
    let left_out = without_room.iter().map(|registry| registry.name().to_owned());
    Index {
        left_out: left_out.collect(),
        spec,
    }
}

/// Tells of a registry.
fn tell(
    spec: &mut AcrIndexSpec,
    registries: &AttachedRegistries,
    registry: &AttachedRegistry,
    indexed: &IndexedRegistry,
) {
    let secret = registry.pull_secret();
    for host in hosts(registries, registry) {
        // The host of an anonymous registry is attached all the same.
        let secrets = spec.hosts.entry(host.to_owned()).or_default();
        if registry.is_anonymous() {
            let sharing = spec.anonymous.entry(host.to_owned()).or_default();
            sharing.push(indexed.clone());
        } else {
            secrets.push(secret.to_owned());
        }
    }
    if !registry.is_anonymous() {
        spec.pull_secrets.insert(secret.to_owned(), indexed.clone());
    }
}

/// Sees to it that no rule is violated by images of the registries without room: the webhook decides. Their login
/// servers are no strangers', and no namespace is forbidden a host that one of them shares with a registry that is told
/// about. A custom domain that is of none of these is anybody's, as all hosts are that are not on ACR.
fn allow(
    spec: &mut AcrIndexSpec,
    registries: &AttachedRegistries,
    without_room: &[&AttachedRegistry],
    most_listed: usize,
) {
    let (mut shared, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for registry in without_room {
        for host in hosts(registries, registry) {
            if spec.hosts.contains_key(host) {
                shared.insert(host);
            } else if host == registry.login_server().as_str() {
                listed.insert(host);
            }
        }
    }
    for host in shared {
        let sharing = spec.anonymous.entry(host.to_owned()).or_default();
        sharing.push(IndexedRegistry::default());
    }
    let size: usize = listed.iter().map(|host| listed_size(host)).sum();
    if size > most_listed {
        // Those that have room would not tell strangers from the rest.
        spec.omits_hosts = true;
        return;
    }
    let listed = listed.into_iter().map(|host| (host.to_owned(), Vec::new()));
    spec.hosts.extend(listed);
}

/// The hosts of a registry: its login server and the custom domains that it has.
fn hosts<'a>(
    registries: &'a AttachedRegistries,
    registry: &'a AttachedRegistry,
) -> impl Iterator<Item = &'a str> {
    let domains = registries.domains_of(registry).map(CustomDomain::as_str);
    std::iter::once(registry.login_server().as_str()).chain(domains)
}

/// The registries that have room, by name.
fn fit<'a>(all: &[&'a AttachedRegistry], most: usize) -> HashMap<&'a str, IndexedRegistry> {
    let mut by_size: Vec<_> = all
        .iter()
        .map(|registry| {
            let indexed = indexed(registry);
            (size(registry, &indexed), registry.name(), indexed)
        })
        .collect();
    by_size.sort_by(|(size, name, _), (other_size, other, _)| (size, name).cmp(&(other_size, other)));
    let mut total: usize = 0;
    by_size
        .into_iter()
        .take_while(|(size, ..)| {
            total = total.saturating_add(*size);
            total <= most
        })
        .map(|(_, name, indexed)| (name, indexed))
        .collect()
}

/// How many bytes a login server takes of which no registry has room, about: the API server notes it once more.
fn listed_size(host: &str) -> usize {
    const FIELDS: usize = 24;
    FIELDS + 2 * host.len()
}

/// How many bytes a registry needs in the object, about, with what the API server notes of each field. A custom domain
/// counts even where another registry has it, so that this depends on no other one. With each host there is room for
/// the entry that stands for registries without room.
fn size(registry: &AttachedRegistry, indexed: &IndexedRegistry) -> usize {
    const FIELDS: usize = 160;
    const FIELDS_OF_HOST: usize = 64;
    let requirements = indexed.namespaces.iter().map(|requirement| {
        let values: usize = requirement.values.iter().map(|value| value.len() + 4).sum();
        requirement.key.len() + values + 64
    });
    let requirements: usize = requirements.sum();
    let mut hosts_size = 0;
    let domains = registry.custom_domains().iter().map(CustomDomain::as_str);
    for host in std::iter::once(registry.login_server().as_str()).chain(domains) {
        hosts_size += FIELDS_OF_HOST + 4 * host.len() + registry.pull_secret().len();
        // Under each of its hosts an anonymous registry is there with its selector.
        if registry.is_anonymous() {
            hosts_size += registry.name().len() + requirements;
        }
    }
    FIELDS + registry.name().len() + 2 * registry.pull_secret().len() + hosts_size + requirements
}

fn indexed(registry: &AttachedRegistry) -> IndexedRegistry {
    let selector = registry.namespaces().cloned().into_iter().flatten();
    IndexedRegistry {
        registry: registry.name().to_owned(),
        namespaces: selector.map(requirement).collect(),
        unminted: registry.is_unminted(),
    }
}

fn requirement(expression: Expression) -> Requirement {
    let (key, operator, values) = match expression {
        Expression::In(key, values) => (key, "In", values.into_iter().collect()),
        Expression::NotIn(key, values) => (key, "NotIn", values.into_iter().collect()),
        Expression::Equal(key, value) => (key, "In", vec![value]),
        Expression::NotEqual(key, value) => (key, "NotIn", vec![value]),
        Expression::Exists(key) => (key, "Exists", Vec::new()),
        Expression::DoesNotExist(key) => (key, "DoesNotExist", Vec::new()),
    };
    Requirement {
        key,
        operator: operator.to_owned(),
        values,
    }
}

#[cfg(test)]
mod tests;
