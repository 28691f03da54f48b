//! What the cluster knows of a registry: its AcrRegistry, which identity that pulls as, and the state of its pull secrets.

use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::identity::Given;
use crate::api::acr_registry::{AcrRegistry, AcrRegistrySpec, Identity as SpecIdentity};
use crate::api::names::{REFRESHED_AT_ANNOTATION, binding_of_key, minted_credential};
use crate::api::reason::Reason;
use crate::azure::mint::Password;
use crate::base::clock::whole_seconds;
use crate::base::dns::is_subdomain;
use crate::check::in_cluster::{AttachingObject, Facts, Minted};
use crate::check::{Subject, SubjectIdentity};
use crate::cli::CliError;
use crate::cli::audit::{installed_scope, policies};
use crate::cli::flags::kubeconfig::{KubeFlags, Role, refusal_without, unlisted};
use crate::cli::target::{domain_of, has_domain, other_host};
use crate::kubernetes::call::{call, within};
use crate::kubernetes::pages::pages;
use crate::kubernetes::words::Words;
use crate::policy::attached::AttachedRegistry;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::registry::cloud::{Cloud, CloudName};
use crate::registry::login_server::LoginServer;
use crate::registry::other_cloud::OtherCloud;
use crate::registry::resource_id::ResourceId;
use crate::sync::minting::{CredentialSource, WorkloadIdentityEnv, resolve};

/// How long the cluster is waited for.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// How many Events are told, the latest.
const MAX_EVENTS: usize = 5;

/// What the user calls the registry.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// A host in one of Azure's clouds, or in the one that the flags describe.
    LoginServer(LoginServer),
    /// An AcrRegistry, by its name or by any other host.
    Registry(String),
}

/// An Event about an AcrRegistry or an AcrPullBinding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistryEvent {
    pub(super) time: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Named {
    pub(super) fn parse(text: &str, other_cloud: &OtherCloud) -> Result<Self, CliError> {
        let error = match LoginServer::of_host(text) {
            Ok(login_server) => return Ok(Self::LoginServer(login_server)),
            Err(error) => error,
        };
        let suffix = other_cloud.suffix.as_ref();
        let described = other_host(text).filter(|host| suffix.is_some_and(|suffix| suffix.has(host)));
        if let Some(login_server) = described {
            return Ok(Self::LoginServer(login_server));
        }
        if is_subdomain(text) || domain_of(text).is_some() {
            Ok(Self::Registry(text.to_owned()))
        } else {
            Err(CliError::Input(format!(
                "{text} is neither the name of an AcrRegistry nor a login server ({error})"
            )))
        }
    }
}

/// The AcrRegistry of that name, and who it pulls as unless somebody else is given.
pub(super) async fn named(
    flags: &KubeFlags,
    own_namespace: &str,
    name: &str,
    given: Option<Given>,
) -> Result<Subject, CliError> {
    in_time(async {
        let client = flags.client().await?;
        let object = by_name(&client, name).await?;
        let mut subject = subject(&client, own_namespace, &object, given).await?;
        subject.endpoint = custom_domain(&object, name);
        Ok(subject)
    })
    .await
}

/// The AcrRegistry with that login server, if there is one, and who it pulls as.
pub(super) async fn attached(
    flags: &KubeFlags,
    own_namespace: &str,
    login_server: &LoginServer,
) -> Result<Option<Subject>, CliError> {
    in_time(async {
        let client = flags.client().await?;
        let api = Api::all(client.clone());
        let Some(object) = by_host(&api, login_server.as_str()).await? else {
            return Ok(None);
        };
        let mut subject = subject(&client, own_namespace, &object, None).await?;
        subject.endpoint = custom_domain(&object, login_server.as_str());
        Ok(Some(subject))
    })
    .await
}

/// Who pulls, where a Secret of pullpass' namespace has the password, for a registry that need not be attached.
pub(super) async fn of_secret(
    flags: &KubeFlags,
    own_namespace: &str,
    login_server: &LoginServer,
    in_secret: Box<SpecIdentity>,
) -> Result<SubjectIdentity, CliError> {
    let spec = AcrRegistrySpec {
        login_server: Some(login_server.to_string()),
        cloud: login_server.cloud().is_none().then_some(CloudName::Other),
        identity: *in_secret,
        ..AcrRegistrySpec::default()
    };
    let object = AcrRegistry::new(login_server.resource_name(), spec);
    let registry = AttachedRegistry::parse(&object).map_err(|error| CliError::Input(error.to_string()))?;
    in_time(async {
        let client = flags.client().await?;
        Ok(Box::pin(identity(&client, own_namespace, &registry)).await)
    })
    .await
}

