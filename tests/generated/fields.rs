//! The fields of the custom resources, of the types that the definitions are derived from.

use kube::CustomResourceExt;
use pullpass::api::acr_pull_binding::{AcrPullBinding, AcrPullBindingSpec};
use pullpass::api::acr_registry::{AcrRegistry, AcrRegistrySpec, AcrRegistryStatus};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::schema::{Field, Rule, Walk};
use crate::table::{code, head, table};
use crate::{Test, hold};

/// A page about a custom resource.
fn page<Resource: CustomResourceExt, Spec: JsonSchema>(source: &str) -> Result<String, serde_json::Error> {
    let definition = serde_json::to_value(Resource::crd())?;
    let text = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let list = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let (kind, singular) = (text("/spec/names/kind"), text("/spec/names/singular"));
    let short: Vec<_> = list("/spec/names/shortNames")
        .filter_map(Value::as_str)
        .map(code)
        .collect();
    let scope = match text("/spec/scope") {
        "Cluster" => "It has no namespace",
        _ => "It is in a namespace",
    };
    let mut page = head(kind, &format!("the doc comments in `{source}`"));
    page.extend([format!(
        "{}\n\n* API version: `{}/{}`, kind: `{kind}`. {scope}.\n* Names for kubectl: `{}`, `{singular}`, {}.\n* The same in the terminal: `kubectl explain {singular}.spec`.\n",
        text("/spec/versions/0/schema/openAPIV3Schema/description"),
        text("/spec/group"),
        text("/spec/versions/0/name"),
        text("/spec/names/plural"),
        short.join(", "),
    )]);
    let spec = serde_json::to_value(schema_for!(Spec))?;
    let status = serde_json::to_value(schema_for!(AcrRegistryStatus))?;
    let (spec, status) = (Walk::of(&spec, "spec"), Walk::of(&status, "status"));
    for (title, walk) in [("Spec", &spec), ("Status", &status)] {
        let rows: Vec<_> = walk.fields.iter().map(Field::row).collect();
        page.extend([format!(
            "\n## {title}\n\n{}",
            table(["field", "type", "what it is"], &rows)
        )]);
    }
    page.push_str("\n## Rules\n\nThe API server refuses an object that breaks one of these:\n\n");
    let whole = list("/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations");
    for message in whole.filter_map(|rule| rule.get("message")?.as_str()) {
        page.extend([format!("* {message}\n")]);
    }
    for Rule { path, message } in spec.rules.iter().chain(&status.rules) {
        page.extend([format!("* `{path}`: {message}\n")]);
    }
    let columns = |is_wide: bool| {
        let columns = list("/spec/versions/0/additionalPrinterColumns");
        let columns = columns.filter(|column| column.get("priority").is_some() == is_wide);
        let columns = columns.map(|column| {
            ["name", "jsonPath"].map(|key| code(column.get(key).and_then(Value::as_str).unwrap_or_default()))
        });
        table(["column", "from"], &columns.collect::<Vec<_>>())
    };
    page.extend([format!(
        "\n## Columns\n\n`kubectl get {singular}` prints:\n\n{}\nWith `--output wide` it also prints:\n\n{}",
        columns(false),
        columns(true)
    )]);
    Ok(page)
}

#[test]
fn the_reference_has_the_fields_of_an_acr_registry() -> Test {
    let page = page::<AcrRegistry, AcrRegistrySpec>("src/api/acr_registry.rs")?;
    for said in [
        "| `spec.provision` |",
        "`Eager`: Ahead of time",
        "| `status.credential.expiresAt` |",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    hold("docs/reference/acrregistry.md", &page)
}

#[test]
fn the_reference_has_the_fields_of_an_acr_pull_binding() -> Test {
    let page = page::<AcrPullBinding, AcrPullBindingSpec>("src/api/acr_pull_binding.rs")?;
    assert!(page.contains("| `spec.serviceAccountName` |"), "{page}");
    hold("docs/reference/acrpullbinding.md", &page)
}
