//! What there is to do about a pair of namespace and registry: a pure decision.

use crate::api::acr_registry::Provision;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::Labels;

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
    injected: bool,
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
    if !injected || !registry.gives_secret_to(Some(labels)) {
        return Step::Delete;
    }
    // The last good credential stays where it is, and goes nowhere else, until one is minted of the spec in force.
    if is_usable && (wanted || registry.provision() == Provision::Eager) {
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
        let decided = step(Some(&registry), Some(&Labels::new()), true, true, true);
        assert_eq!(decided, Step::Delete);
    }
}