/// What the running pullpass has left in the cluster, and the latest Events, if they may be read.
pub(super) type Found = (Facts, Result<Vec<RegistryEvent>, String>);

/// What is found of an AcrRegistry.
pub(super) async fn facts(flags: &KubeFlags, own_namespace: &str, named: &Named) -> Result<Found, CliError> {
    in_time(async {
        let client = flags.client().await?;
        let object = match named {
            Named::Registry(name) => by_name(&client, name).await?,
            Named::LoginServer(login_server) => {
                let api = Api::all(client.clone());
                let found = by_host(&api, login_server.as_str()).await?;
                found.ok_or_else(|| {
                    CliError::Input(format!("no AcrRegistry has the login server {login_server}"))
                })?
            }
        };
        let object = AttachingObject::Registry(Box::new(object));
        Ok(facts_of(&client, own_namespace, object).await)
    })
    .await
}

/// The same of an object. The right to read it is enough for most steps.
pub(super) async fn facts_of(client: &Client, own_namespace: &str, object: AttachingObject) -> Found {
    let minted = minted(client, own_namespace, &object.key()).await;
    let events = events(client, &object).await;
    let webhook = installed_scope(client).await.ok().flatten();
    let policies = policies::read(client, webhook.as_ref()).await;
    let facts = Facts {
        object,
        minted,
        own_namespace: own_namespace.to_owned(),
        policies,
        now: Timestamp::now(),
    };
    (facts, events)
}

/// An API server that does not answer is told about in time.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let done = within(CHECK_TIMEOUT, work).await;
    done.map_err(|error| CliError::Cluster(error.to_string()))?
}

async fn by_name(client: &Client, name: &str) -> Result<AcrRegistry, CliError> {
    let api: Api<AcrRegistry> = Api::all(client.clone());
    let found = if is_subdomain(name) {
        call(api.get_opt(name)).await.map_err(|error| {
            refusal_without(
                Role::View,
                "the AcrRegistry can't be read; is pullpass installed",
                &error,
            )
        })?
    } else {
        None
    };
    let found = match (found, domain_of(name)) {
        (None, Some(domain)) => Box::pin(by_host(&api, domain.as_str())).await?,
        (found, _) => found,
    };
    found.ok_or_else(|| {
        let advice = instead_of(name).map(|advice| format!(", or {advice}"));
        CliError::Input(format!(
            "there is no AcrRegistry {name}: see `kubectl get acrregistries`{}",
            advice.unwrap_or_default()
        ))
    })
}

/// How a registry is checked that has no AcrRegistry.
fn instead_of(name: &str) -> Option<String> {
    if domain_of(name).is_some() {
        return Some(
            "name the registry by its login server; one of another cloud needs --other-cloud-suffix"
                .to_owned(),
        );
    }
    let host = LoginServer::of_registry(name, Cloud::Public).ok()?;
    Some(format!("name a login server, as in {host}"))
}

/// The AcrRegistry that images on a host are pulled by, if it is one.
async fn by_host(api: &Api<AcrRegistry>, host: &str) -> Result<Option<AcrRegistry>, CliError> {
    let mut pages = std::pin::pin!(pages(api.clone()));
    let mut matching: Vec<AcrRegistry> = Vec::new();
    while let Some(page) = pages.try_next().await.map_err(|error| unlisted(&error))? {
        matching.extend(page.into_iter().filter(|object| names_host(object, host)));
    }
    let mut found = having(matching, host);
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
        return Err(CliError::Input(format!(
            "several AcrRegistries have {host}; name one of them: {}",
            names.join(", ")
        )));
    }
    Ok(found.pop())
}

/// The custom domain of an AcrRegistry that a text is, if it is one.
fn custom_domain(object: &AcrRegistry, text: &str) -> Option<String> {
    let domain = domain_of(text)?;
    let domains = &object.spec.custom_domains;
    let own = domains.iter().find(|own| *own == domain.as_str())?;
    Some(own.clone())
}

fn login_server_of(object: &AcrRegistry) -> Option<LoginServer> {
    let registry = AttachedRegistry::parse(object).ok()?;
    Some(registry.login_server().clone())
}

fn names_host(object: &AcrRegistry, host: &str) -> bool {
    let is_domain = domain_of(host).is_some_and(|domain| has_domain(object, &domain));
    is_domain || login_server_of(object).is_some_and(|own| own.as_str() == host)
}

