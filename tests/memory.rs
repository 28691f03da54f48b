//! What forged reviews leave behind in memory: the live bytes of this process, which no other test shares.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use pullpass::admission::{Admission, ClusterSenders};
use pullpass::admission::{demand, notices};
use pullpass::audit::{AuditLog, Destination};
use pullpass::metrics::Metrics;
use pullpass::policy::decision::Settings;
use pullpass::policy::scope::Picked;
use pullpass::registry::other_cloud::OtherCloud;
use pullpass::view::View;
use pullpass::view::manifests::Manifests;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// More than the queue of demands takes.
const FLOOD: usize = 6_000;
/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(1);
const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec: {loginServer: myregistry.azurecr.io, identity: {managedIdentity: {}}}\n";

/// A webhook in a cluster where nobody works off what admission hands on: the worst case for what is kept.
fn webhook(
    directory: &Path,
    metrics: &Arc<Metrics>,
    registries: &str,
) -> (Admission, demand::DemandReceiver) {
    std::fs::create_dir(directory.join("cluster")).unwrap();
    std::fs::write(directory.join("cluster/registry.yaml"), registries).unwrap();
    let view = Arc::new(View::default());
    let manifests = Manifests::read(&directory.join("cluster"), &OtherCloud::default()).unwrap();
    manifests.publish(&view);
    let audit = Destination::File(directory.join("audit.log"));
    let audit = Arc::new(AuditLog::open(&audit).unwrap());
    let (demand, demands) = demand::channel(Arc::clone(metrics));
    let (notices, _) = notices::channel(Arc::clone(metrics));
    let admission = Admission::new(view, Settings::default(), audit, Arc::clone(metrics))
        .in_cluster(ClusterSenders { demand, notices });
    (admission, demands)
}

fn review(namespace: &str) -> String {
    review_of(namespace, &["myregistry.azurecr.io/app"])
}

fn review_of(namespace: &str, images: &[impl AsRef<str>]) -> String {
    let images = images.iter().map(|image| json!({"image": image.as_ref()}));
    let images: Vec<_> = images.collect();
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": namespace, "object": {"spec": {"containers": images}},
    }});
    review.to_string()
}

/// Whether a review is answered, and else why not.
fn post(admission: &Admission, review: &str) -> Result<(), String> {
    let review = admission.read(review.as_bytes(), Picked::ByMode);
    let answer = review.and_then(|review| admission.answer(&review, "192.0.2.1:1", Instant::now()));
    answer.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn forged_reviews_leave_nothing_of_their_size_behind() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(|| 0));
    let (admission, demands) = webhook(directory.path(), &metrics, REGISTRY);
    assert_eq!((post(&admission, &review("apps")), demands.len()), (Ok(()), 1));

    let large = review(&"n".repeat(7_900_000));
    let before = ALLOCATOR.current_usage();
    for _ in 0..40 {
        let refusal = post(&admission, &large).unwrap_err();
        assert!(refusal.contains("request.namespace is not the name"), "{refusal}");
        assert!(refusal.len() < 300, "{refusal}");
    }
    let kept = ALLOCATOR.current_usage().saturating_sub(before);
    assert!(kept < MIB / 4, "{kept} bytes of 40 reviews of 7.9 MB are kept");
    assert_eq!(demands.len(), 1);

    // Names that could be right are kept, but not many of them.
    for number in 0..FLOOD {
        assert_eq!(
            post(&admission, &review(&format!("made-up-{number:055}"))),
            Ok(())
        );
    }
    let dropped = format!(
        "pullpass_queue_dropped_total{{queue=\"demand\",reason=\"full\"}} {}\n",
        FLOOD + 1 - demands.len()
    );
    assert!(metrics.encode().unwrap().contains(&dropped));
    // What waits for the audit log's file has a bound of its own.
    written(&directory.path().join("audit.log"), FLOOD + 1).await;
    let kept = ALLOCATOR.current_usage().saturating_sub(before);
    assert!(kept < 3 * MIB, "{kept} bytes of {FLOOD} reviews are kept");

    a_reviews_images_cost_little_beside_its_body().await;
}

/// What the webhook counts with where it bounds the large bodies that are judged concurrently (`LARGE_BODIES`).
const MOST_BESIDE_A_BODY: usize = 20;

/// Called by the test above, since both read the same counters.
async fn a_reviews_images_cost_little_beside_its_body() {
    let teams = (0..50).map(|team| REGISTRY.replace("{name: mine}", &format!("{{name: team-{team}}}")));
    let teams: Vec<_> = teams.collect();
    let most = 1 << 15;
    for (what, images) in [
        (
            "images on a registry that many share",
            vec!["myregistry.azurecr.io:443/a".to_owned(); most],
        ),
        (
            "spellings that are warned of",
            (0..most).map(|n| format!("MYregistry.azurecr.io/a{n}")).collect(),
        ),
        (
            "registries that nobody attached",
            (0..most).map(|n| format!("r{n:06}.azurecr.io/a")).collect(),
        ),
        ("no references", vec!["://".to_owned(); most]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new(|| 0));
        let (admission, _demands) = webhook(directory.path(), &metrics, &teams.join("---\n"));
        let body = review_of("made-up", &images);
        drop(images);
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        assert_eq!(post(&admission, &body), Ok(()), "{what}");
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        println!("{what}: {} bytes, {peak} beside", body.len());
        assert!(
            peak < MOST_BESIDE_A_BODY * body.len(),
            "{what}: {peak} bytes are taken for a body of {}",
            body.len()
        );
        written(&directory.path().join("audit.log"), 1).await;
    }
}

/// Waits until a file has so many lines.
async fn written(path: &Path, lines: usize) {
    let poll = async {
        while std::fs::read_to_string(path).unwrap().matches('\n').count() < lines {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, poll)
        .await
        .expect("the audit log has its lines");
}
