use super::*;
use crate::base::logged::Log;
use crate::policy::mountable::tests::listing;
use crate::view::View;
use crate::view::tests::binding;
use http::{Request, Response};
use kube::client::Body;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(start_paused = true)]
async fn an_index_that_is_refused_is_counted_until_it_is_written() {
    let refuses = Arc::new(AtomicBool::new(true));
    let is_refused = Arc::clone(&refuses);
    let prunes = Arc::new(AtomicBool::new(false));
    let is_pruned = Arc::clone(&prunes);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (code, reason) = match (request.method().as_str(), is_refused.load(Ordering::Relaxed)) {
            ("GET", _) => (404, "NotFound"),
            (_, true) => (413, "RequestEntityTooLarge"),
            (_, false) => (201, ""),
        };
        let answer = if code == 201 {
            let settings = Settings::default();
            let spec = index(&crate::policy::attached::AttachedRegistries::default(), &settings).spec;
            let mut index = serde_json::to_value(AcrIndex::new(INDEX, spec)).unwrap();
            if is_pruned.load(Ordering::Relaxed) {
                index["spec"]["excludedNamespaces"] = json!(["of-another-spec"]);
            }
            index
        } else {
            json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code})
        };
        let body = Body::from(answer.to_string().into_bytes());
        std::future::ready(Ok::<_, std::io::Error>(
            Response::builder().status(code).body(body).unwrap(),
        ))
    });
    let metrics = Arc::new(Metrics::new(|| 0));
    let controller = IndexController {
        client: Client::new(service, "default"),
        watches: Arc::new(Watches::new(Arc::new(View::default()))),
        settings: Settings::default(),
        resync_interval: Duration::from_secs(30),
        metrics: Arc::clone(&metrics),
        written: Arc::default(),
    };
    let shows = async |value: u8| {
        let line = format!("\npullpass_index_failing {value}\n");
        while !metrics.encode().unwrap().contains(&line) {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let recreated = |count: u8| {
        let text = metrics.encode().unwrap();
        let line = format!("\npullpass_index_recreated_total {count}\n");
        assert!(text.contains(&line), "{text}");
    };
    let seen = async {
        shows(1).await;
        refuses.store(false, Ordering::Relaxed);
        shows(0).await;
        refuses.store(true, Ordering::Relaxed);
        shows(1).await;
        // It was there before, and was not when it could be written again.
        recreated(0);
        refuses.store(false, Ordering::Relaxed);
        shows(0).await;
        recreated(1);
        // An API server that keeps another spec, as one whose definition is older.
        prunes.store(true, Ordering::Relaxed);
        shows(1).await;
        prunes.store(false, Ordering::Relaxed);
        shows(0).await;
    };
    tokio::select! {
        () = controller.run() => panic!("it ended"),
        seen = timeout(Duration::from_hours(1), seen) => seen.unwrap(),
    }
}

/// What an API server keeps: the index, or null, and how often it was written.
#[derive(Default)]
struct Kept {
    index: serde_json::Value,
    writes: usize,
}

/// What goes wrong with each patch.
#[derive(Clone, Copy)]
enum Fault {
    Pruned,
    AnswerLost,
}

/// An API server that keeps the index that it is given.
fn keeping(kept: &Arc<Mutex<Kept>>, fault: Option<Fault>) -> Client {
    let kept = Arc::clone(kept);
    let service = tower::service_fn(move |request: Request<Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let method = request.method().clone();
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut kept = kept.lock().unwrap();
            let Kept { index, writes } = &mut *kept;
            let fault = fault.filter(|_| method == "PATCH");
            if method == "POST" {
                *index = serde_json::from_slice(&body).unwrap();
            } else if method == "PATCH" {
                let patch: json_patch::Patch = serde_json::from_slice(&body).unwrap();
                json_patch::patch(index, &patch).unwrap();
            }
            if matches!(fault, Some(Fault::Pruned)) {
                index["spec"]["excludedNamespaces"] = json!(["of-another-spec"]);
            }
            if method != "GET" {
                *writes += 1;
                index["metadata"]["resourceVersion"] = json!(writes.to_string());
            }
            let (code, reason) = match (index.is_null(), fault) {
                (true, _) => (404, "NotFound"),
                (false, Some(Fault::AnswerLost)) => (504, "Timeout"),
                (false, _) => (200, ""),
            };
            let failed = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code});
            let answer = if code == 200 { &*index } else { &failed };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

/// One that compares everything so rarely that no test sees it.
fn controller(client: Client, watches: &Arc<Watches>, metrics: &Arc<Metrics>) -> IndexController {
    IndexController {
        client,
        watches: Arc::clone(watches),
        settings: Settings::default(),
        resync_interval: Duration::from_hours(1),
        metrics: Arc::clone(metrics),
        written: Arc::default(),
    }
}

/// Adds a binding to the view, and tells of it.
fn bind(watches: &Watches, name: &str) {
    let binding = binding(name);
    let here = watches.view.bindings_in("shop");
    let mut here = here.map(|here| (*here).clone()).unwrap_or_default();
    here.insert(binding.name().to_owned(), binding);
    watches.view.set_bindings_of("shop", Some(&here));
    watches.tell(Change::Binding(format!("shop/{name}")));
}

/// A write that was stuck in a broken connection while another leader wrote.
#[tokio::test]
async fn an_index_that_changed_since_is_not_overwritten() {
    let with = |version: &str, excluded: &str| {
        let spec = AcrIndexSpec {
            excluded_namespaces: vec![excluded.to_owned()],
            ..AcrIndexSpec::default()
        };
        let mut index = serde_json::to_value(AcrIndex::new(INDEX, spec)).unwrap();
        index["metadata"]["resourceVersion"] = json!(version);
        index
    };
    let (read, present) = (with("1", "before"), with("2", "of-the-next-leader"));
    let is_stale = AtomicBool::new(true);
    let kept = Arc::new(Mutex::new(present.clone()));
    let served = Arc::clone(&kept);
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_stale = request.method() == "GET" && is_stale.swap(false, Ordering::Relaxed);
        let (read, served) = (read.clone(), Arc::clone(&served));
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut index = served.lock().unwrap();
            let patch: Option<json_patch::Patch> = serde_json::from_slice(&body).ok();
            let (code, answer) = match patch.map(|patch| json_patch::patch(&mut index, &patch)) {
                Some(Err(_)) => {
                    let refusal =
                        json!({"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422});
                    (422, refusal)
                }
                Some(Ok(())) | None => (200, if is_stale { read } else { index.clone() }),
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
        }
    });
    let controller = IndexController {
        client: Client::new(service, "default"),
        watches: Arc::new(Watches::new(Arc::new(View::default()))),
        settings: Settings::default(),
        resync_interval: Duration::from_secs(30),
        metrics: Arc::new(Metrics::new(|| 0)),
        written: Arc::default(),
    };
    let wanted = || AcrIndexSpec {
        excluded_namespaces: vec!["mine".to_owned()],
        ..AcrIndexSpec::default()
    };
    assert!(controller.reconcile(wanted(), None).await.is_err());
    assert_eq!(*kept.lock().unwrap(), present);
    // It is read again before the next attempt.
    let written = controller.reconcile(wanted(), None).await;
    assert_eq!(written.unwrap().outcome, Outcome::Kept);
    assert_eq!(
        kept.lock().unwrap()["spec"]["excludedNamespaces"],
        json!(["mine"])
    );
}

/// Long before everything is compared.
#[tokio::test(start_paused = true)]
async fn an_index_that_somebody_changes_is_back_in_seconds() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(log.clone()));
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    let kept: Arc<Mutex<Kept>> = Arc::default();
    let watches = Arc::new(Watches::new(Arc::new(View::default())));
    let metrics = Arc::new(Metrics::new(|| 0));
    let controller = controller(keeping(&kept, None), &watches, &metrics);
    let spec = || {
        let kept = kept.lock().unwrap();
        (kept.index.get("spec").cloned(), kept.writes)
    };
    let seen = async {
        sleep(Duration::from_secs(1)).await;
        let (derived, writes) = spec();
        assert!(derived.is_some() && writes == 1);
        {
            let index = &mut kept.lock().unwrap().index;
            index["spec"]["unattached"] = json!("warn");
            index["metadata"]["resourceVersion"] = json!("of-somebody");
        }
        sleep(LOOK_INTERVAL + Duration::from_secs(1)).await;
        assert_eq!(spec(), (derived.clone(), 2));
        assert_eq!(log.text().matches("somebody edited the AcrIndex").count(), 1);
        kept.lock().unwrap().index = json!(null);
        sleep(LOOK_INTERVAL + Duration::from_secs(1)).await;
        assert_eq!(spec(), (derived.clone(), 3));
        let text = metrics.encode().unwrap();
        assert!(text.contains("\npullpass_index_recreated_total 1\n"), "{text}");
        // Looking changes nothing.
        sleep(Duration::from_mins(10)).await;
        assert_eq!(spec(), (derived, 3));
        assert_eq!(log.text().matches("somebody").count(), 2, "{}", log.text());
    };
    tokio::select! {
        () = controller.run() => panic!("it ended"),
        seen = timeout(Duration::from_hours(1), seen) => seen.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_went_wrong_is_nobodys_edit() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(log.clone()));
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    for fault in [Fault::Pruned, Fault::AnswerLost] {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let watches = Arc::new(Watches::new(Arc::new(View::default())));
        let metrics = Arc::new(Metrics::new(|| 0));
        let controller = controller(keeping(&kept, Some(fault)), &watches, &metrics);
        let written = async |count: usize| {
            while kept.lock().unwrap().writes < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let seen = async {
            sleep(Duration::from_secs(1)).await;
            bind(&watches, "first");
            written(2).await;
            // Before the next attempt.
            bind(&watches, "second");
            written(3).await;
        };
        tokio::select! {
            () = controller.run() => panic!("it ended"),
            seen = timeout(Duration::from_hours(1), seen) => seen.unwrap(),
        }
    }
    assert!(!log.text().contains("somebody"), "{}", log.text());
    assert!(log.text().contains("did not keep the AcrIndex"), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn bindings_are_written_together_and_soon() {
    let kept: Arc<Mutex<Kept>> = Arc::default();
    let watches = Arc::new(Watches::new(Arc::new(View::default())));
    let metrics = Arc::new(Metrics::new(|| 0));
    let controller = controller(keeping(&kept, None), &watches, &metrics);
    let bindings = || {
        let kept = kept.lock().unwrap();
        (kept.index["spec"]["bindings"].clone(), kept.writes)
    };
    let seen = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bindings(), (json!(null), 1));
        for number in 0..50 {
            bind(&watches, &format!("b{number}"));
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_secs(1)).await;
        let (spec, writes) = bindings();
        let secrets = spec["shop"]["shared1.azurecr.io"].as_array().map(Vec::len);
        assert_eq!((secrets, writes), (Some(50), 2));
    };
    tokio::select! {
        () = controller.run() => panic!("it ended"),
        seen = timeout(Duration::from_hours(1), seen) => seen.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_many_strict_accounts_is_left_out_and_counted() {
    let listed: Vec<String> = (0..16).map(|number| format!("pullpass-{number:0>64}")).collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    // They are too many for the index, and those that list much are also too many for the memory.
    for (count, listed) in [(4_000, &[][..]), (5_000, &listed[..])] {
        strict_accounts_of_a_crowded_namespace(count, listed).await;
    }
}

async fn strict_accounts_of_a_crowded_namespace(count: usize, listed: &[&str]) {
    let kept: Arc<Mutex<Kept>> = Arc::default();
    let watches = Arc::new(Watches::new(Arc::new(View::default())));
    let take = |namespace: &str, name: &str, listed: &[&str]| {
        let mut accounts = watches.view.strict_accounts();
        accounts.take(namespace, name, Some(listing(listed)));
    };
    for number in 0..count {
        take("crowded", &format!("account-of-a-long-name-{number}"), listed);
    }
    take("shop", "strict", &[]);
    let is_known = watches.view.strict_accounts().left_out().count() == 0;
    assert_eq!(is_known, listed.is_empty());
    let metrics = Arc::new(Metrics::new(|| 0));
    let controller = controller(keeping(&kept, None), &watches, &metrics);
    tokio::select! {
        () = controller.run() => panic!("it ended"),
        () = sleep(Duration::from_secs(5)) => {}
    }
    let told = kept.lock().unwrap().index["spec"]["strictServiceAccounts"].clone();
    assert_eq!(told, json!({"crowded": {"*": []}, "shop": {"strict": []}}));
    let text = metrics.encode().unwrap();
    for line in [
        "pullpass_index_strict_namespaces_left_out 1",
        "pullpass_index_namespaces_left_out 0",
        "pullpass_index_registries_left_out 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn registries_do_not_wait_for_bindings() {
    let watches = Watches::new(Arc::new(View::default()));
    let mut changes = watches.changes();
    watches.tell(Change::Binding("shop/a".to_owned()));
    watches.tell(Change::Binding("shop/b".to_owned()));
    watches.tell(Change::Registry("mine".to_owned()));
    assert_eq!(changed(&mut changes).await, Changed::Bindings);
    let begun = tokio::time::Instant::now();
    registries_changed(&mut changes).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