/// Those that have a host, of all that name it, as admission decides it: a login server is no custom domain of another registry,
/// and any other host belongs to the login server of the first by name. One with a mistake in its spec has it where no other does.
fn having(mut named: Vec<AcrRegistry>, host: &str) -> Vec<AcrRegistry> {
    named.sort_by_key(ResourceExt::name_any);
    let all = || named.iter().filter_map(login_server_of);
    if let Some(owner) = all().find(|own| own.as_str() == host).or_else(|| all().next()) {
        named.retain(|object| login_server_of(object).as_ref() == Some(&owner));
    }
    named
}

async fn subject(
    client: &Client,
    own_namespace: &str,
    object: &AcrRegistry,
    given: Option<Given>,
) -> Result<Subject, CliError> {
    let name = object.name_any();
    let registry = AttachedRegistry::parse(object)
        .map_err(|error| CliError::Input(format!("LOGIN_SERVER_ERROR: AcrRegistry {name}: {error}")))?;
    let login_server = registry.login_server().clone();
    let identity = match given.map(|given| given.identity(&login_server, object.spec.audience.clone())) {
        Some(Ok(identity)) => identity,
        in_secret @ (Some(Err(_)) | None) => {
            let instead = in_secret.and_then(Result::err).map(|identity| *identity);
            match to_check(object, instead) {
                Ok(registry) => Box::pin(identity(client, own_namespace, &registry)).await,
                Err(error) => SubjectIdentity::Broken {
                    message: error.to_string(),
                },
            }
        }
    };
    let resource_id = object.spec.resource_id.as_deref();
    Ok(Subject {
        login_server,
        registry: Some(name),
        resource_id: resource_id.and_then(|text| ResourceId::parse(text).ok()),
        identity,
        endpoint: None,
        target: None,
    })
}

/// What an AcrRegistry means to a check of its identity, or of another identity in its place. Whatever the pull secrets hold,
/// a service principal shows by its tokens whether its password and its role are right.
fn to_check(object: &AcrRegistry, instead: Option<SpecIdentity>) -> Result<AttachedRegistry, InvalidSpec> {
    let mut object = object.clone();
    object.spec.credential = None;
    if let Some(identity) = instead {
        object.spec.identity = identity;
    }
    AttachedRegistry::parse(&object)
}

async fn identity(client: &Client, own_namespace: &str, registry: &AttachedRegistry) -> SubjectIdentity {
    let of_pullpass = |what: &str| SubjectIdentity::Nobody {
        why: format!("only the running pullpass has the AcrRegistry's {what}: use --in-cluster"),
    };
    match registry.identity() {
        AttachedIdentity::WorkloadIdentity { .. } | AttachedIdentity::ServiceAccount(_) => {
            return of_pullpass("workload identity");
        }
        AttachedIdentity::ManagedIdentity(_) => return of_pullpass("managed identity"),
        AttachedIdentity::Anonymous => {
            return SubjectIdentity::Nobody {
                why: "needs an identity, and the AcrRegistry has none".to_owned(),
            };
        }
        AttachedIdentity::ServicePrincipal { .. } | AttachedIdentity::Basic(_) => {}
    }
    match resolve(client, own_namespace, registry, &WorkloadIdentityEnv::default()).await {
        Ok(resolved) => match resolved.source {
            CredentialSource::Mint(request) => SubjectIdentity::Mint(request),
            CredentialSource::Account(_) => of_pullpass("workload identity"),
            CredentialSource::Password(Password {
                username, password, ..
            }) => SubjectIdentity::Password {
                username: username.trim().to_owned(),
                password: password.trimmed(),
            },
        },
        Err(failure) if failure.reason == Reason::Unreachable => {
            SubjectIdentity::Nobody { why: failure.message }
        }
        Err(failure) => SubjectIdentity::Broken {
            message: failure.message,
        },
    }
}

/// Only metadata: the content of the Secret is not fetched.
async fn minted(client: &Client, own_namespace: &str, registry: &str) -> Minted {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_namespace);
    match call(secrets.get_metadata_opt(&minted_credential(registry))).await {
        Ok(Some(secret)) => Minted::There {
            refreshed_at: secret.annotations().get(REFRESHED_AT_ANNOTATION).cloned(),
        },
        Ok(None) => Minted::Missing,
        Err(error) => Minted::Unreadable(error.words()),
    }
}

async fn events(client: &Client, object: &AttachingObject) -> Result<Vec<RegistryEvent>, String> {
    let key = object.key();
    let (events, kind, name): (Api<Event>, _, _) = match binding_of_key(&key) {
        Some((namespace, name)) => (Api::namespaced(client.clone(), namespace), "AcrPullBinding", name),
        None => (Api::all(client.clone()), "AcrRegistry", &*key),
    };
    let about =
        ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
    let found = call(events.list(&about)).await.map_err(|error| error.words())?;
    // Those of a former object of that name say nothing of this one.
    let uid = object.uid();
    let is_of_it = |event: &Event| event.involved_object.uid == uid;
    let mut told: Vec<_> = found.items.into_iter().filter(is_of_it).map(told).collect();
    told.sort_by(|a, b| a.time.cmp(&b.time));
    let old = told.len().saturating_sub(MAX_EVENTS);
    Ok(told.split_off(old))
}

