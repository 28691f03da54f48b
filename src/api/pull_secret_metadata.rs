//! Labels and annotations of one's choice on pull secrets, as policies of a cluster may demand them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::names::MANAGED_BY_LABEL;
use crate::base::qualified_name::{is_key, is_label_value};

/// The domain of the keys that pullpass itself writes and reads.
const OWN_DOMAIN: &str = "pullpass.dev";
/// The most bytes of all configured annotations together. Kubernetes accepts 256 KiB for an object, including its own,
/// and every write of a pull secret contains them.
pub const MAX_ANNOTATIONS: usize = 64 * 1024;
/// The most labels that can be chosen.
pub const MAX_LABELS: usize = 64;

/// Why a text is no label or annotation that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PullSecretMetadataError {
    /// There is no equals sign.
    #[error("`{0}` has no value: give KEY=VALUE, for instance team=platform")]
    NoValue(String),
    /// Kubernetes takes no such key.
    #[error(
        "`{0}` can't be a key: give at most 63 letters, digits, `-`, `_` and `.` with a letter or digit at both ends, after a \
         domain and a slash or without"
    )]
    Key(String),
    /// Kubernetes takes no such value of a label.
    #[error(
        "`{1}` can't be the value of the label {0}: give at most 63 letters, digits, `-`, `_` and `.` with a letter or digit at \
         both ends"
    )]
    LabelValue(String, String),
    /// pullpass writes it itself.
    #[error(
        "{0} can't be chosen: pullpass itself writes {MANAGED_BY_LABEL} and the keys of {OWN_DOMAIN}; choose another key"
    )]
    Own(String),
    /// It is there twice.
    #[error("{0} is there twice; leave one out")]
    Twice(String),
    /// There are too many labels.
    #[error("there are more than {MAX_LABELS} labels; leave some out")]
    TooManyLabels,
    /// The annotations are too long.
    #[error("the annotations have more than {MAX_ANNOTATIONS} bytes together; leave some out")]
    TooLong,
}

/// Some labels, or some annotations, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenEntries(Vec<(String, String)>);

impl ChosenEntries {
    /// Parses `KEY=VALUE,KEY=VALUE`.
    pub fn parse_labels(text: &str) -> Result<Self, PullSecretMetadataError> {
        let labels = Self::parse(text.split(','))?;
        match labels.0.iter().find(|(_, value)| !is_label_value(value)) {
            Some((key, value)) => Err(PullSecretMetadataError::LabelValue(key.clone(), value.clone())),
            None => Ok(labels),
        }
    }

    /// Parses `KEY=VALUE` on each line: values of annotations have commas.
    pub fn parse_annotations(text: &str) -> Result<Self, PullSecretMetadataError> {
        Self::parse(text.lines())
    }

    fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, PullSecretMetadataError> {
        let entry = |text: &str| {
            let Some((key, value)) = text.split_once('=') else {
                return Err(PullSecretMetadataError::NoValue(text.to_owned()));
            };
            if !is_key(key) {
                return Err(PullSecretMetadataError::Key(key.to_owned()));
            }
            let domain = key.split_once('/').map_or("", |(domain, _)| domain);
            let is_own = domain.strip_suffix(OWN_DOMAIN);
            if key == MANAGED_BY_LABEL || is_own.is_some_and(|sub| sub.is_empty() || sub.ends_with('.')) {
                return Err(PullSecretMetadataError::Own(key.to_owned()));
            }
            Ok((key.to_owned(), value.to_owned()))
        };
        let texts = texts.map(str::trim).filter(|text| !text.is_empty());
        Ok(Self(texts.map(entry).collect::<Result<_, _>>()?))
    }
}

/// What every pull secret has besides what pullpass itself writes there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullSecretMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl PullSecretMetadata {
    /// Combines the values that were given in several places.
    pub fn new(
        labels: impl IntoIterator<Item = ChosenEntries>,
        annotations: impl IntoIterator<Item = ChosenEntries>,
    ) -> Result<Self, PullSecretMetadataError> {
        let (labels, annotations) = (once_each(labels)?, once_each(annotations)?);
        if labels.len() > MAX_LABELS {
            return Err(PullSecretMetadataError::TooManyLabels);
        }
        let bytes: usize = annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes > MAX_ANNOTATIONS {
            return Err(PullSecretMetadataError::TooLong);
        }
        Ok(Self { labels, annotations })
    }

    /// Adds them to the manifest of a pull secret.
    pub fn add_to(&self, manifest: &mut Value) {
        let Self { labels, annotations } = self;
        for (pointer, entries) in [
            ("/metadata/labels", labels),
            ("/metadata/annotations", annotations),
        ] {
            if let Some(map) = manifest.pointer_mut(pointer).and_then(Value::as_object_mut) {
                add(map, entries);
            }
        }
    }
}

