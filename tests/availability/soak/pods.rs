//! Pods that are created in several streams, and deleted in batches behind them; a further stream has a stranger's images.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::Status;
use pullpass_test_support::{Login, kube_client, wait_for};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::strangers;
use crate::world::{NAMESPACE, SOON, Test, is_injected};

/// Before a Pod that was refused is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// Before one is on which the API server did not decide: many connections keep it from starting.
pub(super) const LONG_PAUSE: Duration = Duration::from_secs(2);
/// More than an API server takes that waits for a webhook.
pub(super) const ANSWERS: Duration = Duration::from_secs(30);
/// What the deletion of the last Pods gets: tens of thousands may be left where Pods are created faster than they are deleted.
const CLEANED: Duration = Duration::from_mins(5);
/// How many Pods are deleted together.
const BATCH: usize = 500;
const BATCH_LABEL: &str = "batch";
/// How many texts of refusals are kept.
const TEXTS: usize = 20;

/// How many attempts ended how.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Pods that were created.
    pub admitted: usize,
    /// Those of them that have their pull secret.
    pub injected: usize,
    /// Those of them that have none.
    pub lost: usize,
    /// Attempts that the API server refused.
    pub refused: usize,
    /// Those of them that a rule refused, although the registry was attached for the namespace.
    pub refused_by_a_rule: usize,
    /// Attempts that the API server did not decide on, since it restarted or had too much to do.
    pub unanswered: usize,
    /// Attempts that were under way while something was changed that decides what becomes of them. A rule may refuse them;
    /// those that were admitted without their pull secret are lost, too.
    pub raced: usize,
    pub strangers: strangers::Counts,
}

impl Counts {
    /// What came since then.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            admitted: self.admitted - before.admitted,
            injected: self.injected - before.injected,
            lost: self.lost - before.lost,
            refused: self.refused - before.refused,
            refused_by_a_rule: self.refused_by_a_rule - before.refused_by_a_rule,
            unanswered: self.unanswered - before.unanswered,
            raced: self.raced - before.raced,
            strangers: self.strangers.since(&before.strangers),
        }
    }
}

/// What was reported about attempts that failed, and how often.
pub type Texts = BTreeMap<String, usize>;

pub struct Pods {
    pub(super) runtime: Runtime,
    pub(super) shared: Arc<Shared>,
    streams: Vec<JoinHandle<()>>,
    cleaner: JoinHandle<()>,
}

/// Pods that are there when no more are created.
pub struct Leftovers {
    runtime: Runtime,
    cleaner: JoinHandle<()>,
}

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) counts: Mutex<Counts>,
    texts: Mutex<Texts>,
    places: Mutex<Places>,
    next: AtomicUsize,
    /// How many Pods each stream has begun.
    begun: Vec<AtomicUsize>,
    /// How many Pods of each batch that is not complete are done.
    done: Mutex<BTreeMap<usize, usize>>,
    pub(super) end: AtomicBool,
}

/// Where Pods are created, and of whose images.
#[derive(Clone)]
struct Places {
    namespaces: Vec<String>,
    logins: Vec<Login>,
    /// All namespaces that there ever were.
    known: Vec<String>,
}

