use std::collections::VecDeque;
use std::sync::Mutex;

use futures::stream;
use http::{Method, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::base::logged::logged;
use crate::policy::coverage::CoverageState;
use crate::policy::workloads::{Standing, Tally, Workload, Workloads};
use crate::sync::secrets::tests::registry;
use crate::view::View;

fn report(uid: &str) -> Report {
    let standing = Standing {
        namespace: "apps".to_owned(),
        workload: Workload {
            kind: "ReplicaSet".to_owned(),
            name: "web".to_owned(),
            api_version: "apps/v1".to_owned(),
            uid: uid.to_owned(),
            restarts_as: None,
        },
        host: "shop.azurecr.io".to_owned(),
        registry: Some("shop".to_owned()),
        state: CoverageState::Covered,
    };
    let workloads = Workloads::from([(standing, Tally::default())]);
    let context = ReportContext::default();
    reports(&workloads, &context, false).next().unwrap()
}

fn known(uid: &str, fingerprint: Option<String>) -> ((String, String), Known) {
    let key = ("apps".to_owned(), format!("{REPORT_PREFIX}{uid}"));
    let uid = Some(format!("uid-of-{uid}"));
    (key, Known { fingerprint, uid })
}

#[test]
fn a_report_that_is_the_same_is_not_written_again() {
    let mut all = AllKnown::from([
        known("same", Some(report("same").fingerprint())),
        known("other", Some("former".to_owned())),
        known("edited", None),
        known("gone", None),
    ]);
    let written = ["same", "other", "edited", "new"].into_iter().filter(|uid| {
        let report = report(uid);
        let fingerprint = changed(&report, &mut all);
        assert!(fingerprint.is_none() || fingerprint == Some(report.fingerprint()));
        fingerprint.is_some()
    });
    assert_eq!(written.collect::<Vec<_>>(), ["other", "edited", "new"]);
    // What is left is of no workload.
    assert_eq!(all, AllKnown::from([known("gone", None)]));
}

#[test]
fn a_fingerprint_has_the_length_that_is_known_of_it() {
    assert_eq!(report("a").fingerprint().len(), FINGERPRINT_LENGTH);
}

/// The answers of an API server, by what is asked for.
struct Answers {
    /// The code of the list of Reports, and those that are there.
    reports: (u16, Vec<Value>),
    /// The lines of watches of Pods, one after the other. The next one has no answer.
    pods: Mutex<VecDeque<Vec<Value>>>,
    /// The code of a write.
    writes: u16,
}

/// Every request: its method, its path with the query, and its body.
type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn server(answers: Answers) -> (Client, Asked) {
    server_with(answers, |_| ())
}

/// The same, where something happens before a line is sent: it is told the number of the line.
fn server_with(answers: Answers, before: impl Fn(usize) + Clone + Send + 'static) -> (Client, Asked) {
    let (asked, answers) = (Asked::default(), Arc::new(answers));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answers, before) = (Arc::clone(&log), Arc::clone(&answers), before.clone());
        async move {
            let (method, uri) = (request.method().clone(), request.uri().to_string());
            let body = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (code, lines) = match method {
                Method::GET if uri.contains("/reports") => {
                    let (code, items) = &answers.reports;
                    (*code, vec![list(items)])
                }
                Method::GET => {
                    let next = answers.pods.lock().unwrap().pop_front();
                    let Some(lines) = next else {
                        return std::future::pending().await;
                    };
                    (200, lines)
                }
                _ => (answers.writes, vec![body.clone()]),
            };
            let lines = match code {
                200 => lines,
                _ => vec![
                    json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": code}),
                ],
            };
            log.lock().unwrap().push((method, uri, body));
            let frames = stream::iter(lines.into_iter().enumerate()).map(move |(number, line)| {
                before(number);
                Ok::<_, std::io::Error>(Frame::data(Bytes::from(format!("{line}\n"))))
            });
            let body = StreamBody::new(frames);
            Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

fn list(items: &[Value]) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}, "items": items,
    })
}

/// A Report that is there.
fn kept(name: &str, uid: &str, fingerprint: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
        "name": name, "namespace": "apps", "uid": uid, "annotations": {REPORT_FINGERPRINT_ANNOTATION: fingerprint},
    }})
}

