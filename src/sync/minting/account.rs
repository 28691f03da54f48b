//! The ServiceAccount of an AcrPullBinding: which identity it says it is, and its tokens, which the owner of its namespace
//! grants.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::MintFailure;
use crate::api::advice::{with_advice, without_advice};
use crate::api::names::{
    CLIENT_ID_ANNOTATION, MANAGER, TENANT_ID_ANNOTATION, service_account_subject, token_grant,
};
use crate::api::reason::Reason;
use crate::azure::mint::{Application, MintIdentity};
use crate::base::remedy::{Remedy, joined, run};
use crate::kubernetes::call::{CallError, call};
use crate::policy::attached::BindingOwner;
use crate::registry::cloud::Cloud;
use crate::registry::login_server::LoginServer;

/// How long a token lasts: the shortest time that the API server gives, which `manifests/base/fence.yaml` holds it to.
const TOKEN_SECONDS: i64 = 600;
/// How long such a value may be.
const MAX_ID: usize = 255;

/// A ServiceAccount, and the application that it says it is.
pub(crate) struct Account {
    namespace: String,
    name: String,
    own_namespace: String,
    app: Application,
}

impl Account {
    /// Reads what the ServiceAccount of a binding says; one that names no tenant is in the default one.
    pub(super) async fn read(
        client: &Client,
        own_namespace: &str,
        owner: &BindingOwner,
        name: &str,
        default_tenant: Option<&String>,
    ) -> Result<Self, MintFailure> {
        let namespace = &owner.namespace;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = call(accounts.get_opt(name)).await.map_err(|error| {
            unreachable(&format!("ServiceAccount {name} can't be read: {}", said(&error)))
        })?;
        let account = account.ok_or_else(|| absent(namespace, name))?;
        let annotated = |key: &str, default: Option<&String>| {
            let value = account.annotations().get(key).or(default);
            let value = value.filter(|value| is_id(value)).cloned();
            value.ok_or_else(|| unannotated(namespace, name, key))
        };
        let app = Application {
            client_id: annotated(CLIENT_ID_ANNOTATION, None)?,
            tenant_id: annotated(TENANT_ID_ANNOTATION, default_tenant)?,
        };
        Ok(Self {
            namespace: namespace.clone(),
            name: name.to_owned(),
            own_namespace: own_namespace.to_owned(),
            app,
        })
    }

    /// The Entra application that its annotations name.
    pub(super) fn application(&self) -> &Application {
        &self.app
    }

    /// The identity, for texts about it.
    pub(super) fn without_token(&self) -> MintIdentity {
        self.identity(String::new())
    }

    /// The identity, with a token that the API server gives for this one exchange.
    pub(super) async fn with_token(
        &self,
        client: &Client,
        login_server: &LoginServer,
    ) -> Result<MintIdentity, MintFailure> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &self.namespace);
        let cloud = login_server.cloud().unwrap_or(Cloud::Public);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![cloud.token_exchange_audience().to_owned()],
                bound_object_ref: None,
                expiration_seconds: Some(TOKEN_SECONDS),
            },
            ..TokenRequest::default()
        };
        let parameters = PostParams::default();
        let asked = accounts.create_token_request(&self.name, &parameters, &request);
        let answer = call(asked).await.map_err(|error| self.refused(&error))?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        Ok(self.identity(token))
    }

    fn identity(&self, token: String) -> MintIdentity {
        MintIdentity::FederatedToken {
            app: self.app.clone(),
            token: token.into(),
            subject: service_account_subject(&self.namespace, &self.name),
        }
    }

    fn refused(&self, error: &CallError) -> MintFailure {
        let Self {
            namespace,
            name,
            own_namespace,
            ..
        } = self;
        match error.status() {
            Some(status) if status.code == 404 => absent(namespace, name),
            // A policy that refuses it says so, and the owner of the namespace can't help.
            Some(status) if status.code == 403 && !status.message.contains("AdmissionPolicy") => {
                let grant = token_grant(name);
                let role = format!(
                    "kubectl create role {grant} --namespace {namespace} --verb=create \
                     --resource=serviceaccounts/token --resource-name={name}"
                );
                let binding = format!(
                    "kubectl create rolebinding {grant} --namespace {namespace} --role={grant} \
                     --serviceaccount={own_namespace}:{MANAGER}"
                );
                let advice = joined(vec![
                    run("as the owner of the namespace, create a Role", role),
                    run("and a RoleBinding", binding),
                ]);
                let cause = format!(
                    "pullpass is not granted tokens of ServiceAccount {name} in namespace {namespace}"
                );
                failed(Reason::NotGranted, with_advice(&cause, advice.as_deref()))
            }
            _ => unreachable(&format!(
                "the API server gave no token of ServiceAccount {name}: {}",
                said(error)
            )),
        }
    }
}

/// Whether a text can be a tenant or a client ID: it becomes a part of a request.
fn is_id(text: &str) -> bool {
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || [b'-', b'.'].contains(&byte);
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_of_one)
}