impl Pods {
    /// Begins to create Pods with images of this registry.
    pub fn begin(kubeconfig: &Path, login: &Login, streams: usize) -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        let client = kube_client(&runtime, kubeconfig)?;
        let namespaces = vec![NAMESPACE.to_owned()];
        let shared = Arc::new(Shared {
            client,
            counts: Mutex::default(),
            texts: Mutex::default(),
            places: Mutex::new(Places {
                known: namespaces.clone(),
                namespaces,
                logins: vec![login.clone()],
            }),
            next: AtomicUsize::default(),
            begun: (0..streams).map(|_| AtomicUsize::default()).collect(),
            done: Mutex::default(),
            end: AtomicBool::default(),
        });
        let (complete, batches) = unbounded_channel();
        let cleaner = runtime.spawn(clean(Arc::clone(&shared), batches));
        let streams = (0..streams)
            .map(|stream| runtime.spawn(create_all(Arc::clone(&shared), stream, complete.clone())))
            .chain([runtime.spawn(strangers::create_all(Arc::clone(&shared)))])
            .collect();
        Ok(Self {
            runtime,
            shared,
            streams,
            cleaner,
        })
    }

    pub fn counts(&self) -> Counts {
        lock(&self.shared.counts).clone()
    }

    /// Waits until so many Pods were created in all, or it is so late.
    pub fn wait_until(&self, count: usize, due: Option<Instant>) -> Test {
        let is_due = || due.is_some_and(|due| Instant::now() >= due);
        let mut last = self.counts().admitted;
        while last < count && !is_due() {
            // It takes as long as it takes, if only it goes on.
            wait_for("Pods to be created", SOON, || {
                let counts = self.counts();
                if counts.admitted > last || is_due() {
                    Ok(())
                } else {
                    Err(format!("{counts:?}: {:#?}", lock(&self.shared.texts)))
                }
            })?;
            last = self.counts().admitted;
        }
        Ok(())
    }

    /// Waits until so many attempts more were answered, whatever the answer.
    pub fn wait_for_answers(&self, count: usize) -> Test {
        let answered = || {
            let counts = self.counts();
            counts.admitted + counts.refused
        };
        let enough = answered() + count;
        wait_for("answers", SOON, || {
            let now = answered();
            if now >= enough {
                Ok(())
            } else {
                Err(format!("{now} of {enough}: {:#?}", lock(&self.shared.texts)))
            }
        })?;
        Ok(())
    }

    /// Creates Pods in this namespace too.
    pub fn enter(&self, namespace: &str) {
        let mut places = lock(&self.shared.places);
        places.namespaces.push(namespace.to_owned());
        if !places.known.iter().any(|known| known == namespace) {
            places.known.push(namespace.to_owned());
        }
    }

    /// Creates no more Pods in this namespace, and waits until none is under way.
    pub fn leave(&self, namespace: &str) -> Test {
        lock(&self.shared.places)
            .namespaces
            .retain(|one| one != namespace);
        self.wait_until_all_begin_another()
    }

    /// Creates Pods with images of this registry too.
    pub fn take_up(&self, login: &Login) {
        lock(&self.shared.places).logins.push(login.clone());
    }

    /// Creates no more Pods with images of this registry, and waits until none is under way.
    pub fn give_up(&self, login: &Login) -> Test {
        lock(&self.shared.places)
            .logins
            .retain(|one| one.name != login.name);
        self.wait_until_all_begin_another()
    }

    fn wait_until_all_begin_another(&self) -> Test {
        let begun = || {
            let begun = self.shared.begun.iter();
            begun.map(|begun| begun.load(Ordering::Relaxed))
        };
        let before: Vec<_> = begun().collect();
        wait_for("every stream to begin another Pod", SOON, || {
            begun().zip(&before).all(|(now, before)| now > *before)
        })?;
        Ok(())
    }

    /// Creates no more. What was counted is complete, whether or not the Pods can be deleted.
    pub fn stop(self) -> Result<(Counts, Texts, Leftovers), Box<dyn Error>> {
        self.shared.end.store(true, Ordering::Relaxed);
        for stream in self.streams {
            self.runtime.block_on(async { timeout(SOON, stream).await })??;
        }
        let counts = lock(&self.shared.counts).clone();
        let texts = lock(&self.shared.texts).clone();
        let leftovers = Leftovers {
            runtime: self.runtime,
            cleaner: self.cleaner,
        };
        Ok((counts, texts, leftovers))
    }
}

impl Leftovers {
    /// Deletes them, before others are created.
    pub fn delete(self) -> Test {
        self.runtime
            .block_on(async { timeout(CLEANED, self.cleaner).await })??;
        Ok(())
    }
}

/// Creates Pods, one after the other, and says which batches are complete.
async fn create_all(shared: Arc<Shared>, stream: usize, complete: UnboundedSender<usize>) {
    while !shared.end.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if let Some(begun) = shared.begun.get(stream) {
            begun.fetch_add(1, Ordering::Relaxed);
        }
        create(&shared, number).await;
        let batch = number / BATCH;
        let mut done = lock(&shared.done);
        let of_batch = done.entry(batch).or_default();
        *of_batch += 1;
        if *of_batch == BATCH {
            done.remove(&batch);
            // The cleaner is there as long as we are.
            let _ = complete.send(batch);
        }
    }
}

/// Creates a Pod, however often it takes.
async fn create(shared: &Shared, number: usize) {
    let Places {
        namespaces, logins, ..
    } = lock(&shared.places).clone();
    let (Some(namespace), Some(login)) = (
        namespaces.get(number % namespaces.len()),
        logins.get(number / namespaces.len() % logins.len()),
    ) else {
        return;
    };
    let name = format!("soak-{number}");
    let labels = json!({BATCH_LABEL: format!("{}", number / BATCH)});
    loop {
        let answer = attempt(&shared.client, namespace, login, &name, &labels).await;
        let pause = match &answer {
            Answer::Admitted { .. } => Duration::ZERO,
            Answer::Refused(_) => PAUSE,
            Answer::None(_) => LONG_PAUSE,
        };
        shared.count(&answer);
        if pause.is_zero() || shared.end.load(Ordering::Relaxed) {
            return;
        }
        sleep(pause).await;
    }
}

