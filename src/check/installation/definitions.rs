//! The `CustomResourceDefinitions`: whether the cluster has every field that this program knows.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Cure, Facts, StepOutcome, counted, fault, judged, well};
use crate::check::advice::kubectl;
use crate::check::finding::Code;

/// The definition that the component bindings has.
const BINDINGS: &str = "acrpullbindings.pullpass.dev";
/// How many fields are named.
const MAX_FIELDS: usize = 3;

impl Facts {
    pub(super) fn definitions(&self) -> StepOutcome {
        judged(&self.definitions, |live| {
            let (mut lacking, mut cures) = (Vec::new(), Vec::new());
            for (name, expected) in &self.expected_definitions {
                let Some(definition) = live.get(name) else {
                    return fault(
                        Code::CrdMissing,
                        format!("there is no CustomResourceDefinition {name}"),
                        vec![apply(name)],
                    );
                };
                let missing = missing_fields(expected, definition);
                if !missing.is_empty() {
                    lacking.push(format!("{name} lacks {}", listed(&missing)));
                    let cure = apply(name);
                    if !cures.contains(&cure) {
                        cures.push(cure);
                    }
                }
            }
            if lacking.is_empty() {
                if self.idle_bindings == Ok(true) {
                    return fault(
                        Code::BindingsOff,
                        "AcrPullBindings exist, but pullpass does not act on them: its setting --bindings is off",
                        vec![
                            kubectl(
                                "See them:",
                                "kubectl get acrpullbindings --all-namespaces".to_owned(),
                            ),
                            kubectl(
                                "Add the component bindings (of the chart: bindings.enabled) and apply the manifests, or delete them:",
                                "kubectl apply --server-side -k my-pullpass".to_owned(),
                            ),
                        ],
                    );
                }
                let count = self.expected_definitions.len();
                return well(format!(
                    "{}, with every field",
                    counted(count, "CustomResourceDefinition", "CustomResourceDefinitions")
                ));
            }
            fault(
                Code::CrdOutdated,
                format!(
                    "the CustomResourceDefinitions are of an older version: {}",
                    lacking.join("; ")
                ),
                cures,
            )
        })
    }
}

/// Whether a definition has every field that another one has.
pub fn is_current(expected: &Value, live: &Value) -> bool {
    missing_fields(expected, live).is_empty()
}

fn missing_fields(expected: &Value, live: &Value) -> Vec<String> {
    fields(expected).difference(&fields(live)).cloned().collect()
}

fn apply(name: &str) -> Cure {
    let flag = if name == BINDINGS { " --bindings" } else { "" };
    kubectl(
        "Apply the definitions of this version:",
        format!("pullpass crd{flag} | kubectl apply --server-side --force-conflicts -f -"),
    )
}

fn listed(fields: &[String]) -> String {
    let named: Vec<_> = fields.iter().take(MAX_FIELDS).map(String::as_str).collect();
    let rest = fields.len().saturating_sub(MAX_FIELDS);
    let named = named.join(", ");
    if rest == 0 {
        named
    } else {
        format!("{named} and {rest} more")
    }
}

/// Every field of every version, as in `v1alpha1: spec.loginServer`.
fn fields(definition: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
            collect(schema, &format!("{name}:"), &mut fields);
        }
    }
    fields
}

fn collect(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    let separator = if path.ends_with(':') { " " } else { "." };
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let path = format!("{path}{separator}{name}");
        collect(property, &path, fields);
        fields.insert(path);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            collect(inner, &format!("{path}[]"), fields);
        }
    }
}
