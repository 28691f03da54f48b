//! Why an AcrPullBinding gets no pull secret, whatever its spec says. Pure: it knows what the caches do.

use std::sync::Arc;

use kube::ResourceExt;

use super::{MintFailure, Parsed};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::advice::with_advice;
use crate::api::names::{INJECT_LABEL, namesake_of_binding, pull_secret};
use crate::api::reason::Reason;
use crate::policy::attached::AttachedRegistry;
use crate::policy::attached::bindings::MAX_SERVED;
use crate::policy::scope::Scope;
use crate::view::View;

/// Why a binding gets no pull secret, if so.
///
/// Those past the ones that are served come first: they are told once and cost nothing afterwards, also where the namespace is
/// not injected, whose others are looked at again and again.
pub(super) fn obstacle(
    view: &View,
    scope: &Scope,
    object: &AcrPullBinding,
    parsed: &Parsed,
) -> Option<MintFailure> {
    let namesake = namesake_of_binding(&object.name_any());
    if view.registries().is_attached(&namesake) {
        return Some(MintFailure {
            reason: Reason::NameConflict,
            message: with_advice(
                &format!(
                    "{} is the pull secret of AcrRegistry {namesake}",
                    pull_secret(&namesake)
                ),
                Some("create the AcrPullBinding again under another name"),
            ),
            retry_after: None,
        });
    }
    let namespace = object.namespace().unwrap_or_default();
    let labels = view.labels(&namespace)?;
    let binding = parsed.as_ref().ok();
    let crowded_out = binding.and_then(|binding| crowded_out(view, binding, &namespace));
    crowded_out.or_else(|| {
        let is_injected = scope.injects(&namespace, Some(&labels));
        (!is_injected).then(|| not_injected(&namespace))
    })
}

fn not_injected(namespace: &str) -> MintFailure {
    MintFailure {
        reason: Reason::NamespaceNotInjected,
        message: with_advice(
            &format!("namespace {namespace} gets no pull secrets from pullpass"),
            Some(&format!(
                "see its labels ({INJECT_LABEL} among them), and --mode, --exclude-namespaces and --namespace-selector of \
                 pullpass"
            )),
        ),
        retry_after: None,
    }
}

/// That a binding is one of more than are served in its namespace, if so.
fn crowded_out(view: &View, binding: &AttachedRegistry, namespace: &str) -> Option<MintFailure> {
    let served = view.bindings_in(namespace)?;
    // The one that it replaces under its name takes no place from it.
    let others = || served.values().filter(|other| other.name() != binding.name());
    let is_older = |other: &Arc<AttachedRegistry>| other.seniority() < binding.seniority();
    let is_crowded_out = others().count() >= MAX_SERVED && others().all(is_older);
    is_crowded_out.then(|| MintFailure {
        reason: Reason::TooManyBindings,
        message: with_advice(
            &format!(
                "namespace {namespace} has more than {MAX_SERVED} AcrPullBindings, of which the oldest are served"
            ),
            Some(&format!(
                "delete one that is not needed, and this one may be served: kubectl get acrpullbindings --namespace \
                 {namespace} --sort-by .metadata.creationTimestamp"
            )),
        ),
        retry_after: None,
    })
}

/// Whether a binding's status says already that it is one of more than are served, and nothing is to be done about it.
pub(super) fn is_told(object: &AcrPullBinding, failure: &MintFailure) -> bool {
    let status = object.status.as_ref();
    let conditions = status.into_iter().flat_map(|status| &status.conditions);
    failure.reason == Reason::TooManyBindings
        && conditions.into_iter().any(|condition| {
            condition.reason == failure.reason.as_str()
                && condition.observed_generation == object.metadata.generation
        })
}
