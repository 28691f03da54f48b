//! The emulator as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pullpass_emulator::{Config, Emulator, EmulatorError};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Imitates Entra ID, Azure's managed identity endpoint and Azure Container Registry, for tests.
#[derive(Debug, Parser)]
#[command(name = "pullpass-emulator", version)]
struct Arguments {
    /// Tenants, principals, registries and roles, in JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the Entra authorities and the registries listen (TLS).
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the CONNECT proxy listens.
    #[arg(long, value_name = "ADDR")]
    proxy_listen: Option<SocketAddr>,
    /// Where the managed identity endpoint listens.
    #[arg(long, value_name = "ADDR")]
    imds_listen: Option<SocketAddr>,
    /// Where the control API listens; a free port of the loopback unless the configuration says otherwise.
    #[arg(long, value_name = "ADDR")]
    control_listen: Option<SocketAddr>,
    /// Where to write the certificate authority, in PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Where a docker-registry will listen; its configuration is written into --registry-dir.
    #[arg(long, value_name = "ADDR", requires = "registry_dir")]
    registry_listen: Option<SocketAddr>,
    /// The docker-registry's directory.
    #[arg(long, value_name = "DIR", requires = "registry_listen")]
    registry_dir: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Config {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    #[error("signals: {0}")]
    Signal(std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pullpass-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;

    let mut config = match arguments.config {
        Some(path) => read_config(path)?,
        None => Config::default(),
    };
    config.listen.tls = arguments.listen.unwrap_or(config.listen.tls);
    config.listen.proxy = arguments.proxy_listen.unwrap_or(config.listen.proxy);
    config.listen.imds = arguments.imds_listen.unwrap_or(config.listen.imds);
    let control = arguments.control_listen.or(config.listen.control);
    config.listen.control = control.or(Some((Ipv4Addr::LOCALHOST, 0).into()));

    let emulator = Emulator::start(config).await?;
    if let Some(path) = &arguments.ca_file {
        std::fs::write(path, emulator.ca_pem()).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
    }
    let mut registry_config = None;
    if let (Some(addr), Some(directory)) = (arguments.registry_listen, arguments.registry_dir) {
        registry_config = Some(emulator.use_docker_registry(addr, &directory)?);
    }
    println!(
        "{}",
        json!({
            "tls": emulator.addr(),
            "proxy": emulator.proxy_addr(),
            "imds": emulator.imds_addr(),
            "control": emulator.control_addr(),
            "caFile": arguments.ca_file,
            "registryConfig": registry_config,
            "resolve": emulator.resolve(),
        })
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn read_config(path: PathBuf) -> Result<Config, Error> {
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(Error::File { path, source }),
    };
    serde_json::from_slice(&text).map_err(|source| Error::Config { path, source })
}