/// The Pods with these names, each with an image on each of so many registries.
fn watch(pods: &[(&str, usize)]) -> Vec<Value> {
    let pods = pods.iter().map(|(name, registries)| {
        let containers = (0..*registries)
            .map(|number| json!({"name": "a", "image": format!("registry{number}.azurecr.io/a")}));
        json!({"type": "ADDED", "object": {
            "apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers.collect::<Vec<_>>()},
            "metadata": {"name": name, "namespace": "apps", "uid": name, "resourceVersion": "8"},
        }})
    });
    pods.collect()
}

/// The same, to the end of what there is.
fn whole_watch(pods: &[(&str, usize)]) -> Vec<Value> {
    let mut lines = watch(pods);
    lines.push(json!({"type": "BOOKMARK", "object": {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}},
    }}));
    lines
}

fn reporter(client: Client) -> Reporter {
    reporter_of(client, Arc::new(view()))
}

fn view() -> View {
    let view = View::default();
    view.set_registries(std::iter::once(registry(&json!({}))).collect());
    view.set_namespace("apps", &[].into());
    view
}

fn reporter_of(client: Client, view: Arc<View>) -> Reporter {
    Reporter {
        client,
        watches: Arc::new(Watches::new(view)),
        settings: Settings::default(),
        resync_interval: Duration::from_mins(10),
    }
}

