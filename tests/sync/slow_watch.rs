//! A way to the API server on which the events of a watch, or a list, can be held up, and nothing else.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use pullpass_test_support::{ControlPlane, kube_client, wait_for};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::world::{SOON, Test};

/// Passes on all that a service account asks for, except for what is held up.
pub struct SlowWatch {
    kubeconfig: PathBuf,
    held: watch::Sender<Option<&'static str>>,
    cut_off: watch::Sender<bool>,
    held_list: watch::Sender<Option<&'static str>>,
    events: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
    watched: Watched,
    // Ends everything when it is dropped.
    _runtime: Runtime,
}

#[derive(Clone)]
struct Way {
    client: Client,
    held: watch::Receiver<Option<&'static str>>,
    cut_off: watch::Receiver<bool>,
    held_list: watch::Receiver<Option<&'static str>>,
    events: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
    watched: Watched,
}

/// The resources of which a watch has begun: each was listed before.
type Watched = Arc<Mutex<BTreeSet<String>>>;

impl SlowWatch {
    /// One for the shipped service account.
    pub fn start(cluster: &ControlPlane) -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        let account = cluster.service_account_kubeconfig("pullpass-system", "pullpass")?;
        let (held, is_held) = watch::channel(None);
        let (cut_off, is_cut_off) = watch::channel(false);
        let (held_list, is_list_held) = watch::channel(None);
        let (events, lists) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let watched = Watched::default();
        let way = Way {
            client: kube_client(&runtime, &account)?,
            held: is_held,
            cut_off: is_cut_off,
            held_list: is_list_held,
            events: Arc::clone(&events),
            lists: Arc::clone(&lists),
            watched: Arc::clone(&watched),
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(way);
        runtime.spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = cluster.directory().join("slow-watch.kubeconfig");
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "slow", "cluster": {"server": url}}],
            "users": [{"name": "slow", "user": {}}],
            "contexts": [{"name": "slow", "context": {"cluster": "slow", "user": "slow"}}],
            "current-context": "slow",
        });
        fs::write(&kubeconfig, content.to_string())?;
        Ok(Self {
            kubeconfig,
            held,
            cut_off,
            held_list,
            events,
            lists,
            watched,
            _runtime: runtime,
        })
    }

    /// What a replica needs to take this way.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Holds up the events of every watch on this resource from now on.
    pub fn hold(&self, resource: &'static str) {
        self.events.store(0, Ordering::Relaxed);
        self.held.send_replace(Some(resource));
    }

    /// Waits until there is an event that is held up.
    pub fn wait_for_an_event(&self) -> Test {
        wait_for("an event to be held up", SOON, || {
            self.events.load(Ordering::Relaxed) > 0
        })?;
        Ok(())
    }

    /// Holds up every list of this resource from now on.
    pub fn hold_lists(&self, resource: &'static str) {
        self.held_list.send_replace(Some(resource));
    }

    /// Waits until all of these resources were listed.
    pub fn wait_until_listed(&self, resources: &[&str]) -> Test {
        wait_for("the other resources to be listed", SOON, || {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            let is_listed = resources.iter().all(|resource| watched.contains(*resource));
            is_listed.then_some(()).ok_or_else(|| format!("{watched:?}"))
        })?;
        Ok(())
    }

    /// Passes on what was held up.
    pub fn release(&self) {
        self.held.send_replace(None);
        self.held_list.send_replace(None);
    }

    /// Answers nothing from now on.
    pub fn cut_off(&self) {
        self.cut_off.send_replace(true);
    }

    /// How many lists of `AcrRegistries` were asked for since the last time.
    pub fn take_lists(&self) -> usize {
        self.lists.swap(0, Ordering::Relaxed)
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response {
    match answer(way, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn answer(mut way: Way, request: Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    way.cut_off.wait_for(|is_cut_off| !is_cut_off).await?;
    let (mut parts, body) = request.into_parts();
    let is_watch = parts
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let resource = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    if !is_watch && resource == "acrregistries" {
        way.lists.fetch_add(1, Ordering::Relaxed);
    }
    if is_watch {
        let mut watched = way.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(resource.clone());
    } else {
        let mut held = way.held_list.clone();
        // Where the sender is gone, nobody holds anything.
        let _ = held.wait_for(|held| *held != Some(resource.as_str())).await;
    }
    let body = axum::body::to_bytes(body, usize::MAX).await?.to_vec();
    // The client has its own.
    parts.headers.remove("host");
    parts.headers.remove("content-length");
    let request = http::Request::from_parts(parts, kube::client::Body::from(body));
    let (parts, body) = way.client.send(request).await?.into_parts();
    let body = Body::new(body);
    if !is_watch {
        return Ok(Response::from_parts(parts, body));
    }
    let events = body.into_data_stream().then(move |event| {
        let (mut held, resource, events) = (way.held.clone(), resource.clone(), Arc::clone(&way.events));
        async move {
            if *held.borrow() == Some(resource.as_str()) {
                events.fetch_add(1, Ordering::Relaxed);
            }
            // Where the sender is gone, nobody holds anything.
            let _ = held.wait_for(|held| *held != Some(resource.as_str())).await;
            event
        }
    });
    Ok(Response::from_parts(
        parts,
        Body::from_stream(events.map_err(axum::Error::new)),
    ))
}
