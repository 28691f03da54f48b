//! `pullpass serve` as a process: how it ends, reopens its log, follows its manifests, and refuses to start.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pullpass_test_support::{Authority, free_port, wait_for};
use serde_json::Value;

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(2);
const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec: {loginServer: myregistry.azurecr.io, identity: {managedIdentity: {}}}\n";
const REVIEW: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"apps","object":{"spec":{"containers":[{"name":"c","image":"myregistry.azurecr.io/a"}]}}}}"#;

struct Serve {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    metrics_port: u16,
}

impl Serve {
    fn start(flags: &[&str]) -> Self {
        Self::start_on("127.0.0.1", flags)
    }

    fn start_on(host: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::new().unwrap();
        let identity = authority.server(&["localhost"]).unwrap();
        fs::write(path("ca.pem"), authority.pem()).unwrap();
        fs::write(path("tls.crt"), &identity.certificate).unwrap();
        fs::write(path("tls.key"), &identity.key).unwrap();
        fs::create_dir(path("cluster")).unwrap();
        fs::write(path("cluster").join("registry.yaml"), REGISTRY).unwrap();
        let (port, metrics_port) = (free_port().unwrap(), free_port().unwrap());
        let child = command(&path("cluster"))
            .arg(format!("--listen={host}:{port}"))
            .arg(format!("--metrics-listen={host}:{metrics_port}"))
            .args([
                option("--tls-cert", path("tls.crt")),
                option("--tls-key", path("tls.key")),
            ])
            .args([
                option("--audit-log", path("audit.log")),
                option("--log-file", path("log.filter")),
                "--reload-interval=0.02".into(),
            ])
            .args(flags)
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let serve = Self {
            child,
            directory,
            port,
            metrics_port,
        };
        wait_for("pullpass to be ready", SOON, || serve.readyz() == Some(200)).unwrap();
        serve
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
    }

    fn readyz(&self) -> Option<u16> {
        self.readyz_at("127.0.0.1")
    }

    fn readyz_at(&self, address: &str) -> Option<u16> {
        let url = format!("http://{address}:{}/readyz", self.metrics_port);
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .parse()
            .ok()
            .filter(|code| *code != 0)
    }

    /// Sends a review with curl; the answer, if there is one.
    fn review(&self) -> Option<Value> {
        serde_json::from_str(&self.post(REVIEW, &[])).ok()
    }

    /// What curl says of the answer to this body.
    fn post(&self, body: &str, flags: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["-s", "--cacert"])
            .arg(self.path("ca.pem"))
            .args(["-H", "content-type: application/json", "-d", body])
            .args(flags)
            .arg(format!("https://localhost:{}/mutate", self.port))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for("pullpass to end", SOON, || self.child.try_wait().unwrap()).unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn option(name: &str, path: PathBuf) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

fn command(manifests: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command
        .arg("serve")
        .arg(option("--manifests", manifests.to_owned()));
    command
}

/// The hosts are those of the defaults, which tests/help holds; the ports can't be.
#[test]
fn both_families_are_answered_on_the_default_hosts() {
    let serve = Serve::start_on("[::]", &[]);
    let mut addresses = vec!["127.0.0.1"];
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push("[::1]");
    } else {
        eprintln!("LEFT OUT: the kernel has no IPv6, so that only IPv4 is tried on [::]");
    }
    for address in addresses {
        let resolve = format!("localhost:{}:{address}", serve.port);
        let answer: Value = serde_json::from_str(&serve.post(REVIEW, &["--resolve", &resolve])).unwrap();
        assert_eq!(
            answer["response"]["auditAnnotations"]["decision"], "injected",
            "{address}"
        );
        assert_eq!(serve.readyz_at(address), Some(200), "{address}");
    }
}