fn add(map: &mut Map<String, Value>, entries: &BTreeMap<String, String>) {
    for (key, value) in entries {
        map.entry(key).or_insert_with(|| Value::String(value.clone()));
    }
}

fn once_each(
    given: impl IntoIterator<Item = ChosenEntries>,
) -> Result<BTreeMap<String, String>, PullSecretMetadataError> {
    let mut entries = BTreeMap::new();
    for (key, value) in given.into_iter().flat_map(|entries| entries.0) {
        if entries.insert(key.clone(), value).is_some() {
            return Err(PullSecretMetadataError::Twice(key));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(labels: &str, annotations: &str) -> Result<PullSecretMetadata, PullSecretMetadataError> {
        PullSecretMetadata::new(
            [ChosenEntries::parse_labels(labels)?],
            [ChosenEntries::parse_annotations(annotations)?],
        )
    }

    #[test]
    fn chosen_entries_join_those_of_pullpass() {
        let chosen = metadata(
            "team=platform,contoso.com/cost-center=42,empty=",
            "contoso.com/note=a=b, c\n\ncontoso.com/other=\n",
        )
        .unwrap();
        let own = json!({"metadata": {"labels": {MANAGED_BY_LABEL: "pullpass"}, "annotations": {"pullpass.dev/a": "b"}}});
        let mut manifest = own.clone();
        chosen.add_to(&mut manifest);
        assert_eq!(
            manifest,
            json!({"metadata": {
                "labels": {
                    MANAGED_BY_LABEL: "pullpass",
                    "team": "platform",
                    "contoso.com/cost-center": "42",
                    "empty": "",
                },
                "annotations": {
                    "pullpass.dev/a": "b",
                    "contoso.com/note": "a=b, c",
                    "contoso.com/other": "",
                },
            }})
        );
        let mut manifest = own.clone();
        metadata("", "\n").unwrap().add_to(&mut manifest);
        assert_eq!(manifest, own);
    }

    #[test]
    fn keys_that_pullpass_owns_are_refused() {
        for key in [
            "app.kubernetes.io/managed-by",
            "pullpass.dev/registry",
            "pullpass.dev/expires-at",
            "sub.pullpass.dev/mine",
        ] {
            let text = format!("{key}=mine");
            let expected = Err(PullSecretMetadataError::Own(key.to_owned()));
            assert_eq!(ChosenEntries::parse_labels(&text), expected);
            assert_eq!(ChosenEntries::parse_annotations(&text), expected);
        }
        for key in [
            "app.kubernetes.io/part-of",
            "notpullpass.dev/a",
            "pullpass.dev",
            "contoso.com/pullpass.dev",
        ] {
            assert!(
                ChosenEntries::parse_labels(&format!("{key}=mine")).is_ok(),
                "{key}"
            );
        }
    }

    #[test]
    fn texts_that_kubernetes_refuses_are_refused() {
        let no_value = PullSecretMetadataError::NoValue("team".to_owned());
        assert_eq!(ChosenEntries::parse_labels("team"), Err(no_value));
        let key = PullSecretMetadataError::Key("a b".to_owned());
        assert_eq!(ChosenEntries::parse_labels("a b=c"), Err(key));
        let value = PullSecretMetadataError::LabelValue("team".to_owned(), "a b".to_owned());
        assert_eq!(ChosenEntries::parse_labels("team=a b"), Err(value));
        assert!(ChosenEntries::parse_annotations("team=a b").is_ok());
        assert_eq!(
            metadata("a=1,a=1", ""),
            Err(PullSecretMetadataError::Twice("a".to_owned()))
        );
    }

    #[test]
    fn labels_and_annotations_are_bounded() {
        let labels = |count: usize| {
            let labels: Vec<_> = (0..count).map(|number| format!("l{number}=v")).collect();
            labels.join(",")
        };
        assert!(metadata(&labels(MAX_LABELS), "").is_ok());
        assert_eq!(
            metadata(&labels(MAX_LABELS + 1), ""),
            Err(PullSecretMetadataError::TooManyLabels)
        );
        let annotation = |bytes: usize| format!("a={}", "v".repeat(bytes - 1));
        assert!(metadata("", &annotation(MAX_ANNOTATIONS)).is_ok());
        assert_eq!(
            metadata("", &annotation(MAX_ANNOTATIONS + 1)),
            Err(PullSecretMetadataError::TooLong)
        );
    }
}
