//! Reads what an installation is judged by. What the user may not read is left out, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::core::Request;
use kube::{Api, Client, CustomResourceExt, Resource, ResourceExt};
use serde_json::{Value, json};

use super::deployed::{CertificateSource, SecretKey};
use crate::api::acr_index::AcrIndex;
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::{ECHO_IMAGE, MANAGER, SERVICE, WEBHOOK_CONFIGURATION};
use crate::certificates::{accept_pem, host};
use crate::check::installation::{
    Answer, Distrust, Egress, FENCES, Facts, FencePolicy, Known, Leader, LookedAt, OWN_CERTIFICATE, RIGHTS,
    Right, Unasked, bundle,
};
use crate::cli::CliError;
use crate::cli::audit::installed;
use crate::cli::flags::kubeconfig::refusal;
use crate::kubernetes::asked::unasked;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::pages::pages;
use crate::policy::attached::AttachedRegistry;
use crate::policy::listed::UnreadRegistry;
use crate::policy::scope::{Membership, Scope};

/// The label of everything that pullpass consists of.
pub(in crate::cli) const SELECTOR: &str = "app.kubernetes.io/name=pullpass";
/// The label by which an `EndpointSlice` says whose it is.
const SLICES: &str = "kubernetes.io/service-name=pullpass";
/// The same of the Service of API servers, and its namespace.
const API_SERVERS: &str = "kubernetes.io/service-name=kubernetes";
const API_SERVERS_NAMESPACE: &str = "default";
/// The namespace that is tried unless another is named.
const USUAL_NAMESPACE: &str = "default";
/// How long a Lease that seems to have run out is watched for a renewal: the clocks of two machines may differ.
const LEASE_PAUSE: Duration = Duration::from_secs(6);
/// How many reviews of rights are under way concurrently.
pub(super) const CONCURRENT_REVIEWS: usize = 8;

/// Reads everything, the dry run last.
pub(super) async fn facts(
    client: &Client,
    own_namespace: &str,
    namespace: Option<&str>,
) -> Result<Facts, CliError> {
    let webhook = webhook(client).await?;
    let scope = webhook
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .and_then(installed::scope);
    let deployments = deployments(client).await?;
    let certificate = deployments
        .as_ref()
        .map(|found| CertificateSource::of(found, own_namespace));
    let more_rights = if certificate == Ok(CertificateSource::Own) {
        OWN_CERTIFICATE
    } else {
        &[]
    };
    let certificate = certificate.unwrap_or(CertificateSource::Own);
    let mut facts = Facts {
        own_namespace: own_namespace.to_owned(),
        expected_definitions: expected_definitions()?,
        definitions: definitions(client).await?,
        idle_bindings: Ok(false),
        deployed_in: deployments.map(|found| found.iter().filter_map(ResourceExt::namespace).collect()),
        missing_rights: missing_rights(client, own_namespace, RIGHTS.iter().chain(more_rights)).await?,
        fence: fence(client, &FENCES).await?,
        disagreements: Err("not looked at".to_owned()),
        unasked: unasked_hosts(client, &webhook).await?,
        webhook,
        trust: Err("not looked at".to_owned()),
        replicas: listed(client, own_namespace, SELECTOR, "Pods").await?,
        endpoints: endpoints(client, own_namespace).await?,
        egress: Err("not looked at".to_owned()),
        leader: leader(client, own_namespace).await?,
        looked_at: looked_at(client, scope.as_ref(), namespace).await?,
        answer: Err("not tried".to_owned()),
    };
    if facts.has_no_replica() {
        facts.egress = egress(client, own_namespace).await?;
    }
    let looked_at = facts.looked_at.as_ref().ok().and_then(Option::as_ref);
    match looked_at.map(|looked_at| looked_at.name.clone()) {
        Some(name) if facts.can_be_asked() => facts.answer = answer(client, &name).await?,
        Some(_) => {}
        None => facts.answer = Err("no namespace is known whose Pods are injected".to_owned()),
    }
    // The dry run is about the first entry: that the others are trusted shows only where they publish the same.
    if matches!(&facts.answer, Ok(Answer::Silence | Answer::NotCalled { .. })) || facts.bundles_differ() {
        facts.trust = trust(client, own_namespace, &facts.webhook, &certificate.keys()).await?;
    }
    Ok(facts)
}

