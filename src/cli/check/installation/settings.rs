//! Reads what pullpass is told by its flags: the AcrIndex has it.

use kube::{Api, Client};

use super::gather::known;
use crate::api::acr_index::AcrIndex;
use crate::api::names::INDEX;
use crate::check::installation::Facts;
use crate::cli::CliError;
use crate::cli::audit::installed;
use crate::kubernetes::call::call;
use crate::policy::server_policies::disagreements;

/// Adds to the facts how it differs from the webhook's selectors.
pub(super) async fn add(client: &Client, facts: &mut Facts) -> Result<(), CliError> {
    let configuration = facts.webhook.as_ref().ok().and_then(Option::as_ref);
    // Whether one of the entries is missing, another step tells.
    let entries = [installed::scope, installed::always_scope];
    let scopes: Vec<_> = entries
        .iter()
        .filter_map(|scope| configuration.and_then(scope))
        .collect();
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
    let differing = |index: AcrIndex| {
        let mut all = Vec::new();
        for scope in &scopes {
            for one in disagreements(false, Some(&index.spec), Some(scope)) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        all
    };
    facts.disagreements = index.map(|index| index.map(differing));
    Ok(())
}
