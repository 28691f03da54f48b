//! Which admission policies of pullpass the API server has, and whether they mean the same namespaces as the webhook.

use std::collections::BTreeSet;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde::Serialize;

use crate::api::acr_index::{AcrIndex, AcrIndexSpec};
use crate::api::names::INDEX;
use crate::kubernetes::call::{CallError, call};
use crate::policy::scope::Scope;

const GROUP: &str = "admissionregistration.k8s.io";
/// The binding of the component admission-policy.
const INJECTING: (&str, &str) = ("MutatingAdmissionPolicyBinding", "pullpass");
/// The binding of the component enforce.
const ENFORCING: (&str, &str) = ("ValidatingAdmissionPolicyBinding", "pullpass-enforce");

/// What is known of the policies.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Policies {
    /// Whether the API server injects by itself; absent where that can't be read.
    inject: Option<bool>,
    /// Whether the API server judges by itself; absent where that can't be read.
    enforce: Option<bool>,
    /// How they differ from the webhook, in sentences.
    disagreements: Vec<String>,
}

impl Policies {
    /// Reads them with the rights of the user; what these do not reach is not known.
    pub(super) async fn read(client: &Client, webhook: Option<&Scope>) -> Self {
        let inject = is_there(client, INJECTING).await;
        let enforce = is_there(client, ENFORCING).await;
        let are_there = inject == Some(true) || enforce == Some(true);
        let indexes: Api<AcrIndex> = Api::all(client.clone());
        let disagreements = match call(indexes.get_opt(INDEX)).await {
            Ok(index) => disagreements(are_there, index.map(|index| index.spec).as_ref(), webhook),
            Err(error) if are_there => vec![format!("what policies decide by can't be read: {error}")],
            // An older pullpass has none, and the rights of the user may not reach it.
            Err(_) => Vec::new(),
        };
        Self {
            inject,
            enforce,
            disagreements,
        }
    }

    /// What a reader of the table should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let names = [
            (self.inject, "add pull secrets"),
            (self.enforce, "judge the rules"),
        ];
        let does: Vec<_> = names
            .into_iter()
            .filter_map(|(is_there, does)| (is_there == Some(true)).then_some(does))
            .collect();
        let installed = (!does.is_empty()).then(|| {
            format!(
                "Admission policies in the API server {} too, whether or not a replica answers.",
                does.join(" and ")
            )
        });
        let disagreements = self.disagreements.iter();
        installed
            .into_iter()
            .chain(disagreements.map(|text| format!("Admission: {text}.")))
            .collect()
    }
}

/// Whether a binding is there; absent where that can't be read.
async fn is_there(client: &Client, (kind, name): (&str, &str)) -> Option<bool> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    let bindings: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match call(bindings.get_metadata_opt(name)).await {
        Ok(binding) => Some(binding.is_some()),
        // The API server may not serve the kind.
        Err(error) => is_unserved(&error).then_some(false),
    }
}

fn is_unserved(error: &CallError) -> bool {
    match error {
        CallError::Kube(error) => matches!(&**error, kube::Error::Api(status) if status.code == 404),
        CallError::TimedOut(_) => false,
    }
}

/// How the flags of pullpass, which the index has for the policies, differ from what the webhook's selectors pick.
fn disagreements(are_there: bool, index: Option<&AcrIndexSpec>, webhook: Option<&Scope>) -> Vec<String> {
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
    other_mode.into_iter().chain(other_namespaces).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::scope::Mode;

    fn index(mode: Mode, excluded: &[&str]) -> AcrIndexSpec {
        let scope = Scope::new(mode, "own", excluded.iter().map(|name| (*name).to_owned()));
        AcrIndexSpec {
            mode: mode.as_str().to_owned(),
            excluded_namespaces: scope.excluded().map(str::to_owned).collect(),
            ..AcrIndexSpec::default()
        }
    }

    #[test]
    fn policies_and_webhook_that_differ_are_told() {
        let webhook = Scope::new(Mode::ClusterWide, "own", ["legacy".to_owned()]);
        for (index, says) in [
            (Some(index(Mode::ClusterWide, &["legacy"])), &[][..]),
            (
                Some(index(Mode::OptIn, &["legacy"])),
                &["mode opt-in by --mode, and the webhook's configuration is in mode cluster-wide"],
            ),
            (
                Some(index(Mode::OptIn, &["other"])),
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
        assert_eq!(disagreements(true, Some(&index(Mode::OptIn, &[])), None), [""; 0]);
    }

    #[test]
    fn what_the_api_server_does_by_itself_is_told() {
        assert_eq!(Policies::default().notes(), [""; 0]);
        let policies = Policies {
            inject: Some(true),
            enforce: Some(true),
            disagreements: vec!["they differ".to_owned()],
        };
        let notes = policies.notes();
        assert!(
            notes[0].contains("add pull secrets and judge the rules"),
            "{notes:?}"
        );
        assert_eq!(notes[1], "Admission: they differ.");
    }
}
