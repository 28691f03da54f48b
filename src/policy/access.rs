//! Which attached registries the images of one namespace may use.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::few::FewMap;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::scope::Labels;
use crate::registry::image::RegistryHost;
use crate::registry::login_server::LoginServer;

/// What there is for an image's registry in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Access<'a> {
    /// The host is no ACR login server: whatever it needs, it is not ours to give.
    Elsewhere,
    /// No AcrRegistry has the host.
    Unattached,
    /// The host is attached, but not for the namespace; this is the first `AcrRegistry` that has it.
    Forbidden(&'a AttachedRegistry),
    /// These may be used, ordered by name; there is at least one.
    Granted(Rc<[&'a AttachedRegistry]>),
}

/// What there is for images in one namespace.
///
/// The `AcrRegistries` of a host are looked through once, and all images on it share the result: a Pod can name a hundred
/// thousand images on a host that a hundred `AcrRegistries` share.
#[derive(Debug)]
pub struct Accesses<'a, 'l> {
    registries: &'a AttachedRegistries,
    labels: Option<&'l Labels>,
    /// By the list of `AcrRegistries` that share a host.
    known: RefCell<FewMap<*const Arc<AttachedRegistry>, Access<'a>>>,
}

impl<'a, 'l> Accesses<'a, 'l> {
    /// That of a namespace with these labels; absent if the cache does not have the namespace yet.
    pub fn new(registries: &'a AttachedRegistries, labels: Option<&'l Labels>) -> Self {
        Self {
            registries,
            labels,
            known: RefCell::default(),
        }
    }

    /// What there is for an image of this host.
    pub fn of(&self, host: &RegistryHost<'_>) -> Access<'a> {
        let sharing = self.registries.named_by(host);
        let Some(first) = sharing.first() else {
            return if LoginServer::is_named_by(host) {
                Access::Unattached
            } else {
                Access::Elsewhere
            };
        };
        let list = sharing.as_ptr();
        if let Some(access) = self.known.borrow().get(&list) {
            return access.clone();
        }
        let usable: Rc<[_]> = sharing
            .iter()
            .map(Arc::as_ref)
            .filter(|registry| registry.allows(self.labels))
            .collect();
        let access = if usable.is_empty() {
            Access::Forbidden(first)
        } else {
            Access::Granted(usable)
        };
        self.known.borrow_mut().insert(list, access.clone());
        access
    }
}
