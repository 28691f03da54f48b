//! What to do where pull secrets are not where they should be: the same for statuses, Events and `pullpass check`.

use crate::api::names::{MANAGED_BY_LABEL, MANAGER};
use crate::api::reason::Reason;
use crate::base::remedy::{Remedy, run};

/// About the reason of `Distributed=False`; nothing about one that is none of it. With the namespace of an AcrPullBinding it is for
/// the namespace's owner.
pub(crate) fn of_undistributed(
    reason: Reason,
    pull_secret: &str,
    own_namespace: &str,
    namespace: Option<&str>,
) -> Vec<Remedy> {
    match reason {
        Reason::NameConflict => match namespace {
            Some(namespace) => of_conflict_in(namespace, pull_secret),
            None => of_conflict(pull_secret),
        },
        Reason::SecretsRefused => match namespace {
            Some(namespace) => of_refusal_in(namespace),
            None => of_refusal(own_namespace),
        },
        Reason::InvalidSpec
        | Reason::CredentialSecretMissing
        | Reason::ServiceAccountMissing
        | Reason::NotGranted
        | Reason::NamespaceNotInjected
        | Reason::TooManyBindings
        | Reason::EntraRejected
        | Reason::ExchangeRejected
        | Reason::Throttled
        | Reason::Unreachable
        | Reason::PullDenied
        | Reason::NotAsked => Vec::new(),
    }
}

fn of_conflict_in(namespace: &str, secret: &str) -> Vec<Remedy> {
    vec![run(
        "delete it, or create it again under another name; pullpass writes its own within a minute",
        format!("kubectl delete secret {secret} --namespace {namespace}"),
    )]
}

fn of_refusal_in(namespace: &str) -> Vec<Remedy> {
    vec![run(
        "check whether a quota is used up; if none is, ask a cluster administrator",
        format!("kubectl describe resourcequotas --namespace {namespace}"),
    )]
}

fn of_conflict(secret: &str) -> Vec<Remedy> {
    let of_others = format!("metadata.name={secret} --selector '{MANAGED_BY_LABEL}!={MANAGER}'");
    vec![
        run(
            "see the Secrets that have the pull secret's name and are not pullpass'",
            format!("kubectl get secrets --all-namespaces --field-selector {of_others}"),
        ),
        run(
            "delete those that nobody needs, or create them again under another name; pullpass writes its own within minutes",
            format!("kubectl delete secret {secret} --namespace NAMESPACE"),
        ),
    ]
}

fn of_refusal(own_namespace: &str) -> Vec<Remedy> {
    vec![
        run(
            "check whether pullpass has its rights",
            format!(
                "kubectl auth can-i patch secrets --all-namespaces --as system:serviceaccount:{own_namespace}:pullpass"
            ),
        ),
        run(
            "see which policies and webhooks may refuse Secrets, and exempt those of type kubernetes.io/dockerconfigjson named \
             pullpass-*",
            "kubectl get validatingadmissionpolicies,validatingwebhookconfigurations,mutatingwebhookconfigurations",
        ),
        run(
            "check whether a quota is used up in the namespace",
            "kubectl describe resourcequotas --namespace NAMESPACE",
        ),
    ]
}