fn told(event: Event) -> RegistryEvent {
    let series = event.series.and_then(|series| series.last_observed_time);
    let time = series.or(event.event_time).map(|time| time.0);
    let time = time
        .or(event.last_timestamp.map(|time| time.0))
        .or(event.metadata.creation_timestamp.map(|time| time.0));
    RegistryEvent {
        time: time.map(|time| whole_seconds(time).to_string()),
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::target::tests::object;

    #[test]
    fn a_host_belongs_to_the_registries_that_admission_gives_it_to() {
        let host = "images.azurecr.contoso.com";
        let azures =
            |name: &str| json!({"loginServer": format!("{name}.azurecr.io"), "customDomains": [host]});
        let other = json!({"loginServer": host, "cloud": "Other"});
        let broken = json!({"loginServer": "x", "customDomains": [host]});
        for (specs, expected) in [
            (vec![], vec![]),
            (vec![&other, &other], vec!["a", "b"]),
            (vec![&azures("myregistry"), &other, &other], vec!["b", "c"]),
            (
                vec![
                    &broken,
                    &azures("myregistry"),
                    &azures("second"),
                    &azures("myregistry"),
                ],
                vec!["b", "d"],
            ),
            (vec![&broken], vec!["a"]),
        ] {
            let objects = ["a", "b", "c", "d"].into_iter().zip(specs);
            let mut objects: Vec<_> = objects.map(|(name, spec)| object(name, spec)).collect();
            objects.reverse();
            objects.push(object("e", &json!({"loginServer": "fifth.azurecr.io"})));
            objects.retain(|object| names_host(object, host));
            let names: Vec<_> = having(objects, host).iter().map(ResourceExt::name_any).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_registry_is_named_by_its_object_or_by_a_host_in_any_case() {
        for text in [
            "myregistry",
            "team-a.prod",
            "registry.contoso.com",
            "Registry.contoso.com:443",
        ] {
            let named = Named::parse(text, &OtherCloud::default()).map_err(|error| error.to_string());
            assert!(
                matches!(&named, Ok(Named::Registry(name)) if name == text),
                "{named:?}"
            );
        }
        let named = Named::parse("MyRegistry.azurecr.io:443", &OtherCloud::default());
        assert!(
            matches!(&named, Ok(Named::LoginServer(host)) if host.as_str() == "myregistry.azurecr.io"),
            "{named:?}"
        );
        for text in [
            "",
            "My_Registry",
            "MyRegistry",
            "myregistry:443",
            "a..b",
            "registry.contoso.com:5000",
            "registry.contoso.com/app",
            "Registry.azurecr.io.",
        ] {
            assert!(Named::parse(text, &OtherCloud::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_under_the_suffix_is_a_login_server() {
        let other_cloud = OtherCloud {
            suffix: Some("azurecr.contoso.com".parse().unwrap()),
            has_authority: false,
        };
        for (text, host) in [
            (
                "My-Registry.azurecr.Contoso.com:443",
                Some("my-registry.azurecr.contoso.com"),
            ),
            ("azurecr.contoso.com", None),
            ("myregistry.azurecr.contoso.com.evil.example", None),
            ("registry.contoso.com", None),
        ] {
            let login_server = match Named::parse(text, &other_cloud) {
                Ok(Named::LoginServer(login_server)) => Some(login_server.to_string()),
                Ok(Named::Registry(_)) => None,
                Err(error) => panic!("{text}: {error}"),
            };
            assert_eq!(login_server.as_deref(), host, "{text}");
        }
    }

    #[test]
    fn no_name_with_two_suffixes_is_advised() {
        for (name, advice) in [
            ("myregistry", Some("as in myregistry.azurecr.io")),
            ("myregistry.azurecr.contoso.com", Some("--other-cloud-suffix")),
            ("Registry.contoso.com:443", Some("--other-cloud-suffix")),
            ("abc.azurecr.io", None),
            ("team-a.0", None),
        ] {
            let advised = instead_of(name);
            match advice {
                Some(advice) => assert!(advised.is_some_and(|text| text.contains(advice)), "{name}"),
                None => assert_eq!(advised, None, "{name}"),
            }
        }
    }
}
