//! What is left of bindings that are gone, and its end.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::sync::broadcast::error::RecvError;

use super::BindingController;
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{binding_of_key, minted_credential, namesake_of_binding, pull_secret};
use crate::kubernetes::call::call;
use crate::sync::pull_secret as secrets;
use crate::sync::watches::Change;

/// How many bindings are looked at concurrently of which nothing may be left. After a start all that went meanwhile are.
const CONCURRENT_DELETIONS: usize = 8;

impl BindingController {
    /// Deletes what there is of bindings that are gone: those of which this process hears, and those that went while nobody
    /// led.
    pub(super) async fn delete_of_gone(&self) {
        let watches = &self.mints.parts.watches;
        let mut changes = watches.changes();
        let mut ticks = tokio::time::interval(self.resync_interval);
        // Those that never had a credential have series too; most have both, and cost one look.
        let all = || -> Vec<String> {
            let credentials = watches.credentials.registries().into_iter();
            let keys: BTreeSet<_> = credentials.chain(self.series.keys()).collect();
            keys.into_iter().collect()
        };
        loop {
            let keys = tokio::select! {
                change = changes.recv() => match change {
                    Ok(Change::Binding(key)) => vec![key],
                    Ok(
                        Change::Everything | Change::Registry(_) | Change::Credential(_)
                        | Change::Namespace(_) | Change::NamespaceGone(_) | Change::Noted(_)
                        | Change::ServiceAccounts(_),
                    ) => continue,
                    Ok(Change::Bindings) | Err(RecvError::Lagged(_)) => all(),
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => all(),
            };
            let due = keys.into_iter().filter(|key| !watches.view.is_attached(key));
            let due = stream::iter(due);
            due.for_each_concurrent(CONCURRENT_DELETIONS, async |key| self.delete(&key).await)
                .await;
        }
    }

    /// Deletes what there is of a binding, unless the API server has it: one that can't be acted on is there all the same.
    ///
    /// One of that name may come meanwhile. Its credential is told from what is deleted here by its version. Its pull secret
    /// can't be, since pullpass does not read those: so this looks a second time, and has it written again.
    async fn delete(&self, key: &str) {
        let Some((namespace, name)) = binding_of_key(key) else {
            return;
        };
        let parts = &self.mints.parts;
        let bindings: Api<AcrPullBinding> = Api::namespaced(parts.client.clone(), namespace);
        let own: Api<Secret> = Api::namespaced(parts.client.clone(), &parts.own_namespace);
        let is_there = async || {
            call(bindings.get_metadata_opt(name))
                .await
                .map(|found| found.is_some())
        };
        let gone = async {
            let minted = call(own.get_metadata_opt(&minted_credential(key))).await?;
            if is_there().await? {
                return Ok(false);
            }
            let namesake = namesake_of_binding(name);
            if !parts.watches.view.registries().is_attached(&namesake) {
                // The garbage collector takes it too.
                let _ = secrets::delete(&parts.client, namespace, &pull_secret(&namesake)).await;
            }
            if let Some(minted) = minted {
                let parameters = DeleteParams::default().preconditions(Preconditions {
                    uid: minted.uid(),
                    resource_version: minted.resource_version(),
                });
                let deleted = call(own.delete(&minted_credential(key), &parameters)).await;
                // It is gone already, or somebody minted since.
                if let Err(error) = deleted
                    && !matches!(error.code(), Some(404 | 409))
                {
                    return Err(error);
                }
            }
            if is_there().await? {
                parts.watches.tell(Change::Binding(key.to_owned()));
                return Ok(false);
            }
            Ok(true)
        };
        match gone.await {
            Ok(false) => {}
            Ok(true) => {
                parts.metrics.registries.detached(key);
                self.series.remove(key);
            }
            Err(error) => {
                tracing::warn!(binding = key, %error, "could not delete the rest of a deleted AcrPullBinding; \
                                                       will retry");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http::{Method, Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::policy::scope::Scope;
    use crate::sync::credentials::Seen;
    use crate::sync::held_credential::tests::held;
    use crate::sync::minting::pull_right::tests::registry;
    use crate::sync::minting::tests::controller_with;

    /// How long an API server of a test takes to answer.
    const CALL: Duration = Duration::from_secs(1);
    const RESYNC: Duration = Duration::from_hours(1);

    type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

    /// A controller whose API server answers after a while, by what it was asked before.
    fn controller(
        answer: impl Fn(&[(Method, String, Value)]) -> (u16, Value) + Send + Sync + 'static,
    ) -> (BindingController, Asked) {
        let (asked, answer) = (Asked::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let server = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (status, body) = {
                    let mut log = log.lock().unwrap();
                    log.push((method, path, body));
                    answer(&log)
                };
                sleep(CALL).await;
                let mut response = Response::new(Body::from(body.to_string().into_bytes()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, std::io::Error>(response)
            }
        });
        let mints = controller_with(&registry("mine"), Client::new(server, "own"));
        let controller = BindingController::new(Arc::new(mints), Scope::default(), Arc::default(), RESYNC);
        (controller, asked)
    }

    fn absent() -> (u16, Value) {
        let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "no", "code": 404});
        (404, status)
    }

    fn present(name: &str) -> (u16, Value) {
        let object = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "uid": "u", "resourceVersion": "7"},
        });
        (200, object)
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_comes_again_meanwhile_is_written_again() {
        for comes_again in [false, true] {
            let (controller, asked) = controller(move |asked| {
                let (method, path, _) = asked.last().unwrap();
                let is_deleted = asked.iter().any(|(method, ..)| *method == Method::DELETE);
                match (method, path.ends_with("/acrpullbindings/app")) {
                    (&Method::GET, true) if is_deleted && comes_again => present("app"),
                    (&Method::GET, true) => absent(),
                    (&Method::DELETE, _) => (200, json!({"kind": "Status", "status": "Success"})),
                    _ => present("some"),
                }
            });
            let mut changes = controller.mints.parts.watches.changes();
            controller.delete("shop/app").await;
            let told = changes.try_recv().ok();
            assert_eq!(told, comes_again.then(|| Change::Binding("shop/app".to_owned())));
            let asked = asked.lock().unwrap().clone();
            let deleted = asked.into_iter().filter(|(method, ..)| *method == Method::DELETE);
            let [(_, pull_secret, _), (_, minted, parameters)] = &deleted.collect::<Vec<_>>()[..] else {
                panic!("two are deleted")
            };
            assert_eq!(
                pull_secret,
                "/api/v1/namespaces/shop/secrets/pullpass-binding-app"
            );
            assert_eq!(
                minted,
                "/api/v1/namespaces/own/secrets/binding-credential-shop.app"
            );
            let expected = json!({"uid": "u", "resourceVersion": "7"});
            assert_eq!(parameters["preconditions"], expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn remains_of_many_bindings_are_deleted_concurrently() {
        let (controller, asked) = controller(|_| absent());
        for number in 0..2 * CONCURRENT_DELETIONS {
            let key = format!("shop/b{number}");
            let watches = &controller.mints.parts.watches;
            watches.learn(&key, held(), None, Seen::new());
        }
        let asked = || asked.lock().unwrap().len();
        let mut work = pin!(controller.delete_of_gone());
        assert!(timeout(CALL / 2, &mut work).await.is_err());
        assert_eq!(asked(), CONCURRENT_DELETIONS);
        // Two reads, a deletion, and the second look, of twice as many.
        assert!(timeout(CALL * 2 * 4, &mut work).await.is_err());
        assert_eq!(asked(), 2 * CONCURRENT_DELETIONS * 4);
        let watches = &controller.mints.parts.watches;
        watches.learn("blog/app", held(), None, Seen::new());
        watches.tell(Change::Bindings);
        assert!(timeout(CALL * 2 * 5, &mut work).await.is_err());
        let of_blog = || asked() - 2 * CONCURRENT_DELETIONS * 4;
        assert!(of_blog() >= 4, "many changed, and this one is gone");
    }
}
