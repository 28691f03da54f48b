//! The Pods of a large cluster, which no node runs: ten workloads in each namespace, of ten replicas each.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, header};
use kube::Client;
use pullpass::api::names::pull_secret;
use pullpass_test_support::Login;
use serde_json::{Value, json};

use crate::support::Result;

/// Workloads of a namespace. The Pods of the first one do not name the pull secret when they are made.
pub(crate) const WORKLOADS: usize = 10;
/// Pods of a workload.
const REPLICAS: usize = 10;
/// How many Pods are made, or lists of them deleted, concurrently.
const CONCURRENCY: usize = 32;
/// How many are made between two lines of progress.
const STEP: usize = 10_000;
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);

/// So many Pods.
pub(crate) struct Pods {
    client: Client,
    login: Login,
    count: usize,
}

impl Pods {
    /// Pods with an image of that registry.
    pub(crate) fn new(client: Client, login: &Login, count: usize) -> Self {
        Self {
            client,
            login: login.clone(),
            count,
        }
    }

    /// Where they are.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let count = self.count.div_ceil(WORKLOADS * REPLICAS);
        (0..count).map(|number| format!("app-{number}")).collect()
    }

    /// How many do not name the pull secret, before one is replaced.
    pub(crate) fn uncovered(&self) -> usize {
        (0..self.count).filter(|number| workload(*number) == 0).count()
    }

    /// Makes all of them.
    pub(crate) async fn make_all(&self) -> Result<()> {
        self.make(0..self.count, "v1").await
    }

    /// Deletes the Pods of one workload of each namespace, and makes them with another image.
    pub(crate) async fn replace(&self, number: usize) -> Result<()> {
        stream::iter(self.namespaces())
            .map(|namespace| self.delete(namespace, number))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        let of_workload = (0..self.count).filter(|pod| workload(*pod) == number);
        self.make(of_workload, "v2").await
    }

    async fn delete(&self, namespace: String, number: usize) -> Result<()> {
        let uri = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dservice-{number}");
        self.ask(Request::delete(uri).body(Vec::new())?).await
    }

    async fn make(&self, numbers: impl Iterator<Item = usize>, tag: &str) -> Result<()> {
        let numbered = stream::iter(numbers.enumerate());
        let mut made = numbered
            .map(|(order, number)| async move {
                self.make_one(number, tag).await?;
                Result::Ok(order + 1)
            })
            .buffered(CONCURRENCY);
        while let Some(count) = made.try_next().await? {
            if count % STEP == 0 {
                eprintln!("{count} Pods are made");
            }
        }
        Ok(())
    }

    async fn make_one(&self, number: usize, tag: &str) -> Result<()> {
        let namespace = number / (WORKLOADS * REPLICAS);
        let pod = self.pod(number, tag).to_string();
        let request = Request::post(format!("/api/v1/namespaces/app-{namespace}/pods"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(pod.into_bytes())?;
        self.ask(request).await
    }

    async fn ask(&self, request: Request<Vec<u8>>) -> Result<()> {
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.client.request_text(request)).await;
        answer.map_err(|_| format!("no answer for {CALL_TIMEOUT:?}"))??;
        Ok(())
    }

    fn pod(&self, number: usize, tag: &str) -> Value {
        let workload = workload(number);
        let app = format!("service-{workload}");
        let team = number / (WORKLOADS * REPLICAS);
        let env: Vec<_> = (0..10)
            .map(
                |number| json!({"name": format!("SERVICE_{number}"), "value": format!("service-{number}:8443")}),
            )
            .collect();
        let names_secret = workload > 0 && tag == "v1";
        let secrets = names_secret.then(|| json!({"name": pull_secret(&self.login.name)}));
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("{app}-{tag}-{}", number % REPLICAS),
                "labels": {"app": app, "pod-template-hash": "79bbf88499"},
            },
            "spec": {
                "containers": [{
                    "name": "app",
                    "image": format!("{}/team-{team}/{app}:{tag}", self.login.host),
                    "env": env,
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }],
                "imagePullSecrets": secrets.into_iter().collect::<Vec<_>>(),
            },
        })
    }
}

fn workload(number: usize) -> usize {
    number / REPLICAS % WORKLOADS
}
