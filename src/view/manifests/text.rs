//! Objects out of YAML and JSON: files, documents and Lists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::ManifestsError;
use crate::base::encoding::decode;

/// The `.yaml`, `.yml` and `.json` files of a directory, in the order of their names.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, ManifestsError> {
    let failed = |error| ManifestsError::Read {
        path: directory.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_manifest = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
        if is_manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file.
pub(super) fn read_file(path: &Path) -> Result<String, ManifestsError> {
    let read = fs::read(path).and_then(|bytes| decode(&bytes).map_err(io::Error::other));
    read.map_err(|error| ManifestsError::Read {
        path: path.to_owned(),
        error,
    })
}

/// The objects of a YAML text: its documents, and the items of its Lists.
pub fn objects(path: &Path, text: &str) -> Result<Vec<Value>, ManifestsError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| ManifestsError::Yaml {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = document
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        let item_head = is_list.then(|| item_head(&document)).flatten();
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => {
                objects.extend(items.into_iter().map(|item| with_head(item, item_head.as_ref())));
            }
            _ if document.is_null() => {}
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// The API version and the kind of a typed list's items, which do not repeat them: those of a `PodList` are `Pod`s.
fn item_head(list: &Value) -> Option<(Value, String)> {
    let version = list.get("apiVersion")?.clone();
    let kind = list.get("kind")?.as_str()?.strip_suffix("List")?;
    (!kind.is_empty()).then(|| (version, kind.to_owned()))
}

fn with_head(mut item: Value, head: Option<&(Value, String)>) -> Value {
    if let (Some((version, kind)), Some(fields)) = (head, item.as_object_mut())
        && !fields.contains_key("kind")
    {
        fields.insert("kind".to_owned(), Value::String(kind.clone()));
        fields.entry("apiVersion").or_insert_with(|| version.clone());
    }
    item
}

/// The kind and the name of an object; empty if it has none.
pub fn kind_and_name(object: &Value) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        name: String,
    }
    let head = Head::deserialize(object).unwrap_or_default();
    (head.kind, head.metadata.name)
}

/// The API group of an object; none if it is of the core group, or has no API version.
pub fn api_group(object: &Value) -> Option<&str> {
    object
        .get("apiVersion")
        .and_then(Value::as_str)
        .and_then(|version| version.split_once('/'))
        .map(|(group, _)| group)
}
