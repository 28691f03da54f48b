//! Reads what a cluster is judged by before pullpass is installed.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::gather::{CONCURRENT_REVIEWS, api_server_ports, known, webhook};
use crate::check::installation::{APIS, INSTALL_RIGHTS, Known, PreFacts};
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::refusal;
use crate::kubernetes::call::{CallError, call};

pub(super) async fn facts(client: &Client, own_namespace: &str) -> Result<PreFacts, CliError> {
    let version = call(client.apiserver_version())
        .await
        .map_err(|error| refusal("the version of Kubernetes can't be read", &error))?;
    let registered_in = webhook(client).await?.map(|configuration| {
        let mut webhooks = configuration?.webhooks?.into_iter();
        webhooks.find_map(|webhook| Some(webhook.client_config.service?.namespace))
    });
    Ok(PreFacts {
        own_namespace: own_namespace.to_owned(),
        kubernetes: (version.major, version.minor),
        missing_apis: missing_apis(client).await?,
        missing_rights: missing_rights(client).await?,
        registered_in,
        api_server_ports: api_server_ports(client).await?,
    })
}

async fn missing_apis(client: &Client) -> Result<Known<Vec<&'static str>>, CliError> {
    let mut missing = Vec::new();
    for (group, resource) in APIS {
        match call(client.list_api_group_resources(group)).await {
            Ok(list) if list.resources.iter().any(|known| known.name == resource) => {}
            Ok(_) => missing.push(resource),
            Err(error) if error.code() == Some(404) => missing.push(resource),
            Err(error) => return known("the resources of the API server", Err(error)),
        }
    }
    Ok(Ok(missing))
}

async fn missing_rights(client: &Client) -> Result<Known<Vec<&'static str>>, CliError> {
    let reviews = INSTALL_RIGHTS.iter().map(|&(group, resource)| async move {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some("create".to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let answer = call(api.create(&PostParams::default(), &review)).await?;
        let is_allowed = answer.status.is_some_and(|status| status.allowed);
        Ok::<_, CallError>((!is_allowed).then_some(resource))
    });
    let answers: Result<Vec<_>, _> = futures::stream::iter(reviews)
        .buffered(CONCURRENT_REVIEWS)
        .try_collect()
        .await;
    let missing = answers.map(|answers| answers.into_iter().flatten().collect());
    known("what you may do", missing)
}
