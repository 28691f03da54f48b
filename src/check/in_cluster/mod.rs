//! What the running pullpass says of a registry, by what it has left in the cluster: the status of the AcrRegistry, or of the
//! AcrPullBinding, and the metadata of the minted credential. Nothing is asked of pullpass itself, or of Azure.

mod code;
mod object;

use jiff::{SignedDuration, Timestamp};

use self::code::code_of;
pub use self::object::AttachingObject;
use super::advice::{apply_again, compare_settings, kubectl, listed, new_secret, of_status};
use super::finding::{CheckStep, Code, Cure, Finding, StepOutcome, failed, passed};
use super::judge::span;
use crate::api::acr_registry::{AcrRegistryStatus, CredentialStatus};
use crate::api::advice::parted;
use crate::api::condition::{CUSTOM_DOMAINS, DISTRIBUTED, PULL_AUTHORIZED, READY};
use crate::api::names::minted_credential;
use crate::api::reason::Reason;
use crate::api::undistributed::of_undistributed;
use crate::azure::mint::MintFault;
use crate::azure::remedy::EntraFault;
use crate::base::clock::whole_seconds;
use crate::policy::attached::AttachedRegistry;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::policy::server_policies::{About, Disagreement, ServerPolicies};

/// How late a refresh may be: the leader may just have changed.
const REFRESH_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

/// The Secret with the minted credential, as far as its metadata goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minted {
    /// It is there.
    There {
        /// When it was minted, if it says so.
        refreshed_at: Option<String>,
    },
    /// It is not there.
    Missing,
    /// The user may not read it.
    Unreadable(String),
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What attaches the registry.
    pub object: AttachingObject,
    /// Its minted credential.
    pub minted: Minted,
    /// pullpass' own namespace.
    pub own_namespace: String,
    /// The API server's own admission policies.
    pub policies: ServerPolicies,
    /// The time.
    pub now: Timestamp,
}

impl Facts {
    /// Its state.
    pub fn findings(&self) -> Vec<Finding> {
        let status = self.object.status().cloned().unwrap_or_default();
        let parsed = self.object.parse();
        let registry = parsed.as_ref().ok();
        let finding = |step, outcome| Finding {
            step,
            took: None,
            outcome,
        };
        let spec = self.spec(&parsed);
        let seen = self.controller(&status);
        let is_seen = !matches!(seen, StepOutcome::Failed(_));
        let mut findings = vec![
            finding(CheckStep::Spec, spec),
            finding(CheckStep::Controller, seen),
        ];
        let rest = [
            (CheckStep::Ready, self.ready(&status, registry)),
            (CheckStep::Credential, self.credential(&status, registry)),
            (CheckStep::PullSecrets, self.pull_secrets(&status)),
            (CheckStep::PullAuthorized, pull_authorized(&status, registry)),
        ];
        let domains = self
            .custom_domains(&status)
            .map(|outcome| (CheckStep::CustomDomains, outcome));
        findings.extend(rest.into_iter().chain(domains).map(|(step, outcome)| {
            let outcome = if is_seen {
                outcome
            } else {
                StepOutcome::Skipped {
                    why: "no leader has processed the present spec".to_owned(),
                }
            };
            finding(step, outcome)
        }));
        findings.push(finding(CheckStep::Policies, self.policies()));
        findings
    }

    fn spec(&self, parsed: &Result<AttachedRegistry, InvalidSpec>) -> StepOutcome {
        match parsed {
            Ok(registry) => passed(registry.login_server().to_string()),
            Err(error) => failed(
                Code::LoginServer,
                error.to_string(),
                vec![self.edit("Correct the spec:")],
            ),
        }
    }

    fn controller(&self, status: &AcrRegistryStatus) -> StepOutcome {
        let generation = self.object.generation().unwrap_or_default();
        let is_seen = status.observed_generation == self.object.generation();
        if is_seen && !status.conditions.is_empty() {
            return passed(format!("has seen generation {generation} of the spec"));
        }
        let namespace = &self.own_namespace;
        failed(
            Code::Controller,
            format!("no leader has processed generation {generation} of the spec"),
            vec![
                kubectl(
                    "If it was just written, wait some seconds. Else check that pullpass runs:",
                    format!("kubectl --namespace {namespace} get pods"),
                ),
                kubectl(
                    "And which replica leads:",
                    format!("kubectl --namespace {namespace} get lease pullpass"),
                ),
            ],
        )
    }

