//! Hosts that registries have outside the zones of Azure's clouds: the webhook's conditions have to name them.

use super::{Facts, StepOutcome, counted, fault, judged, well};
use crate::api::names::WEBHOOK_CONFIGURATION;
use crate::base::abridged::abridged;
use crate::check::advice::kubectl;
use crate::check::finding::{Code, Cure};

/// How many hosts are named.
const MAX_NAMED: usize = 5;

/// The hosts outside the zones of Azure's clouds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unasked {
    /// How many there are.
    pub hosts: usize,
    /// Those that no condition names, each with its AcrRegistry.
    pub unasked: Vec<(String, String)>,
}

impl Facts {
    pub(super) fn custom_domains(&self) -> StepOutcome {
        judged(&self.unasked, |found| {
            if found.hosts == 0 {
                return well("no AcrRegistry has a host outside the zones of Azure's clouds");
            }
            if found.unasked.is_empty() {
                let hosts = counted(found.hosts, "host", "hosts");
                return well(format!(
                    "the webhook is asked about {hosts} outside Azure's zones"
                ));
            }
            let said = found
                .unasked
                .iter()
                .map(|(host, registry)| format!("{host} (AcrRegistry {registry})"));
            let cause = format!(
                "no match condition of MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION} names {}: Pods with images there \
                 get no pull secret from the webhook",
                abridged(said, MAX_NAMED)
            );
            fault(
                Code::CustomDomain,
                cause,
                vec![
                    Cure {
                        text: "Name them in the chart's value webhook.customDomains, or by the component custom-domains."
                            .to_owned(),
                        command: None,
                    },
                    kubectl(
                        "To see what the conditions name:",
                        format!(
                            "kubectl get mutatingwebhookconfiguration {WEBHOOK_CONFIGURATION} -o jsonpath='{{.webhooks[*].matchConditions}}'"
                        ),
                    ),
                ],
            )
        })
    }
}
