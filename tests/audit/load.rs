//! 10,000 admissions while a destination takes nothing: every one is answered, and every record accounted for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::collector::Collector;
use crate::world::{SOON, World, accounted, flag, review};

const ADMISSIONS: u64 = 10_000;
const CLIENTS: u64 = 16;

/// Sends all of them; each is answered, and with the right patch. Together, their records are larger than the buffer.
async fn admit_all(world: &World) {
    let tag = "t".repeat(128);
    let repository = "r".repeat(200);
    let images: Vec<_> = (0..8)
        .map(|number| format!("myregistry.azurecr.io/{repository}{number}:{tag}"))
        .collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let patch =
        json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "pullpass-mine"}]}]);
    join_all((0..CLIENTS).map(|client| {
        let (images, patch) = (&images, &patch);
        async move {
            for number in (client..ADMISSIONS).step_by(16) {
                let uid = format!("u-{number}");
                let answer = world.admit(&review(&uid, "apps", images)).await;
                assert_eq!(answer["uid"], uid.as_str());
                assert_eq!(answer["allowed"], true);
                let got = BASE64_STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
                assert_eq!(serde_json::from_slice::<Value>(&got).unwrap(), *patch);
            }
        }
    }))
    .await;
}

fn valid(lines: &[Value]) {
    let schema = serde_json::from_str(include_str!("../../docs/audit.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in lines {
        assert!(schema.is_valid(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_hangs_costs_counted_records_and_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("audit");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (drain, told) = channel::<()>();
    let lines = Arc::new(Mutex::new(Vec::<Value>::new()));
    let reader = thread::spawn({
        let (pipe, lines) = (pipe.clone(), Arc::clone(&lines));
        move || {
            let pipe = BufReader::new(File::open(pipe).unwrap());
            told.recv().unwrap();
            for line in pipe.lines() {
                let line = serde_json::from_str(&line.unwrap()).unwrap();
                lines.lock().unwrap().push(line);
            }
        }
    });
    let mut world = World::start(&[flag("--audit-log", &pipe)]);
    admit_all(&world).await;
    let dropped = world.dropped();
    assert!(dropped > 0, "the records are larger than the buffer");

    drain.send(()).unwrap();
    wait_for("every record to be accounted for", SOON, || {
        let (records, told) = accounted(&*lines.lock().unwrap());
        (records + told == ADMISSIONS)
            .then_some(())
            .ok_or(format!("{records} and {told}"))
    })
    .unwrap();
    world.webhook.stop().unwrap();
    reader.join().unwrap();
    let lines = lines.lock().unwrap();
    assert_eq!(
        accounted(&*lines),
        (ADMISSIONS - dropped, dropped),
        "and nothing twice"
    );
    valid(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_no_record_of_the_file() {
    let collector = Collector::hanging();
    let world = World::start(&[flag("--audit-otlp", collector.url())]);
    admit_all(&world).await;
    wait_for("every line of the file", SOON, || {
        world.webhook.records().unwrap().len() as u64 == ADMISSIONS
    })
    .unwrap();
    assert_eq!(accounted(&world.webhook.records().unwrap()), (ADMISSIONS, 0));
    let dropped = world.dropped();
    assert!(dropped > 0, "the records are larger than the buffer");

    collector.open();
    // A batch that is taken while its sender gives up waiting comes twice.
    let once = || -> BTreeMap<String, Value> {
        let key = |body: &Value| body["uid"].as_str().or(body["time"].as_str()).unwrap().to_owned();
        collector
            .bodies()
            .into_iter()
            .map(|body| (key(&body), body))
            .collect()
    };
    wait_for("every record to be accounted for", SOON, || {
        let (records, told) = accounted(once().values());
        (records + told == ADMISSIONS)
            .then_some(())
            .ok_or(format!("{records} and {told}"))
    })
    .unwrap();
    assert_eq!(accounted(once().values()), (ADMISSIONS - dropped, dropped));
    assert_eq!(world.dropped(), dropped);
}