/// What the API server said, where it answered: not which address was not reached.
fn said(error: &CallError) -> String {
    match error {
        CallError::Kube(_) if error.status().is_none() => "the API server can't be reached".to_owned(),
        CallError::Kube(_) | CallError::TimedOut(_) => error.to_string(),
    }
}

fn absent(namespace: &str, name: &str) -> MintFailure {
    let cause = format!("there is no ServiceAccount {name} in namespace {namespace}");
    let advice = joined(vec![
        run(
            "create it, or correct spec.serviceAccountName",
            format!("kubectl create serviceaccount {name} --namespace {namespace}"),
        ),
        annotate(namespace, name, CLIENT_ID_ANNOTATION),
        annotate(namespace, name, TENANT_ID_ANNOTATION),
    ]);
    failed(
        Reason::ServiceAccountMissing,
        with_advice(&cause, advice.as_deref()),
    )
}

fn unannotated(namespace: &str, name: &str, key: &str) -> MintFailure {
    let cause = format!(
        "ServiceAccount {name} in namespace {namespace} does not name its identity: its annotation {key} is \
         missing, or has no ID"
    );
    let advice = joined(vec![annotate(namespace, name, key)]);
    failed(
        Reason::ServiceAccountMissing,
        with_advice(&cause, advice.as_deref()),
    )
}

fn annotate(namespace: &str, name: &str, key: &str) -> Remedy {
    let value = if key == CLIENT_ID_ANNOTATION {
        "CLIENT-ID"
    } else {
        "TENANT-ID"
    };
    run(
        "say which identity it is",
        format!("kubectl annotate serviceaccount {name} --namespace {namespace} {key}={value}"),
    )
}

fn unreachable(cause: &str) -> MintFailure {
    failed(Reason::Unreachable, without_advice(cause))
}

fn failed(reason: Reason, message: String) -> MintFailure {
    MintFailure {
        reason,
        message,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// A client whose API server gives this token, and what it was asked.
    fn client(token: &'static str) -> (Client, Asked) {
        let asked = Asked::default();
        let log = Arc::clone(&asked);
        let server = tower::service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut answer: Value = serde_json::from_slice(&body).unwrap();
                log.lock().unwrap().push((path, answer["spec"].clone()));
                answer["status"] = json!({"token": token, "expirationTimestamp": "2026-11-28T10:00:00Z"});
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::io::Error>(Response::new(body))
            }
        });
        (Client::new(server, "own"), asked)
    }

    #[tokio::test]
    async fn an_account_without_a_tenant_is_in_the_default_one() {
        let owner = BindingOwner {
            namespace: "shop".to_owned(),
            name: "mine".to_owned(),
            uid: "u".to_owned(),
            created: None,
        };
        let default = "default-tenant".to_owned();
        for (annotations, expected) in [
            (json!({CLIENT_ID_ANNOTATION: "client"}), "default-tenant"),
            (
                json!({CLIENT_ID_ANNOTATION: "client", TENANT_ID_ANNOTATION: "own-tenant"}),
                "own-tenant",
            ),
        ] {
            let server = tower::service_fn(move |_: Request<Body>| {
                let account =
                    json!({"metadata": {"name": "puller", "namespace": "shop", "annotations": annotations}});
                let body = Body::from(account.to_string().into_bytes());
                std::future::ready(Ok::<_, std::io::Error>(Response::new(body)))
            });
            let client = Client::new(server, "own");
            let read = Account::read(&client, "own", &owner, "puller", Some(&default)).await;
            assert_eq!(read.ok().unwrap().application().tenant_id, expected);
        }
    }

    #[tokio::test]
    async fn a_token_is_for_the_audience_of_the_registrys_cloud() {
        let account = Account {
            namespace: "shop".to_owned(),
            name: "puller".to_owned(),
            own_namespace: "own".to_owned(),
            app: Application {
                client_id: "client".to_owned(),
                tenant_id: "tenant".to_owned(),
            },
        };
        let of_other_cloud = LoginServer::of_other_cloud("registry.contoso.com").unwrap();
        for (login_server, audience) in [
            (
                "myregistry.azurecr.io".parse().unwrap(),
                "api://AzureADTokenExchange",
            ),
            (
                "myregistry.azurecr.us".parse().unwrap(),
                "api://AzureADTokenExchangeUSGov",
            ),
            (
                "myregistry.azurecr.cn".parse().unwrap(),
                "api://AzureADTokenExchangeChina",
            ),
            (of_other_cloud, "api://AzureADTokenExchange"),
        ] {
            let (client, asked) = client("header.body.signature");
            let identity = account.with_token(&client, &login_server).await.unwrap();
            let expected = json!({"audiences": [audience], "expirationSeconds": 600});
            let path = "/api/v1/namespaces/shop/serviceaccounts/puller/token".to_owned();
            assert_eq!(*asked.lock().unwrap(), [(path, expected)], "{login_server}");
            let MintIdentity::FederatedToken { app, token, subject } = identity else {
                panic!("{identity:?}")
            };
            assert_eq!(app, account.app);
            assert_eq!(token.expose(), "header.body.signature");
            assert_eq!(subject, "system:serviceaccount:shop:puller");
        }
    }
}
