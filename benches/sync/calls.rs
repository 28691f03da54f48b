//! What the API server was asked, by its own count.

use std::collections::BTreeMap;

use http::Request;
use kube::Client;

use crate::support::Result;

/// What pullpass asks for. The API server has counts of its own requests too, about other resources.
const RESOURCES: [&str; 11] = [
    "acrindexes",
    "acrpullbindings",
    "acrregistries",
    "events",
    "leases",
    "mutatingwebhookconfigurations",
    "namespaces",
    "pods",
    "secrets",
    "serviceaccounts",
    "validatingwebhookconfigurations",
];
/// The API server counts this when it ends.
const LASTING: &str = "WATCH";
/// How the API server itself writes its Leases, which pullpass never does.
const OWN: (&str, &str) = ("PUT", "leases");

/// Calls by verb and resource.
#[derive(Clone, Default)]
pub(crate) struct Calls(BTreeMap<(String, String), f64>);

impl Calls {
    /// Those since the API server was started.
    pub(crate) async fn read(admin: &Client) -> Result<Self> {
        let request = Request::get("/metrics").body(Vec::new())?;
        Ok(Self::parse(&admin.request_text(request).await?))
    }

    fn parse(metrics: &str) -> Self {
        let mut calls = Self::default();
        for line in metrics.lines() {
            let Some((labels, value)) = line
                .strip_prefix("apiserver_request_total{")
                .and_then(|rest| rest.split_once("} "))
            else {
                continue;
            };
            // No label of this metric has a comma or a quote in it.
            let label = |wanted: &str| {
                labels
                    .split(',')
                    .filter_map(|label| label.split_once('='))
                    .find(|(name, _)| *name == wanted)
                    .map(|(_, value)| value.trim_matches('"'))
                    .unwrap_or_default()
            };
            let (verb, resource, subresource) = (label("verb"), label("resource"), label("subresource"));
            if !RESOURCES.contains(&resource) || verb == LASTING || (verb, resource) == OWN {
                continue;
            }
            let resource = if subresource.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}/{subresource}")
            };
            *calls.0.entry((verb.to_owned(), resource)).or_default() += value.parse().unwrap_or(0.0);
        }
        calls
    }

    /// Adds what came between two readings.
    pub(crate) fn add(&mut self, before: &Self, after: &Self) {
        for (call, count) in &after.0 {
            let more = count - before.0.get(call).unwrap_or(&0.0);
            if more > 0.0 {
                *self.0.entry(call.clone()).or_default() += more;
            }
        }
    }

    /// Verb, resource and count of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.0
            .iter()
            .map(|((verb, resource), count)| (verb.as_str(), resource.as_str(), *count))
    }
}
