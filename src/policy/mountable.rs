//! `ServiceAccounts` that enforce mountable secrets: a Pod of such a one may name only the pull secrets that it lists. The
//! API server checks that after every webhook and policy, and refuses the Pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;

use crate::api::names::registry_of;

/// The annotation by which a ServiceAccount enforces mountable secrets.
const ENFORCE_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";
/// The ServiceAccount of a Pod that names none.
pub const DEFAULT_ACCOUNT: &str = "default";
/// How many pull secrets of one ServiceAccount are remembered.
const MAX_LISTED: usize = 256;
/// How long the name of one may be: no Secret has a longer one, but the API server takes any in a ServiceAccount.
const MAX_NAME: usize = 253;

/// The pull secrets that a ServiceAccount which enforces mountable secrets lets its Pods name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mountable {
    listed: BTreeSet<Box<str>>,
    is_known: bool,
}

impl Mountable {
    /// Those of a ServiceAccount, as far as they are pullpass'; none if it lets its Pods name any. The API server reads
    /// the annotation with Go's `strconv.ParseBool`.
    pub fn of(account: &ServiceAccount) -> Option<Self> {
        Self::applied(account, None)
    }

    /// The same once a ServiceAccount is applied to the one of which this is known. What it does not name stays as it was: the
    /// annotation, and entries of the list.
    pub fn applied(account: &ServiceAccount, known: Option<&Self>) -> Option<Self> {
        let value = account.annotations().get(ENFORCE_ANNOTATION);
        let enforces = value.map(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value.as_str()));
        if !enforces.unwrap_or(known.is_some()) {
            return None;
        }
        let listed = account.image_pull_secrets.iter().flatten();
        let listed = listed.map(|reference| reference.name.as_str());
        let listed = listed.filter(|name| name.len() <= MAX_NAME && registry_of(name).is_some());
        let before = known.into_iter().flat_map(Self::listed);
        Some(Self {
            listed: listed.chain(before).take(MAX_LISTED).map(Box::from).collect(),
            is_known: true,
        })
    }

    /// What is known of any ServiceAccount of a namespace that has too many that enforce mountable secrets: it may be one, and
    /// lists nothing that is known.
    pub const fn unknown() -> Self {
        Self {
            listed: BTreeSet::new(),
            is_known: false,
        }
    }

    /// Whether the ServiceAccount is known to enforce mountable secrets.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether a Pod may name this pull secret.
    pub fn allows(&self, pull_secret: &str) -> bool {
        self.listed.contains(pull_secret)
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        let sizes = self.listed.iter().map(|name| name.len() + size_of::<Box<str>>());
        sizes.sum()
    }

    /// The pull secrets that a Pod may name.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        self.listed.iter().map(AsRef::as_ref)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Those of a ServiceAccount that lists these.
    pub(crate) fn listing(secrets: &[&str]) -> Mountable {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        let account = json!({
            "metadata": {"name": "strict", "annotations": {ENFORCE_ANNOTATION: "true"}}, "imagePullSecrets": secrets,
        });
        Mountable::of(&serde_json::from_value(account).unwrap()).unwrap()
    }

    #[test]
    fn an_account_enforces_what_its_annotation_says_to_go() {
        for (value, enforces) in [
            (Some("true"), true),
            (Some("True"), true),
            (Some("1"), true),
            (Some("t"), true),
            (Some("false"), false),
            (Some("yes"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut account: ServiceAccount = serde_json::from_value(json!({
                "metadata": {"name": "strict", "annotations": {"kubernetes.io/other": "true"}},
                "imagePullSecrets": [{"name": "pullpass-a"}, {"name": "by-hand"}],
            }))
            .unwrap();
            let annotation = value.map(|value| (ENFORCE_ANNOTATION.to_owned(), value.to_owned()));
            account.annotations_mut().extend(annotation);
            let mountable = Mountable::of(&account);
            assert_eq!(mountable.is_some(), enforces, "{value:?}");
            if let Some(mountable) = mountable {
                assert_eq!(mountable.listed().collect::<Vec<_>>(), ["pullpass-a"]);
                assert!(mountable.allows("pullpass-a") && !mountable.allows("pullpass-b"));
            }
        }
    }
}
