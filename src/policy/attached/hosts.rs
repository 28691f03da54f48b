//! Which registries answer under a host, and which name it as a custom domain in vain.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::AttachedRegistry;
use crate::base::shared_map::SharedMap;
use crate::registry::custom_domain::CustomDomain;
use crate::registry::login_server::LoginServer;

/// The registries by login server and custom domain.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(SharedMap<Arc<Host>>);

/// All registries that have a host as their login server or name it as a custom domain. Each list is ordered by name.
#[derive(Debug, Clone, Default)]
struct Host {
    /// Those that have it: all of one login server. In a namespace with bindings these are first.
    sharing: Vec<Arc<AttachedRegistry>>,
    /// Those that name it and don't have it.
    others: Vec<Arc<AttachedRegistry>>,
}

/// The hosts that a registry has or names.
fn hosts(registry: &AttachedRegistry) -> impl Iterator<Item = &str> {
    let domains = registry.custom_domains.iter().map(CustomDomain::as_str);
    std::iter::once(registry.login_server.as_str()).chain(domains)
}

impl Hosts {
    /// Those that share a host, if any do.
    pub(super) fn sharing(&self, host: &str) -> Option<&[Arc<AttachedRegistry>]> {
        self.0.get(host).map(|host| host.sharing.as_slice())
    }

    /// Takes those that share a host, where no other names it.
    pub(super) fn share(&mut self, host: &str, sharing: Vec<Arc<AttachedRegistry>>) {
        let others = Vec::new();
        self.0.insert(host, Arc::new(Host { sharing, others }));
    }

    /// Takes that the first registry is replaced by the second, of the same name. Returns the names of the other registries that
    /// have got or lost a custom domain by that. It costs what its hosts have, however many others there are.
    pub(super) fn replace(
        &mut self,
        before: Option<&AttachedRegistry>,
        after: Option<&Arc<AttachedRegistry>>,
    ) -> BTreeSet<String> {
        let now = after.map(Arc::as_ref);
        let Some(name) = before.or(now).map(AttachedRegistry::name) else {
            return BTreeSet::new();
        };
        let hosts_now: BTreeSet<_> = now.into_iter().flat_map(hosts).collect();
        let all: BTreeSet<_> = before.into_iter().flat_map(hosts).collect();
        let mut affected = BTreeSet::new();
        for host in all.union(&hosts_now) {
            let claim = after.filter(|_| hosts_now.contains(host));
            affected.extend(self.claim(host, name, claim));
        }
        affected.remove(name);
        affected
    }

    fn claim(&mut self, host: &str, name: &str, claim: Option<&Arc<AttachedRegistry>>) -> Vec<String> {
        let Some(known) = self.0.get_mut(host) else {
            if let Some(claim) = claim {
                self.share(host, vec![Arc::clone(claim)]);
            }
            return Vec::new();
        };
        let known = Arc::make_mut(known);
        let affected = known.claim(host, name, claim);
        if known.sharing.is_empty() {
            self.0.remove(host);
        }
        affected
    }

    /// How many hosts there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.names().count()
    }
}

