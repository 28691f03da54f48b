//! Reads what optional components are judged by: whether all of one is installed, or nothing.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client, CustomResourceExt};

use super::deployed::{BINDINGS, REPORTS};
use super::gather::{SELECTOR, fence, known, listed, missing_rights, named};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::check::installation::{BINDING_RIGHTS, Facts, Known, REPORT_FENCES, REPORT_RIGHTS, Right};
use crate::cli::CliError;
use crate::kubernetes::call::call;

/// Adds to the facts what components have to have of which a part is there.
pub(super) async fn add(client: &Client, own_namespace: &str, facts: &mut Facts) -> Result<(), CliError> {
    let deployments = listed::<Deployment>(client, own_namespace, SELECTOR, "Deployments").await?;
    let turned_on = deployments.map(|found| {
        [BINDINGS, REPORTS].map(|setting| found.iter().any(|deployment| setting.is_on(deployment)))
    });
    add_bindings(
        client,
        own_namespace,
        turned_on.as_ref().map(|[bindings, _]| *bindings).ok(),
        facts,
    )
    .await?;
    if let Ok([_, true]) = turned_on {
        add_rights(client, own_namespace, REPORT_RIGHTS, facts).await?;
        let more = fence(client, &REPORT_FENCES).await?;
        extend(&mut facts.fence, more);
    }
    Ok(())
}

/// What is needed for AcrPullBindings, and whether pullpass is told to carry them out; none if that is not known.
async fn add_bindings(
    client: &Client,
    own_namespace: &str,
    is_on: Option<bool>,
    facts: &mut Facts,
) -> Result<(), CliError> {
    let Ok(definitions) = &facts.definitions else {
        return Ok(());
    };
    let (name, expected) = named(&AcrPullBinding::crd())?;
    let is_defined = definitions.contains_key(&name);
    if is_defined || is_on == Some(true) {
        facts.expected_definitions.insert(name, expected);
    }
    match is_on {
        Some(true) => add_rights(client, own_namespace, BINDING_RIGHTS, facts).await,
        Some(false) if is_defined => {
            let bindings: Api<AcrPullBinding> = Api::all(client.clone());
            let one = ListParams::default().limit(1);
            let found = known("AcrPullBindings", call(bindings.list_metadata(&one)).await)?;
            facts.idle_bindings = found.map(|found| !found.items.is_empty());
            Ok(())
        }
        Some(false) | None => Ok(()),
    }
}

async fn add_rights(
    client: &Client,
    own_namespace: &str,
    rights: &'static [Right],
    facts: &mut Facts,
) -> Result<(), CliError> {
    let more = missing_rights(client, own_namespace, rights).await?;
    extend(&mut facts.missing_rights, more);
    Ok(())
}

/// Adds what was found besides. Where it can't be known, all is not known: the rest is no reason to say that all is well.
fn extend<T>(known: &mut Known<Vec<T>>, more: Known<Vec<T>>) {
    match (known, more) {
        (Ok(known), Ok(more)) => known.extend(more),
        (known @ Ok(_), Err(why)) => *known = Err(why),
        (Err(_), _) => {}
    }
}
