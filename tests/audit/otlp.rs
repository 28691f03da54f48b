//! The records as an OTLP collector gets them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use pullpass_test_support::{Authority, free_port, wait_for};
use serde_json::{Value, json};

use crate::collector::{Answer, Collector, attributes};
use crate::world::{SOON, World, flag, review};

/// The lines of the file, once there are so many.
fn lines(world: &World, count: usize) -> Vec<Value> {
    wait_for("the file's lines", SOON, || {
        Some(world.webhook.records().unwrap()).filter(|lines| lines.len() == count)
    })
    .unwrap()
}

/// What the collector has, once it is so much.
fn bodies(collector: &Collector, count: usize) -> Vec<Value> {
    wait_for("the collector's records", SOON, || {
        Some(collector.bodies()).filter(|bodies| bodies.len() == count)
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_exactly_the_records_of_the_file() {
    let collector = Collector::start(Vec::new());
    let world = World::start(&[flag("--audit-otlp", collector.url()), "--unattached=deny".into()]);
    world
        .admit(&review("u-1", "apps", &["myregistry.azurecr.io/a:1"]))
        .await;
    world
        .admit(&review("u-2", "apps", &["stranger.azurecr.io/a:1"]))
        .await;
    world.admit(&review("u-3", "kube-system", &["nginx"])).await;
    let mut update = review("u-4", "apps", &["nginx", "myregistry.azurecr.io/debug"]);
    update["request"]["operation"] = json!("UPDATE");
    update["request"]["name"] = json!("web-1");
    update["request"]["oldObject"] = json!({"spec": {"containers": [{"name": "c0", "image": "nginx"}]}});
    world.admit(&update).await;

    let lines = lines(&world, 4);
    assert_eq!(bodies(&collector, 4), lines);
    let records = collector.records();
    let severities: Vec<_> = records
        .iter()
        .map(|record| record.severity_text.as_str())
        .collect();
    assert_eq!(severities, ["INFO", "ERROR", "INFO", "WARN"]);
    for (record, line) in records.iter().zip(&lines) {
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(i128::from(record.time_unix_nano), time.as_nanosecond());
        assert_eq!(record.event_name, "pullpass.admission");
    }
    assert_eq!(
        attributes(&records[3].attributes),
        json!({
            "log.record.uid": "u-4",
            "k8s.namespace.name": "apps",
            "k8s.pod.name": "web-1",
            "k8s.replicaset.name": "web-5d4f8c7b9",
            "user.name": "system:serviceaccount:kube-system:replicaset-controller",
            "pullpass.decision": "uncovered",
        })
    );
    let resource = attributes(&collector.resources()[0].attributes);
    assert_eq!(
        resource,
        json!({"service.name": "pullpass", "service.version": env!("CARGO_PKG_VERSION")})
    );
    assert_eq!(
        collector.requests()[0].1["content-type"],
        "application/x-protobuf"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_gets_everything_when_it_is_back() {
    let port = free_port().unwrap();
    let world = World::start(&[flag("--audit-otlp", format!("http://127.0.0.1:{port}"))]);
    for uid in ["u-1", "u-2", "u-3"] {
        world
            .admit(&review(uid, "apps", &["myregistry.azurecr.io/a:1"]))
            .await;
    }
    let lines = lines(&world, 3);
    let collector = Collector::at(port);
    assert_eq!(bodies(&collector, 3), lines);
    assert_eq!(world.dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collectors_retry_after_is_honored_and_refusals_counted() {
    let collector = Collector::start(vec![
        Answer::RetryAfter(StatusCode::SERVICE_UNAVAILABLE, 3),
        Answer::Rejects(0),
        Answer::Status(StatusCode::BAD_REQUEST),
        Answer::Rejects(0),
        Answer::Rejects(1),
    ]);
    let world = World::start(&[flag("--audit-otlp", collector.url())]);
    let admit = async |uid| world.admit(&review(uid, "apps", &["nginx"])).await;
    admit("kept").await;
    bodies(&collector, 1);
    let requests = collector.requests();
    assert!(
        requests[1].0 - requests[0].0 >= Duration::from_secs(3),
        "Retry-After"
    );

    admit("refused").await;
    let said = bodies(&collector, 2);
    assert_eq!((&said[1]["dropped"], world.dropped()), (&json!(1), 1));
    admit("rejected").await;
    let said = bodies(&collector, 3);
    assert_eq!((&said[2]["dropped"], world.dropped()), (&json!(1), 2));
    assert_eq!(collector.requests().len(), 6, "neither was sent again");
    let gap = &collector.records()[1];
    assert_eq!(
        (gap.event_name.as_str(), gap.severity_text.as_str()),
        ("pullpass.audit.gap", "ERROR")
    );
    assert_eq!(
        lines(&world, 3)[1]["uid"],
        "refused",
        "the file has them all, and no gap"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collectors_header_is_reread_and_never_shown() {
    let authority = Authority::new().unwrap();
    let collector = Collector::tls(&authority.server(&["localhost"]).unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    fs::write(path("token"), "Bearer hunter1\n").unwrap();
    let mut header = std::ffi::OsString::from("authorization=");
    header.push(path("token"));
    let mut world = World::start(&[
        flag("--audit-otlp", format!("https://localhost:{}", collector.port)),
        flag("--audit-otlp-header", header),
        flag("--extra-ca", path("ca.pem")),
        "--log=trace".into(),
    ]);
    world.admit(&review("u-1", "apps", &["nginx"])).await;
    bodies(&collector, 1);
    fs::write(path("token"), "Bearer hunter2\n").unwrap();
    world.admit(&review("u-2", "apps", &["nginx"])).await;
    bodies(&collector, 2);
    let tokens: Vec<_> = collector
        .requests()
        .iter()
        .map(|(_, headers)| headers["authorization"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(tokens, ["Bearer hunter1", "Bearer hunter2"]);
    let log = fs::read_to_string(world.webhook.process().stderr()).unwrap();
    assert!(!log.contains("hunter"), "{log}");
}

#[test]
fn a_collector_that_can_not_be_meant_is_refused_on_one_line() {
    for (flags, message) in [
        (vec!["--audit-otlp=collector:4317"], "write the collector's URL"),
        (
            vec![
                "--audit-otlp=http://c",
                "--audit-otlp-header=authorization=missing",
            ],
            "missing can't be read",
        ),
        (
            vec!["--audit-otlp-header=authorization=missing"],
            "--audit-otlp <URL>",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["serve", "--manifests=missing"])
            .args(&flags)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(error.contains(message), "{flags:?}: {error}");
    }
}