#[test]
fn sigterm_makes_it_unready_and_it_drains_and_exits_with_0() {
    let mut serve = Serve::start(&["--shutdown-delay=3"]);
    serve.signal("TERM");
    wait_for("pullpass to be unready", SOON, || serve.readyz() == Some(503)).unwrap();
    let answer = serve.review().expect("an answer during the delay");
    assert_eq!(answer["response"]["auditAnnotations"]["decision"], "injected");
    assert_eq!(serve.wait().code(), Some(0));
    assert!(serve.review().is_none());
    assert!(
        fs::read_to_string(serve.path("audit.log"))
            .unwrap()
            .ends_with('\n'),
        "the log is whole"
    );
}

#[test]
fn a_second_signal_ends_it_immediately() {
    for (first, second, code) in [("TERM", "INT", 130), ("INT", "TERM", 143), ("INT", "INT", 130)] {
        let mut serve = Serve::start(&["--shutdown-delay=3600"]);
        serve.signal(first);
        wait_for("pullpass to be unready", SOON, || serve.readyz() == Some(503)).unwrap();
        serve.signal(second);
        assert_eq!(serve.wait().code(), Some(code), "{first}, then {second}");
    }
}

/// The delay is over, and a request keeps it from ending.
#[test]
fn a_second_signal_ends_it_while_it_drains() {
    let mut serve = Serve::start(&["--shutdown-delay=0"]);
    let said = serve.path("curl");
    let mut pending = Command::new("curl")
        .args(["-s", "-v", "--http1.1", "--cacert"])
        .arg(serve.path("ca.pem"))
        .args([
            "-H",
            "content-type: application/json",
            "-H",
            "expect: 100-continue",
        ])
        .args(["-X", "POST", "-T", "-", "-o", "/dev/null"])
        .arg(format!("https://localhost:{}/mutate", serve.port))
        .stdin(Stdio::piped())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let is_awaited = || fs::read_to_string(&said).is_ok_and(|said| said.contains("HTTP/1.1 100 Continue"));
    wait_for("pullpass to wait for the body", SOON, is_awaited).unwrap();
    serve.signal("TERM");
    let log = serve.path("log");
    let drains = || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("draining in-flight requests")
    };
    wait_for("pullpass to drain", SOON, drains).unwrap();
    serve.signal("TERM");
    let code = serve.wait().code();
    pending.kill().unwrap();
    pending.wait().unwrap();
    assert_eq!(code, Some(143));
}

#[test]
fn a_hangup_opens_the_audit_log_again() {
    let serve = Serve::start(&[]);
    serve.review().unwrap();
    let lines = |name: &str| fs::read_to_string(serve.path(name)).map_or(0, |text| text.lines().count());
    wait_for("the first record", SOON, || lines("audit.log") == 1).unwrap();
    fs::rename(serve.path("audit.log"), serve.path("audit.log.1")).unwrap();
    serve.signal("HUP");
    wait_for("the log to be there again", SOON, || {
        serve.path("audit.log").exists()
    })
    .unwrap();
    serve.review().unwrap();
    wait_for("the second record", SOON, || lines("audit.log") == 1).unwrap();
    assert_eq!(lines("audit.log.1"), 1);
}

#[test]
fn manifests_are_followed_and_a_mistake_changes_nothing() {
    let serve = Serve::start(&["--unattached=deny"]);
    let decision = || serve.review().unwrap()["response"]["auditAnnotations"]["decision"].clone();
    assert_eq!(decision(), "injected");
    fs::remove_file(serve.path("cluster").join("registry.yaml")).unwrap();
    wait_for("the registry to be detached", SOON, || decision() == "denied").unwrap();
    fs::write(serve.path("cluster").join("registry.yaml"), REGISTRY).unwrap();
    wait_for("the registry to be attached", SOON, || decision() == "injected").unwrap();
    fs::write(serve.path("cluster").join("broken.yaml"), "kind: [").unwrap();
    fs::write(serve.path("cluster").join("registry.yaml"), "").unwrap();
    assert_eq!(decision(), "injected");
    fs::remove_file(serve.path("cluster").join("broken.yaml")).unwrap();
    wait_for("the mistake to be corrected", SOON, || decision() == "denied").unwrap();
}

