//! Whether the fence is in force. RBAC lets pullpass write any Secret, and an admission policy keeps it to its own
//! (`manifests/base/fence.yaml`). One that is not there, or that is about another service account, is noticed by nobody
//! unless somebody tries.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::names::{FENCE, MANAGER};
use crate::kubernetes::call::{CallError, call};
use crate::metrics::Metrics;

/// A namespace that every cluster has.
const NAMESPACE: &str = "default";
/// How the name of the Secret begins that is tried. It is like those of pull secrets, so that it is refused for its type.
const NAME_PREFIX: &str = "pullpass-fence.probe-";

/// The name of a Secret that is not there. Each is another one: an answer about a Secret that somebody created under a name
/// that they know, as that of an AcrRegistry's pull secret, would say nothing of the fence, for as long as it is there.
fn unused_name() -> String {
    format!("{NAME_PREFIX}{:016x}", RandomState::new().hash_one(()))
}

/// The probe of the fence.
#[derive(Clone)]
pub struct Fence {
    /// With the rights that are to be fenced.
    pub client: Client,
    /// Where it is told.
    pub metrics: Arc<Metrics>,
    /// How often the fence is probed.
    pub interval: Duration,
}

impl Fence {
    /// Looks at it again and again, until it is dropped.
    pub async fn watch(&self) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let state = self.probe().await;
            self.metrics.set_unfenced(match state {
                FenceState::Closed => Some(false),
                FenceState::Open => Some(true),
                FenceState::Unknown(_) => None,
            });
            match state {
                FenceState::Closed => {}
                FenceState::Open => tracing::error!(
                    "pullpass may write Secrets that are not its own: the ValidatingAdmissionPolicy pullpass-secrets or \
                     its binding is not there, or names another service account; apply the manifests again, or use the \
                     chart for another namespace than pullpass-system"
                ),
                FenceState::Unknown(answer) => tracing::warn!(
                    answer,
                    "unknown whether pullpass may write Secrets that are not its own: something other than \
                     the ValidatingAdmissionPolicy pullpass-secrets answered the probe for a Secret in \
                     namespace default"
                ),
            }
        }
    }

    /// Tries to write a Secret that pullpass never writes; a dry run, so that none is written.
    async fn probe(&self) -> FenceState {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = unused_name();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "type": "Opaque",
        });
        let parameters = PatchParams::apply(MANAGER).dry_run();
        let manifest = Patch::Apply(secret);
        FenceState::of(call(secrets.patch_metadata(&name, &parameters, &manifest)).await)
    }
}

/// What the answer to the probe says of the fence.
#[derive(Debug, PartialEq, Eq)]
enum FenceState {
    /// The fence itself refused the write.
    Closed,
    /// The write would have been done.
    Open,
    /// Neither is known. What else refuses a write, another policy of the cluster, RBAC, or a Secret of that name whose
    /// type can't change, would do so without the fence too. With the answer.
    Unknown(String),
}

impl FenceState {
    fn of<T>(answer: Result<T, CallError>) -> Self {
        match answer {
            Ok(_) => Self::Open,
            Err(error) if is_of_the_fence(&error) => Self::Closed,
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// A policy's refusal has the code of the reason that it gives, 422 unless it says another, and names the policy.
fn is_of_the_fence(error: &CallError) -> bool {
    error
        .status()
        .is_some_and(|status| [403, 422].contains(&status.code) && status.message.contains(FENCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    const REFUSED: &str = "secrets \"pullpass-fence.probe-1\" is forbidden: ValidatingAdmissionPolicy 'pullpass-secrets' with \
        binding 'pullpass-secrets' denied request: pullpass touches only its own pull secrets";

    fn fence(code: StatusCode, message: &'static str) -> Fence {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let uri = request.uri().to_string();
            let name = uri
                .strip_prefix("/api/v1/namespaces/default/secrets/")
                .and_then(|rest| rest.strip_suffix("?&dryRun=All&fieldManager=pullpass"))
                .unwrap();
            assert!(name.starts_with(NAME_PREFIX), "{uri}");
            let answer = if code.is_success() {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}})
            } else {
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code.as_u16()})
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
        });
        Fence {
            client: Client::new(service, NAMESPACE),
            metrics: Arc::new(Metrics::new(|| 0)),
            interval: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn only_the_fences_own_refusal_shows_that_it_is_closed() {
        for code in [StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY] {
            assert_eq!(fence(code, REFUSED).probe().await, FenceState::Closed, "{code}");
        }
        for code in [StatusCode::OK, StatusCode::CREATED] {
            assert_eq!(fence(code, "").probe().await, FenceState::Open, "{code}");
        }
        for (code, message) in [
            // Another policy.
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                "secrets \"pullpass-fence.probe-1\" is forbidden: ValidatingAdmissionPolicy 'no-opaque-secrets' with binding \
                 'no-opaque-secrets' denied request: no Opaque Secrets in default",
            ),
            // The other fence, which is about pullpass' own namespace.
            (
                StatusCode::FORBIDDEN,
                "secrets \"pullpass-fence.probe-1\" is forbidden: ValidatingAdmissionPolicy 'pullpass-own-secrets' with \
                 binding 'pullpass-own-secrets' denied request: no",
            ),
            // RBAC.
            (
                StatusCode::FORBIDDEN,
                "secrets \"pullpass-fence.probe-1\" is forbidden: User \"system:serviceaccount:pullpass-system:pullpass\" \
                 cannot patch resource \"secrets\" in API group \"\" in the namespace \"default\"",
            ),
            // A Secret of that name.
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Secret \"pullpass-fence.probe-1\" is invalid: type: Invalid value: \"Opaque\": field is immutable",
            ),
            (StatusCode::NOT_FOUND, "namespaces \"default\" not found"),
            (StatusCode::UNAUTHORIZED, "Unauthorized"),
        ] {
            let state = fence(code, message).probe().await;
            assert_eq!(state, FenceState::Unknown(message.to_owned()));
        }
    }

    #[test]
    fn nobody_knows_the_name_of_the_next_probe() {
        assert_ne!(unused_name(), unused_name());
    }

    #[tokio::test]
    async fn an_unknown_fence_has_a_value_of_its_own() {
        for (code, message, expected) in [
            (StatusCode::FORBIDDEN, REFUSED, 0),
            (StatusCode::OK, "", 1),
            (StatusCode::FORBIDDEN, "no", -1),
        ] {
            let fence = fence(code, message);
            let metrics = Arc::clone(&fence.metrics);
            // It never returns; what it does first it does without waiting.
            tokio::time::timeout(Duration::from_secs(30), async {
                tokio::select! {
                    () = fence.watch() => {}
                    () = async {
                        let line = format!("\npullpass_unfenced {expected}\n");
                        while !metrics.encode().unwrap().contains(&line) {
                            tokio::task::yield_now().await;
                        }
                    } => {}
                }
            })
            .await
            .unwrap();
        }
    }
}
