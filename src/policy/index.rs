//! What the API server's own admission policies are told of the attached registries, so that they decide as admission
//! does while no replica answers.

use kube::core::Expression;

use crate::api::acr_index::{AcrIndexSpec, IndexedRegistry, Requirement};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::decision::Settings;

/// The index of the registries under these settings.
pub fn index(registries: &AttachedRegistries, settings: &Settings) -> AcrIndexSpec {
    let mut index = AcrIndexSpec {
        mode: settings.scope.mode().as_str().to_owned(),
        excluded_namespaces: settings.scope.excluded().map(str::to_owned).collect(),
        unattached: settings.policy.unattached.as_str().to_owned(),
        forbidden: settings.policy.forbidden.as_str().to_owned(),
        ..AcrIndexSpec::default()
    };
    for registry in registries.all() {
        let secret = registry.pull_secret().to_owned();
        let host = registry.login_server().as_str().to_owned();
        let secrets = index.hosts.entry(host).or_default();
        // The host is attached all the same.
        if !registry.is_anonymous() {
            secrets.push(secret.clone());
            index.pull_secrets.insert(secret, indexed(registry));
        }
    }
    index
}

fn indexed(registry: &AttachedRegistry) -> IndexedRegistry {
    let selector = registry.namespaces().cloned().into_iter().flatten();
    IndexedRegistry {
        registry: registry.name().to_owned(),
        namespaces: selector.map(requirement).collect(),
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
mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::policy::rules::{Action, Policy};
    use crate::policy::scope::{Mode, Scope};
    use serde_json::{Value, json};

    fn registry(name: &str, namespaces: &Value) -> AttachedRegistry {
        let object: AcrRegistry = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": "Shared.azurecr.io", "identity": {"managedIdentity": {}}, "namespaces": namespaces},
        }))
        .unwrap();
        AttachedRegistry::parse(&object).unwrap()
    }

    #[test]
    fn an_anonymous_registry_has_a_host_and_no_secret() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "free"},
            "spec": {"loginServer": "freeregistry.azurecr.io", "identity": {"anonymous": {}}},
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let index = index(&std::iter::once(registry).collect(), &Settings::default());
        assert_eq!(
            index.hosts,
            [("freeregistry.azurecr.io".to_owned(), Vec::new())].into()
        );
        assert!(index.pull_secrets.is_empty());
    }

    #[test]
    fn an_index_has_hosts_secrets_and_settings() {
        let registries = [
            registry("b", &Value::Null),
            registry(
                "a",
                &json!({"matchLabels": {"team": "a"}, "matchExpressions": [
                    {"key": "stage", "operator": "NotIn", "values": ["dev", "test"]},
                    {"key": "x", "operator": "Exists"}, {"key": "y", "operator": "DoesNotExist"}]}),
            ),
        ]
        .into_iter()
        .collect();
        let settings = Settings {
            scope: Scope::new(Mode::OptIn, "own", ["legacy".to_owned()]),
            policy: Policy {
                unattached: Action::Deny,
                ..Policy::default()
            },
        };
        assert_eq!(
            serde_json::to_value(index(&registries, &settings)).unwrap(),
            json!({
                "mode": "opt-in",
                "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", "legacy", "own"],
                "unattached": "deny",
                "forbidden": "warn",
                "hosts": {"shared.azurecr.io": ["pullpass-a", "pullpass-b"]},
                "pullSecrets": {
                    "pullpass-a": {"registry": "a", "namespaces": [
                        {"key": "team", "operator": "In", "values": ["a"]},
                        {"key": "stage", "operator": "NotIn", "values": ["dev", "test"]},
                        {"key": "x", "operator": "Exists"},
                        {"key": "y", "operator": "DoesNotExist"},
                    ]},
                    "pullpass-b": {"registry": "b"},
                },
            })
        );
    }
}
