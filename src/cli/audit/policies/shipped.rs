//! Whether what an API server has is what is shipped: it adds defaults, and users exclude namespaces by name.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::names::NAMESPACE_NAME_LABEL;

/// Whether a value has all that is shipped. The API server may add fields to an object, and no items to a list.
pub(super) fn contains(present: Option<&Value>, shipped: Option<&Value>) -> bool {
    match (present, shipped) {
        (Some(Value::Object(present)), Some(Value::Object(shipped))) => shipped
            .iter()
            .all(|(key, value)| contains(present.get(key), Some(value))),
        (Some(Value::Array(present)), Some(Value::Array(shipped))) => {
            let pairs = || present.iter().map(Some).zip(shipped.iter().map(Some));
            present.len() == shipped.len() && pairs().all(|(present, shipped)| contains(present, shipped))
        }
        (present, shipped) => present == shipped,
    }
}

/// Whether a value says the same as the one that is shipped. The API server may add what is empty.
pub(super) fn is_same(present: Option<&Value>, shipped: Option<&Value>) -> bool {
    match (present, shipped) {
        (Some(Value::Object(present)), Some(Value::Object(shipped))) => present
            .keys()
            .chain(shipped.keys())
            .all(|key| is_same(present.get(key), shipped.get(key))),
        (Some(Value::Array(present)), Some(Value::Array(shipped))) => {
            let mut pairs = present.iter().zip(shipped);
            present.len() == shipped.len()
                && pairs.all(|(present, shipped)| is_same(Some(present), Some(shipped)))
        }
        (present, shipped) => present == shipped || (is_empty(present) && is_empty(shipped)),
    }
}

/// Whether a value says nothing, as a selector for everything does.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.values().all(|value| is_empty(Some(value))),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    }
}

/// Whether a selector of namespaces is the one that is shipped, except for the namespaces that are excluded by name:
/// those are the user's.
pub(super) fn selects_the_same(present: Option<&Value>, shipped: Option<&Value>) -> bool {
    let labels =
        |selector: Option<&Value>| selector.and_then(|selector| selector.get("matchLabels")).cloned();
    let requirements = |selector: Option<&Value>| -> Vec<Value> {
        let others = expressions(selector).filter(|requirement| !leaves_out_names(requirement));
        others.cloned().collect()
    };
    let (present_requirements, shipped_requirements) = (requirements(present), requirements(shipped));
    let is_in = |requirement: &Value, all: &[Value]| {
        let mut all = all.iter();
        all.any(|other| is_same(Some(requirement), Some(other)))
    };
    is_same(labels(present).as_ref(), labels(shipped).as_ref())
        && present_requirements
            .iter()
            .all(|requirement| is_in(requirement, &shipped_requirements))
        && shipped_requirements
            .iter()
            .all(|requirement| is_in(requirement, &present_requirements))
}

/// The namespaces that a selector leaves out by name, in order.
pub(super) fn left_out_by_name(selector: Option<&Value>) -> BTreeSet<&str> {
    let values = expressions(selector)
        .filter(|requirement| leaves_out_names(requirement))
        .filter_map(|requirement| requirement.get("values")?.as_array());
    values.flatten().filter_map(Value::as_str).collect()
}

fn expressions(selector: Option<&Value>) -> impl Iterator<Item = &Value> {
    let all = selector.and_then(|selector| selector.get("matchExpressions")?.as_array());
    all.into_iter().flatten()
}

fn leaves_out_names(requirement: &Value) -> bool {
    let is = |field: &str, value: &str| requirement.get(field).and_then(Value::as_str) == Some(value);
    is("key", NAMESPACE_NAME_LABEL) && is("operator", "NotIn")
}
