//! The admission policies that the API server has of pullpass, and whether they mean the same namespaces as the webhook.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use crate::api::acr_index::AcrIndexSpec;
use crate::api::names::INDEX;
use crate::policy::namespace_selector::NamespaceSelector;
use crate::policy::scope::Scope;

/// What is known of the policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerPolicies {
    /// Whether the API server injects by itself; absent if that can't be read.
    pub inject: Option<bool>,
    /// Whether the API server judges by itself; absent if that can't be read.
    pub enforce: Option<bool>,
    /// How they differ from the webhook, and from those that are shipped.
    pub disagreements: Vec<Disagreement>,
}

/// A difference. It serializes as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// What differs.
    pub about: About,
    /// How, in a sentence.
    pub text: String,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What pullpass and its webhook are told.
    Settings,
    /// A policy or its binding, which does not do what it is for.
    Policy {
        /// The kind of the policy.
        kind: &'static str,
        /// The name of the policy and of its binding.
        name: &'static str,
    },
    /// The text of a policy. It may be of another version than this program, as pullpass itself.
    Version,
}

impl Serialize for Disagreement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Of settings.
impl From<String> for Disagreement {
    fn from(text: String) -> Self {
        let about = About::Settings;
        Self { about, text }
    }
}

impl ServerPolicies {
    /// Whether any of them is known to be there.
    pub fn are_there(&self) -> bool {
        self.inject == Some(true) || self.enforce == Some(true)
    }

    /// What they do; nothing if none is known to be there.
    pub fn does(&self) -> Option<String> {
        let names = [
            (self.inject, "add pull secrets"),
            (self.enforce, "judge the rules"),
        ];
        let does = names.into_iter().filter(|(is_there, _)| *is_there == Some(true));
        let does: Vec<_> = does.map(|(_, does)| does).collect();
        (!does.is_empty()).then(|| does.join(" and "))
    }

    /// What a reader of a table should know.
    pub fn notes(&self) -> Vec<String> {
        let installed = self.does().map(|does| {
            format!("Admission policies in the API server {does} too, whether or not a replica answers.")
        });
        let disagreements = self.disagreements.iter();
        installed
            .into_iter()
            .chain(disagreements.map(|Disagreement { text, .. }| format!("Admission: {text}.")))
            .collect()
    }
}

/// How the flags of pullpass, which the index has for the policies, differ from what the webhook's selectors pick.
pub fn disagreements(are_there: bool, index: Option<&AcrIndexSpec>, webhook: Option<&Scope>) -> Vec<String> {
    let Some(index) = index else {
        let nothing = format!("there is no AcrIndex {INDEX}, so policies do nothing until a replica has led");
        return are_there.then_some(nothing).into_iter().collect();
    };
    let Some(webhook) = webhook else {
        return Vec::new();
    };
    let mode = webhook.mode().as_str();
    let other_mode = (index.mode != mode).then(|| {
        format!(
            "pullpass is in mode {} by --mode, and the webhook's configuration is in mode {mode}: both must say the same",
            index.mode
        )
    });
    let by_flag: BTreeSet<&str> = index.excluded_namespaces.iter().map(String::as_str).collect();
    let by_selector: BTreeSet<&str> = webhook.excluded().collect();
    let differing: Vec<_> = by_flag.symmetric_difference(&by_selector).copied().collect();
    let other_namespaces = (!differing.is_empty()).then(|| {
        format!(
            "--exclude-namespaces and the webhook's configuration do not exclude the same namespaces: {}",
            differing.join(", ")
        )
    });
    let flag = NamespaceSelector::of_requirements(index.namespace_selector.iter().map(Into::into));
    let other_selector = (flag != *webhook.selector()).then(|| {
        format!(
            "--namespace-selector {}, and the webhook's configuration {}: both must say the same",
            said(&flag),
            said(webhook.selector())
        )
    });
    let differing = [other_mode, other_namespaces, other_selector];
    differing.into_iter().flatten().collect()
}