/// What became of an attempt to create a Pod.
pub(super) enum Answer {
    Admitted {
        injected: bool,
    },
    /// With what the API server says.
    Refused(String),
    /// The API server did not decide.
    None(String),
}

impl Answer {
    /// Whether the API server decided: else the Pod may be there or not, and the attempt is to be made again.
    pub(super) const fn is_known(&self) -> bool {
        !matches!(self, Self::None(_))
    }
}

/// Creates a Pod with an image of this registry.
pub(super) async fn attempt(
    client: &Client,
    namespace: &str,
    login: &Login,
    name: &str,
    labels: &Value,
) -> Answer {
    let pod = serde_json::from_value::<Pod>(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "web", "image": format!("{}/web:1", login.host)}]},
    }));
    let pod = match pod {
        Ok(pod) => pod,
        Err(error) => return Answer::None(error.to_string()),
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let created = timeout(ANSWERS, pods.create(&PostParams::default(), &pod)).await;
    let created = match created {
        // An attempt whose answer was lost has created it.
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {
            timeout(ANSWERS, pods.get(name)).await
        }
        created => created,
    };
    match created {
        Ok(Ok(created)) => Answer::Admitted {
            injected: is_injected(&serde_json::to_value(&created).unwrap_or_default(), login),
        },
        Ok(Err(kube::Error::Api(status))) if !is_of_the_api_server(&status) => {
            Answer::Refused(status.message)
        }
        Ok(Err(error)) => Answer::None(error.to_string()),
        Err(_) => Answer::None("no answer".to_owned()),
    }
}

/// Whether a rule refuses the Pod.
pub(super) fn is_by_a_rule(message: &str) -> bool {
    message.contains("(rule: ")
}

/// Whether a creation failed since the webhook could not be asked.
pub fn is_of_the_webhook(message: &str) -> bool {
    message.contains("failed calling webhook")
}

/// Whether the API server had too much to do, or was about to start or to end, so that this is not about the Pod.
fn is_of_the_api_server(status: &Status) -> bool {
    !is_of_the_webhook(&status.message)
        && (matches!(status.code, 429 | 503 | 504)
            || status.message.contains("not yet ready to handle request"))
}

impl Shared {
    /// Counts an attempt.
    pub(super) fn count(&self, answer: &Answer) {
        let mut counts = lock(&self.counts);
        match answer {
            Answer::Admitted { injected } => {
                counts.admitted += 1;
                if *injected {
                    counts.injected += 1;
                } else {
                    counts.lost += 1;
                }
            }
            Answer::Refused(text) => {
                counts.refused += 1;
                counts.refused_by_a_rule += usize::from(is_by_a_rule(text));
                self.note(text);
            }
            Answer::None(text) => {
                counts.unanswered += 1;
                self.note(text);
            }
        }
    }

    fn note(&self, text: &str) {
        // What differs from Pod to Pod would make each text another one.
        let text: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut texts = lock(&self.texts);
        if texts.len() < TEXTS || texts.contains_key(&text) {
            *texts.entry(text).or_default() += 1;
        }
    }
}

/// Deletes the Pods of batches that are complete, and in the end all.
async fn clean(shared: Arc<Shared>, mut batches: UnboundedReceiver<usize>) {
    while let Some(batch) = batches.recv().await {
        if shared.end.load(Ordering::Relaxed) {
            // One call deletes what is left, once all are created; each batch would have the API server look at all Pods.
            continue;
        }
        let selector = ListParams::default().labels(&format!("{BATCH_LABEL}={batch}"));
        delete(&shared, &selector).await;
    }
    delete(&shared, &ListParams::default()).await;
}

async fn delete(shared: &Shared, selector: &ListParams) {
    let known = lock(&shared.places).known.clone();
    for namespace in known {
        let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
        loop {
            // Deleting again what is gone is no error.
            match timeout(
                SOON,
                pods.delete_collection(&DeleteParams::default().grace_period(0), selector),
            )
            .await
            {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => shared.note(&format!("deleting: {error}")),
                Err(_) => shared.note("deleting: no answer"),
            }
            sleep(LONG_PAUSE).await;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
