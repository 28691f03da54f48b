//! docs/audit.md: its sample is what the program writes, its queries run, and their answers are the ones it shows.

use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::{Authority, Identity, Webhook, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, flag, review};

const DOCUMENT: &str = include_str!("../../docs/audit.md");
const SCHEMA: &str = include_str!("../../docs/audit.schema.json");
const SAMPLE: &str = include_str!("queries/audit.log");
const MANIFESTS: &str = include_str!("queries/cluster.yaml");

/// What the sample came of: a review for every decision, by the API server except for the last.
fn reviews() -> Vec<Value> {
    let mut number = 0;
    let mut review = |namespace, images: &[&str]| {
        number += 1;
        review(
            &format!("00000000-0000-4000-8000-{number:012}"),
            namespace,
            images,
        )
    };
    let mut covered = review("apps", &["webshop.azurecr.io/web:1"]);
    covered["request"]["object"]["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-shop"}]);
    let mut by_hand = review("apps", &["teamblue.azurecr.io/tool:1"]);
    by_hand["request"]["userInfo"]["username"] = json!("jane@example.com");
    by_hand["request"]["object"]["metadata"] = json!({"name": "tool"});
    let mut debug = review("apps", &["webshop.azurecr.io/web:1"]);
    debug["request"]["operation"] = json!("UPDATE");
    debug["request"]["name"] = json!("web-0");
    debug["request"]["userInfo"]["username"] = json!("jane@example.com");
    debug["request"]["object"]["metadata"] = json!({"name": "web-0"});
    debug["request"]["oldObject"] = json!({"spec": {"containers": [{"name": "c0", "image": "nginx:1"}]}});
    let mut opted_out = review("apps", &["webshop.azurecr.io/batch:1"]);
    opted_out["request"]["object"]["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    vec![
        review("apps", &["webshop.azurecr.io/web:1"]),
        review("apps", &["webshop.azurecr.io/web:1", "nginx:1"]),
        review(
            "team-b",
            &["teamblue.azurecr.io/api:2", "webshop.azurecr.io/base:1"],
        ),
        covered,
        by_hand,
        review("apps", &["stranger.azurecr.io/miner:1"]),
        debug,
        review("legacy", &["webshop.azurecr.io/old:1"]),
        opted_out,
        review("apps", &["nginx:1"]),
        review("apps", &["webshop.azurecr.io/web:1"]),
    ]
}

/// What differs from run to run, made the same.
fn settled(mut line: Value, number: usize) -> Value {
    let day = if number == 0 { 21 } else { 22 };
    line["time"] = format!("2026-11-{day}T09:00:{number:02}.000000Z").into();
    line["durationMicros"] = 85.into();
    line["version"] = "0.2.0".into();
    line
}

fn send(webhook: &Webhook, directory: &Path, client: &Identity, review: &Value) {
    let path = |name: &str| directory.join(name);
    fs::write(path("client.crt"), &client.certificate).unwrap();
    fs::write(path("client.key"), &client.key).unwrap();
    fs::write(path("server.pem"), webhook.authority().pem()).unwrap();
    fs::write(path("review.json"), review.to_string()).unwrap();
    let done = Command::new("curl")
        .args([
            "-sSf",
            "--cacert",
            "server.pem",
            "--cert",
            "client.crt",
            "--key",
            "client.key",
        ])
        .args([
            "-o",
            "answer.json",
            "-H",
            "content-type: application/json",
            "-d",
            "@review.json",
        ])
        .arg(format!("https://localhost:{}/mutate", webhook.port()))
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn the_sample_has_every_decision_and_fits_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let clients = Authority::new().unwrap();
    fs::write(directory.path().join("clients.pem"), clients.pem()).unwrap();
    let webhook = Webhook::start(
        Path::new(env!("CARGO_BIN_EXE_pullpass")),
        "pullpass-system",
        &[MANIFESTS.to_owned()],
        &[
            flag("--client-ca", directory.path().join("clients.pem")),
            "--unattached=warn".into(),
            "--forbidden=deny".into(),
        ],
    )
    .unwrap();
    let server = clients.client("kube-apiserver", None).unwrap();
    let other = clients.client("jane", Some("developers")).unwrap();
    let reviews = reviews();
    for (number, review) in reviews.iter().enumerate() {
        let client = if number + 1 == reviews.len() {
            &other
        } else {
            &server
        };
        send(&webhook, directory.path(), client, review);
    }
    let lines = wait_for("the log", SOON, || {
        Some(webhook.records().unwrap()).filter(|lines| lines.len() == reviews.len())
    })
    .unwrap();

    let schema = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in &lines {
        let errors: Vec<_> = schema.iter_errors(line).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
    for decision in schema_enum("decision") {
        assert!(
            lines.iter().any(|line| line["decision"] == decision),
            "{decision}"
        );
    }
    let lines: Vec<_> = lines
        .into_iter()
        .enumerate()
        .map(|(number, line)| settled(line, number))
        .collect();
    // The last line says that some are missing, which tests/audit/load.rs makes happen.
    let sample: Vec<Value> = SAMPLE
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (gap, sample) = sample.split_last().unwrap();
    assert!(schema.is_valid(gap) && gap["dropped"] == 17, "{gap}");
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(sample, lines, "queries/audit.log is stale; it would be\n{text}");
}

fn schema_enum(property: &str) -> Vec<Value> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let values = &schema["$defs"]["decision"]["properties"][property]["enum"];
    values.as_array().unwrap().clone()
}

/// The document's fenced blocks: their language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    DOCUMENT
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').unwrap())
        .collect()
}

#[test]
fn the_document_shows_what_its_jq_queries_answer() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("audit.log"), SAMPLE).unwrap();
    let blocks = blocks();
    let mut queries = 0;
    for pair in blocks.windows(2) {
        let [("sh", query), ("text", answer)] = pair else {
            continue;
        };
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", query])
            .env("LC_ALL", "C")
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{query}\n{output:?}");
        let got = String::from_utf8(output.stdout).unwrap();
        assert_eq!(plain(&got), plain(answer), "{query}\n{got}");
        queries += 1;
    }
    // The others have commands of `pullpass audit`, which tests/policy runs.
    let of_the_log = blocks
        .iter()
        .filter(|(language, text)| *language == "sh" && text.contains("audit.log"));
    assert_eq!(queries, of_the_log.count());
    assert!(queries >= 7);
}

#[test]
fn the_document_shows_lines_of_the_sample() {
    let blocks = blocks();
    let shown: Vec<Value> = blocks
        .iter()
        .filter(|(language, _)| *language == "json")
        .map(|(_, text)| serde_json::from_str(text).unwrap())
        .collect();
    assert!(!shown.is_empty());
    for line in shown {
        let is_it = |sample: &str| serde_json::from_str::<Value>(sample).unwrap() == line;
        assert!(SAMPLE.lines().any(is_it), "{line}");
    }
}

/// Columns apart by one space: how wide they are is nobody's concern.
fn plain(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}