fn said(selector: &NamespaceSelector) -> String {
    if selector.selects_all() {
        "selects every namespace".to_owned()
    } else {
        format!("selects namespaces by {selector}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::attached::AttachedRegistries;
    use crate::policy::decision::Settings;
    use crate::policy::scope::Mode;

    fn scope(mode: Mode, excluded: &[&str], selector: &str) -> Scope {
        let excluded = excluded.iter().map(|name| (*name).to_owned());
        Scope::new(mode, "own", excluded).with_selector(&selector.parse().unwrap())
    }

    fn index(mode: Mode, excluded: &[&str], selector: &str) -> AcrIndexSpec {
        let settings = Settings {
            scope: scope(mode, excluded, selector),
            ..Settings::default()
        };
        crate::policy::index::index(&AttachedRegistries::default(), &settings).spec
    }

    #[test]
    fn policies_and_webhook_that_differ_are_told() {
        let webhook = scope(Mode::ClusterWide, &["legacy"], "team in (a,b),env");
        let named = "kubernetes.io/metadata.name!=legacy,team in (b,a),env";
        for (index, says) in [
            (
                Some(index(Mode::ClusterWide, &["legacy"], "env,team in (b,a)")),
                &[][..],
            ),
            (Some(index(Mode::ClusterWide, &[], named)), &[]),
            (
                Some(index(Mode::ClusterWide, &["legacy"], "env=prod")),
                &[
                    "--namespace-selector selects namespaces by env=prod, and the webhook's configuration selects \
                   namespaces by team in (a,b),env",
                ],
            ),
            (
                Some(index(Mode::ClusterWide, &["legacy"], "")),
                &["--namespace-selector selects every namespace, and"],
            ),
            (
                Some(index(Mode::OptIn, &["legacy"], "env,team in (a,b)")),
                &["mode opt-in by --mode, and the webhook's configuration is in mode cluster-wide"],
            ),
            (
                Some(index(Mode::OptIn, &["other"], "env,team in (a,b)")),
                &["must say the same", "the same namespaces: legacy, other"],
            ),
            (None, &["there is no AcrIndex pullpass"]),
        ] {
            // Whether or not there are policies: pullpass and the webhook's selectors are to agree anyway.
            for are_there in [true, false] {
                let says = if index.is_none() && !are_there { &[] } else { says };
                let told = disagreements(are_there, index.as_ref(), Some(&webhook));
                assert_eq!(told.len(), says.len(), "{told:?}");
                assert!(
                    told.iter().zip(says).all(|(told, says)| told.contains(says)),
                    "{told:?}"
                );
            }
        }
        let told = disagreements(true, Some(&index(Mode::OptIn, &[], "")), None);
        assert_eq!(told, [""; 0]);
    }

    #[test]
    fn notes_tell_what_the_api_server_does_by_itself() {
        assert_eq!(ServerPolicies::default().notes(), [""; 0]);
        let policies = ServerPolicies {
            inject: Some(true),
            enforce: Some(true),
            disagreements: vec!["they differ".to_owned().into()],
        };
        let notes = policies.notes();
        assert!(
            notes[0].contains("add pull secrets and judge the rules"),
            "{notes:?}"
        );
        assert_eq!(notes[1], "Admission: they differ.");
    }

    #[test]
    fn policies_are_there_where_one_is_known_to_be() {
        let known = [None, Some(false), Some(true)];
        for (inject, enforce) in known
            .into_iter()
            .flat_map(|inject| known.map(|enforce| (inject, enforce)))
        {
            let policies = ServerPolicies {
                inject,
                enforce,
                disagreements: Vec::new(),
            };
            let are_there = [inject, enforce].contains(&Some(true));
            assert_eq!(policies.are_there(), are_there, "{policies:?}");
        }
    }
}
