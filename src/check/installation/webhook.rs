//! The webhook's configuration, and the namespace that it and the fence name.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};

use super::{Cure, Facts, StepOutcome, apply_again, counted, fault, judged, skipped, well};
use crate::api::names::{
    ALWAYS_PATH, ALWAYS_WEBHOOK, NAMESPACE_NAME_LABEL, PODS_PATH, PODS_WEBHOOK, SERVICE, WEBHOOK_CERTIFICATE,
    WEBHOOK_CONFIGURATION,
};
use crate::check::advice::kubectl;
use crate::check::finding::Code;
use crate::policy::scope::Membership;

/// The port of a Service that an entry calls which names none.
const HTTPS: i32 = 443;

impl Facts {
    pub(super) fn webhook(&self) -> StepOutcome {
        judged(&self.webhook, |configuration| {
            let Some(configuration) = configuration else {
                let cause = format!(
                    "there is no MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}: no Pod is injected"
                );
                return fault(Code::WebhookMissing, cause, vec![apply_again()]);
            };
            let entries = entries(configuration);
            for name in [PODS_WEBHOOK, ALWAYS_WEBHOOK] {
                if !entries.iter().any(|entry| entry.name == name) {
                    let cause = format!(
                        "the MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION} has no entry {name}"
                    );
                    return fault(Code::WebhookMissing, cause, vec![apply_again()]);
                }
            }
            let bare = entries.iter().find(|entry| bundle(entry).is_empty());
            if let Some(entry) = bare {
                let cause = format!(
                    "the entry {} has no caBundle: the API server trusts no certificate of pullpass",
                    entry.name
                );
                return fault(
                    Code::CaMissing,
                    cause,
                    vec![self.leaders_log(), self.certificates_secret()],
                );
            }
            if let Some(cause) = astray(&entries) {
                return fault(Code::Unreachable, cause, vec![apply_again()]);
            }
            well(format!(
                "{} with a caBundle",
                counted(entries.len(), "entry", "entries")
            ))
        })
    }

    /// What `namespace:` in a kustomization leaves as it was: the selectors, and the names in the policies.
    pub(super) fn namespace(&self) -> StepOutcome {
        let own = self.own_namespace.as_str();
        let mut others = Vec::new();
        if let Ok(found) = &self.deployed_in
            && !found.iter().any(|namespace| namespace == own)
        {
            let Some(other) = found.first() else {
                return fault(
                    Code::NoEndpoints,
                    format!("there is no Deployment of pullpass in {own}, nor in another namespace"),
                    vec![apply_again()],
                );
            };
            others.push(format!("the Deployment is in {other}, and not in {own}"));
        }
        if let Ok(Some(configuration)) = &self.webhook {
            for entry in entries(configuration) {
                others.extend(misplaced(entry, own));
            }
        }
        for policy in self.fence.iter().flatten() {
            let account = format!("'system:serviceaccount:{own}:pullpass'");
            let conditions = policy.conditions.iter().flatten();
            let is_other = |condition: &String| {
                condition.contains("system:serviceaccount:") && !condition.contains(&account)
            };
            if conditions.into_iter().any(is_other) {
                others.push(format!(
                    "the policy {} is about another ServiceAccount",
                    policy.name
                ));
            }
        }
        if others.is_empty() {
            let known = self.deployed_in.as_ref().err().or(self.webhook.as_ref().err());
            return match known {
                Some(why) => skipped(why.clone()),
                None => well(format!("every object names {own}")),
            };
        }
        others.dedup();
        fault(
            Code::NamespaceMoved,
            format!(
                "pullpass does not run in the namespace that its objects name: {}",
                others.join("; ")
            ),
            vec![
                Cure {
                    text: "If pullpass is installed in another namespace, name it with --own-namespace."
                        .to_owned(),
                    command: None,
                },
                Cure {
                    text:
                        "Otherwise remove `namespace:` from the kustomization, and the targetNamespace from \
                           GitOps tools; to install in another namespace, use the chart, which changes every \
                           name:"
                            .to_owned(),
                    command: Some(format!(
                        "helm upgrade --install pullpass manifests/chart --namespace {own} --create-namespace"
                    )),
                },
            ],
        )
    }

