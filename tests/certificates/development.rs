//! What `certs/make` makes is good for what `certs/README.md` says.

use std::path::Path;
use std::process::Command;

use pullpass_test_support::{Scratch, Supervised, free_port, wait_for};

use crate::world::{SOON, Test};

#[test]
fn certificates_for_development_serve_and_let_callers_in() -> Test {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new()?;
    let directory = scratch.path().join("certs");
    let made = Command::new(top.join("certs/make"))
        .arg(&directory)
        .args(["localhost", "127.0.0.1"])
        .output()?;
    assert!(made.status.success(), "{made:?}");

    let file = |name: &str| directory.join(name).display().to_string();
    let (port, metrics_port) = (free_port()?, free_port()?);
    let mut serve = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    serve
        .arg("serve")
        .arg("--manifests")
        .arg(top.join("examples"))
        .args([
            format!("--listen=127.0.0.1:{port}"),
            format!("--metrics-listen=127.0.0.1:{metrics_port}"),
            format!("--tls-cert={}", file("tls.crt")),
            format!("--tls-key={}", file("tls.key")),
            format!("--client-ca={}", file("client-ca.crt")),
        ]);
    let mut pullpass = Supervised::spawn("pullpass", &serve, scratch.path())?;

    let call = |host: &str, client: &[&str]| {
        Command::new("curl")
            .args([
                "--disable",
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "10",
            ])
            .args(["--cacert", &file("ca.crt")])
            .args(client)
            .args(["--header", "Content-Type: application/json", "--data", "{}"])
            .args(["--write-out", "%{http_code}"])
            .arg(format!("https://{host}:{port}/mutate"))
            .output()
    };
    let shown = ["--cert", &file("client.crt"), "--key", &file("client.key")];
    for host in ["localhost", "127.0.0.1"] {
        wait_for("pullpass to answer", SOON, || {
            pullpass.check_running().map_err(|error| error.to_string())?;
            let output = call(host, &shown).map_err(|error| error.to_string())?;
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            if answer.ends_with("400") {
                Ok(())
            } else {
                Err(format!("{output:?}"))
            }
        })?;
    }
    let refused = call("localhost", &[])?;
    assert!(!refused.status.success(), "{refused:?}");
    Ok(())
}