/// The writes among what was asked: the method, the name and the body.
fn written(asked: &Asked) -> Vec<(Method, String, Value)> {
    let asked = asked.lock().unwrap().clone().into_iter();
    let writes = asked.filter(|(method, ..)| method != Method::GET);
    let name = |uri: &str| {
        uri.split('?')
            .next()
            .and_then(|path| path.rsplit('/').next())
            .unwrap()
            .to_owned()
    };
    writes
        .map(|(method, uri, body)| (method, name(&uri), body))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_look_writes_what_changed_and_deletes_the_rest() {
    let (client, asked) = server(Answers {
        reports: (
            200,
            vec![kept("pullpass-gone", "u1", ""), kept("others", "u2", "")],
        ),
        pods: Mutex::new([whole_watch(&[("a", 1), ("b", 1)])].into()),
        writes: 200,
    });
    reporter(client).look().await.unwrap();
    let writes = written(&asked);
    let names: Vec<_> = writes
        .iter()
        .map(|(method, name, _)| (method.as_str(), name.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("PATCH", "pullpass-a"),
            ("PATCH", "pullpass-b"),
            ("DELETE", "pullpass-gone")
        ]
    );
    let (.., deletion) = writes.last().unwrap();
    assert_eq!(deletion["preconditions"], json!({"uid": "u1"}), "{deletion}");

    // With the fingerprints that were written, nothing is written again.
    let fingerprint = |write: &(Method, String, Value)| {
        let annotation = write.2["metadata"]["annotations"][REPORT_FINGERPRINT_ANNOTATION].clone();
        annotation.as_str().unwrap().to_owned()
    };
    let there: Vec<_> = writes
        .iter()
        .filter(|(method, ..)| method == Method::PATCH)
        .map(|write| kept(&write.1, "u", &fingerprint(write)))
        .collect();
    let (client, asked) = server(Answers {
        reports: (200, there),
        pods: Mutex::new([whole_watch(&[("b", 1), ("a", 1)])].into()),
        writes: 200,
    });
    reporter(client).look().await.unwrap();
    assert_eq!(written(&asked), []);
}

#[tokio::test(start_paused = true)]
async fn pods_come_as_a_stream_and_begin_again_where_it_breaks_off() {
    let (client, asked) = server(Answers {
        reports: (200, vec![]),
        pods: Mutex::new([watch(&[("gone", 1), ("a", 1)]), whole_watch(&[("a", 1)])].into()),
        writes: 200,
    });
    reporter(client).look().await.unwrap();
    let writes = written(&asked);
    let [(_, name, body)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(
        (name.as_str(), &body["results"][0]["properties"]["pods"]),
        ("pullpass-a", &json!("1"))
    );
    let asked = asked.lock().unwrap();
    let mut of_pods = asked.iter().filter(|(_, uri, _)| uri.contains("/pods"));
    assert!(
        of_pods.all(|(_, uri, _)| uri.contains("sendInitialEvents=true")),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_is_about_one_state_of_what_is_attached() {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "controller": true,
        "uid": "7b795fb9-09d3-42f4-a494-38864f99ba3c",
    });
    let mut pods = whole_watch(&[("a", 1), ("b", 1)]);
    for pod in pods.iter_mut().filter(|line| line["type"] == "ADDED") {
        pod["object"]["metadata"]["ownerReferences"] = json!([owner]);
        pod["object"]["spec"]["containers"][0]["image"] = json!("myregistry.azurecr.io/a");
    }
    let view = Arc::new(view());
    let changing = Arc::clone(&view);
    let answers = Answers {
        reports: (200, vec![]),
        pods: Mutex::new([pods].into()),
        writes: 200,
    };
    // Once the first Pod has been judged, the registry is anonymous.
    let (client, asked) = server_with(answers, move |line| {
        if line == 1 {
            let anonymous = registry(&json!({"identity": {"anonymous": {}}}));
            changing.set_registries(std::iter::once(anonymous).collect());
        }
    });
    reporter_of(client, Arc::clone(&view)).look().await.unwrap();
    assert!(view.registries().by_name("mine").unwrap().is_anonymous());
    let writes = written(&asked);
    let [(.., body)] = &writes[..] else {
        panic!("{writes:?}")
    };
    let properties = &body["results"][0]["properties"];
    assert_eq!(
        (&properties["pods"], &properties["pullSecret"]),
        (&json!("2"), &json!("pullpass-mine")),
        "{body:#}"
    );
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1), "{body:#}");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_pods_without_an_end_writes_and_deletes_nothing() {
    let (client, asked) = server(Answers {
        reports: (200, vec![kept("pullpass-gone", "u1", "")]),
        pods: Mutex::new([watch(&[("a", 1)])].into()),
        writes: 200,
    });
    let error = reporter(client).look().await.unwrap_err();
    assert!(
        matches!(error, CallError::TimedOut(limit) if limit == READ_TIMEOUT),
        "{error}"
    );
    assert_eq!(written(&asked), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_pods_are_left_out() {
    let (client, asked) = server(Answers {
        reports: (
            200,
            vec![kept("pullpass-gone", "u1", ""), kept("pullpass-huge", "u2", "")],
        ),
        pods: Mutex::new([whole_watch(&[("huge", BOUNDS.standings + 1), ("a", 1)])].into()),
        writes: 200,
    });
    reporter(client).look().await.unwrap();
    let names: Vec<_> = written(&asked)
        .into_iter()
        .map(|(method, name, _)| (method, name))
        .collect();
    assert_eq!(names, [(Method::PATCH, "pullpass-a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn without_the_kind_no_pod_is_read() {
    let (client, asked) = server(Answers {
        reports: (404, vec![]),
        pods: Mutex::default(),
        writes: 200,
    });
    let error = reporter(client).look().await.unwrap_err();
    assert_eq!(error.code(), Some(404));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_kind_that_is_not_there_is_logged_once() {
    let (client, _) = server(Answers {
        reports: (404, vec![]),
        pods: Mutex::default(),
        writes: 200,
    });
    let reporter = reporter(client);
    let missing = reporter.look().await.unwrap_err();
    let other = CallError::TimedOut(READ_TIMEOUT);
    let ((), lines) = logged(|| {
        // After something else it is news again.
        let mut last = None;
        for error in [&missing, &missing, &missing, &other, &missing, &missing] {
            last = Some(reporter.tell(error, last));
        }
    });
    assert_eq!(lines.matches("no CustomResourceDefinition").count(), 2, "{lines}");
    assert_eq!(lines.lines().count(), 3, "{lines}");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_do_not_keep_others_from_being_written() {
    for (code, is_failure) in [(403, true), (404, false), (409, false)] {
        let (client, asked) = server(Answers {
            reports: (200, vec![kept("pullpass-gone", "u1", "")]),
            pods: Mutex::new([whole_watch(&[("a", 1), ("b", 1)])].into()),
            writes: code,
        });
        let reporter = reporter(client);
        reporter.look().await.unwrap();
        assert_eq!(written(&asked).len(), 3, "{code}");
        assert_eq!(
            reporter.delete("apps", "pullpass-gone", None).await.is_err(),
            is_failure,
            "{code}"
        );
    }
}
