//! Whether the fence is in force. RBAC lets pullpass write any Secret, and an admission policy keeps it to its own
//! (`manifests/base/fence.yaml`). One that is not there, or that is about another service account, is noticed by nobody
//! unless somebody tries.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::names::MANAGER;
use crate::kubernetes::call::call;
use crate::metrics::Metrics;

/// A namespace that every cluster has.
const NAMESPACE: &str = "default";
/// A Secret that there is not. Its name is like those of pull secrets, so that it is refused for its type.
const NAME: &str = "pullpass-fence.probe";

/// What looks at the fence.
#[derive(Clone)]
pub struct Fence {
    /// With the rights that are to be fenced.
    pub client: Client,
    /// Where it is told.
    pub metrics: Arc<Metrics>,
    /// How often it is looked at.
    pub interval: Duration,
}

impl Fence {
    /// Looks at it again and again, for as long as it is polled.
    pub async fn watch(&self) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Where the API server does not answer, others say so.
            if let Some(is_open) = self.is_open().await {
                self.metrics.unfenced(is_open);
                if is_open {
                    tracing::error!(
                        "pullpass may write Secrets that are not its own: the ValidatingAdmissionPolicy pullpass-secrets or \
                         its binding is not there, or names another service account; apply the manifests again, or use the \
                         chart for another namespace than pullpass-system"
                    );
                }
            }
        }
    }

    /// Whether a Secret that pullpass never writes would be taken from it; a dry run, so that none is. Nothing where nobody
    /// can tell.
    async fn is_open(&self) -> Option<bool> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "type": "Opaque",
        });
        let parameters = PatchParams::apply(MANAGER).dry_run();
        let manifest = Patch::Apply(secret);
        let asked = secrets.patch_metadata(NAME, &parameters, &manifest);
        match call(asked).await {
            Ok(_) => Some(true),
            Err(error) => error
                .status()
                .is_some_and(|status| [403, 422].contains(&status.code))
                .then_some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    fn fence(code: StatusCode) -> Fence {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            assert_eq!(
                request.uri().to_string(),
                "/api/v1/namespaces/default/secrets/pullpass-fence.probe?&dryRun=All&fieldManager=pullpass"
            );
            let answer = if code.is_success() {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": NAME}})
            } else {
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "code": code.as_u16()})
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
    async fn only_what_would_be_taken_or_refused_tells() {
        for (code, expected) in [
            (StatusCode::OK, Some(true)),
            (StatusCode::CREATED, Some(true)),
            (StatusCode::FORBIDDEN, Some(false)),
            (StatusCode::UNPROCESSABLE_ENTITY, Some(false)),
            (StatusCode::NOT_FOUND, None),
            (StatusCode::UNAUTHORIZED, None),
        ] {
            assert_eq!(fence(code).is_open().await, expected, "{code}");
        }
    }
}
