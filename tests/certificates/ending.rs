//! A replica that has no certificate yet.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use pullpass_test_support::{Scratch, Signal, Supervised, free_port, wait_for};
use serde_json::json;

use crate::world::{SOON, Test};

#[test]
fn a_replica_without_a_certificate_is_alive_and_not_ready() -> Test {
    let scratch = Scratch::new()?;
    // Nobody listens there.
    let server = format!("http://127.0.0.1:{}", free_port()?);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "nowhere",
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
        "clusters": [{"name": "nowhere", "cluster": {"server": server}}],
        "users": [{"name": "nobody", "user": {}}],
    });
    let file = scratch.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string())?;
    let metrics_port = free_port()?;
    let mut serve = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    serve
        .args(["serve", "--shutdown-delay=0", "--listen=127.0.0.1:0"])
        .arg(format!("--metrics-listen=127.0.0.1:{metrics_port}"))
        .env("KUBECONFIG", file);
    let mut pullpass = Supervised::spawn("pullpass", &serve, scratch.path())?;
    wait_for("it to be alive", SOON, || get(metrics_port, "/healthz"))?;
    let ready = get(metrics_port, "/readyz")?;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("[-] certificate"), "{ready}");
    pullpass.signal(Signal::Terminate)?;
    let status = pullpass.wait(SOON)?;
    assert!(status.success(), "{status}: {}", pullpass.log_tail());
    Ok(())
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