/// The hosts outside the zones of Azure's clouds that the API server does not ask about.
async fn unasked_hosts(
    client: &Client,
    webhook: &Known<Option<MutatingWebhookConfiguration>>,
) -> Result<Known<Unasked>, CliError> {
    let configuration = match webhook {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Ok(Err("the webhook is not registered".to_owned())),
        Err(why) => return Ok(Err(why.clone())),
    };
    let mut found = Unasked::default();
    let mut pages = std::pin::pin!(pages(Api::<UnreadRegistry>::all(client.clone())));
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Ok(found)),
            // Another step tells of it.
            Err(error) if error.code() == Some(404) => {
                return Ok(Err("the API server has no AcrRegistries".to_owned()));
            }
            Err(error) => return known("AcrRegistries", Err(error)),
        };
        for object in page {
            // Of one that is invalid, or of a later version, its own status tells.
            let Some(registry) = object
                .0
                .ok()
                .and_then(|object| AttachedRegistry::parse(&object).ok())
            else {
                continue;
            };
            found.hosts += registry.other_hosts().count();
            let unasked = unasked(configuration, registry.other_hosts());
            found.unasked.extend(
                unasked
                    .into_iter()
                    .map(|host| (host.to_owned(), registry.name().to_owned())),
            );
        }
    }
}

/// What a call brought; a refusal because of a missing right is a fact, and anything else ends the check.
pub(super) fn known<T>(what: &str, result: Result<T, CallError>) -> Result<Known<T>, CliError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.code() == Some(403) => Ok(Err(format!("{what} can't be read: {error}"))),
        Err(error) => Err(refusal(&format!("{what} can't be read"), &error)),
    }
}

pub(super) async fn webhook(
    client: &Client,
) -> Result<Known<Option<MutatingWebhookConfiguration>>, CliError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    known(
        "the webhook's configuration",
        call(api.get_opt(WEBHOOK_CONFIGURATION)).await,
    )
}

pub(in crate::cli) async fn listed<K>(
    client: &Client,
    namespace: &str,
    selector: &str,
    what: &str,
) -> Result<Known<Vec<K>>, CliError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    <K as Resource>::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = call(api.list(&ListParams::default().labels(selector))).await;
    known(what, found.map(|list| list.items))
}

async fn deployments(client: &Client) -> Result<Known<Vec<Deployment>>, CliError> {
    let api: Api<Deployment> = Api::all(client.clone());
    let found = call(api.list(&ListParams::default().labels(SELECTOR))).await;
    known("Deployments", found.map(|list| list.items))
}

/// The definitions that every installation has to have.
fn expected_definitions() -> Result<BTreeMap<String, Value>, CliError> {
    let definitions = [AcrRegistry::crd(), AcrIndex::crd()];
    definitions.iter().map(named).collect()
}

/// Every definition that this program knows, those of components too.
pub(in crate::cli) fn known_definitions() -> Result<BTreeMap<String, Value>, CliError> {
    let definitions = [AcrRegistry::crd(), AcrIndex::crd(), AcrPullBinding::crd()];
    definitions.iter().map(named).collect()
}

pub(super) fn named(definition: &CustomResourceDefinition) -> Result<(String, Value), CliError> {
    let value = serde_json::to_value(definition).map_err(|error| CliError::Failed(error.to_string()))?;
    Ok((definition.name_any(), value))
}

/// Those of them that the cluster has.
pub(in crate::cli) async fn definitions(client: &Client) -> Result<Known<BTreeMap<String, Value>>, CliError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut found = BTreeMap::new();
    for name in known_definitions()?.keys() {
        match known("CustomResourceDefinitions", call(api.get_opt(name)).await)? {
            Ok(definition) => found.extend(definition.as_ref().map(named).transpose()?),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(found))
}

/// Which of some rights the service account does not have.
pub(super) async fn missing_rights(
    client: &Client,
    own_namespace: &str,
    rights: impl IntoIterator<Item = &'static Right>,
) -> Result<Known<Vec<Right>>, CliError> {
    let reviews = rights
        .into_iter()
        .map(|right| async move { Ok::<_, CallError>((right, may(client, own_namespace, right).await?)) });
    let answers: Result<Vec<_>, _> = futures::stream::iter(reviews)
        .buffered(CONCURRENT_REVIEWS)
        .try_collect()
        .await;
    let missing = answers.map(|answers| {
        let missing = answers.into_iter().filter(|(_, is_allowed)| !is_allowed);
        missing.map(|(right, _)| *right).collect()
    });
    known("what the ServiceAccount may do", missing)
}

