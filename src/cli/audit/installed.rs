//! What a `MutatingWebhookConfiguration` says of the pullpass that it is for: which namespaces the API server asks about
//! at all.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::core::{Expression, Selector};

use crate::api::names::{ALWAYS_INJECT_LABEL, ALWAYS_WEBHOOK, INJECT_LABEL, OWN_NAMESPACE, PODS_WEBHOOK};
use crate::policy::namespace_selector::NamespaceSelector;
use crate::policy::scope::{Mode, Scope};

/// The scope that the selectors of a configuration mean. None where the webhook for Pods is not in it.
pub fn scope(configuration: &MutatingWebhookConfiguration) -> Option<Scope> {
    scope_of(configuration, PODS_WEBHOOK)
}

/// The same of the entry for namespaces whose every Pod gets pull secrets, except for the label that picks those.
pub(in crate::cli) fn always_scope(configuration: &MutatingWebhookConfiguration) -> Option<Scope> {
    scope_of(configuration, ALWAYS_WEBHOOK)
}

fn scope_of(configuration: &MutatingWebhookConfiguration, entry: &str) -> Option<Scope> {
    let mut entries = configuration.webhooks.iter().flatten();
    let webhook = entries.find(|webhook| webhook.name == entry)?;
    let always = Expression::In(ALWAYS_INJECT_LABEL.to_owned(), ["true".to_owned()].into());
    let selector = webhook.namespace_selector.clone().unwrap_or_default();
    // The API server takes no other operators than those that are known.
    let requirements: NamespaceSelector = Selector::try_from(selector)
        .unwrap_or_default()
        .into_iter()
        .filter(|one| entry != ALWAYS_WEBHOOK || *one != always)
        .collect();
    let (mode, others) = mode(&requirements);
    Some(Scope::new(mode, own_namespace(webhook), []).with_selector(&others))
}

/// The mode, and the requirements that are about anything else.
fn mode(selector: &NamespaceSelector) -> (Mode, NamespaceSelector) {
    let inject = |operator: fn(String, BTreeSet<String>) -> Expression, value: &str| {
        operator(INJECT_LABEL.to_owned(), [value.to_owned()].into())
    };
    let enabled = inject(Expression::In, "enabled");
    let not_disabled = inject(Expression::NotIn, "disabled");
    let mode = if selector.requirements().any(|one| *one == enabled) {
        Mode::OptIn
    } else {
        Mode::ClusterWide
    };
    let others = selector
        .requirements()
        .filter(|one| ![&enabled, &not_disabled].contains(one));
    (mode, others.cloned().collect())
}

fn own_namespace(webhook: &MutatingWebhook) -> &str {
    webhook
        .client_config
        .service
        .as_ref()
        .map_or(OWN_NAMESPACE, |service| service.namespace.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names::NAMESPACE_NAME_LABEL;
    use crate::policy::scope::Labels;
    use serde_json::{Value, json};

    fn of(selector: &Value) -> Option<Scope> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass"},
            "webhooks": [{
                "name": "pods.pullpass.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun",
                "clientConfig": {"service": {"namespace": "own", "name": "pullpass"}},
                "namespaceSelector": selector,
            }],
        });
        scope(&serde_json::from_value(configuration).unwrap())
    }

    #[test]
    fn the_selectors_tell_mode_and_exclusions() {
        let excluded =
            json!({"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system", "legacy"]});
        let not_disabled = json!({"key": INJECT_LABEL, "operator": "NotIn", "values": ["disabled"]});
        let enabled = json!({"key": INJECT_LABEL, "operator": "In", "values": ["enabled"]});
        let expected = |mode| Some(Scope::new(mode, "own", ["legacy".to_owned()]));
        assert_eq!(
            of(&json!({"matchExpressions": [excluded, not_disabled]})),
            expected(Mode::ClusterWide)
        );
        assert_eq!(
            of(&json!({"matchExpressions": [excluded, enabled]})),
            expected(Mode::OptIn)
        );
        assert_eq!(
            of(&json!({"matchExpressions": [excluded], "matchLabels": {INJECT_LABEL: "enabled"}})),
            expected(Mode::OptIn)
        );
    }

    #[test]
    fn other_labels_are_the_namespace_selector() {
        let expressions = json!([
            {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system", "legacy"]},
            {"key": INJECT_LABEL, "operator": "NotIn", "values": ["disabled"]},
            {"key": "env", "operator": "NotIn", "values": ["test", "dev"]},
            {"key": "owner", "operator": "Exists"},
            {"key": "sandbox", "operator": "DoesNotExist"},
            {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["more"]},
        ]);
        let excluded = ["legacy".to_owned(), "more".to_owned()];
        let expected = Scope::new(Mode::ClusterWide, "own", excluded)
            .with_selector(&"team=a,env notin (dev,test),owner,!sandbox".parse().unwrap());
        assert_eq!(
            of(&json!({"matchExpressions": expressions, "matchLabels": {"team": "a"}})),
            Some(expected)
        );
        // One that nobody ships holds as it is.
        let scope = of(&json!({"matchExpressions": [{"key": INJECT_LABEL, "operator": "Exists"}]})).unwrap();
        assert!(!scope.injects("apps", Some(&Labels::new())));
        assert_eq!(of(&json!({})), Some(Scope::new(Mode::ClusterWide, "own", [])));
    }

    #[test]
    fn another_configuration_says_nothing() {
        let other = json!({"metadata": {"name": "other"}, "webhooks": [{"name": "other.example", "admissionReviewVersions": ["v1"],
                   "sideEffects": "None", "clientConfig": {}}]});
        assert_eq!(scope(&serde_json::from_value(other).unwrap()), None);
    }
}
