//! Reads what the component bindings is judged by: whether all of it is installed, or nothing.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client, CustomResourceExt, ResourceExt};

use super::gather::{CONCURRENT_REVIEWS, SELECTOR, known, listed, may, named};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::check::installation::{BINDING_RIGHTS, Facts};
use crate::cli::CliError;
use crate::kubernetes::call::{CallError, call};

/// The setting, as a variable of the environment and as a flag.
const VARIABLE: &str = "PULLPASS_BINDINGS";
const FLAG: &str = "--bindings";

/// Adds to the facts what the component has to have, where a part of it is there.
pub(super) async fn add(client: &Client, own_namespace: &str, facts: &mut Facts) -> Result<(), CliError> {
    let deployments = listed::<Deployment>(client, own_namespace, SELECTOR, "Deployments").await?;
    let is_on = deployments.map(|found| found.iter().any(is_on));
    let definition = AcrPullBinding::crd();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let live = call(api.get_opt(&definition.name_any())).await;
    let Ok(live) = known("CustomResourceDefinitions", live)? else {
        return Ok(());
    };
    if live.is_some() || is_on == Ok(true) {
        let expected = named(&definition)?;
        facts.expected_definitions.extend([expected]);
    }
    if let (Some(live), Ok(definitions)) = (&live, &mut facts.definitions) {
        definitions.extend([named(live)?]);
    }
    match is_on {
        Ok(true) => add_rights(client, own_namespace, facts).await,
        Ok(false) if live.is_some() => {
            let bindings: Api<AcrPullBinding> = Api::all(client.clone());
            let one = ListParams::default().limit(1);
            let found = known("AcrPullBindings", call(bindings.list_metadata(&one)).await)?;
            facts.idle_bindings = found.map(|found| !found.items.is_empty());
            Ok(())
        }
        Ok(false) | Err(_) => Ok(()),
    }
}

/// Whether a Deployment carries `AcrPullBindings` out.
fn is_on(deployment: &Deployment) -> bool {
    let spec = deployment.spec.as_ref();
    let pod = spec.and_then(|spec| spec.template.spec.as_ref());
    let mut containers = pod.into_iter().flat_map(|pod| &pod.containers);
    containers.any(|container: &Container| {
        let mut variables = container.env.iter().flatten();
        let mut flags = container.args.iter().chain(&container.command).flatten();
        variables.any(|variable| variable.name == VARIABLE && variable.value.as_deref() == Some("true"))
            || flags.any(|flag| flag == FLAG)
    })
}

async fn add_rights(client: &Client, own_namespace: &str, facts: &mut Facts) -> Result<(), CliError> {
    let Ok(missing) = &mut facts.missing_rights else {
        return Ok(());
    };
    let reviews = BINDING_RIGHTS
        .iter()
        .map(|right| async move { Ok::<_, CallError>((right, may(client, own_namespace, right).await?)) });
    let answers: Result<Vec<_>, _> = futures::stream::iter(reviews)
        .buffered(CONCURRENT_REVIEWS)
        .try_collect()
        .await;
    if let Ok(answers) = known("what the ServiceAccount may do", answers)? {
        let denied = answers.into_iter().filter(|(_, is_allowed)| !is_allowed);
        missing.extend(denied.map(|(right, _)| *right));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_deployment_says_by_a_variable_or_a_flag_that_it_is_on() {
        let on = |container: Value| {
            let deployment =
                json!({"spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}});
            is_on(&serde_json::from_value(deployment).unwrap())
        };
        let variable = |value: &str| json!({"name": "pullpass", "env": [{"name": VARIABLE, "value": value}]});
        assert!(on(variable("true")));
        assert!(!on(variable("false")));
        assert!(on(json!({"name": "pullpass", "args": ["serve", "--bindings"]})));
        assert!(!on(json!({"name": "pullpass"})));
        assert!(!is_on(&Deployment::default()));
    }
}
