//! Whether a registry is ready, as its status says; and whether that is about what was just written.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::acr_registry::AcrRegistryStatus;
use crate::api::condition::READY;
use crate::api::names::{INPUTS_ANNOTATION, REFRESHED_AT_ANNOTATION};
use crate::api::reason::Reason;
use crate::base::clock::whole_seconds;
use crate::sync::credentials::Version;
use crate::sync::minting::secret_version;

/// How long an earlier failure is thought to be old news, once its cause may have changed. A status that says the same
/// again is not written again, so it can't be told apart; pullpass itself tries immediately.
pub(in crate::cli) const STALE_STATUS_TIMEOUT: Duration = Duration::from_secs(15);

/// What of a status is about the present.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Evidence {
    /// One of this generation, or a later one.
    Generation(i64),
    /// One that differs from this in its credential or its condition: the spec is the same, and the Secret is not.
    After(Option<AcrRegistryStatus>),
}

/// Its state.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum ReadyState {
    /// A credential is minted.
    Ready,
    /// Waiting does not help.
    Failed(Problem),
    /// It may still come.
    NotYet(Option<Problem>),
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Problem {
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
}

/// Whether the credential in a status was minted from the identity's Secret as it was written, or later, by the
/// annotations of the minted credential. The API server's order of versions decides, and no clock. None where nobody can tell,
/// since an earlier release minted it.
pub(super) fn is_minted_from(
    written: Version,
    annotations: &BTreeMap<String, String>,
    status: Option<&AcrRegistryStatus>,
) -> Option<bool> {
    let Some(inputs) = annotations.get(INPUTS_ANNOTATION) else {
        return Some(false);
    };
    let version = secret_version(inputs)?;
    let minted_at = annotations
        .get(REFRESHED_AT_ANNOTATION)
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map(|at| whole_seconds(at).to_string());
    let issued_at = status
        .and_then(|status| status.credential.as_ref())
        .and_then(|credential| credential.issued_at.clone());
    Some(version >= written && minted_at.is_some() && minted_at == issued_at)
}

/// Judges a status, some time after the writing; `is_minted` is what [`is_minted_from`] says, where a Secret was written.
pub(in crate::cli) fn judge(
    status: Option<&AcrRegistryStatus>,
    evidence: &Evidence,
    is_minted: Option<bool>,
    waited: Duration,
) -> ReadyState {
    let Some((status, condition)) =
        status.and_then(|status| ready(status).map(|condition| (status, condition)))
    else {
        return ReadyState::NotYet(None);
    };
    let is_ready = condition.status == "True";
    let is_news = match evidence {
        Evidence::Generation(generation) => status
            .observed_generation
            .is_some_and(|observed| observed >= *generation),
        Evidence::After(before) => {
            let said = before.as_ref().and_then(ready);
            let is_new = said.is_none_or(|said| {
                (&said.status, &said.reason, &said.message)
                    != (&condition.status, &condition.reason, &condition.message)
            });
            let is_other = before
                .as_ref()
                .is_none_or(|before| before.credential != status.credential);
            is_new || is_other || (!is_ready && waited >= STALE_STATUS_TIMEOUT)
        }
    };
    // While a mint waits for the last one, the status still describes the previous credential, whatever it says of
    // the spec.
    let is_news = match (evidence, is_minted) {
        (Evidence::Generation(_), Some(false)) if is_ready => false,
        (Evidence::After(_), Some(is_minted)) if is_ready => is_minted,
        (Evidence::Generation(_) | Evidence::After(_), _) => is_news,
    };
    if !is_news {
        return ReadyState::NotYet(None);
    }
    if is_ready {
        return ReadyState::Ready;
    }
    let problem = Problem {
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    };
    let is_final = [Reason::EntraRejected, Reason::InvalidSpec]
        .iter()
        .any(|reason| reason.as_str() == problem.reason);
    if is_final {
        ReadyState::Failed(problem)
    } else {
        ReadyState::NotYet(Some(problem))
    }
}

