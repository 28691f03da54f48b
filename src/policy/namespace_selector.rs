//! A selector of namespaces by labels that are the platform's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use kube::core::{Expression, SelectorExt};
use thiserror::Error;

use crate::api::acr_index::Requirement;
use crate::api::label_selector::{self, LabelSelectorError};
use crate::api::names::INJECT_LABEL;

/// The longest text, in bytes: the AcrIndex has it, and the API server's policies go through all of it for a Pod.
pub const MAX_TEXT: usize = 4 * 1024;

/// Why a text is no selector of namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NamespaceSelectorError {
    /// Its form is wrong.
    #[error(transparent)]
    Form(#[from] LabelSelectorError),
    /// The mode is about that label.
    #[error("the namespace selector names {INJECT_LABEL}, which --mode is about: give --mode opt-in instead")]
    Inject,
    /// It is too long.
    #[error(
        "the namespace selector has more than {MAX_TEXT} bytes; give namespaces a label in common, and select by that"
    )]
    TooLong,
}

/// What a namespace's labels must meet, every one of it; nothing selects every namespace. What means the same is the same:
/// requirements have an order, and equality is `in` with one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceSelector(BTreeSet<Expression>);

impl NamespaceSelector {
    /// Whether it selects a namespace with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|expression| expression.matches(labels))
    }

    /// Whether it selects every namespace.
    pub fn selects_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The requirements, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter()
    }

    /// Reads what an AcrIndex or an API server has. Neither has operators besides those that are known.
    pub fn of_requirements(requirements: impl IntoIterator<Item = LabelSelectorRequirement>) -> Self {
        let read = requirements.into_iter().map(Expression::try_from);
        read.filter_map(Result::ok).collect()
    }
}

impl From<&Requirement> for LabelSelectorRequirement {
    fn from(requirement: &Requirement) -> Self {
        Self {
            key: requirement.key.clone(),
            operator: requirement.operator.clone(),
            values: Some(requirement.values.clone()),
        }
    }
}

impl FromIterator<Expression> for NamespaceSelector {
    fn from_iter<T: IntoIterator<Item = Expression>>(expressions: T) -> Self {
        let unified = expressions.into_iter().map(|expression| match expression {
            Expression::Equal(key, value) => Expression::In(key, [value].into()),
            Expression::NotEqual(key, value) => Expression::NotIn(key, [value].into()),
            Expression::In(..)
            | Expression::NotIn(..)
            | Expression::Exists(_)
            | Expression::DoesNotExist(_) => expression,
        });
        Self(unified.collect())
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for NamespaceSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = self.0.iter().map(|expression| match expression {
            // A value can be empty, which is no value within parentheses.
            Expression::In(key, values) if values.len() == 1 => format!("{key}={}", joined(values)),
            Expression::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", joined(values)),
            other => other.to_string(),
        });
        formatter.write_str(&written.collect::<Vec<_>>().join(","))
    }
}

fn joined(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect()
}

impl FromStr for NamespaceSelector {
    type Err = NamespaceSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            return Err(NamespaceSelectorError::TooLong);
        }
        let expressions = label_selector::parse(text)?;
        if expressions
            .iter()
            .any(|expression| key(expression) == INJECT_LABEL)
        {
            return Err(NamespaceSelectorError::Inject);
        }
        Ok(expressions.into_iter().collect())
    }
}

fn key(expression: &Expression) -> &str {
    match expression {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::scope::tests::labels;

    #[test]
    fn a_text_is_written_as_it_is_read() {
        for (text, expected) in [
            ("", ""),
            ("team in (a)", "team=a"),
            ("team in (,)", "team="),
            ("team notin (a)", "team!=a"),
            ("team!=", "team!="),
            ("team notin ( a ,, b )", "team notin (,a,b)"),
            ("b=1,a , !c,a", "b=1,a,!c"),
        ] {
            let selector: NamespaceSelector = text.parse().unwrap();
            assert_eq!(selector.to_string(), expected, "{text}");
            assert_eq!(selector.to_string().parse(), Ok(selector), "{text}");
        }
    }

    #[test]
    fn a_selector_is_bounded_and_leaves_the_mode_alone() {
        let long = format!("team in ({}b)", "a,".repeat(MAX_TEXT / 2));
        for (text, says) in [
            ("team=a,", "its end where a label's key"),
            ("a,pullpass.dev/inject=enabled", "--mode opt-in"),
            (&long, "more than 4096 bytes"),
        ] {
            let error = text.parse::<NamespaceSelector>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn all_requirements_hold_of_a_selected_namespace() {
        let selector: NamespaceSelector = "a in (1,2),b notin (1),c,!d".parse().unwrap();
        let all = [("a", "1"), ("b", "2"), ("c", "")];
        assert!(selector.matches(&labels(&all)));
        assert!(
            selector.matches(&labels(&[("a", "2"), ("c", "x")])),
            "b is not there"
        );
        for (label, value) in [("a", "3"), ("b", "1"), ("d", "")] {
            let mut labels = labels(&all);
            labels.insert(label.to_owned(), value.to_owned());
            assert!(!selector.matches(&labels), "{labels:?}");
        }
        assert!(!selector.matches(&labels(&[("a", "1")])));
        assert!(!selector.selects_all() && NamespaceSelector::default().selects_all());
        assert!(NamespaceSelector::default().matches(&BTreeMap::new()));
    }

    #[test]
    fn requirements_of_an_index_are_read_back() {
        let of = |key: &str, operator: &str, values: &[&str]| Requirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let requirements = [
            of("a", "In", &["2", "1"]),
            of("b", "NotIn", &["1"]),
            of("c", "Exists", &[]),
            of("d", "DoesNotExist", &[]),
        ];
        let read = NamespaceSelector::of_requirements(requirements.iter().map(Into::into));
        assert_eq!(Ok(read), "a in (1,2),b!=1,c,!d".parse());
    }
}
