//! The verdict on one image in a namespace: the registry that it is on, and whether the namespace may use it. Admission
//! and the view on running Pods both map this verdict, so that they can't disagree.

use std::borrow::Cow;
use std::rc::Rc;

use crate::policy::access::{Access, Accesses};
use crate::policy::attached::AttachedRegistry;
use crate::policy::rules::Rule;
use crate::registry::image::{ImageReference, ImageReferenceError, RegistryHost};
use crate::registry::login_server::LoginServer;

/// The verdict on an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<'a> {
    /// The text is no image reference: no kubelet pulls it.
    NoReference(ImageReferenceError),
    /// The image is not on ACR. The host is absent for Docker Hub's short names.
    Elsewhere(Option<RegistryHost<'a>>),
    /// The image is on ACR, and violates a rule.
    Refused(RegistryHost<'a>, Breach<'a>),
    /// The image is on an attached registry that the namespace may use.
    Granted(Grant<'a>),
}

/// How an image violates a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Breach<'a> {
    /// No AcrRegistry has the host.
    Unattached,
    /// This AcrRegistry has the host, but is not for the namespace.
    Forbidden(&'a AttachedRegistry),
}

impl<'a> Breach<'a> {
    /// The rule that is violated.
    pub fn rule(self) -> Rule {
        match self {
            Self::Unattached => Rule::Unattached,
            Self::Forbidden(_) => Rule::Forbidden,
        }
    }

    /// The name of the AcrRegistry that has the host, if one does.
    pub fn registry(self) -> Option<&'a str> {
        match self {
            Self::Unattached => None,
            Self::Forbidden(registry) => Some(registry.name()),
        }
    }
}

/// An image that the namespace may pull, and with which registries' pull secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant<'a> {
    /// The registry's host, as the Pod has it.
    pub host: RegistryHost<'a>,
    /// The image's repository.
    pub repository: &'a str,
    /// The `AcrRegistries` that the namespace may use for it, ordered by name; there is at least one.
    pub usable: Rc<[&'a AttachedRegistry]>,
}

/// Whether an image can be pulled with the pull secrets that its Pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Pulls from the registry need none.
    NotNeeded,
    /// One of them is for the image's repository.
    Fits,
    /// Admission would add one that is missing.
    Missing,
    /// The Pod has all that could help, and none is for the image's repository.
    OtherRepository,
}

impl<'a> Grant<'a> {
    /// Whether a Pod that holds some registries' pull secrets can pull the image, and the AcrRegistry that this depends on.
    pub fn credential(
        &self,
        holds: impl Fn(&AttachedRegistry) -> bool,
    ) -> (Credential, Option<&'a AttachedRegistry>) {
        if let Some(registry) = self.usable.iter().copied().find(|usable| usable.is_anonymous()) {
            return (Credential::NotNeeded, Some(registry));
        }
        let (mut missing, mut other_repository) = (None, None);
        for registry in self.usable.iter().copied() {
            match (holds(registry), registry.covers(self.repository)) {
                (true, true) => return (Credential::Fits, Some(registry)),
                (false, true) => missing = missing.or(Some(registry)),
                (true, false) => other_repository = other_repository.or(Some(registry)),
                (false, false) => {}
            }
        }
        match (missing, other_repository) {
            (Some(registry), _) => (Credential::Missing, Some(registry)),
            (None, Some(registry)) => (Credential::OtherRepository, Some(registry)),
            (None, None) => (Credential::Missing, self.usable.first().copied()),
        }
    }
}

impl<'a> Verdict<'a> {
    /// Judges an image of the namespace that this is about.
    pub fn of(image: &'a str, accesses: &Accesses<'a, '_>) -> Self {
        let reference = match ImageReference::parse(image) {
            Ok(reference) => reference,
            Err(error) => return Self::NoReference(error),
        };
        let Some(host) = reference.registry() else {
            return Self::Elsewhere(None);
        };
        match accesses.of(&host) {
            Access::Elsewhere => Self::Elsewhere(Some(host)),
            Access::Unattached => Self::Refused(host, Breach::Unattached),
            Access::Forbidden(registry) => Self::Refused(host, Breach::Forbidden(registry)),
            Access::Granted(usable) => Self::Granted(Grant {
                host,
                repository: reference.repository(),
                usable,
            }),
        }
    }

    /// The host that the image's registry is known by.
    pub fn known_host(&self) -> Option<Cow<'a, str>> {
        self.host().map(|host| LoginServer::known_host(&host))
    }

    /// The registry that the image names, as it was written.
    pub fn host(&self) -> Option<RegistryHost<'a>> {
        match self {
            Self::NoReference(_) => None,
            Self::Elsewhere(host) => *host,
            Self::Refused(host, _) => Some(*host),
            Self::Granted(grant) => Some(grant.host),
        }
    }
}
