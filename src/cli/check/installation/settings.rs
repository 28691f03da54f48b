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
    let Some(webhook) = configuration.and_then(installed::scope) else {
        facts.disagreements = Err("no webhook says which namespaces are injected".to_owned());
        return Ok(());
    };
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = match call(indexes.get_opt(INDEX)).await {
        // Without the kind there is no object. Another step tells of it.
        Err(error) if error.code() == Some(404) => Ok(None),
        read => known("the AcrIndex", read)?,
    };
    let differing = |index: AcrIndex| disagreements(false, Some(&index.spec), Some(&webhook));
    facts.disagreements = index.map(|index| index.map(differing));
    Ok(())
}
