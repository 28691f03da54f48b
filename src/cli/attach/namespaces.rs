//! `--namespaces`: a label selector as kubectl's `--selector` takes it.

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector};

use crate::api::label_selector::{LabelSelectorError, parse};

/// Which namespaces may use a registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NamespaceChoice {
    /// All that are injected.
    All,
    /// Those with these labels.
    Matching(LabelSelector),
}

impl FromStr for NamespaceChoice {
    type Err = LabelSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expressions = parse(text)?;
        if expressions.is_empty() {
            return Ok(Self::All);
        }
        let mut selector = Selector::default();
        let mut equal = Vec::new();
        for expression in expressions {
            // `matchLabels` has a key once.
            let expression = match expression {
                Expression::Equal(key, value) if equal.contains(&key) => Expression::In(key, [value].into()),
                other => other,
            };
            if let Expression::Equal(key, _) = &expression {
                equal.push(key.clone());
            }
            selector.extend(expression);
        }
        Ok(Self::Matching(selector.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_is_a_selector_of_the_spec() {
        for (text, selector) in [
            ("team=a", json!({"matchLabels": {"team": "a"}})),
            (" team == a ", json!({"matchLabels": {"team": "a"}})),
            ("a=1,b=", json!({"matchLabels": {"a": "1", "b": ""}})),
            (
                "team!=a",
                json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}),
            ),
            (
                "team in (a, b),stage notin (test)",
                json!({"matchExpressions": [
                    {"key": "team", "operator": "In", "values": ["a", "b"]},
                    {"key": "stage", "operator": "NotIn", "values": ["test"]},
                ]}),
            ),
            (
                "example.com/team,!quiet,x=y",
                json!({"matchLabels": {"x": "y"}, "matchExpressions": [
                    {"key": "example.com/team", "operator": "Exists"},
                    {"key": "quiet", "operator": "DoesNotExist"},
                ]}),
            ),
            (
                "a=1,a=2",
                json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}]}),
            ),
        ] {
            let Ok(NamespaceChoice::Matching(parsed)) = text.parse() else {
                panic!("{text}")
            };
            assert_eq!(json!(parsed), selector, "{text}");
        }
        assert_eq!(" ".parse(), Ok(NamespaceChoice::All));
    }
}
