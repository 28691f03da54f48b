//! The two servers, each a process of its own: what they use can be read then.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::post;
use pullpass::server::{Limits, Server, TlsFiles, TlsReloader};
use pullpass_test_support::{Supervised, free_port, wait_for};
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustls::pki_types::CertificateDer;
use tracing::subscriber::{NoSubscriber, set_global_default};

use crate::review::MANIFEST;
use crate::support::{Result, memory};

/// Clock ticks in a second: the value of `USER_HZ`, which Linux keeps at 100 for programs on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The certificate, in the directory of a run.
pub(crate) const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(crate) const KEY: &str = "tls.key";
/// What a floor answers.
pub(crate) const ANSWER: &str = "answer.json";

/// A server that runs.
pub(crate) struct Process {
    process: Supervised,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(
        name: &str,
        command: &Command,
        directory: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
        let mut process = Supervised::spawn(name, command, directory)?;
        wait_for(name, START_TIMEOUT, || match process.check_running() {
            Ok(()) => TcpStream::connect(address)
                .map(Ok)
                .map_err(|error| error.to_string()),
            Err(ended) => Ok(Err(ended)),
        })??;
        Ok(Self { process, address })
    }

    /// Its process identifier.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The processor time that it has used, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        // The command's name is in parentheses and may hold anything; field 3 follows the last one.
        let (_, fields) = stat.rsplit_once(')').ok_or("no command in /proc/PID/stat")?;
        let used = fields
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<f64>)
            .sum::<std::result::Result<f64, _>>()?;
        Ok(used / TICKS_PER_SECOND)
    }

    /// The memory that it has in use (`VmRSS`) or had at most (`VmHWM`), in KiB.
    pub(crate) fn memory(&self, field: &str) -> Result<f64> {
        memory(self.process.pid(), field)
    }
}

/// What both servers are started with: a directory with a certificate for the loopback address.
pub(crate) fn prepare(directory: &Path) -> Result<CertificateDer<'static>> {
    let signing_key = KeyPair::generate()?;
    let cert = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?.self_signed(&signing_key)?;
    let CertifiedKey { cert, signing_key } = CertifiedKey { cert, signing_key };
    fs::write(directory.join(CERTIFICATE), cert.pem())?;
    fs::write(directory.join(KEY), signing_key.serialize_pem())?;
    let manifests = directory.join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("cluster.yaml"), MANIFEST)?;
    Ok(cert.der().clone())
}

/// Where nothing listens.
pub(crate) fn loopback() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
}

/// The program itself; also where its metrics are.
pub(crate) fn start_pullpass(directory: &Path) -> Result<(Process, SocketAddr)> {
    let (address, metrics) = (loopback()?, loopback()?);
    let command = pullpass(directory, address, metrics);
    let process = Process::start("pullpass", &command, directory, address)?;
    Ok((process, metrics))
}

/// What starts it.
pub(crate) fn pullpass(directory: &Path, address: SocketAddr, metrics: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command
        .arg("serve")
        .args(["--listen", &address.to_string()])
        .args(["--metrics-listen", &metrics.to_string()])
        .arg("--manifests")
        .arg(directory.join("manifests"))
        .arg("--tls-cert")
        .arg(directory.join(CERTIFICATE))
        .arg("--tls-key")
        .arg(directory.join(KEY))
        .arg("--audit-log")
        .arg(directory.join("audit.log"));
    command
}

/// The floor, answering `answer`: this program once more.
pub(crate) fn start_floor(directory: &Path, answer: &[u8]) -> Result<Process> {
    fs::write(directory.join(ANSWER), answer)?;
    let address = loopback()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--floor", &address.to_string(), "--directory"])
        .arg(directory);
    Process::start("floor", &command, directory, address)
}

/// The floor: the same listener, TLS and HTTP, and a handler that reads the body and gives a constant for it.
pub(crate) async fn serve_floor(address: SocketAddr, directory: &Path) -> Result<()> {
    // Without one, h2 offers each of its spans to another logger, which pullpass does not have to do.
    set_global_default(NoSubscriber::default())?;
    let answer = Bytes::from(fs::read(directory.join(ANSWER))?);
    let files = TlsFiles {
        certificate: directory.join(CERTIFICATE),
        key: directory.join(KEY),
        client_ca: None,
    };
    let (reloader, _) = TlsReloader::open(files)?;
    let handler = async move |_: Bytes| ([(header::CONTENT_TYPE, "application/json")], answer.clone());
    let routes = Router::new()
        .route("/mutate", post(handler))
        .layer(DefaultBodyLimit::disable());
    let server = Server::bind(address, Limits::default())?;
    Ok(server.serve_tls(reloader.served(), routes).await?)
}

/// How many audit records were lost, as the metrics say.
pub(crate) fn audit_dropped(metrics: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(metrics)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("pullpass_audit_dropped_total "))
        .ok_or("no pullpass_audit_dropped_total in the metrics")?;
    Ok(value.parse()?)
}
