//! End to end: Debian's docker-registry behind the emulator, and skopeo in front of it.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pullpass_emulator::{Emulator, Step};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::client::*;

const INSTALL: &str = "this test needs Debian's docker-registry and skopeo: \
    apt-get install -y --no-install-recommends docker-registry skopeo";
const IMAGE: &str = "docker://myregistry.azurecr.io/team/app:v1";
/// The registry's admin user and its password.
const ADMIN: (&str, &str) = ("myregistry", "admin-password");

struct Backend(Child);

impl Backend {
    async fn start(emulator: &Emulator, directory: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = emulator.use_docker_registry(free, directory).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {INSTALL}"));
        let backend = Self(child);
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(free).await.is_ok() {
                return backend;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("docker-registry does not listen at {free}");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Skopeo<'a> {
    proxy: SocketAddr,
    directory: &'a Path,
}

impl Skopeo<'_> {
    /// Pushes an image as the registry's admin user.
    async fn push(&self) {
        let image = self.directory.join("image");
        layout(&image);
        self.succeeds(ADMIN, &["copy", &source(&image), IMAGE]).await;
    }

    /// Runs skopeo with a docker config that has these credentials.
    async fn run(&self, credentials: Option<(&str, &str)>, arguments: &[&str]) -> Output {
        let auths = match credentials {
            Some((username, password)) => json!({REGISTRY: {
                "username": username,
                "password": password,
                "auth": STANDARD.encode(format!("{username}:{password}")),
            }}),
            None => json!({}),
        };
        let auth_file = self.directory.join("auth.json");
        fs::write(&auth_file, json!({"auths": auths}).to_string()).unwrap();
        let mut command = Command::new("skopeo");
        command
            .arg("--insecure-policy")
            .args(arguments)
            .env("REGISTRY_AUTH_FILE", auth_file)
            .env("SSL_CERT_FILE", self.directory.join("ca.pem"))
            .env("HTTPS_PROXY", format!("http://{}", self.proxy))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy");
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap();
        output.unwrap_or_else(|error| panic!("{error}: {INSTALL}"))
    }

    async fn succeeds(&self, credentials: (&str, &str), arguments: &[&str]) -> String {
        let output = self.run(Some(credentials), arguments).await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    async fn fails(&self, credentials: Option<(&str, &str)>) -> String {
        let output = self.run(credentials, &["inspect", IMAGE]).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A tar archive (POSIX ustar) with one small file.
fn layer() -> Vec<u8> {
    let content = b"hello from the emulator\n";
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "hello.txt");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(2048 + 512, 0);
    tar
}

fn digest_of(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// An OCI image layout with one image, tagged `v1`.
fn layout(directory: &Path) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let store = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = digest_of(bytes);
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = store("application/vnd.oci.image.layer.v1.tar", &layer());
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = store(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer],
    });
    let mut entry = store(media_type, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// An image of [`layout`], as skopeo names it.
fn source(image: &Path) -> String {
    format!("oci:{}:v1", image.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pulls_with_a_refresh_token_what_the_admin_has_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (emulator, client) = start().await;
    fs::write(path("ca.pem"), emulator.ca_pem()).unwrap();
    let _backend = Backend::start(&emulator, &path("registry")).await;
    let skopeo = Skopeo {
        proxy: emulator.proxy_addr(),
        directory: directory.path(),
    };

    skopeo.push().await;

    let refresh = client.refresh_token(REGISTRY).await;
    let puller = (NULL_GUID, refresh.as_str());
    emulator.reset_counts();
    let inspected: Value = serde_json::from_str(&skopeo.succeeds(puller, &["inspect", IMAGE]).await).unwrap();
    assert_eq!(inspected["Name"], "myregistry.azurecr.io/team/app");
    assert_eq!(inspected["RepoTags"], json!(["v1"]));
    let target = format!("dir:{}", path("pulled").display());
    skopeo.succeeds(puller, &["copy", IMAGE, &target]).await;
    assert!(path("pulled").join("manifest.json").exists());
    let counts = emulator.counts();
    for step in [Step::Challenge, Step::Token, Step::Manifest, Step::Blob] {
        assert!(counts.calls_at(step, REGISTRY) > 0, "{step:?}");
    }
    assert!(counts.calls(Step::Storage) >= 2, "{counts:?}");
    assert_eq!(emulator.leaked_tokens(), 0);
    assert_eq!(counts.calls(Step::Exchange), 0);

    // A clock that the backend does not share makes no difference to it.
    emulator.advance(Duration::from_hours(1));
    skopeo.succeeds(puller, &["inspect", IMAGE]).await;

    skopeo.succeeds((CLIENT, SECRET), &["inspect", IMAGE]).await;
    for credentials in [None, Some((NULL_GUID, "wrong")), Some((CLIENT, "wrong"))] {
        let error = skopeo.fails(credentials).await;
        assert!(
            error.contains("unauthorized") || error.contains("authentication"),
            "{error}"
        );
    }
    let pushed = skopeo
        .run(Some(puller), &["copy", &source(&path("image")), IMAGE])
        .await;
    assert!(!pushed.status.success(), "AcrPull must not push");
    emulator.advance(Duration::from_hours(2));
    skopeo.fails(Some(puller)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_refusals_never_name_the_backend() {
    let directory = tempfile::tempdir().unwrap();
    let (emulator, client) = start().await;
    let _backend = Backend::start(&emulator, directory.path()).await;
    let scope = "repository:app:pull,push";
    let token = client
        .scoped(REGISTRY, ADMIN, scope)
        .await
        .unwrap()
        .token("access_token");
    let bearer = format!("Bearer {token}");
    let url = format!("https://{REGISTRY}/v2/app/blobs/uploads/");
    let upload = client
        .send(request(Method::POST, &url, &bearer, ""))
        .await
        .unwrap();
    assert_eq!(upload.status, 202, "{upload:?}");
    let location = upload.header("location");
    assert!(
        location.starts_with(&format!("https://{REGISTRY}/v2/app/blobs/uploads/")),
        "{location}"
    );

    let http2 = client
        .http2(request(Method::POST, &url, &bearer, ""))
        .await
        .unwrap();
    assert_eq!(http2.status, 202, "{http2:?}");

    // A mount reads from a second repository, which only the backend looks at.
    let digest = format!("sha256:{}", "0".repeat(64));
    let url = format!("{url}?mount={digest}&from=secret");
    let mount = client
        .send(request(Method::POST, &url, &bearer, ""))
        .await
        .unwrap();
    assert_eq!(mount.status, 401, "{mount:?}");
    let challenge = mount.header("www-authenticate");
    let own = r#"Bearer realm="https://myregistry.azurecr.io/oauth2/token",service="myregistry.azurecr.io""#;
    assert!(challenge.starts_with(own), "{challenge}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_come_from_a_storage_account_that_is_to_see_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (emulator, client) = start().await;
    fs::write(path("ca.pem"), emulator.ca_pem()).unwrap();
    let _backend = Backend::start(&emulator, &path("registry")).await;
    let skopeo = Skopeo {
        proxy: emulator.proxy_addr(),
        directory: directory.path(),
    };
    skopeo.push().await;

    let scope = "repository:team/app:pull";
    let token = client.scoped(REGISTRY, ADMIN, scope).await.unwrap();
    let bearer = format!("Bearer {}", token.token("access_token"));
    let manifest = format!("https://{REGISTRY}/v2/team/app/manifests/v1");
    let mut ask = request(Method::GET, &manifest, &bearer, "");
    let accept = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
    ask.headers_mut().insert("accept", accept);
    let manifest = client.send(ask).await.unwrap().json();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let url = format!("https://{REGISTRY}/v2/team/app/blobs/{digest}");
    assert_eq!(client.get(&url, "").await.unwrap().status, 401);
    let redirect = client.get(&url, &bearer).await.unwrap();
    assert_eq!(redirect.status, 307);
    let location = redirect.header("location").to_owned();
    assert!(
        location.starts_with("https://pullpassemulator.blob.core.windows.net/"),
        "{location}"
    );
    let blob = client.get(&location, "").await.unwrap();
    assert_eq!(blob.status, 200);
    assert_eq!(digest_of(&blob.body), digest);

    let other = location.replace("team/app", "team/other");
    let unsigned = location.split('?').next().unwrap();
    for url in [other.as_str(), unsigned] {
        assert_eq!(client.get(url, "").await.unwrap().status, 403, "{url}");
    }
    assert_eq!(emulator.leaked_tokens(), 0);
    assert_eq!(client.get(&location, &bearer).await.unwrap().status, 400);
    assert_eq!(emulator.leaked_tokens(), 1);
    emulator.advance(Duration::from_mins(20));
    assert_eq!(client.get(&location, "").await.unwrap().status, 403);
}