    fn ready(&self, status: &AcrRegistryStatus, registry: Option<&AttachedRegistry>) -> StepOutcome {
        let Some(condition) = status.conditions.iter().find(|known| known.type_ == READY) else {
            return failed(
                Code::Controller,
                "there is no condition Ready".to_owned(),
                Vec::new(),
            );
        };
        if condition.status == "True" {
            return passed(format!("{}: {}", condition.reason, condition.message));
        }
        let (cause, advice) = parted(&condition.message);
        let reason = Reason::named(&condition.reason);
        let code = code_of(reason, MintFault::told_in(cause));
        let mut cures = registry.map_or_else(Vec::new, |registry| new_secret_for(registry, cause));
        if cures.is_empty() {
            cures.extend(advice.map(of_status));
        }
        if reason == Some(Reason::CredentialSecretMissing) {
            cures.push(kubectl(
                "See which Secrets there are:",
                format!("kubectl --namespace {} get secrets", self.own_namespace),
            ));
        }
        if reason == Some(Reason::InvalidSpec) {
            cures.push(self.edit("Correct the spec:"));
        }
        failed(code, format!("{}: {cause}", condition.reason), cures)
    }

    fn credential(&self, status: &AcrRegistryStatus, registry: Option<&AttachedRegistry>) -> StepOutcome {
        let Some(credential) = &status.credential else {
            return StepOutcome::Skipped {
                why: if is_anonymous(registry) {
                    "pulls need none".to_owned()
                } else {
                    "none was minted yet".to_owned()
                },
            };
        };
        if self.minted == Minted::Missing {
            return failed(
                Code::Controller,
                format!(
                    "Secret {} in namespace {} is gone; the leader mints it again",
                    minted_credential(&self.object.key()),
                    self.own_namespace
                ),
                vec![self.logs()],
            );
        }
        let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
        let CredentialStatus {
            expires_at,
            next_refresh,
            ..
        } = credential;
        if let Some(expired) = time(expires_at).map(|end| self.now.duration_since(end))
            && expired.is_positive()
        {
            return failed(
                Code::Controller,
                format!("the credential expired {} ago", span(expired)),
                vec![self.logs()],
            );
        }
        if let Some(late) = time(next_refresh).map(|next| self.now.duration_since(next))
            && late > REFRESH_TIMEOUT
        {
            return failed(
                Code::Controller,
                format!("the credential should have been refreshed {} ago", span(late)),
                vec![self.logs()],
            );
        }
        let minted = match (&self.minted, &credential.issued_at) {
            (
                Minted::There {
                    refreshed_at: Some(at),
                },
                _,
            )
            | (_, Some(at)) => format!("minted {}", seconds(at)),
            (Minted::There { refreshed_at: None } | Minted::Missing | Minted::Unreadable(_), None) => {
                "minted".to_owned()
            }
        };
        let expiry = match expires_at {
            Some(end) => format!(", expires {end}"),
            None => ", has no expiry".to_owned(),
        };
        let unread = match &self.minted {
            Minted::Unreadable(why) => format!(" (by the status: {why})"),
            Minted::There { .. } | Minted::Missing => String::new(),
        };
        passed(format!("{minted}{expiry}{unread}"))
    }

    fn pull_secrets(&self, status: &AcrRegistryStatus) -> StepOutcome {
        let (served, failures) = status
            .namespaces
            .as_ref()
            .map_or((0, 0), |namespaces| (namespaces.served, namespaces.failed));
        let counted = format!("could not be written in {failures} namespaces, and were in {served}");
        let condition = status
            .conditions
            .iter()
            .find(|known| known.type_ == DISTRIBUTED && known.status == "False");
        let Some(condition) = condition else {
            if failures == 0 {
                return match self.object.namespace() {
                    Some(namespace) if served > 0 => passed(format!("in namespace {namespace}")),
                    Some(_) => StepOutcome::Skipped {
                        why: "there is no credential to write".to_owned(),
                    },
                    None => passed(format!("in {served} namespaces")),
                };
            }
            return failed(Code::PullSecret, counted, vec![self.describe()]);
        };
        let (cause, _) = parted(&condition.message);
        let cause = format!("{}: {cause} ({counted})", condition.reason);
        failed(Code::PullSecret, cause, self.distribute(&condition.reason))
    }

    /// Whether the hosts outside Azure's zones have an effect; nothing if there are none.
    fn custom_domains(&self, status: &AcrRegistryStatus) -> Option<StepOutcome> {
        if !self.object.has_other_hosts() {
            return None;
        }
        let mut conditions = status.conditions.iter();
        let Some(condition) = conditions.find(|known| known.type_ == CUSTOM_DOMAINS) else {
            return Some(StepOutcome::Skipped {
                why: "the status does not say whether they have an effect".to_owned(),
            });
        };
        Some(match condition.status.as_str() {
            "True" => passed(condition.message.clone()),
            "False" => {
                let (cause, advice) = parted(&condition.message);
                let cause = format!("{}: {cause}", condition.reason);
                failed(
                    Code::CustomDomain,
                    cause,
                    advice.map(of_status).into_iter().collect(),
                )
            }
            _ => StepOutcome::Skipped {
                why: condition.message.clone(),
            },
        })
    }

    /// What to do about pull secrets that are not where they should be.
    fn distribute(&self, reason: &str) -> Vec<Cure> {
        let (secret, namespace) = (self.object.pull_secret(), self.object.namespace());
        let remedies = Reason::named(reason)
            .map(|reason| of_undistributed(reason, &secret, &self.own_namespace, namespace.as_deref()));
        match remedies {
            Some(remedies) if !remedies.is_empty() => listed(remedies),
            Some(_) | None => vec![self.describe()],
        }
    }

