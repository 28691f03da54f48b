//! Whether replicas may reach API servers: a network policy is judged by the port that those listen on, behind their Service.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Cure, Facts, StepOutcome, fault};
use crate::check::finding::Code;

/// The ports on which the shipped `NetworkPolicy` lets replicas reach API servers: those of most clusters, of k3s beside a
/// load balancer, of minikube, and of `MicroK8s`.
pub const SHIPPED_PORTS: [i32; 5] = [443, 6443, 6444, 8443, 16443];

/// What was read of the way from replicas to API servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Egress {
    /// The ports that API servers listen on.
    pub ports: BTreeSet<i32>,
    /// The `NetworkPolicy` of pullpass, if there is one.
    pub policy: Option<NetworkPolicySpec>,
}

impl Egress {
    /// The ports of API servers that the policy lets nothing out to. Where it lets out to a port, it is taken to do so for
    /// every address.
    fn closed_ports(&self) -> Vec<i32> {
        let Some(policy) = &self.policy else {
            return Vec::new();
        };
        let types = policy.policy_types.as_deref().unwrap_or_default();
        let Some(rules) = policy
            .egress
            .as_deref()
            .or_else(|| types.iter().any(|kind| kind == "Egress").then_some(&[]))
        else {
            return Vec::new();
        };
        let is_open = |port: i32| {
            rules.iter().any(|rule| {
                let ports = rule.ports.as_deref().unwrap_or_default();
                ports.is_empty() || ports.iter().any(|open| lets_out(open, port))
            })
        };
        self.ports
            .iter()
            .copied()
            .filter(|port| !is_open(*port))
            .collect()
    }
}

/// Whether an entry is for this TCP port. A named port is one of Pods, which API servers are not.
fn lets_out(open: &NetworkPolicyPort, port: i32) -> bool {
    if open.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return false;
    }
    match &open.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=open.end_port.unwrap_or(*first)).contains(&port),
        Some(IntOrString::String(_)) => false,
    }
}

impl Facts {
    /// Why no replica is ready, where the network policy may be why: a replica runs in the network of Pods, and is not ready.
    pub(super) fn blocked(&self) -> Option<StepOutcome> {
        let egress = self.egress.as_ref().ok()?;
        if !self.replicas.as_ref().ok()?.iter().any(runs_in_the_pods_network) {
            return None;
        }
        let closed = egress.closed_ports();
        if closed.is_empty() {
            return None;
        }
        let ports: Vec<_> = closed.iter().map(|port| format!("{{\"port\":{port}}}")).collect();
        let rule = format!("{{\"ports\":[{}]}}", ports.join(","));
        // A list that is empty is not stored, and nothing can be added to it.
        let has_rules = egress
            .policy
            .as_ref()
            .and_then(|policy| policy.egress.as_ref())
            .is_some_and(|rules| !rules.is_empty());
        let patch = if has_rules {
            format!("[{{\"op\":\"add\",\"path\":\"/spec/egress/-\",\"value\":{rule}}}]")
        } else {
            format!("[{{\"op\":\"add\",\"path\":\"/spec/egress\",\"value\":[{rule}]}}]")
        };
        Some(fault(
            Code::EgressBlocked,
            format!(
                "no replica is ready, and the NetworkPolicy pullpass does not let replicas reach the API server, which listens on {}",
                listed(&closed)
            ),
            vec![
                self.own(
                    "Let replicas out to it:",
                    &format!("patch networkpolicy pullpass --type json --patch '{patch}'"),
                ),
                Cure {
                    text: format!(
                        "To make it permanent, add {rule} to the chart's value networkPolicy.extraEgress, or \
                         to your kustomization."
                    ),
                    command: None,
                },
                self.own(
                    "If that is not it, since another policy opens the port, or none is enforced, see what keeps the replicas from being ready:",
                    "describe pods --selector app.kubernetes.io/name=pullpass",
                ),
            ],
        ))
    }
}

fn runs_in_the_pods_network(pod: &Pod) -> bool {
    let runs = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let is_the_nodes = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    runs && !is_the_nodes
}

/// What is said before an installation, where API servers listen on these ports. It is no fault: the cluster's network may
/// enforce no policies, or the values may have the rule.
pub(super) fn before(ports: &BTreeSet<i32>) -> String {
    let other: Vec<_> = ports
        .iter()
        .copied()
        .filter(|port| !SHIPPED_PORTS.contains(port))
        .collect();
    if other.is_empty() {
        return "the shipped NetworkPolicy lets replicas reach the API server".to_owned();
    }
    format!(
        "the API server listens on {}, which the shipped NetworkPolicy does not allow: add it to networkPolicy.extraEgress",
        listed(&other)
    )
}

/// `port 443`, or `ports 443, 6443`.
fn listed(ports: &[i32]) -> String {
    let texts: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let noun = if ports.len() == 1 { "port" } else { "ports" };
    format!("{noun} {}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn closed(policy: Value) -> Vec<i32> {
        let policy = serde_json::from_value(policy).unwrap();
        let ports = BTreeSet::from([443, 7443]);
        Egress { ports, policy }.closed_ports()
    }

    #[test]
    fn a_port_is_open_where_a_rule_has_it() {
        let rules =
            |rules: Value| closed(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}));
        assert_eq!(rules(json!([{"ports": [{"port": 443}]}])), [7443]);
        assert_eq!(
            rules(json!([{"ports": [{"port": 443}]}, {"ports": [{"port": 7443, "protocol": "TCP"}]}])),
            [0; 0]
        );
        assert_eq!(
            rules(json!([{"ports": [{"port": 443, "endPort": 8000}]}])),
            [0; 0]
        );
        assert_eq!(
            rules(json!([{"ports": [{"port": 443}, {"port": 7443, "protocol": "UDP"}]}])),
            [7443]
        );
        assert_eq!(
            rules(json!([{"ports": [{"port": 443}, {"port": "https"}]}])),
            [7443]
        );
        assert_eq!(rules(json!([{"to": [{"podSelector": {}}]}])), [0; 0]);
        assert_eq!(rules(json!([])), [443, 7443]);
        assert_eq!(rules(Value::Null), [443, 7443]);
    }

    #[test]
    fn no_policy_of_egress_closes_no_port() {
        assert_eq!(closed(Value::Null), [0; 0]);
        assert_eq!(
            closed(json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
            [0; 0]
        );
    }

    #[test]
    fn ports_that_are_not_shipped_are_told_before() {
        assert!(!before(&BTreeSet::from(SHIPPED_PORTS)).contains("extraEgress"));
        assert_eq!(
            before(&BTreeSet::from([443, 7443])),
            "the API server listens on port 7443, which the shipped NetworkPolicy does not allow: add it to \
             networkPolicy.extraEgress"
        );
    }
}
