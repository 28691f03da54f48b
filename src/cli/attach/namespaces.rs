//! `--namespaces`: a label selector as kubectl's `--selector` takes it.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use thiserror::Error;

use crate::base::dns::MAX_SUBDOMAIN;

/// The longest value of a label, and the longest name in its key.
const MAX_NAME: usize = 63;

/// Which namespaces may use a registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NamespaceChoice {
    /// All that are injected.
    All,
    /// Those with these labels.
    Matching(LabelSelector),
}

/// The text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no requirement of a label selector; it has the form team=a, team!=a, 'team in (a,b)', 'team notin (a,b)', team or '!team'"
)]
pub(super) struct NamespacesError(String);

impl FromStr for NamespaceChoice {
    type Err = NamespacesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::All);
        }
        let (mut labels, mut expressions) = (BTreeMap::new(), Vec::new());
        for part in requirements(text) {
            match requirement(part.trim()).ok_or_else(|| NamespacesError(part.trim().to_owned()))? {
                Requirement::Equal(key, value) if !labels.contains_key(&key) => {
                    labels.insert(key, value);
                }
                Requirement::Equal(key, value) => expressions.push(expression(key, "In", vec![value])),
                Requirement::Other(expression) => expressions.push(expression),
            }
        }
        Ok(Self::Matching(LabelSelector {
            match_labels: (!labels.is_empty()).then_some(labels),
            match_expressions: (!expressions.is_empty()).then_some(expressions),
        }))
    }
}

enum Requirement {
    Equal(String, String),
    Other(LabelSelectorRequirement),
}

/// The parts between the commas that are not in parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Option<Requirement> {
    let set = |operator| -> Option<Requirement> {
        let (key, values) = text.strip_suffix(')')?.split_once('(')?;
        let (key, word) = key.trim().rsplit_once(char::is_whitespace)?;
        if !word.eq_ignore_ascii_case(operator) {
            return None;
        }
        let values: Option<Vec<_>> = values.split(',').map(|text| value(text.trim())).collect();
        let operator = if operator == "in" { "In" } else { "NotIn" };
        Some(Requirement::Other(expression(key_of(key)?, operator, values?)))
    };
    if text.ends_with(')') {
        return set("in").or_else(|| set("notin"));
    }
    if let Some(key) = text.strip_prefix('!') {
        return Some(Requirement::Other(expression(
            key_of(key)?,
            "DoesNotExist",
            Vec::new(),
        )));
    }
    if let Some((key, unwanted)) = text.split_once("!=") {
        let values = vec![value(unwanted.trim())?];
        return Some(Requirement::Other(expression(key_of(key)?, "NotIn", values)));
    }
    if let Some((key, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Requirement::Equal(key_of(key)?, value(wanted.trim())?));
    }
    Some(Requirement::Other(expression(
        key_of(text)?,
        "Exists",
        Vec::new(),
    )))
}

fn expression(key: String, operator: &str, values: Vec<String>) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key,
        operator: operator.to_owned(),
        values: (!values.is_empty()).then_some(values),
    }
}

fn key_of(text: &str) -> Option<String> {
    let text = text.trim();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            let fits = (1..=MAX_SUBDOMAIN).contains(&prefix.len())
                && prefix
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
            fits.then_some(name)?
        }
    };
    (!name.is_empty() && is_word(name)).then(|| text.to_owned())
}

fn value(text: &str) -> Option<String> {
    is_word(text).then(|| text.to_owned())
}

/// Source: Kubernetes, "Labels and Selectors", syntax and character set.
fn is_word(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_NAME
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_that_kubectl_takes() {
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

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "=a",
            "team=a,",
            "team in a",
            "team in (a",
            "team of (a)",
            "team=a b",
            "te am",
            "!",
            "team>1",
            "/a",
            "a/",
            "team=-a",
            "a=b=c",
        ] {
            assert!(text.parse::<NamespaceChoice>().is_err(), "{text}");
        }
    }
}