fn ready(status: &AcrRegistryStatus) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == READY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Duration = Duration::ZERO;

    fn status(generation: i64, reason: &str, issued_at: Option<&str>) -> AcrRegistryStatus {
        let ready = if reason == "Minted" { "True" } else { "False" };
        serde_json::from_value(json!({
            "observedGeneration": generation,
            "conditions": [{
                "type": "Ready", "status": ready, "reason": reason, "message": "said",
                "lastTransitionTime": "2026-11-22T18:00:00Z",
            }],
            "credential": {"issuedAt": issued_at},
        }))
        .unwrap()
    }

    fn problem(reason: &str) -> Problem {
        Problem {
            reason: reason.to_owned(),
            message: "said".to_owned(),
        }
    }

    #[test]
    fn only_a_problem_that_may_pass_is_waited_for() {
        let at = Evidence::Generation(1);
        let judged = |reason| judge(Some(&status(1, reason, None)), &at, None, NOW);
        assert_eq!(judged("Minted"), ReadyState::Ready);
        for reason in ["EntraRejected", "InvalidSpec"] {
            assert_eq!(judged(reason), ReadyState::Failed(problem(reason)));
        }
        for reason in [
            "CredentialSecretMissing",
            "ExchangeRejected",
            "Throttled",
            "Unreachable",
        ] {
            assert_eq!(judged(reason), ReadyState::NotYet(Some(problem(reason))));
        }
    }

    #[test]
    fn a_status_of_an_older_spec_says_nothing() {
        let at = Evidence::Generation(2);
        assert_eq!(
            judge(Some(&status(1, "Minted", None)), &at, None, NOW),
            ReadyState::NotYet(None)
        );
        assert_eq!(
            judge(Some(&status(2, "Minted", None)), &at, None, NOW),
            ReadyState::Ready
        );
        assert_eq!(judge(None, &at, None, NOW), ReadyState::NotYet(None));
        assert_eq!(
            judge(Some(&AcrRegistryStatus::default()), &at, None, NOW),
            ReadyState::NotYet(None)
        );
    }

    #[test]
    fn after_a_new_password_the_old_credential_does_not_count() {
        let old = status(1, "Minted", Some("2026-11-22T18:00:00Z"));
        let after = Evidence::After(Some(old.clone()));
        let hour = Duration::from_hours(1);
        assert_eq!(judge(Some(&old), &after, None, hour), ReadyState::NotYet(None));
        let new = status(1, "Minted", Some("2026-11-22T18:00:07Z"));
        assert_eq!(judge(Some(&new), &after, None, NOW), ReadyState::Ready);
        let refused = status(1, "EntraRejected", Some("2026-11-22T18:00:00Z"));
        assert_eq!(
            judge(Some(&refused), &after, None, NOW),
            ReadyState::Failed(problem("EntraRejected"))
        );
    }

    #[test]
    fn a_failure_that_is_said_again_counts_after_a_while() {
        let refused = status(1, "EntraRejected", None);
        let after = Evidence::After(Some(refused.clone()));
        assert_eq!(judge(Some(&refused), &after, None, NOW), ReadyState::NotYet(None));
        assert_eq!(
            judge(Some(&refused), &after, None, STALE_STATUS_TIMEOUT),
            ReadyState::Failed(problem("EntraRejected"))
        );
        assert_eq!(
            judge(Some(&status(1, "Minted", Some("now"))), &after, None, NOW),
            ReadyState::Ready
        );
    }

    #[test]
    fn previous_credential_is_no_evidence_for_a_new_secret() {
        let previous = "2026-11-22T18:00:00Z";
        let at = Evidence::Generation(2);
        let after = Evidence::After(Some(status(1, "Minted", Some("2026-11-22T17:00:00Z"))));
        for (evidence, is_minted, expected) in [
            // The spec was taken up, and the mint waits for the last one.
            (&at, Some(false), ReadyState::NotYet(None)),
            (&at, Some(true), ReadyState::Ready),
            // What was minted as the Secret was written, from what it held before.
            (&after, Some(false), ReadyState::NotYet(None)),
            (&after, Some(true), ReadyState::Ready),
            (&after, None, ReadyState::Ready),
        ] {
            let told = status(2, "Minted", Some(previous));
            assert_eq!(
                judge(Some(&told), evidence, is_minted, NOW),
                expected,
                "{evidence:?}"
            );
        }
        let older = judge(Some(&status(1, "Minted", Some(previous))), &at, Some(true), NOW);
        assert_eq!(older, ReadyState::NotYet(None), "not of this spec");
        let refused = judge(Some(&status(2, "EntraRejected", None)), &at, Some(false), NOW);
        assert_eq!(refused, ReadyState::Failed(problem("EntraRejected")));
    }

    #[test]
    fn versions_say_what_a_credential_was_minted_from() {
        let written = Version::parse(Some("100")).unwrap();
        let minted = |inputs: Option<&str>, issued_at: &str| {
            let mut annotations = BTreeMap::new();
            annotations.insert(
                REFRESHED_AT_ANNOTATION.to_owned(),
                "2026-11-22T18:00:00.7Z".to_owned(),
            );
            annotations.extend(inputs.map(|inputs| (INPUTS_ANNOTATION.to_owned(), inputs.to_owned())));
            is_minted_from(written, &annotations, Some(&status(1, "Minted", Some(issued_at))))
        };
        let now = "2026-11-22T18:00:00Z";
        assert_eq!(minted(Some("abc/99"), now), Some(false));
        assert_eq!(minted(Some("abc/100"), now), Some(true));
        assert_eq!(minted(Some("abc/1000"), now), Some(true));
        assert_eq!(
            minted(Some("abc/100"), "2026-11-22T17:59:00Z"),
            Some(false),
            "an older status"
        );
        assert_eq!(minted(None, now), Some(false), "emptied");
        assert_eq!(
            minted(Some("0123456789abcdef"), now),
            None,
            "of an earlier release"
        );
    }
}
