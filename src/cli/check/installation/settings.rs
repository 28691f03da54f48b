//! Reads what pullpass is told by its flags: the AcrIndex has it.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client};

use super::gather::known;
use crate::api::acr_index::{AcrIndex, AcrIndexSpec};
use crate::api::names::INDEX;
use crate::check::installation::Facts;
use crate::cli::CliError;
use crate::cli::audit::installed;
use crate::kubernetes::call::call;
use crate::policy::scope::Scope;
use crate::policy::server_policies::disagreements;

/// Adds to the facts how it differs from the webhook's selectors.
pub(super) async fn add(client: &Client, facts: &mut Facts) -> Result<(), CliError> {
    let configuration = facts.webhook.as_ref().ok().and_then(Option::as_ref);
    let scopes = configuration.map(scopes).unwrap_or_default();
    if scopes.is_empty() {
        facts.disagreements = Err("no webhook says which namespaces are injected".to_owned());
        return Ok(());
    }
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = match call(indexes.get_opt(INDEX)).await {
        // Without the kind there is no object. Another step tells of it.
        Err(error) if error.code() == Some(404) => Ok(None),
        read => known("the AcrIndex", read)?,
    };
    facts.disagreements = index.map(|index| index.map(|index| differing(&index.spec, &scopes)));
    Ok(())
}

/// What the entries of the webhook stand for. Whether one of them is missing, another step tells.
fn scopes(configuration: &MutatingWebhookConfiguration) -> Vec<Scope> {
    let entries = [installed::scope, installed::always_scope];
    entries.iter().filter_map(|scope| scope(configuration)).collect()
}

/// How entries differ from the index, each difference once.
fn differing(index: &AcrIndexSpec, scopes: &[Scope]) -> Vec<String> {
    let mut all = Vec::new();
    for one in scopes
        .iter()
        .flat_map(|scope| disagreements(false, Some(index), Some(scope)))
    {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The differences where the entries select these, besides what they ship, and the index selects by `team`.
    fn of(pods: &[Value], always: &[Value]) -> usize {
        let entry = |name: &str, shipped: Option<Value>, others: &[Value]| {
            let enabled = json!({"key": "pullpass.dev/inject", "operator": "NotIn", "values": ["disabled"]});
            let expressions: Vec<_> = shipped
                .into_iter()
                .chain([enabled])
                .chain(others.iter().cloned())
                .collect();
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"namespace": "pullpass-system", "name": "pullpass"}},
                "namespaceSelector": {"matchExpressions": expressions},
            })
        };
        let always_inject =
            json!({"key": "pullpass.dev/always-inject", "operator": "In", "values": ["true"]});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass"},
            "webhooks": [
                entry("pods.pullpass.dev", None, pods),
                entry("always.pullpass.dev", Some(always_inject), always),
            ],
        });
        let index: AcrIndexSpec = serde_json::from_value(json!({
            "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn", "namespaceSelector": [team()],
            "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", "pullpass-system"],
        }))
        .unwrap();
        differing(&index, &scopes(&serde_json::from_value(configuration).unwrap())).len()
    }

    fn team() -> Value {
        json!({"key": "team", "operator": "In", "values": ["a"]})
    }

    #[test]
    fn entries_of_which_one_selects_others_are_told() {
        assert_eq!(of(&[team()], &[team()]), 0);
        assert_eq!(of(&[team()], &[]), 1);
        assert_eq!(of(&[], &[team()]), 1);
        assert_eq!(of(&[], &[]), 1, "it is told once");
    }
}
