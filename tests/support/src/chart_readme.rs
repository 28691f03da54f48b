//! The README of a Helm chart: an introduction, and a table of the values with what `values.yaml` says of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Error;

const HEAD: &str =
    "<!-- `make generate` writes this page, of Chart.yaml, introduction.md and values.yaml. -->";

/// A key of `values.yaml`, with what is reported about it there.
struct Entry {
    path: Vec<String>,
    comment: String,
}

impl Entry {
    fn name(&self) -> String {
        self.path.join(".")
    }
}

/// Makes the README of the chart in a directory. A value of which nothing is said, nor of the map that it is in, is an error.
pub fn chart_readme(chart: &Path) -> Result<String, Error> {
    let text = |name: &str| {
        fs::read_to_string(chart.join(name)).map_err(|source| Error::Io {
            what: format!("reading {name} of the chart"),
            source,
        })
    };
    let metadata = parsed("Chart.yaml", &text("Chart.yaml")?)?;
    let values = text("values.yaml")?;
    let defaults = parsed("values.yaml", &values)?;
    let schema = parsed("values.schema.json", &text("values.schema.json")?)?;
    let of = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut page = format!(
        "{HEAD}\n\n# {}\n\n{}.\n\n{}\n\n## Values\n\n| value | default | what it is |\n|---|---|---|\n",
        of("name"),
        of("description"),
        text("introduction.md")?.trim(),
    );
    let mut explained: Vec<Vec<String>> = Vec::new();
    let entries = entries(&values);
    for entry in &entries {
        let Some(kind) = kind_of(&entry.path, &defaults, &schema) else {
            continue;
        };
        if entry.comment.is_empty() {
            let is_explained = explained.iter().any(|group| entry.path.starts_with(group));
            match kind {
                Kind::Value(_) if !is_explained => {
                    return Err(Error::Chart(format!(
                        "values.yaml does not describe {}",
                        entry.name()
                    )));
                }
                Kind::Group => continue,
                Kind::Value(_) => {}
            }
        } else {
            explained.push(entry.path.clone());
        }
        let default = match kind {
            Kind::Group => String::new(),
            Kind::Value(default) => format!("`{}`", cell(&default.to_string())),
        };
        // Writing into a String can't fail.
        let _ = writeln!(
            page,
            "| `{}` | {default} | {} |",
            entry.name(),
            cell(&entry.comment)
        );
    }
    Ok(page)
}

fn parsed(name: &str, text: &str) -> Result<Value, Error> {
    // JSON is YAML.
    serde_saphyr::from_str(text).map_err(|error| Error::Chart(format!("{name}: {error}")))
}

/// What stands in one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// What a key holds.
enum Kind<'a> {
    /// Further values.
    Group,
    /// A default.
    Value(&'a Value),
}

/// None for what is inside a value, such as the entries of a map that has no fixed keys.
fn kind_of<'a>(path: &[String], defaults: &'a Value, schema: &Value) -> Option<Kind<'a>> {
    let (mut value, mut schema) = (defaults, schema);
    for key in path {
        schema = schema.get("properties")?.get(key)?;
        value = value.get(key)?;
    }
    let is_group = value.as_object().is_some_and(|map| !map.is_empty()) && schema.get("properties").is_some();
    Some(if is_group { Kind::Group } else { Kind::Value(value) })
}

/// The keys in their order, with the comments right above them.
fn entries(values: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim());
        } else if let Some((key, _)) = text.split_once(':') {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key.to_owned()));
            entries.push(Entry {
                path: path.iter().map(|(_, key)| key.clone()).collect(),
                comment: comment.join(" "),
            });
            comment.clear();
        } else {
            comment.clear();
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    const SCHEMA: &str = r#"{"properties": {
        "one": {"type": "string"},
        "group": {"properties": {"inner": {"type": "object"}, "list": {"type": "array"}}}
    }}"#;

    fn made(values: &str) -> Result<String, Error> {
        let chart = Scratch::new()?;
        for (name, text) in [
            ("Chart.yaml", "name: mine\ndescription: A chart"),
            ("introduction.md", "Install it.\n"),
            ("values.schema.json", SCHEMA),
            ("values.yaml", values),
        ] {
            fs::write(chart.path().join(name), text).unwrap();
        }
        chart_readme(chart.path())
    }

    #[test]
    fn values_are_listed_with_defaults_and_comments() {
        let page = made(
            "# Not of a value.\n\n# One: a|b,\n# or c.\none: \"a\"\n\n# A group.\ngroup:\n  # Its inner map.\n  inner:\n    \
             some.key/x: linux\n  list: []\n",
        )
        .unwrap();
        let (head, table) = page.split_once("|---|---|---|\n").unwrap();
        assert!(head.contains("# mine\n\nA chart.\n\nInstall it.\n"), "{head}");
        assert_eq!(
            table,
            "| `one` | `\"a\"` | One: a\\|b, or c. |\n| `group` |  | A group. |\n\
             | `group.inner` | `{\"some.key/x\":\"linux\"}` | Its inner map. |\n| `group.list` | `[]` |  |\n"
        );
    }

    #[test]
    fn a_value_of_which_nothing_is_said_is_named() {
        let error = made("# One.\none: a\ngroup:\n  list: []\n").unwrap_err();
        assert!(error.to_string().contains("group.list"), "{error}");
    }
}
