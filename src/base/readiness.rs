//! What must hold before a replica takes reviews. Caches and sockets both set it; neither owns it.

use std::sync::atomic::{AtomicBool, Ordering};

/// What must be true before reviews are sent here. Azure is not part of it: during an outage, a replica continues with
/// what it knows.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The certificate was read.
    pub certificate: AtomicBool,
    /// The registries were read once.
    pub registries: AtomicBool,
    /// The namespaces were read once.
    pub namespaces: AtomicBool,
    /// The bindings were read once; also if there are none to read.
    pub bindings: AtomicBool,
    /// The minted credentials were read once.
    pub credentials: AtomicBool,
    /// The `ServiceAccounts` that enforce mountable secrets were read once.
    pub service_accounts: AtomicBool,
    /// The process shuts down.
    pub ending: AtomicBool,
}

impl Readiness {
    /// Each check by name, and whether it holds.
    pub fn checks(&self) -> [(&'static str, bool); 7] {
        let Self {
            certificate,
            registries,
            namespaces,
            bindings,
            credentials,
            service_accounts,
            ending,
        } = self;
        [
            ("certificate", certificate.load(Ordering::Acquire)),
            ("registries", registries.load(Ordering::Acquire)),
            ("namespaces", namespaces.load(Ordering::Acquire)),
            ("bindings", bindings.load(Ordering::Acquire)),
            ("credentials", credentials.load(Ordering::Acquire)),
            ("service-accounts", service_accounts.load(Ordering::Acquire)),
            ("not-ending", !ending.load(Ordering::Acquire)),
        ]
    }

    /// Takes the caches for filled, where there is no cluster.
    pub fn fill_caches(&self) {
        for filled in self.caches() {
            filled.store(true, Ordering::Release);
        }
    }

    /// Whether registries, namespaces, bindings, minted credentials and `ServiceAccounts` were read once. Without
    /// credentials a leader would mint what exists already.
    pub fn caches_filled(&self) -> bool {
        self.caches().iter().all(|filled| filled.load(Ordering::Acquire))
    }

    fn caches(&self) -> [&AtomicBool; 5] {
        [
            &self.registries,
            &self.namespaces,
            &self.bindings,
            &self.credentials,
            &self.service_accounts,
        ]
    }

    /// Whether every check holds.
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, holds)| *holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_filled_when_all_of_them_are() {
        let readiness = Readiness::default();
        for filled in [
            &readiness.registries,
            &readiness.namespaces,
            &readiness.bindings,
            &readiness.credentials,
            &readiness.service_accounts,
        ] {
            assert!(!readiness.caches_filled());
            filled.store(true, Ordering::Release);
        }
        assert!(readiness.caches_filled());
    }
}