/// Whether the service account has a right.
async fn may(client: &Client, own_namespace: &str, right: &Right) -> Result<bool, CallError> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (right.resource, None),
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{own_namespace}:{MANAGER}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{own_namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                name: right.name.map(str::to_owned),
                namespace: right.own_namespace.then(|| own_namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = call(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The policies of these names, and their bindings.
pub(super) async fn fence(client: &Client, names: &[&str]) -> Result<Known<Vec<FencePolicy>>, CliError> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let mut found = Vec::new();
    for &name in names {
        let read = tokio::try_join!(call(policies.get_opt(name)), call(bindings.get_opt(name)));
        let (policy, binding) = match known("ValidatingAdmissionPolicies", read)? {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        let conditions = policy.map(|policy| {
            let conditions = policy.spec.and_then(|spec| spec.match_conditions);
            conditions
                .into_iter()
                .flatten()
                .map(|condition| condition.expression)
                .collect()
        });
        let is_enforced = binding.and_then(|binding| binding.spec).is_some_and(|spec| {
            let actions = spec.validation_actions.unwrap_or_default();
            spec.policy_name.as_deref() == Some(name) && actions.iter().any(|action| action == "Deny")
        });
        found.push(FencePolicy {
            name: name.to_owned(),
            conditions,
            is_enforced,
        });
    }
    Ok(Ok(found))
}

/// How many replicas the Service sends requests to; one with addresses of both families counts once.
async fn endpoints(client: &Client, own_namespace: &str) -> Result<Known<usize>, CliError> {
    let slices: Known<Vec<EndpointSlice>> = listed(client, own_namespace, SLICES, "EndpointSlices").await?;
    Ok(slices.map(|slices| {
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        });
        let names: BTreeSet<_> = ready
            .filter_map(|endpoint| {
                let target = endpoint.target_ref.and_then(|target| target.name);
                target.or_else(|| endpoint.addresses.first().cloned())
            })
            .collect();
        names.len()
    }))
}

/// The ports that API servers listen on, each behind the Service `kubernetes`.
pub(super) async fn api_server_ports(client: &Client) -> Result<Known<BTreeSet<i32>>, CliError> {
    let slices: Known<Vec<EndpointSlice>> = listed(
        client,
        API_SERVERS_NAMESPACE,
        API_SERVERS,
        "the API server's EndpointSlices",
    )
    .await?;
    Ok(slices.map(|slices| {
        let ports = slices
            .into_iter()
            .flat_map(|slice| slice.ports.unwrap_or_default());
        ports.filter_map(|port| port.port).collect()
    }))
}

async fn egress(client: &Client, own_namespace: &str) -> Result<Known<Egress>, CliError> {
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), own_namespace);
    let policy = known(
        "the NetworkPolicy pullpass",
        call(policies.get_opt(MANAGER)).await,
    )?;
    let ports = api_server_ports(client).await?;
    Ok(policy.and_then(|policy| {
        let policy = policy.and_then(|policy| policy.spec);
        Ok(Egress {
            ports: ports?,
            policy,
        })
    }))
}

async fn leader(client: &Client, own_namespace: &str) -> Result<Known<Leader>, CliError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), own_namespace);
    let read = async || known("the Lease", call(leases.get_opt(MANAGER)).await);
    let first = match read().await? {
        Ok(Some(lease)) => lease,
        Ok(None) => return Ok(Ok(Leader::Never)),
        Err(why) => return Ok(Err(why)),
    };
    let spec = first.spec.unwrap_or_default();
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else {
        return Ok(Ok(Leader::Nobody));
    };
    let duration = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
    let renewed = spec.renew_time.map(|time| time.0);
    // The clock of this machine may be wrong, too.
    if renewed.is_some_and(|renewed| Timestamp::now().duration_since(renewed).abs() <= duration) {
        return Ok(Ok(Leader::Leads { holder }));
    }
    tokio::time::sleep(LEASE_PAUSE).await;
    let second = read().await?;
    let is_renewed = second.is_ok_and(|lease| {
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        spec.renew_time.map(|time| time.0) != renewed && spec.holder_identity.is_some()
    });
    Ok(Ok(if is_renewed {
        Leader::Leads { holder }
    } else {
        Leader::Lapsed { holder }
    }))
}

