//! The demo where no control plane is to be had: curl does what the API server would.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{Error, Webhook};
use serde_json::{Value, json};

use crate::paper::{Paper, output};
use crate::{DEPLOYMENT, REGISTRY, example, show_records, text};

const NAMESPACE: &str = "apps";

pub fn run(paper: &mut Paper, pullpass: &Path) -> Result<(), Error> {
    let webhook = serve(paper, pullpass)?;
    send(paper, &webhook)?;
    paper.step("Why: pullpass' audit log");
    show_records(paper, &webhook.wait_for_records(NAMESPACE, 1)?);
    drop(webhook);
    paper.step("The end");
    paper.text("Everything that was started is stopped now, and its files are removed.");
    Ok(())
}

fn serve(paper: &mut Paper, pullpass: &Path) -> Result<Webhook, Error> {
    paper.step("pullpass serves, without a cluster");
    paper.command("pullpass serve --manifests DIR --tls-cert tls.crt --tls-key tls.key");
    paper.text(&format!("DIR holds examples/{REGISTRY}."));
    let begin = Instant::now();
    let webhook = Webhook::start(pullpass, "pullpass-system", &[example(REGISTRY)?], &[])?;
    paper.took("until it was ready", begin.elapsed());
    Ok(webhook)
}

fn send(paper: &mut Paper, webhook: &Webhook) -> Result<(), Error> {
    paper.step("The API server's question, sent by hand");
    paper.text(&format!(
        "review.json asks about a Pod of the Deployment in examples/{DEPLOYMENT}, as the ReplicaSet controller would \
         create it."
    ));
    let directory = webhook.directory();
    let review = write(directory, "review.json", &review()?.to_string())?;
    let authority = write(directory, "ca.crt", webhook.authority().pem())?;
    let url = format!("https://localhost:{}/mutate", webhook.port());
    paper.command(&format!(
        "curl --cacert ca.crt --json @review.json {url} | jq -r .response.patch | base64 -d"
    ));
    let answer = curl(&url, &authority, &review)?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed(&answer, error))?;
    let patch = STANDARD
        .decode(text(&answer, "/response/patch"))
        .map_err(|error| failed(answer.to_string().as_bytes(), error))?;
    output(&String::from_utf8_lossy(&patch));
    Ok(())
}

fn curl(url: &str, authority: &str, review: &str) -> Result<Vec<u8>, Error> {
    let data = format!("@{review}");
    let output = Command::new("curl")
        // Neither a proxy nor the settings of the user have a part in it.
        .args([
            "--disable",
            "--noproxy",
            "*",
            "--silent",
            "--show-error",
            "--ipv4",
        ])
        .args(["--max-time", "10", "--header", "Content-Type: application/json"])
        .args(["--cacert", authority, "--data-binary", &data, url])
        .output()
        .map_err(|source| Error::Io {
            what: "running curl".to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(failed(&output.stdout, said))
    }
}

/// The question about a Pod of the example.
fn review() -> Result<Value, Error> {
    let mut deployment: Value = serde_saphyr::from_str(&example(DEPLOYMENT)?)
        .map_err(|error| failed(DEPLOYMENT.as_bytes(), error.to_string()))?;
    let mut pod = deployment
        .pointer_mut("/spec/template")
        .map(Value::take)
        .unwrap_or_default();
    let set = format!("{}-79bbf88499", text(&deployment, "/metadata/name"));
    let added = json!({
        "generateName": format!("{set}-"),
        "namespace": NAMESPACE,
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": "1", "controller": true}],
    });
    if let (Some(metadata), Value::Object(added)) =
        (pod.pointer_mut("/metadata").and_then(Value::as_object_mut), added)
    {
        metadata.extend(added);
    }
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": NAMESPACE,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "dryRun": false,
        },
    }))
}

fn write(directory: &Path, name: &str, content: &str) -> Result<String, Error> {
    let path = directory.join(name).display().to_string();
    fs::write(&path, content).map_err(|source| Error::Io {
        what: format!("writing {path}"),
        source,
    })?;
    Ok(path)
}

fn failed(what: &[u8], error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io {
        what: String::from_utf8_lossy(what).into_owned(),
        source: io::Error::other(error),
    }
}