    pub(super) fn injection(&self) -> StepOutcome {
        judged(&self.looked_at, |looked_at| {
            let Some(looked_at) = looked_at else {
                return skipped(
                    "no namespace is injected yet: see the namespaceSelector of the webhook, and the labels of namespaces"
                        .to_owned(),
                );
            };
            let name = &looked_at.name;
            let (why, command) = match looked_at.membership {
                Membership::Injected { .. } => return well(format!("Pods of {name} are injected")),
                Membership::Excluded => (
                    "it is excluded by name",
                    "kubectl get mutatingwebhookconfiguration pullpass -o jsonpath='{.webhooks[0].namespaceSelector}'"
                        .to_owned(),
                ),
                Membership::OptedOut => (
                    "its label pullpass.dev/inject says disabled",
                    format!("kubectl label namespace {name} pullpass.dev/inject-"),
                ),
                Membership::NotOptedIn => (
                    "the mode is opt-in, and no label pullpass.dev/inject says enabled",
                    format!("kubectl label namespace {name} pullpass.dev/inject=enabled"),
                ),
                Membership::NotSelected => (
                    "the webhook's selectors do not pick its labels",
                    "kubectl get mutatingwebhookconfiguration pullpass -o jsonpath='{.webhooks[0].namespaceSelector}'"
                        .to_owned(),
                ),
            };
            let text = match looked_at.membership {
                Membership::Excluded => {
                    "System namespaces and pullpass' own are always excluded; see which others are:"
                }
                Membership::NotSelected => {
                    "To inject its Pods, give the namespace the labels that this selector wants:"
                }
                Membership::Injected { .. } | Membership::OptedOut | Membership::NotOptedIn => {
                    "To inject its Pods:"
                }
            };
            let mut cures = vec![kubectl(text, command)];
            if looked_at.membership == Membership::NotSelected {
                let labels = format!("kubectl get namespace {name} --show-labels");
                cures.push(kubectl("To see the labels that it has:", labels));
            }
            fault(
                Code::NotInjected,
                format!("Pods of the namespace {name} get no pull secret: {why}"),
                cures,
            )
        })
    }

    /// Whether entries publish different authorities: that one is trusted does not show then that another one is.
    pub fn bundles_differ(&self) -> bool {
        let configuration = self.webhook.as_ref().ok().and_then(Option::as_ref);
        let bundles: BTreeSet<_> = configuration.into_iter().flat_map(entries).map(bundle).collect();
        bundles.len() > 1
    }

    /// Why a leader does not write what it should.
    pub(super) fn leaders_log(&self) -> Cure {
        self.own(
            "The leader, or cert-manager, writes it within seconds; see its log:",
            "logs --selector app.kubernetes.io/name=pullpass --tail 20",
        )
    }

    pub(super) fn certificates_secret(&self) -> Cure {
        self.own(
            "To have pullpass issue its authority and certificate again, if they are its own:",
            &format!("delete secret {WEBHOOK_CERTIFICATE}"),
        )
    }
}

pub(super) fn entries(configuration: &MutatingWebhookConfiguration) -> Vec<&MutatingWebhook> {
    configuration.webhooks.iter().flatten().collect()
}

/// What the API server trusts where it calls an entry.
pub fn bundle(entry: &MutatingWebhook) -> &[u8] {
    let bundle = entry.client_config.ca_bundle.as_ref();
    bundle.map(|bundle| bundle.0.as_slice()).unwrap_or_default()
}

/// How what an entry calls differs from what pullpass serves. The dry run is about the first entry alone, so the port of the
/// other one is compared with its port; what has a URL in place of a Service is somebody's own.
fn astray(entries: &[&MutatingWebhook]) -> Option<String> {
    let mut first = None;
    for (name, path) in [(PODS_WEBHOOK, PODS_PATH), (ALWAYS_WEBHOOK, ALWAYS_PATH)] {
        let entry = entries.iter().find(|entry| entry.name == name)?;
        let Some(service) = &entry.client_config.service else {
            continue;
        };
        if service.name != SERVICE {
            return Some(format!(
                "the entry {name} calls the Service {}, and not {SERVICE}",
                service.name
            ));
        }
        let posts_to = service.path.as_deref().unwrap_or("/");
        if posts_to != path {
            return Some(format!("the entry {name} posts to {posts_to}, and not to {path}"));
        }
        let port = service.port.unwrap_or(HTTPS);
        if let Some(other) = first.replace(port).filter(|other| *other != port) {
            return Some(format!(
                "the entry {name} calls port {port} of the Service {SERVICE}, and {PODS_WEBHOOK} calls port {other}"
            ));
        }
    }
    None
}

/// What of an entry names another namespace than pullpass' own.
fn misplaced(entry: &MutatingWebhook, own: &str) -> Vec<String> {
    let name = &entry.name;
    let mut found = Vec::new();
    if let Some(service) = &entry.client_config.service
        && service.namespace != own
    {
        found.push(format!(
            "the entry {name} calls a Service in {}",
            service.namespace
        ));
    }
    let selector = entry.namespace_selector.clone().unwrap_or_default();
    let is_left_out = selector
        .match_expressions
        .into_iter()
        .flatten()
        .any(|expression| {
            expression.key == NAMESPACE_NAME_LABEL
                && expression.operator == "NotIn"
                && expression.values.iter().flatten().any(|value| value == own)
        });
    if !is_left_out {
        found.push(format!("the selector of {name} does not leave {own} out"));
    }
    found
}