#[test]
fn the_log_filter_changes_live_and_never_shows_library_traces() {
    let serve = Serve::start(&["--log=warn"]);
    let logged = |what: &str| {
        wait_for(what, SOON, || {
            let log = fs::read_to_string(serve.path("log")).unwrap();
            if log.contains(what) { Ok(log) } else { Err(log) }
        })
        .unwrap()
    };
    fs::write(serve.path("log.filter"), "trace\n").unwrap();
    logged(r#""filter":"trace""#);
    serve.review().unwrap();
    let log = logged(r#""message":"answered","uid":"u","namespace":"apps""#);
    for line in log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
    {
        let target = line["target"].as_str().unwrap();
        assert!(
            target.starts_with("pullpass") || line["level"] == "INFO",
            "{line}"
        );
    }

    fs::write(serve.path("log.filter"), "pullpass=loud").unwrap();
    logged("the log's filter is wrong and not used");
    fs::write(serve.path("log.filter"), "info").unwrap();
    logged(r#""filter":"info""#);
}

#[test]
fn a_refused_request_has_one_id_in_log_and_answer() {
    let serve = Serve::start(&[]);
    let ids: Vec<String> = ["{}", "{"]
        .iter()
        .map(|body| {
            let answer = serve.post(
                body,
                &["-o", "/dev/null", "-w", "%{http_code} %header{x-request-id}"],
            );
            answer.strip_prefix("400 ").expect(&answer).to_owned()
        })
        .collect();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 16), "{ids:?}");
    // The second one comes too soon after the first to be logged.
    let log = fs::read_to_string(serve.path("log")).unwrap();
    let is_logged = |id: &String| log.contains(&format!(r#""request":"{id}""#));
    assert_eq!(
        ids.iter().map(is_logged).collect::<Vec<_>>(),
        [true, false],
        "{log}"
    );
}

#[test]
fn failures_to_start_are_said_on_one_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("registry.yaml"), REGISTRY).unwrap();
    for (flags, code, message) in [
        (vec!["--tls-cert=missing.crt"], 1, "missing.crt can't be read"),
        (vec!["--log=pullpass=loud"], 2, "--log pullpass=loud"),
        (
            vec!["--audit-log=missing/audit.log"],
            1,
            "the audit log can't be opened",
        ),
        (vec!["--max-concurrent=0"], 2, "0 is not in 1.."),
        (
            vec!["--mode=sometimes"],
            2,
            "possible values: cluster-wide, opt-in",
        ),
    ] {
        let output = command(directory.path())
            .args(&flags)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {error}");
        assert!(error.contains(message), "{flags:?}: {error}");
    }
}

#[test]
fn settings_of_another_cloud_hold_without_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let host = "{cloud: Other, loginServer: myregistry.azurecr.contoso.com";
    let other = REGISTRY.replace("{loginServer: myregistry.azurecr.io", host);
    let serve = Serve::start(&[]);
    fs::write(serve.path("cluster").join("registry.yaml"), &other).unwrap();
    wait_for("the log to say that the cloud is unknown", SOON, || {
        let log = fs::read_to_string(serve.path("log")).unwrap();
        log.contains("without --other-cloud-suffix")
            .then_some(())
            .ok_or(log)
    })
    .unwrap();
    fs::write(directory.path().join("registry.yaml"), &other).unwrap();
    let output = command(directory.path())
        .args(["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"])
        .arg(option("--tls-cert", serve.path("tls.crt")))
        .arg(option("--tls-key", serve.path("tls.key")))
        .arg("--other-cloud-suffix=azurecr.contoso.example")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let message = "AcrRegistry mine: spec.loginServer does not end in .azurecr.contoso.example";
    assert!(error.contains(message), "{error}");
    assert_eq!(output.status.code(), Some(2), "{error}");
}
