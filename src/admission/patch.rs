//! The JSON Patch (RFC 6902) that appends pull secrets.

use serde::{Serialize, Serializer};

/// The list in a Pod.
const LIST: &str = "/spec/imagePullSecrets";
/// Behind its last entry.
const LIST_END: &str = "/spec/imagePullSecrets/-";

/// The patch that appends pull secrets to a Pod's. The existing names stay unchanged, in order. Most answers have a
/// patch, so it is written in its serialized form, without a tree of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullSecretsPatch<'a> {
    /// The names of the secrets.
    pub secrets: &'a [&'a str],
    /// Whether the Pod has a list to append to.
    pub has_list: bool,
}

#[derive(Serialize)]
struct Add<T> {
    op: &'static str,
    path: &'static str,
    value: T,
}

impl<T> Add<T> {
    fn new(path: &'static str, value: T) -> Self {
        Self {
            op: "add",
            path,
            value,
        }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
}

/// The entries of a list.
struct Entries<'a>(&'a [&'a str]);

impl<'a> Entries<'a> {
    fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.0.iter().map(|name| Entry { name })
    }
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for PullSecretsPatch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = Entries(self.secrets);
        if self.has_list || self.secrets.is_empty() {
            serializer.collect_seq(entries.iter().map(|entry| Add::new(LIST_END, entry)))
        } else {
            serializer.collect_seq([Add::new(LIST, entries)])
        }
    }
}

#[cfg(test)]
mod tests {
    use json_patch::Patch;
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    #[test]
    fn secrets_are_appended_to_the_list_that_there_is() {
        let name = |name: &str| json!({"name": name});
        for (list, secrets, expected) in [
            (None, vec![], None),
            (None, vec!["a", "b"], Some(vec![name("a"), name("b")])),
            (Some(vec![]), vec!["a"], Some(vec![name("a")])),
            (
                Some(vec![name("own")]),
                vec!["a", "b\""],
                Some(vec![name("own"), name("a"), name("b\"")]),
            ),
        ] {
            let patch = PullSecretsPatch {
                secrets: &secrets,
                has_list: list.is_some(),
            };
            let patch: Patch = from_value(to_value(patch).unwrap()).unwrap();
            let pod = |list: Option<Vec<Value>>| match list {
                Some(list) => json!({"spec": {"imagePullSecrets": list}}),
                None => json!({"spec": {}}),
            };
            let mut patched = pod(list);
            json_patch::patch(&mut patched, &patch).unwrap();
            assert_eq!(patched, pod(expected), "{patch}");
        }
    }
}
