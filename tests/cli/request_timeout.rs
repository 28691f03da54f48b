//! `--request-timeout`, with an API server that accepts connections and never answers.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use pullpass_test_support::Scratch;
use serde_json::json;

use crate::command::run;
use crate::world::Test;

/// What is given to a request; the default is 10 s, and the command needs some moments itself.
const LIMIT: &str = "--request-timeout=200ms";
const DEFAULT: Duration = Duration::from_secs(10);

#[test]
fn a_small_timeout_ends_a_request_without_an_answer() -> Test {
    // The system accepts connections for it, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let scratch = Scratch::new()?;
    let file = scratch.path().join("kubeconfig");
    // In plain HTTP, the answer is missing; with TLS, the first message of it.
    for scheme in ["http", "https"] {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": format!("{scheme}://{address}")}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        fs::write(&file, kubeconfig.to_string())?;
        for command in [
            &["audit"][..],
            &["check"],
            &["check", "myregistry", "--in-cluster"],
            &["version"],
            &["detach", "myregistry"],
        ] {
            let begin = Instant::now();
            let said = run(&file, &[command, &[LIMIT]].concat())?.failed(1)?;
            let took = begin.elapsed();
            assert!(took < DEFAULT, "{scheme} {command:?}: {took:?}");
            assert!(
                said.starts_with("pullpass: the cluster can't be used: ")
                    && said.ends_with(": no answer in time\n"),
                "{scheme} {command:?}: {said}"
            );
        }
    }
    Ok(())
}
