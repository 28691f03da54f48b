//! Whether the hosts of an AcrRegistry outside the zones of Azure's clouds have an effect, which are its custom domains and a login
//! server of another cloud: they are its own, and the API server asks about Pods with images on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client};
use tokio::sync::Mutex;

use crate::api::advice::with_advice;
use crate::api::names::WEBHOOK_CONFIGURATION;
use crate::api::reason::Reason;
use crate::base::abridged::abridged;
use crate::base::clock::monotonic as now;
use crate::kubernetes::asked::unasked;
use crate::kubernetes::call::call;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};

/// How many domains a message names.
const MAX_NAMED: usize = 5;
/// How soon they are looked at again: nothing tells of a change of the webhook's configuration.
const DOMAINS_INTERVAL: Duration = Duration::from_mins(1);

/// How long the configuration is taken for what was read: one read is for all registries that are looked at together.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// The webhook's configuration, or why it can't be read.
type Configuration = Result<Option<Arc<MutatingWebhookConfiguration>>, String>;

/// The webhook's configuration as it was read a moment ago.
#[derive(Debug, Default)]
pub(super) struct ReadConfiguration(Mutex<Option<(Instant, Configuration)>>);

impl ReadConfiguration {
    /// Reads it, unless it was just now; who comes meanwhile waits for the same read.
    async fn get(&self, client: &Client) -> Configuration {
        let mut read = self.0.lock().await;
        let is_recent = |at: Instant| now().saturating_duration_since(at) < READ_INTERVAL;
        if let Some((_, known)) = read.as_ref().filter(|(at, _)| is_recent(*at)) {
            return known.clone();
        }
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let found = call(configurations.get_opt(WEBHOOK_CONFIGURATION)).await;
        let found = match found {
            Ok(found) => Ok(found.map(Arc::new)),
            Err(error) => Err(error.to_string()),
        };
        *read = Some((now(), found.clone()));
        found
    }
}

/// What is known of a registry's hosts outside the zones of Azure's clouds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Domains {
    /// The AcrRegistry has none.
    #[default]
    None,
    /// Other registries have some of them: each, and the AcrRegistry that has it.
    Taken(Vec<(String, String)>),
    /// The API server does not ask about Pods with images on these.
    Unasked(Vec<String>),
    /// There is no configuration of the webhook.
    NotInstalled,
    /// The configuration can't be read.
    Unknown(String),
    /// They have an effect.
    Asked,
}

impl Domains {
    /// Looks at the domains of a registry.
    pub(super) async fn look(
        client: &Client,
        configuration: &ReadConfiguration,
        registries: &AttachedRegistries,
        registry: &AttachedRegistry,
    ) -> Self {
        if registry.other_hosts().next().is_none() {
            return Self::None;
        }
        let taken: Vec<_> = registries
            .taken_from(registry)
            .map(|taken| (taken.domain.to_string(), taken.by.to_owned()))
            .collect();
        if !taken.is_empty() {
            return Self::Taken(taken);
        }
        match configuration.get(client).await {
            Err(error) => Self::Unknown(error),
            Ok(None) => Self::NotInstalled,
            Ok(Some(configuration)) => {
                let unasked = unasked(&configuration, registry.other_hosts());
                if unasked.is_empty() {
                    Self::Asked
                } else {
                    Self::Unasked(unasked.into_iter().map(ToString::to_string).collect())
                }
            }
        }
    }

    /// When they are to be looked at again.
    pub(super) fn interval(&self) -> Option<Duration> {
        (*self != Self::None).then_some(DOMAINS_INTERVAL)
    }

    /// What the condition says of them: status, reason and message. None where there is no such condition.
    pub(super) fn verdict(&self) -> Option<(&'static str, &'static str, String)> {
        let (status, reason, message) = match self {
            Self::None => return None,
            Self::Taken(taken) => {
                let said = taken.iter().map(|(domain, by)| {
                    format!("{domain} is a host of AcrRegistry {by}, which is for another registry")
                });
                let message = with_advice(&abridged(said, MAX_NAMED), Some("remove it from one of them"));
                ("False", Reason::NameConflict.as_str(), message)
            }
            Self::Unasked(domains) => (
                "False",
                Reason::NotAsked.as_str(),
                with_advice(
                    &format!(
                        "no match condition of MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION} names {}, so Pods with \
                         images there get no pull secret from the webhook",
                        abridged(domains, MAX_NAMED)
                    ),
                    Some(
                        "name them in the chart's value webhook.customDomains, or by the component custom-domains",
                    ),
                ),
            ),
            Self::NotInstalled => (
                "False",
                Reason::NotAsked.as_str(),
                format!("there is no MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}"),
            ),
            Self::Unknown(why) => (
                "Unknown",
                Reason::Unreachable.as_str(),
                format!("MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION} can't be read: {why}"),
            ),
            Self::Asked => (
                "True",
                "Asked",
                "the webhook is asked about Pods with images on each host outside Azure's zones".to_owned(),
            ),
        };
        Some((status, reason, message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_read_of_the_configuration_is_for_many_registries() {
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let server = tower::service_fn(move |_: http::Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let configuration = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": WEBHOOK_CONFIGURATION},
            });
            let body = Body::from(configuration.to_string().into_bytes());
            async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(http::Response::new(body))
            }
        });
        let client = Client::new(server, "own");
        let registry = |number: usize| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": format!("r{number}")},
                "spec": {
                    "loginServer": format!("registry{number}.azurecr.io"),
                    "identity": {"managedIdentity": {}},
                    "customDomains": [format!("r{number}.contoso.com")],
                },
            });
            AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
        };
        let registries: AttachedRegistries = (0..50).map(registry).collect();
        let configuration = ReadConfiguration::default();
        for expected in [1, 2] {
            let all = registries.all();
            let looks = all
                .into_iter()
                .map(|registry| Domains::look(&client, &configuration, &registries, registry));
            for domains in futures::future::join_all(looks).await {
                assert!(matches!(domains, Domains::Unasked(_)), "{domains:?}");
            }
            assert_eq!(reads.load(Ordering::Relaxed), expected);
            tokio::time::advance(READ_INTERVAL).await;
        }
    }

    #[test]
    fn domains_without_an_effect_are_told_of() {
        let texts = |count: usize| (0..count).map(|number| format!("{number}.contoso.com")).collect();
        for (domains, expected) in [
            (Domains::None, None),
            (Domains::Asked, Some(("True", "Asked", "is asked about"))),
            (
                Domains::Unasked(texts(7)),
                Some((
                    "False",
                    "NotAsked",
                    "names 0.contoso.com, 1.contoso.com, 2.contoso.com, 3.contoso.com, 4.contoso.com and 2 more,",
                )),
            ),
            (Domains::NotInstalled, Some(("False", "NotAsked", "there is no"))),
            (
                Domains::Taken(vec![("a.contoso.com".to_owned(), "first".to_owned())]),
                Some((
                    "False",
                    "NameConflict",
                    "a.contoso.com is a host of AcrRegistry first,",
                )),
            ),
            (
                Domains::Unknown("no".to_owned()),
                Some(("Unknown", "Unreachable", "can't be read: no")),
            ),
        ] {
            let verdict = domains.verdict();
            let told = verdict.as_ref().map(|(status, reason, _)| (*status, *reason));
            assert_eq!(told, expected.map(|(status, reason, _)| (status, reason)));
            if let (Some((.., message)), Some((.., part))) = (verdict, expected) {
                assert!(message.contains(part), "{message}");
            }
            assert_eq!(domains.interval().is_none(), domains == Domains::None);
        }
    }
}
