//! Against servers of a few lines on the loopback interface.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Accepts connections and hands each, with the head of its first request read, to `serve`.
async fn server<F>(serve: impl Fn(TcpStream, String) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&22) {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            tokio::spawn(serve(stream, String::from_utf8_lossy(&head).into_owned()));
        }
    });
    address
}

async fn answering(answer: impl Into<Bytes>) -> SocketAddr {
    let answer = answer.into();
    server(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            stream.write_all(&answer).await.ok();
        }
    })
    .await
}

fn client(options: HttpOptions) -> HttpClient {
    let extra = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    let extra_ca = vec![extra.cert.der().clone()];
    HttpClient::new(HttpOptions { extra_ca, ..options }).unwrap()
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

async fn failure(options: HttpOptions, url: &str) -> HttpFailure {
    let error = client(options).send(get(url)).await.unwrap_err();
    error.failure().clone()
}

#[tokio::test]
async fn an_answer_is_given_whole_and_a_redirect_is_not_followed() {
    let address = answering(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    let response = client(HttpOptions::default())
        .send(get(&format!("http://{address}/")))
        .await;
    let response = response.unwrap();
    assert_eq!(response.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(&*response.body, b"hi");
    assert_eq!(
        format!("{response:?}"),
        "Response { status: 307, body_length: 2, .. }"
    );
}

#[tokio::test]
async fn an_override_takes_a_name_to_an_address_and_past_the_proxy() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let options = HttpOptions {
        resolve: vec![format!("name.invalid:80:{address}").parse().unwrap()],
        proxy: Some(Proxy::new("http://127.0.0.1:1", "").unwrap()),
        ..HttpOptions::default()
    };
    let response = client(options).send(get("http://name.invalid/")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let closed = answering("").await;
    let cut = answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").await;
    let garbage = answering("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    let long = answering(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY + 1))).await;
    let plain = HttpOptions::default;
    assert_eq!(failure(plain(), "http://name.invalid/").await, HttpFailure::Dns);
    assert_eq!(
        failure(plain(), "http://127.0.0.1:1/").await,
        HttpFailure::Connect("connection refused".to_owned())
    );
    assert_eq!(
        failure(plain(), &format!("http://{closed}/")).await,
        HttpFailure::Reset
    );
    assert_eq!(
        failure(plain(), &format!("http://{cut}/")).await,
        HttpFailure::Reset
    );
    assert_eq!(
        failure(plain(), &format!("http://{garbage}/")).await,
        HttpFailure::Protocol
    );
    assert_eq!(
        failure(plain(), &format!("http://{long}/")).await,
        HttpFailure::TooLarge
    );
    assert!(matches!(
        failure(plain(), &format!("https://{closed}/")).await,
        HttpFailure::Tls(_)
    ));
    assert!(matches!(
        failure(plain(), &format!("https://{garbage}/")).await,
        HttpFailure::Tls(_)
    ));
}

#[tokio::test]
async fn one_limit_bounds_the_head_and_a_slow_body_alike() {
    let silent = server(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let slow = server(|mut stream, _| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        let mut written = stream.write_all(head).await;
        while written.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            written = stream.write_all(b"x").await;
        }
    })
    .await;
    for address in [silent, slow] {
        let options = HttpOptions {
            request_timeout: Duration::from_millis(100),
            ..HttpOptions::default()
        };
        assert_eq!(
            failure(options, &format!("http://{address}/")).await,
            HttpFailure::Timeout
        );
    }
}

#[tokio::test]
async fn a_proxy_gets_its_password_and_its_refusal_is_reported() {
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream, head| {
        let asked = asked.clone();
        async move {
            asked.send(head).unwrap();
            let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let options = HttpOptions {
        proxy: Some(Proxy::new(&format!("http://user:pass@{address}"), "").unwrap()),
        ..HttpOptions::default()
    };
    assert_eq!(
        failure(options, "https://name.invalid/").await,
        HttpFailure::Proxy("tunnel error: proxy authorization required".to_owned())
    );
    let head = requests.recv().await.unwrap();
    assert!(
        head.starts_with("CONNECT name.invalid:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_the_proxys_failure() {
    let options = HttpOptions {
        proxy: Some(Proxy::new("http://127.0.0.1:1", "").unwrap()),
        ..HttpOptions::default()
    };
    assert_eq!(
        failure(options, "https://name.invalid/").await,
        HttpFailure::Proxy("connection refused".to_owned())
    );
}

#[tokio::test]
async fn a_connection_and_the_proxys_consent_share_one_limit() {
    let silent = server(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let options = HttpOptions {
        proxy: Some(Proxy::new(&format!("http://{silent}"), "").unwrap()),
        connect_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    };
    assert_eq!(
        failure(options, "https://name.invalid/").await,
        HttpFailure::ConnectTimeout
    );
}

#[derive(Default)]
struct Ended(std::sync::Mutex<Vec<(Service, Result<u16, &'static str>)>>);

impl RequestObserver for Ended {
    fn ended(&self, service: Service, outcome: Result<StatusCode, &HttpFailure>, _: Duration) {
        let outcome = outcome.map(|status| status.as_u16()).map_err(HttpFailure::word);
        self.0.lock().unwrap().push((service, outcome));
    }
}

#[tokio::test]
async fn an_observer_is_told_how_requests_to_services_end() {
    let answers = answering("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await;
    let closes = answering("").await;
    let ended = Arc::new(Ended::default());
    let observer: Arc<dyn RequestObserver> = ended.clone();
    let client = client(HttpOptions::default()).observed_by(observer);
    for (address, service) in [
        (answers, Some(Service::Entra)),
        (closes, Some(Service::Acr)),
        (answers, None),
    ] {
        let mut request = get(&format!("http://{address}/"));
        if let Some(service) = service {
            request.extensions_mut().insert(service);
        }
        client.send(request).await.ok();
    }
    assert_eq!(
        *ended.0.lock().unwrap(),
        [(Service::Entra, Ok(429)), (Service::Acr, Err("reset"))]
    );
}
