//! Writing what was planned.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::account::{AccountIds, decide, manifest};
use super::grant::{Grant, named, not_installed};
use super::plan::{BindPlan, Place};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistryStatus;
use crate::api::names::token_grant;
use crate::cli::CliError;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::flags::kubeconfig::{Role, refusal_without};
use crate::cli::output::BINDING_KIND;
use crate::cli::written::{FIELD_MANAGER, ObjectChange, Write};
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::words::Words;

/// What was done.
pub(super) struct Done {
    /// What became of each object, as kubectl names it.
    pub(super) changes: Vec<(String, ObjectChange)>,
    pub(super) object: AcrPullBinding,
    /// Whether the AcrPullBinding is new or another than before.
    pub(super) is_changed: bool,
    /// Whether the ServiceAccount is.
    pub(super) is_account_changed: bool,
    /// What the AcrPullBinding's status said right before that.
    pub(super) status_before: Option<AcrRegistryStatus>,
}

/// The cluster, for one AcrPullBinding.
pub(super) struct Cluster<'a> {
    pub(super) client: Client,
    pub(super) own_namespace: &'a str,
    pub(super) place: Place<'a>,
    /// Whether the API server keeps what is written.
    pub(super) dry_run: DryRun,
}

impl<'a> Cluster<'a> {
    pub(super) fn bindings(&self) -> Api<AcrPullBinding> {
        Api::namespaced(self.client.clone(), self.place.namespace)
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), self.place.namespace)
    }

    fn grant(&self) -> Grant<'a> {
        Grant {
            namespace: self.place.namespace,
            account: self.place.account,
        }
    }

    /// The AcrPullBinding as it is, if it is there.
    pub(super) async fn existing(&self) -> Result<Option<AcrPullBinding>, CliError> {
        call(self.bindings().get_opt(self.place.name))
            .await
            .map_err(|error| self.refused("the AcrPullBinding can't be read", &error))
    }

    /// What is to be done about the ServiceAccount. Where it may not be read, pullpass says what is wrong with it.
    pub(super) async fn account(&self, ids: Option<&AccountIds>) -> Result<Write, CliError> {
        match call(self.accounts().get_opt(self.place.account)).await {
            Ok(existing) => decide(self.place.namespace, self.place.account, ids, existing.as_ref())
                .map_err(|error| CliError::Failed(error.to_string())),
            Err(error) if error.code() == Some(403) && ids.is_none() => Ok(Write::Nothing),
            Err(error) => Err(self.not_owner("the ServiceAccount can't be read", &error)),
        }
    }

    /// Writes a plan: the AcrPullBinding last, so that pullpass never looks for the others in vain.
    pub(super) async fn write(
        &self,
        plan: &BindPlan,
        account: &Write,
        ids: Option<&AccountIds>,
        existing: Option<&AcrPullBinding>,
    ) -> Result<Done, CliError> {
        // The API server's own rules come before anything is written.
        self.write_binding(plan, true).await?;
        let mut changes = Vec::new();
        let mut is_account_changed = false;
        let mut status_before = None;
        if let Some(ids) = ids {
            // As it is now: what pullpass has said since it was looked at is not of the identity that is written here.
            if existing.is_some() && *account != Write::Nothing {
                status_before = self.existing().await?.and_then(|object| object.status);
            }
            let change = self.write_account(account, ids).await?;
            is_account_changed = change != ObjectChange::Unchanged;
            changes.push((format!("serviceaccount/{}", self.place.account), change));
        }
        let granted = self
            .grant()
            .write(&self.client, self.own_namespace, self.dry_run)
            .await?;
        let granted = granted.map(|(kind, change)| (named(kind, self.place.account), change));
        changes.extend(granted);
        let object = self.write_binding(plan, self.dry_run.is_of_server()).await?;
        let change = match (existing, &plan.write) {
            (None, _) => ObjectChange::Created,
            (Some(_), Write::Nothing) => ObjectChange::Unchanged,
            (Some(_), Write::Create | Write::Patch(_)) => ObjectChange::Configured,
        };
        changes.push((format!("{BINDING_KIND}/{}", self.place.name), change));
        let before = existing.map(|object| object.spec.service_account_name.as_str());
        if let Some(before) = before.filter(|before| *before != self.place.account) {
            let grant = Grant {
                account: before,
                ..self.grant()
            };
            let deleted = grant
                .withdraw(&self.client, self.own_namespace, self.place.name, self.dry_run)
                .await
                .map_err(|error| self.kept(before, &error))?;
            let deleted = deleted.into_iter().map(|kind| named(kind, before));
            changes.extend(deleted.map(|name| (name, ObjectChange::Deleted)));
        }
        Ok(Done {
            changes,
            object,
            is_changed: change != ObjectChange::Unchanged,
            is_account_changed,
            status_before,
        })
    }

    async fn write_account(&self, write: &Write, ids: &AccountIds) -> Result<ObjectChange, CliError> {
        let accounts = self.accounts();
        let dry_run = self.dry_run.is_of_server();
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let (written, change) = match write {
            Write::Nothing => return Ok(ObjectChange::Unchanged),
            Write::Create => {
                let parameters = PostParams {
                    dry_run,
                    field_manager,
                };
                let account = manifest(self.place.namespace, self.place.account, ids);
                let created = call(accounts.create(&parameters, &account)).await;
                (created, ObjectChange::Created)
            }
            Write::Patch(patch) => {
                let parameters = PatchParams {
                    dry_run,
                    field_manager,
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(patch);
                let patched = call(accounts.patch(self.place.account, &parameters, &patch)).await;
                (patched, ObjectChange::Configured)
            }
        };
        match written {
            Ok(_) => Ok(change),
            Err(error) => Err(self.not_owner("the ServiceAccount can't be written", &error)),
        }
    }

    async fn write_binding(&self, plan: &BindPlan, dry_run: bool) -> Result<AcrPullBinding, CliError> {
        let bindings = self.bindings();
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let written = match &plan.write {
            Write::Nothing => Ok(plan.object.clone()),
            Write::Create => {
                let parameters = PostParams {
                    dry_run,
                    field_manager,
                };
                call(bindings.create(&parameters, &plan.object)).await
            }
            Write::Patch(patch) => {
                let parameters = PatchParams {
                    dry_run,
                    field_manager,
                    ..PatchParams::default()
                };
                call(bindings.patch(self.place.name, &parameters, &Patch::Merge(patch))).await
            }
        };
        written.map_err(|error| self.refused("the AcrPullBinding can't be written", &error))
    }

    fn refused(&self, what: &str, error: &CallError) -> CliError {
        let namespace = self.place.namespace;
        match error.status() {
            Some(status) if status.code == 422 => CliError::Input(error.words()),
            Some(status) if status.code == 404 && is_of_namespace(status.message.as_str()) => {
                CliError::Failed(format!(
                    "there is no namespace {namespace}: `kubectl create namespace {namespace}`"
                ))
            }
            Some(status) if status.code == 404 => not_installed(),
            _ => refusal_without(Role::Bind(namespace), what, error),
        }
    }

    /// That the grant of the ServiceAccount before could not be taken back, after the AcrPullBinding names another.
    fn kept(&self, before: &str, error: &CliError) -> CliError {
        let name = token_grant(before);
        CliError::Failed(format!(
            "{error}. The AcrPullBinding names ServiceAccount {} now, but pullpass may still ask for tokens of {before}: delete \
             that grant with `kubectl delete rolebinding,role {name} --namespace {}`",
            self.place.account, self.place.namespace
        ))
    }

    fn not_owner(&self, what: &str, error: &CallError) -> CliError {
        refusal_without(Role::Owner(self.place.namespace), what, error)
    }
}