impl Host {
    /// Takes that the registry of a name has or names the host now, or that it does not. Returns the names of those that got or
    /// lost the host by that.
    fn claim(&mut self, host: &str, name: &str, claim: Option<&Arc<AttachedRegistry>>) -> Vec<String> {
        for list in [&mut self.sharing, &mut self.others] {
            if let Ok(position) = position(list, name) {
                list.remove(position);
            }
        }
        let Some(owner) = self.owner(host, claim).cloned() else {
            return Vec::new();
        };
        let is_of_owner = |registry: &Arc<AttachedRegistry>| registry.login_server == owner;
        let mut affected = Vec::new();
        if !self.sharing.first().is_some_and(is_of_owner) {
            let mut lost = mem::take(&mut self.sharing);
            let others = mem::take(&mut self.others).into_iter();
            (self.sharing, self.others) = others.partition(is_of_owner);
            let both = lost.iter().chain(&self.sharing);
            affected.extend(both.map(|registry| registry.name.clone()));
            self.others.append(&mut lost);
            self.others.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        if let Some(claim) = claim {
            let list = if is_of_owner(claim) {
                &mut self.sharing
            } else {
                &mut self.others
            };
            let position = position(list, name).unwrap_or_else(|position| position);
            list.insert(position, Arc::clone(claim));
        }
        affected
    }

    /// The login server that has the host: the host itself, if it is a login server, or that of the first registry by name.
    fn owner<'a>(&'a self, host: &str, claim: Option<&'a Arc<AttachedRegistry>>) -> Option<&'a LoginServer> {
        // Those that share it have one login server, and if the host is a login server, it is that one.
        let firsts = [self.sharing.first(), self.others.first(), claim];
        let firsts = firsts.into_iter().flatten();
        let owner = firsts.min_by_key(|registry| (registry.login_server.as_str() != host, &registry.name));
        owner.map(|owner| &owner.login_server)
    }
}

/// Where a registry is in a list, or belongs.
fn position(list: &[Arc<AttachedRegistry>], name: &str) -> Result<usize, usize> {
    list.binary_search_by(|registry| registry.name.as_str().cmp(name))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde_json::json;

    use crate::policy::attached::{AttachedRegistries, AttachedRegistry};

    use super::*;

    /// A host of another cloud, which registries of Azure's can name as a custom domain.
    const OWN: &str = "own.contoso.com";
    const DOMAINS: [&str; 3] = [OWN, "a.contoso.com", "b.contoso.com"];
    const HOSTS: [&str; 4] = ["host1.azurecr.io", "host2.azurecr.io", "host3.azurecr.io", OWN];
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn registry(name: &str, host: &str, domains: &[&str]) -> AttachedRegistry {
        let cloud = (host == OWN).then_some("Other");
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {
                "loginServer": host, "cloud": cloud, "customDomains": domains, "identity": {"managedIdentity": {}},
            },
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    }

    /// By name.
    type All = BTreeMap<&'static str, AttachedRegistry>;

    /// The names of those that share each host, as the rules say it of all registries together.
    fn sharing(all: &All) -> HashMap<&str, Vec<&str>> {
        let mut by_host: HashMap<&str, Vec<&AttachedRegistry>> = HashMap::new();
        for registry in all.values() {
            by_host
                .entry(registry.login_server.as_str())
                .or_default()
                .push(registry);
        }
        for registry in all.values() {
            for domain in &registry.custom_domains {
                let sharing = by_host.entry(domain.as_str()).or_default();
                let first = sharing.first();
                if first.is_none_or(|first| first.login_server == registry.login_server) {
                    sharing.push(registry);
                }
            }
        }
        let by_host = by_host.into_iter().map(|(host, sharing)| {
            let names = sharing.into_iter().map(AttachedRegistry::name);
            (host, names.collect())
        });
        by_host.collect()
    }

    /// Whether the names are those that share each host, and the registries the ones that are attached.
    fn check(registries: &AttachedRegistries, all: &All) -> Result<(), TestCaseError> {
        let expected = sharing(all);
        prop_assert_eq!(registries.by_host.len(), expected.len());
        for host in HOSTS.iter().chain(&DOMAINS) {
            let found = registries.having(host);
            let names: Vec<_> = found.iter().map(|registry| registry.name()).collect();
            prop_assert_eq!(names, expected.get(host).cloned().unwrap_or_default());
            prop_assert!(found.iter().all(|found| all.get(found.name()) == Some(&**found)));
        }
        for name in NAMES {
            prop_assert_eq!(registries.by_name(name), all.get(name));
        }
        let found: Vec<_> = registries.all().into_iter().cloned().collect();
        prop_assert_eq!(found, all.values().cloned().collect::<Vec<_>>());
        Ok(())
    }

    /// The custom domains that a registry has, and those that another one has, with its name.
    type Domains = (Vec<String>, Vec<(String, String)>);

    /// Those of each registry.
    fn domains(registries: &AttachedRegistries) -> BTreeMap<String, Domains> {
        let of = |registry: &AttachedRegistry| {
            let taken = registries.taken_from(registry);
            let taken = taken.map(|taken| (taken.domain.to_string(), taken.by.to_owned()));
            let own = registries.domains_of(registry).map(ToString::to_string);
            (registry.name().to_owned(), (own.collect(), taken.collect()))
        };
        registries.each().map(of).collect()
    }

    /// The name of a registry, and what is set: its host and its domains. Nothing removes it.
    fn step() -> impl Strategy<Value = (&'static str, Option<(&'static str, Vec<&'static str>)>)> {
        let domains = prop::sample::subsequence(DOMAINS.to_vec(), 0..=DOMAINS.len());
        let spec = (prop::sample::select(HOSTS.to_vec()), domains);
        (
            prop::sample::select(NAMES.to_vec()),
            prop::option::weighted(0.7, spec),
        )
    }

    proptest! {
        #[test]
        fn edits_lead_to_what_a_list_of_all_does(steps in prop::collection::vec(step(), 1..40)) {
            let (mut registries, mut all) = (AttachedRegistries::default(), All::new());
            let mut former = Vec::new();
            for (name, spec) in steps {
                let before = domains(&registries);
                former.push((registries.clone(), all.clone()));
                let affected = match spec {
                    Some((host, domains)) => {
                        let registry = registry(name, host, &domains);
                        all.insert(name, registry.clone());
                        Some(registries.set(&Arc::new(registry)))
                    }
                    None => {
                        let is_known = all.remove(name).is_some();
                        let affected = registries.remove(name);
                        prop_assert_eq!(affected.is_some(), is_known);
                        affected
                    }
                };
                check(&registries, &all)?;
                let listed: AttachedRegistries = all.values().cloned().collect();
                let reversed: AttachedRegistries = all.values().rev().cloned().collect();
                check(&listed, &all)?;
                let after = domains(&registries);
                prop_assert_eq!(&after, &domains(&listed));
                prop_assert_eq!(&after, &domains(&reversed));
                let differs = |other: &&str| *other != name
                    && before.get(*other).map(|(own, _)| own) != after.get(*other).map(|(own, _)| own);
                let expected = NAMES.into_iter().filter(differs).map(str::to_owned).collect();
                prop_assert_eq!(affected.unwrap_or_default(), expected);
            }
            for (registries, all) in former {
                check(&registries, &all)?;
            }
        }
    }

    #[test]
    fn an_edit_copies_the_lists_of_its_hosts() {
        let host = |number: usize| format!("host{number}.azurecr.io");
        let one = |number: usize| registry(&format!("r{number}"), &host(number), &[]);
        let before: AttachedRegistries = (0..1_000).map(one).collect();
        let mut after = before.clone();
        after.set(&Arc::new(registry("r7", &host(8), &["a.contoso.com"])));
        let is_copied = |host: &String| {
            let lists = [&before, &after].map(|registries| registries.having(host).as_ptr());
            lists[0] != lists[1]
        };
        let copied: Vec<_> = (0..1_000).map(host).filter(is_copied).collect();
        assert_eq!(copied, [host(7), host(8)]);
        let names = |registries: &AttachedRegistries, host: &str| -> Vec<String> {
            let having = registries.having(host).iter();
            having.map(|registry| registry.name().to_owned()).collect()
        };
        assert_eq!(names(&before, &host(7)), ["r7"]);
        assert_eq!(names(&after, &host(7)), [""; 0]);
        assert_eq!(names(&after, &host(8)), ["r7", "r8"]);
        assert_eq!(names(&after, "a.contoso.com"), ["r7"]);
    }
}