    /// Whether what the API server does by itself is what the webhook does. The flags of pullpass and the webhook's selectors
    /// are to agree without policies, too.
    fn policies(&self) -> StepOutcome {
        let policies = &self.policies;
        let told: Vec<_> = policies
            .disagreements
            .iter()
            .map(|Disagreement { text, .. }| text.as_str())
            .collect();
        let cures = cures_of_policies(policies);
        if !cures.is_empty() {
            return failed(Code::Policy, told.join("; "), cures);
        }
        // That a text is of another version is a note.
        let noted = |text: String| {
            [text.as_str()]
                .into_iter()
                .chain(told)
                .collect::<Vec<_>>()
                .join("; ")
        };
        match (policies.does(), policies.inject, policies.enforce) {
            (Some(does), ..) => passed(noted(format!(
                "{does} in the API server, for the webhook's namespaces"
            ))),
            (None, Some(false), Some(false)) => StepOutcome::Skipped {
                why: noted(
                    "the API server has none of pullpass: replicas add pull secrets and judge".to_owned(),
                ),
            },
            (None, ..) => StepOutcome::Skipped {
                why: noted("whether the API server has any can't be read".to_owned()),
            },
        }
    }

    fn describe(&self) -> Cure {
        kubectl(
            "The condition Distributed and the Events name the namespaces:",
            format!("kubectl describe {}", self.object.for_kubectl()),
        )
    }

    fn logs(&self) -> Cure {
        kubectl(
            "See the log of pullpass:",
            format!(
                "kubectl --namespace {} logs --selector app.kubernetes.io/name=pullpass",
                self.own_namespace
            ),
        )
    }

    fn edit(&self, text: &str) -> Cure {
        kubectl(text, format!("kubectl edit {}", self.object.for_kubectl()))
    }
}

/// What to do about policies that are not as shipped; nothing if at most their text is of another version.
fn cures_of_policies(policies: &ServerPolicies) -> Vec<Cure> {
    let about: Vec<About> = policies.disagreements.iter().map(|one| one.about).collect();
    let mut cures = Vec::new();
    if about.contains(&About::Settings) {
        cures.extend(compare_settings());
    }
    for one in &about {
        if let About::Policy { kind, name } = one {
            let kind = kind.to_ascii_lowercase();
            let see = kubectl(
                &format!("See the policy {name} and its binding:"),
                format!("kubectl get {kind}/{name} {kind}binding/{name} --output yaml"),
            );
            if !cures.contains(&see) {
                cures.push(see);
            }
        }
    }
    if about.iter().any(|one| matches!(one, About::Policy { .. })) {
        cures.push(apply_again());
    }
    cures
}

/// Whether pulls need no credential; not so where nobody can tell what the spec means.
fn is_anonymous(registry: Option<&AttachedRegistry>) -> bool {
    registry.is_some_and(AttachedRegistry::is_anonymous)
}

/// What to do about a client secret that Entra ID refuses; nothing for another cause.
fn new_secret_for(registry: &AttachedRegistry, cause: &str) -> Vec<Cure> {
    if EntraFault::named_in(cause) != Some(EntraFault::Secret) {
        return Vec::new();
    }
    match registry.identity() {
        AttachedIdentity::ServicePrincipal { application, .. } => {
            new_secret(registry.login_server(), registry.name(), application)
        }
        AttachedIdentity::WorkloadIdentity { .. }
        | AttachedIdentity::ManagedIdentity(_)
        | AttachedIdentity::Basic(_)
        | AttachedIdentity::ServiceAccount(_)
        | AttachedIdentity::Anonymous => Vec::new(),
    }
}

/// What the credential may pull. Without a word of it, as of an earlier release, nothing is claimed.
fn pull_authorized(status: &AcrRegistryStatus, registry: Option<&AttachedRegistry>) -> StepOutcome {
    let mut conditions = status.conditions.iter();
    let Some(condition) = conditions.find(|known| known.type_ == PULL_AUTHORIZED) else {
        return StepOutcome::Skipped {
            why: if is_anonymous(registry) {
                "pulls need no credential".to_owned()
            } else {
                "the status does not say what the credential may pull".to_owned()
            },
        };
    };
    match condition.status.as_str() {
        "True" => passed(condition.message.clone()),
        "False" => {
            let (cause, advice) = parted(&condition.message);
            let cause = format!("{}: {cause}", condition.reason);
            failed(
                Code::AccessToken,
                cause,
                advice.map(of_status).into_iter().collect(),
            )
        }
        _ => StepOutcome::Skipped {
            why: condition.message.clone(),
        },
    }
}

/// A time without the parts of a second.
fn seconds(text: &str) -> String {
    text.parse()
        .map_or_else(|_| text.to_owned(), |time| whole_seconds(time).to_string())
}

#[cfg(test)]
mod tests;