/// The namespace that is named; or else the usual one if it is injected, or the first that is.
async fn looked_at(
    client: &Client,
    scope: Option<&Scope>,
    name: Option<&str>,
) -> Result<Known<Option<LookedAt>>, CliError> {
    let Some(scope) = scope else {
        return Ok(Err("no webhook says which namespaces are injected".to_owned()));
    };
    let api: Api<Namespace> = Api::all(client.clone());
    let of = |name: &str, labels| LookedAt {
        name: name.to_owned(),
        membership: scope.membership(name, Some(&labels)),
    };
    let is_injected = |at: &LookedAt| matches!(at.membership, Membership::Injected { .. });
    let first = name.unwrap_or(USUAL_NAMESPACE);
    match known("namespaces", call(api.get_metadata_opt(first)).await)? {
        Err(why) => return Ok(Err(why)),
        Ok(None) if name.is_some() => {
            return Err(CliError::Input(format!("there is no namespace {first}")));
        }
        Ok(found) => {
            let at = found.map(|found| of(first, found.metadata.labels.unwrap_or_default()));
            if name.is_some() || at.as_ref().is_some_and(is_injected) {
                return Ok(Ok(at));
            }
        }
    }
    let mut pages = std::pin::pin!(pages(api));
    loop {
        let page = match known("namespaces", pages.try_next().await)? {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Ok(None)),
            Err(why) => return Ok(Err(why)),
        };
        let mut all = page.into_iter().map(|found| {
            let name = found.name_any();
            of(&name, found.metadata.labels.unwrap_or_default())
        });
        if let Some(at) = all.find(is_injected) {
            return Ok(Ok(Some(at)));
        }
    }
}

/// Has the API server say what it would make of a Pod. Nothing is created.
async fn answer(client: &Client, namespace: &str) -> Result<Known<Answer>, CliError> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pullpass-check-", "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "check",
                "image": ECHO_IMAGE,
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {
                    "runAsUser": 65533,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("no dry run is possible: {error}"));
    let request = Request::new(Pod::url_path(&(), Some(namespace)))
        .create(&dry_run, pod.to_string().into_bytes())
        .map_err(|error| failed(&error))?;
    let response = call(client.send(request.map(kube::client::Body::from)))
        .await
        .map_err(|error| refusal("the dry run got no answer", &error))?;
    let (head, body) = response.into_parts();
    let warnings = head.headers.get_all(http::header::WARNING).iter();
    let warnings = warnings.filter_map(|warning| warning.to_str().ok());
    if head.status.is_success() {
        return Ok(Ok(Answer::of(warnings, None)));
    }
    let body = body.collect_bytes().await.map_err(|error| failed(&error))?;
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = status.get("message").and_then(Value::as_str).unwrap_or_default();
    // Authorization is before admission.
    if head.status == http::StatusCode::FORBIDDEN && message.contains("cannot create resource") {
        return Ok(Err(format!("you may not try a Pod in {namespace}: {message}")));
    }
    Ok(Ok(Answer::of(warnings, Some(message))))
}

/// Whether what each entry publishes accepts what is served, by the first of these keys that has a certificate.
async fn trust(
    client: &Client,
    own_namespace: &str,
    webhook: &Known<Option<MutatingWebhookConfiguration>>,
    keys: &[SecretKey],
) -> Result<Known<Result<(), Distrust>>, CliError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), own_namespace);
    for SecretKey { secret, key } in keys {
        let secret = match known("the certificate's Secret", call(api.get_opt(secret)).await)? {
            Ok(secret) => secret,
            Err(why) => return Ok(Err(why)),
        };
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        if let Some(chain) = data.get(key) {
            let host = host(SERVICE, own_namespace);
            let configuration = webhook.as_ref().ok().and_then(Option::as_ref);
            let mut entries = configuration
                .into_iter()
                .flat_map(|configuration| &configuration.webhooks)
                .flatten();
            return Ok(Ok(entries.try_for_each(|entry| {
                accept_pem(bundle(entry), &chain.0, &host, Timestamp::now()).map_err(|reason| Distrust {
                    entry: entry.name.clone(),
                    reason,
                })
            })));
        }
    }
    Ok(Err("no Secret with the certificate is there".to_owned()))
}
