//! What a `MutatingWebhookConfiguration` says of the pullpass that it is for: which namespaces the API server asks about
//! at all.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::names::{INJECT_LABEL, NAMESPACE_NAME_LABEL, OWN_NAMESPACE, PODS_WEBHOOK};
use crate::policy::scope::{Mode, Scope};

/// The scope that the selectors of the shipped configurations stand for, whatever was added to the excluded namespaces.
/// None where the webhook for Pods is not in it.
pub fn scope(configuration: &MutatingWebhookConfiguration) -> Option<Scope> {
    let webhook = configuration
        .webhooks
        .iter()
        .flatten()
        .find(|webhook| webhook.name == PODS_WEBHOOK)?;
    let selector = webhook.namespace_selector.clone().unwrap_or_default();
    let mode = if wants_enabled(&selector) {
        Mode::OptIn
    } else {
        Mode::ClusterWide
    };
    let excluded = selector
        .match_expressions
        .into_iter()
        .flatten()
        .filter(|expression| expression.key == NAMESPACE_NAME_LABEL && expression.operator == "NotIn")
        .flat_map(|expression| expression.values.unwrap_or_default());
    Some(Scope::new(mode, own_namespace(webhook), excluded))
}

fn wants_enabled(selector: &LabelSelector) -> bool {
    let by_label = selector
        .match_labels
        .iter()
        .flatten()
        .any(|(key, value)| key == INJECT_LABEL && value == "enabled");
    let by_expression = selector.match_expressions.iter().flatten().any(|expression| {
        expression.key == INJECT_LABEL
            && expression.operator == "In"
            && expression.values.as_deref() == Some(&["enabled".to_owned()])
    });
    by_label || by_expression
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
    fn another_configuration_says_nothing() {
        let other = json!({"metadata": {"name": "other"}, "webhooks": [{"name": "other.example", "admissionReviewVersions": ["v1"],
                   "sideEffects": "None", "clientConfig": {}}]});
        assert_eq!(scope(&serde_json::from_value(other).unwrap()), None);
    }
}
