//! Creates the clients of an API server, each with time limits.
//!
//! A connection whose other end dies silently looks alive for ever. kube does not limit the time of an answer, so a
//! request on such a connection would never end: neither a list of a watch nor any other request without a limit of
//! its own.

use std::time::Duration;

use http::Request;
use http_body_util::Limited;
use kube::client::Body;
use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;

use super::words::{Words, words};

/// How long a connection may be silent. A watch may be for 290 seconds, after which the API server ends it.
const READ_TIMEOUT: Duration = Duration::from_mins(5);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing says which cluster is meant.
    #[error("neither the Pod's service account nor a kubeconfig names a cluster: {}", words(.0))]
    Infer(#[from] InferConfigError),
    /// A proxy that kube can't ask. Its error shows the URL, in which a password may be; this one does not.
    #[error(
        "only an http:// or https:// proxy can be used to reach the cluster; see proxy-url in the kubeconfig, and HTTPS_PROXY"
    )]
    Proxy,
    /// What says it can't be used.
    #[error("{}", .0.words())]
    Config(#[source] Box<kube::Error>),
}

/// A client of the cluster that the process runs in, or that `KUBECONFIG` names.
pub async fn inferred() -> Result<Client, ClientError> {
    client(Config::infer().await?)
}

/// A client of the cluster that the configuration names.
pub fn client(config: Config) -> Result<Client, ClientError> {
    limited(config, READ_TIMEOUT)
}

/// The same, where each request may take no longer than this.
pub fn client_within(timeout: Option<Duration>, config: Config) -> Result<Client, ClientError> {
    limited(
        config,
        timeout.map_or(READ_TIMEOUT, |timeout| timeout.min(READ_TIMEOUT)),
    )
}

/// The same client, for which an answer that is longer than this is an error.
pub fn with_short_answers(client: Client, bytes: usize) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let answer = client.send(request).await?;
            Ok::<_, kube::Error>(answer.map(|body| Limited::new(body, bytes)))
        }
    });
    Client::new(service, namespace)
}

fn limited(mut config: Config, read_timeout: Duration) -> Result<Client, ClientError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT.min(read_timeout));
    config.read_timeout = Some(read_timeout);
    // Otherwise the time that a connection was idle counts against the next answer on it.
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| match error {
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
            ClientError::Proxy
        }
        error => ClientError::Config(Box::new(error)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use futures::StreamExt;
    use http::Response;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use kube::runtime::watcher;

    use super::*;

    /// The longest that a test waits for what should take a fraction of a second.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// An API server that takes one request and never answers, for as long as its client is connected.
    fn silent() -> (SocketAddr, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let (mut buffer, mut taken) = ([0; 1024], 0);
            while let Ok(read @ 1..) = connection.read(&mut buffer) {
                taken += read;
            }
            taken
        });
        (address, served)
    }

    #[tokio::test]
    async fn a_watchs_list_without_an_answer_ends() {
        let (address, served) = silent();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = limited(config, Duration::from_millis(100)).unwrap();
        let namespaces: Api<Namespace> = Api::all(client);
        let mut events = Box::pin(watcher::watcher(namespaces, watcher::Config::default()));
        let listed = async {
            loop {
                match events.next().await {
                    // The beginning of a list is told before it is asked for.
                    Some(Ok(watcher::Event::Init)) => {}
                    other => return other,
                }
            }
        };
        let listed = tokio::time::timeout(DEADLINE, listed).await.unwrap();
        assert!(matches!(listed, Some(Err(_))), "{listed:?}");
        drop(events);
        let taken = tokio::task::spawn_blocking(|| served.join().unwrap())
            .await
            .unwrap();
        assert!(taken > 0, "it was asked");
    }

    #[tokio::test]
    async fn an_unusable_proxy_is_refused_without_its_password() {
        for proxy in ["socks5://user:hunter2@p.example", "ftp://user:hunter2@p.example"] {
            let mut config = Config::new("https://cluster.example".parse().unwrap());
            config.proxy_url = Some(proxy.parse().unwrap());
            let Err(error) = client(config) else {
                panic!("{proxy}")
            };
            assert!(matches!(error, ClientError::Proxy), "{proxy}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_an_error() {
        const SHORT: usize = 1 << 10;
        let service = tower::service_fn(|request: Request<Body>| async move {
            let is_long = request.uri().path().ends_with("/long");
            let annotation = "a".repeat(if is_long { SHORT } else { 1 });
            let object = serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": {"a": annotation}},
            });
            Ok::<_, std::io::Error>(Response::new(Body::from(object.to_string().into_bytes())))
        });
        let client = with_short_answers(Client::new(service, "mine"), SHORT);
        assert_eq!(client.default_namespace(), "mine");
        let namespaces: Api<Namespace> = Api::all(client);
        assert!(namespaces.get("short").await.is_ok());
        let error = namespaces.get("long").await.unwrap_err();
        assert!(
            error.words().contains("length limit exceeded"),
            "{}",
            error.words()
        );
    }

    #[test]
    fn a_watch_is_not_cut_short() {
        // What the API server is asked for by default, and a little more for the answer.
        assert!(READ_TIMEOUT > Duration::from_secs(290));
    }
}
