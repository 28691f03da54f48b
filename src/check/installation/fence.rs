//! The policies of `manifests/base/fence.yaml`, and those that components have for the same.

use super::{Facts, StepOutcome, apply_again, counted, fault, judged, well};
use crate::check::finding::Code;

/// Their names, which their bindings have too.
pub const FENCES: [&str; 3] = ["pullpass-secrets", "pullpass-own-secrets", "pullpass-tokens"];

/// That of the component `reports`.
pub const REPORT_FENCES: [&str; 1] = ["pullpass-reports"];

/// A policy of [`FENCES`] or [`REPORT_FENCES`] in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FencePolicy {
    /// Its name.
    pub name: String,
    /// The expressions of its match conditions; none if it is not there.
    pub conditions: Option<Vec<String>>,
    /// Whether its binding has the API server deny what it refuses.
    pub is_enforced: bool,
}

impl Facts {
    pub(super) fn fence(&self) -> StepOutcome {
        judged(&self.fence, |policies| {
            let names = |is_so: fn(&FencePolicy) -> bool| {
                let named = policies.iter().filter(|policy| is_so(policy));
                named.map(|policy| policy.name.as_str()).collect::<Vec<_>>()
            };
            let missing = names(|policy| policy.conditions.is_none());
            if !missing.is_empty() {
                let cause = format!(
                    "there is no ValidatingAdmissionPolicy {}: pullpass could touch Secrets, tokens or Reports that are not its own",
                    missing.join(", ")
                );
                return fault(Code::FenceMissing, cause, vec![apply_again()]);
            }
            let unbound = names(|policy| !policy.is_enforced);
            if !unbound.is_empty() {
                let cause = format!(
                    "no ValidatingAdmissionPolicyBinding {} denies what the policy refuses: it has no effect",
                    unbound.join(", ")
                );
                return fault(Code::FenceUnbound, cause, vec![apply_again()]);
            }
            well(format!(
                "{}, bound",
                counted(policies.len(), "policy", "policies")
            ))
        })
    }
}
