//! What there is to do about a pair of namespace and registry: a pure decision.

use crate::api::acr_registry::Provision;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::{Labels, Membership};

/// What there is to do about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Write,
    Delete,
    Nothing,
}

/// Decides on a pair. It is pure: what is known of the registry, the namespace and the demand goes in.
pub(super) fn step(
    registry: Option<&AttachedRegistry>,
    labels: Option<&Labels>,
    membership: Membership,
    wanted: bool,
    is_usable: bool,
) -> Step {
    let (Some(registry), Some(labels)) = (registry, labels) else {
        // The secrets of a namespace that is gone are gone with it.
        return if labels.is_some() {
            Step::Delete
        } else {
            Step::Nothing
        };
    };
    let is_always = match membership {
        Membership::Injected { always } if registry.gives_secret_to(Some(labels)) => always,
        Membership::Injected { .. }
        | Membership::Excluded
        | Membership::OptedOut
        | Membership::NotOptedIn
        | Membership::NotSelected => return Step::Delete,
    };
    // A namespace in which every Pod names the pull secret needs it before it has a Pod, as everyone does who reads it from a
    // ServiceAccount there. The last good credential stays where it is, and goes nowhere else, until one is minted of the spec
    // in force.
    let is_needed = wanted || is_always || registry.provision() == Provision::Eager;
    if is_usable && is_needed {
        Step::Write
    } else {
        Step::Nothing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_anonymous_registry_has_no_pull_secret() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "free"},
            "spec": {"loginServer": "freeregistry.azurecr.io", "identity": {"anonymous": {}}, "provision": "Eager"},
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let decided = step(
            Some(&registry),
            Some(&Labels::new()),
            Membership::Injected { always: true },
            true,
            true,
        );
        assert_eq!(decided, Step::Delete);
    }
}
