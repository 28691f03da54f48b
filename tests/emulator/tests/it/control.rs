//! The binary and its control API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use http::Method;
use pullpass_emulator::{ConfigPatch, Counts, Failure, Fault, Step};
use serde_json::{Value, json};

use crate::client::*;

struct Process {
    child: Child,
    ready: Value,
    directory: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("config.json"), serde_json::to_vec(&config()).unwrap()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pullpass-emulator"))
            .arg("--config")
            .arg(path("config.json"))
            .arg("--ca-file")
            .arg(path("ca.pem"))
            .args(["--registry-listen", "127.0.0.1:5999", "--registry-dir"])
            .arg(path("registry"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            ready: serde_json::from_str(&line).unwrap(),
            directory,
        }
    }

    fn addr(&self, name: &str) -> SocketAddr {
        self.ready[name].as_str().unwrap().parse().unwrap()
    }

    async fn control(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = request(method, path, "", &body.to_string());
        plain(self.addr("control"), request).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_binary_is_steered_over_http() {
    let mut process = Process::start();
    let ca = std::fs::read_to_string(process.directory.path().join("ca.pem")).unwrap();
    let client = Client::from_parts(process.addr("tls"), &ca);
    assert!(process.directory.path().join("registry/config.yml").exists());
    client.refresh_token(REGISTRY).await;

    let counts = process.control(Method::GET, "/counts", &Value::Null).await;
    let counts: Counts = serde_json::from_slice(&counts.body).unwrap();
    assert_eq!(counts.calls_at(Step::EntraToken, TENANT), 1);
    assert_eq!(counts.calls_at(Step::Exchange, REGISTRY), 1);
    assert_eq!(
        process
            .control(Method::DELETE, "/counts", &Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        process.control(Method::GET, "/counts", &Value::Null).await.json(),
        json!([])
    );

    let failure = json!(Failure::new(Step::EntraToken, Fault::throttled(3)).at(TENANT));
    let written = json!({
        "step": "entra-token", "target": TENANT,
        "fault": {"kind": "status", "status": 429, "retryAfter": "3"},
    });
    assert_eq!(failure, written);
    assert_eq!(
        process.control(Method::POST, "/failures", &failure).await.status,
        204
    );
    assert_eq!(client.entra(ACR, SECRET).await.unwrap().status, 429);
    assert_eq!(
        process
            .control(Method::DELETE, "/failures", &Value::Null)
            .await
            .status,
        204
    );
    let token = client.entra_token(ACR).await;

    let patch = json!(ConfigPatch {
        roles: Some(vec![]),
        ..ConfigPatch::default()
    });
    assert_eq!(patch, json!({"roles": []}));
    assert_eq!(process.control(Method::PUT, "/config", &patch).await.status, 204);
    assert_eq!(client.exchange(REGISTRY, &token).await.unwrap().status, 401);
    let roles = json!({"roles": [{
        "clientId": CLIENT, "registry": REGISTRY, "role": "AcrPull", "propagationSeconds": 60,
    }]});
    assert_eq!(process.control(Method::PUT, "/config", &roles).await.status, 204);
    assert_eq!(client.exchange(REGISTRY, &token).await.unwrap().status, 401);
    // The same again does not restart the propagation.
    let change = json!({"advanceSeconds": 61});
    let clock = process.control(Method::POST, "/clock", &change).await;
    assert!(clock.json()["now"].is_string());
    assert_eq!(process.control(Method::PUT, "/config", &roles).await.status, 204);
    client
        .exchange(REGISTRY, &token)
        .await
        .unwrap()
        .token("refresh_token");

    for (path, method) in [
        ("/config", Method::PUT),
        ("/failures", Method::POST),
        ("/clock", Method::POST),
    ] {
        let answer = process.control(method, path, &json!({"unknown": 1})).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"].is_string());
    }

    let pid = process.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(process.child.wait().unwrap().success());
}