/// Whether the API server misses the namespace, and not the kind.
fn is_of_namespace(message: &str) -> bool {
    message.starts_with("namespaces ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn binding(reason: &str) -> Value {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"loginServer": "contosoapps.azurecr.io", "serviceAccountName": "puller"},
            "status": {"conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "said",
                "lastTransitionTime": "2026-11-22T18:00:00Z",
            }]},
        })
    }

    /// An API server that has the AcrPullBinding with this reason, and nothing else; and the calls that it had.
    fn server(reason: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let kind = parts
                    .uri
                    .path()
                    .split('/')
                    .nth_back(1)
                    .unwrap_or_default()
                    .to_owned();
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", parts.method, parts.uri.path()));
                let (code, answer) = match (parts.method, kind.as_str()) {
                    (Method::GET, "acrpullbindings") => {
                        (StatusCode::OK, binding(reason).to_string().into_bytes())
                    }
                    (Method::GET, _) => {
                        let gone =
                            json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
                        (StatusCode::NOT_FOUND, gone.to_string().into_bytes())
                    }
                    _ => (StatusCode::OK, body.collect_bytes().await?.to_vec()),
                };
                let mut response = Response::new(Body::from(answer));
                *response.status_mut() = code;
                Ok::<_, kube::Error>(response)
            }
        });
        (Client::new(service, "shop"), asked)
    }

    #[tokio::test]
    async fn the_status_is_read_right_before_the_identity_is_written() {
        let (client, asked) = server("EntraRejected");
        let place = Place {
            namespace: "shop",
            name: "app",
            account: "puller",
        };
        let cluster = Cluster {
            client,
            own_namespace: "pullpass-system",
            place,
            dry_run: DryRun::None,
        };
        // As it was before somebody waited for a moment.
        let existing: AcrPullBinding = serde_json::from_value(binding("NotGranted")).unwrap();
        let plan = BindPlan {
            object: existing.clone(),
            write: Write::Nothing,
            login_server: "contosoapps.azurecr.io".parse().unwrap(),
            pull_secret: "pullpass-binding-app".to_owned(),
        };
        let ids = AccountIds {
            client_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            tenant_id: None,
        };
        let done = cluster
            .write(&plan, &Write::Create, Some(&ids), Some(&existing))
            .await
            .unwrap();
        let condition = done.status_before.unwrap().conditions.remove(0);
        assert_eq!(condition.reason, "EntraRejected");
        let asked = asked.lock().unwrap();
        let first: Vec<_> = asked.iter().take(2).map(String::as_str).collect();
        assert_eq!(
            first,
            [
                "GET /apis/pullpass.dev/v1alpha1/namespaces/shop/acrpullbindings/app",
                "POST /api/v1/namespaces/shop/serviceaccounts",
            ]
        );
    }
}
