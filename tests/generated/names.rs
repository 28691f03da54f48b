//! The labels, annotations and names that users and other programs rely on, of the constants and what is reported about
//! them.

use std::collections::BTreeMap;

use crate::table::{code, head, table};
use crate::{Test, hold};

const SOURCE: &str = include_str!("../../src/api/names.rs");

/// Constants that are no names of labels, annotations or objects: parts of texts, values, and names of Kubernetes' own.
const LEFT_OUT: [&str; 13] = [
    "ECHO_IMAGE",
    "ECHO_WARNING",
    "FENCE",
    "INJECTED_BY_POLICY",
    "PULL_SECRETS_DELETED",
    "REPORT_PREFIX",
    "SERVING_CERTIFICATE_FILE",
    "SUBJECT_PREFIX",
    "TLS_CERTIFICATE_KEY",
    "TLS_PRIVATE_KEY_KEY",
    "TLS_TYPE",
    "MIRROR_POD_ANNOTATION",
    "NAMESPACE_NAME_LABEL",
];

/// What users write; pullpass writes the others.
const WRITTEN_BY_USERS: [&str; 5] = [
    "INJECT_LABEL",
    "ALWAYS_INJECT_LABEL",
    "REGISTRIES_ANNOTATION",
    "CLIENT_ID_ANNOTATION",
    "TENANT_ID_ANNOTATION",
];

/// A constant of text, with its value and what is reported about it.
struct Name {
    constant: String,
    value: String,
    about: String,
}

/// The public constants of text, in the order of the source.
fn names(source: &str) -> Vec<Name> {
    let mut names = Vec::new();
    let mut about: Vec<&str> = Vec::new();
    for line in source.lines() {
        if let Some(said) = line.strip_prefix("/// ") {
            about.push(said);
            continue;
        }
        let constant = line
            .strip_prefix("pub const ")
            .and_then(|rest| rest.strip_suffix("\";")?.split_once(": &str = \""));
        if let Some((constant, value)) = constant {
            names.push(Name {
                constant: constant.to_owned(),
                value: value.to_owned(),
                about: about.join(" "),
            });
        }
        about.clear();
    }
    let values: BTreeMap<String, String> = names
        .iter()
        .map(|name| (name.constant.clone(), name.value.clone()))
        .collect();
    for name in &mut names {
        for (constant, value) in &values {
            name.about = name.about.replace(&format!("[`{constant}`]"), &code(value));
        }
    }
    names
}

#[test]
fn the_reference_has_the_labels_annotations_and_names() -> Test {
    let names = names(SOURCE);
    let is_left_out = |name: &Name| LEFT_OUT.contains(&name.constant.as_str());
    assert_eq!(
        names.iter().filter(|name| is_left_out(name)).count(),
        LEFT_OUT.len()
    );
    let mut page = head(
        "Labels, annotations and names",
        "the comments in `src/api/names.rs`",
    );
    page.push_str(
        "[design.md](../design.md#labels-names-and-modes) says which of these do not change within `v1alpha1`; the others are for pullpass itself.\n",
    );
    for (title, suffix) in [("Labels", "_LABEL"), ("Annotations", "_ANNOTATION")] {
        let rows: Vec<_> = names
            .iter()
            .filter(|name| name.constant.ends_with(suffix) && !is_left_out(name))
            .map(|name| {
                let is_users = WRITTEN_BY_USERS.contains(&name.constant.as_str());
                let writer = if is_users { "you" } else { "pullpass" };
                [code(&name.value), writer.to_owned(), name.about.clone()]
            })
            .collect();
        page.extend([format!(
            "\n## {title}\n\n{}",
            table(["key", "written by", "what it is"], &rows)
        )]);
    }
    let rows: Vec<_> = names
        .iter()
        .filter(|name| {
            !name.constant.ends_with("_LABEL")
                && !name.constant.ends_with("_ANNOTATION")
                && !is_left_out(name)
        })
        .map(|name| [code(&name.value), name.about.clone()])
        .collect();
    page.extend([format!("\n## Names\n\n{}", table(["name", "what has it"], &rows))]);
    assert!(!page.contains("[`"), "a link that leads nowhere: {page}");
    hold("docs/reference/labels.md", &page)
}
