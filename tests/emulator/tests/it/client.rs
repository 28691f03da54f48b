//! A client that resolves every host to the emulator, and the emulator that most tests start with.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullpass_emulator::{Config, Emulator, Principal, Registry, Role, RoleAssignment, Tenant};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub const CLIENT: &str = "22222222-2222-2222-2222-222222222222";
pub const SECRET: &str = "test-secret";
pub const REGISTRY: &str = "myregistry.azurecr.io";
pub const ACR: &str = "https://containerregistry.azure.net";
pub const ARM: &str = "https://management.azure.com";
pub const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// One tenant, one application with a secret and AcrPull, one classic registry with an admin user.
pub fn config() -> Config {
    Config {
        tenants: vec![Tenant::new(TENANT)],
        principals: vec![Principal::new(TENANT, CLIENT).with_secret(SECRET)],
        registries: vec![Registry::new(TENANT, REGISTRY).with_admin("myregistry", "admin-password")],
        roles: vec![RoleAssignment::new(CLIENT, REGISTRY, Role::AcrPull)],
        ..Config::default()
    }
}

pub async fn start() -> (Emulator, Client) {
    start_with(config()).await
}

pub async fn start_with(config: Config) -> (Emulator, Client) {
    let emulator = Emulator::start(config).await.unwrap();
    let client = Client::new(&emulator);
    (emulator, client)
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    /// A token in the body.
    pub fn token(&self, field: &str) -> String {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()[field].as_str().unwrap().to_owned()
    }
}

pub type Outcome = Result<Answer, Box<dyn Error + Send + Sync>>;

#[derive(Clone)]
pub struct Client {
    addr: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    pub fn new(emulator: &Emulator) -> Self {
        Self::from_parts(emulator.addr(), &emulator.ca_pem())
    }

    pub fn from_parts(addr: SocketAddr, ca: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            addr,
            tls: Arc::new(tls),
        }
    }

    /// Sends a request over HTTP/2.
    pub async fn http2(&self, request: Request<Full<Bytes>>) -> Outcome {
        let host = request.uri().host().unwrap().to_owned();
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(self.addr).await?;
        let name = ServerName::try_from(host)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        answer(sender.send_request(request).await?).await
    }

    /// Sends a request to the emulator with the TLS name and the host of its URL.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Outcome {
        let host = request.uri().host().unwrap().to_owned();
        let tcp = TcpStream::connect(self.addr).await?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        exchange(
            connector.connect(ServerName::try_from(host)?, tcp).await?,
            request,
        )
        .await
    }

    pub async fn get(&self, url: &str, authorization: &str) -> Outcome {
        self.send(request(Method::GET, url, authorization, "")).await
    }

    pub async fn post(&self, url: &str, form: &[(&str, &str)]) -> Outcome {
        self.send(form_request(url, form)).await
    }

    /// Asks Entra with the client secret.
    pub async fn entra(&self, audience: &str, secret: &str) -> Outcome {
        let scope = format!("{audience}/.default");
        let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", secret),
            ("scope", &scope),
        ];
        self.post(&url, &form).await
    }

    pub async fn entra_token(&self, audience: &str) -> String {
        self.entra(audience, SECRET).await.unwrap().token("access_token")
    }

    pub async fn exchange(&self, registry: &str, entra_token: &str) -> Outcome {
        let form = [
            ("grant_type", "access_token"),
            ("service", registry),
            ("tenant", TENANT),
            ("access_token", entra_token),
        ];
        self.post(&format!("https://{registry}/oauth2/exchange"), &form)
            .await
    }

    /// Both steps to a refresh token.
    pub async fn refresh_token(&self, registry: &str) -> String {
        let entra_token = self.entra_token(ACR).await;
        self.exchange(registry, &entra_token)
            .await
            .unwrap()
            .token("refresh_token")
    }

    /// `GET /oauth2/token` with Basic authentication, as the kubelet does it.
    pub async fn scoped(&self, registry: &str, user: (&str, &str), scope: &str) -> Outcome {
        let url = format!("https://{registry}/oauth2/token?service={registry}&scope={scope}");
        self.get(&url, &basic(user.0, user.1)).await
    }
}

pub fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

pub fn request(method: Method, url: &str, authorization: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(url);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

/// A request with a form.
pub fn form_request(url: &str, form: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let mut request = request(Method::POST, url, "", &body);
    let form = "application/x-www-form-urlencoded".parse().unwrap();
    request.headers_mut().insert("content-type", form);
    request
}

/// Sends a request without TLS.
pub async fn plain(addr: SocketAddr, mut request: Request<Full<Bytes>>) -> Outcome {
    *request.uri_mut() = format!("http://{addr}{}", request.uri().path_and_query().unwrap()).parse()?;
    exchange(TcpStream::connect(addr).await?, request).await
}

async fn exchange<S>(stream: S, mut request: Request<Full<Bytes>>) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = request.uri().authority().unwrap().as_str().parse()?;
    request.headers_mut().insert("host", host);
    let path = request.uri().path_and_query().unwrap().as_str();
    *request.uri_mut() = path.parse::<Uri>()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    answer(sender.send_request(request).await?).await
}

async fn answer(response: Response<Incoming>) -> Outcome {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// The claims of a token.
pub fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The same token with another claim and the old signature.
pub fn tampered(token: &str, claim: &str, value: Value) -> String {
    let mut changed = claims(token);
    changed[claim] = value;
    let parts: Vec<_> = token.split('.').collect();
    format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(changed.to_string()),
        parts[2]
    )
}
