use std::fs;
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use pullpass_emulator::{
    Config, Emulator, FederatedCredential, Listen, Principal, Registry, Role, RoleAssignment, ScopedToken,
    Tenant,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::binaries::{scanners, tool};
use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::files::write;
use crate::image::{self, Content};
use crate::loopback;
use crate::process::Supervised;
use crate::scratch::Scratch;
use crate::wait::{free_port, wait_for};
use crate::webhook::READY;

/// The password of every application at first.
const PASSWORD: &str = "test-secret";
/// The password of every registry's admin user.
const ADMIN: &str = "test-admin";
const INSTALL: &str = "install Debian's docker-registry and skopeo, as tests/setup does";

/// A registry with a tenant and an application of its own, so that what is done to one is nothing to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// The registry's name, and its `AcrRegistry`'s.
    pub name: String,
    /// Its login server.
    pub host: String,
    /// The tenant.
    pub tenant: String,
    /// The application.
    pub client: String,
    /// The application's password at first.
    pub password: String,
}

impl Login {
    /// The `number` keeps tenants and applications apart.
    pub fn new(name: &str, number: usize) -> Self {
        Self {
            name: name.to_owned(),
            host: format!("{name}.azurecr.io"),
            tenant: format!("{number:08x}-0000-4000-8000-00000000000a"),
            client: format!("{number:08x}-0000-4000-8000-00000000000b"),
            password: PASSWORD.to_owned(),
        }
    }

    /// The role that lets the application pull.
    pub fn role(&self) -> RoleAssignment {
        RoleAssignment::new(&self.client, &self.host, Role::AcrPull)
    }

    /// The name of the Secret with the application's password.
    pub fn password_secret(&self) -> String {
        format!("{}-sp", self.name)
    }

    /// The Secret that [`Login::acr_registry`] names, with this password.
    pub fn secret(&self, password: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.password_secret(),
                "namespace": "pullpass-system",
                "annotations": {"pullpass.dev/registries": self.name},
            },
            "stringData": {"password": password},
        })
    }

    /// The `AcrRegistry` of the application.
    pub fn acr_registry(&self) -> Value {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "AcrRegistry",
            "metadata": {"name": self.name},
            "spec": {
                "loginServer": self.host,
                "identity": {"servicePrincipal": {
                    "tenantId": self.tenant,
                    "clientId": self.client,
                    "clientSecretRef": {"name": self.password_secret(), "key": "password"},
                }},
            },
        })
    }
}

/// Entra ID and Azure Container Registry, imitated in this process; a real docker-registry holds the images.
pub struct Azure {
    // In the order in which they are to be dropped.
    content: Mutex<Option<Supervised>>,
    emulator: Emulator,
    _runtime: Runtime,
    scratch: Scratch,
}

impl Deref for Azure {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.emulator
    }
}

impl Azure {
    /// One that has these registries; every application may pull from its own.
    pub fn start(logins: &[Login]) -> Result<Self, Error> {
        Self::with(logins, |_| {})
    }

    /// One whose registries each have a token of this name and password.
    pub fn with_token(logins: &[Login], name: &str, password: &str) -> Result<Self, Error> {
        Self::with(logins, |config| {
            for registry in &mut config.registries {
                registry.tokens = vec![ScopedToken {
                    name: name.to_owned(),
                    passwords: vec![password.to_owned()],
                    ..ScopedToken::default()
                }];
            }
        })
    }

    /// One that differs from the usual.
    pub fn with(logins: &[Login], change: impl FnOnce(&mut Config)) -> Result<Self, Error> {
        let mut config = Config {
            tenants: logins.iter().map(|login| Tenant::new(&login.tenant)).collect(),
            principals: logins
                .iter()
                .map(|login| Principal::new(&login.tenant, &login.client).with_secret(&login.password))
                .collect(),
            registries: logins
                .iter()
                .map(|login| Registry::new(&login.tenant, &login.host).with_admin(&login.name, ADMIN))
                .collect(),
            roles: logins.iter().map(Login::role).collect(),
            listen: Listen {
                tls: loopback::at(0),
                proxy: loopback::at(0),
                imds: loopback::at(0),
                control: None,
            },
            ..Config::default()
        };
        change(&mut config);
        let scratch = Scratch::new()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Error::io("starting a runtime"))?;
        let emulator = runtime.block_on(Emulator::start(config))?;
        write(&scratch.path().join("ca.pem"), &emulator.ca_pem())?;
        Ok(Self {
            content: Mutex::default(),
            emulator,
            _runtime: runtime,
            scratch,
        })
    }

    /// What leads pullpass here, and nowhere else.
    pub fn flags(&self) -> Vec<String> {
        let authority = format!("--extra-ca={}", self.authority_file().display());
        let metadata = format!("--imds-endpoint=http://{}", self.emulator.imds_addr());
        self.emulator
            .resolve()
            .into_iter()
            .map(|resolve| format!("--resolve={resolve}"))
            .chain([authority, metadata])
            .collect()
    }

    /// Has an application trust a service account's tokens for this audience, and no others.
    ///
    /// # Errors
    ///
    /// If the cluster does not say who signs its tokens.
    pub fn trust(
        &self,
        cluster: &ControlPlane,
        login: &Login,
        subject: &str,
        audience: &str,
    ) -> Result<(), Error> {
        let keys = "/openid/v1/jwks";
        let jwks = cluster.get_raw(keys)?;
        let jwks = serde_json::from_value(jwks).map_err(|source| Error::NotJson {
            arguments: format!("get --raw {keys}"),
            source,
        })?;
        let credential = FederatedCredential {
            issuer: cluster.issuer()?,
            subject: subject.to_owned(),
            audience: audience.to_owned(),
            jwks,
        };
        let principal = Principal::new(&login.tenant, &login.client).with_secret(&login.password);
        self.put_principal(Principal {
            federated_credentials: vec![credential],
            ..principal
        })?;
        Ok(())
    }

    /// Starts a docker-registry and pushes a small image as `REPOSITORY:v1`. It can be pulled, and not run.
    pub fn push_image(&self, login: &Login, repository: &str) -> Result<(), Error> {
        self.push(login, repository, Content::Empty).map(drop)
    }

    /// Pushes an image that runs `PROGRAM ARGUMENTS` as `REPOSITORY:v1`, and returns its digest.
    ///
    /// The program has to be static. The file `/name` in the image has the image's name.
    pub fn push_program(
        &self,
        login: &Login,
        repository: &str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<String, Error> {
        let content = Content::Program {
            binary: program,
            arguments,
        };
        self.push(login, repository, content)
    }

    fn push(&self, login: &Login, repository: &str, content: Content<'_>) -> Result<String, Error> {
        {
            // Two concurrent calls would each lead the emulator to a docker-registry of its own.
            let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
            if content.is_none() {
                *content = Some(self.start_content()?);
            }
        }
        let layout = self
            .scratch
            .path()
            .join(format!("{}-{}", login.name, repository.replace('/', "-")));
        let name = format!("{}/{repository}", login.host);
        image::write_layout(&layout, &name, content)?;
        let config = docker_config(&login.host, &login.name, ADMIN);
        let source = format!("oci:{}:v1", layout.display());
        let target = format!("docker://{name}:v1");
        let file = layout.with_extension("digest");
        let digest_file = format!("--digestfile={}", file.display());
        self.skopeo(&config, &["copy", "--quiet", &digest_file, &source, &target])?;
        fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))
    }

    /// Runs skopeo with a docker config, and returns what it printed; it is an error when it fails.
    pub fn skopeo(&self, docker_config: &str, arguments: &[&str]) -> Result<String, Error> {
        static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let auth_file = write(
            &self.scratch.path().join(format!("auth-{run}.json")),
            docker_config,
        )?;
        let mut skopeo = Command::new("skopeo");
        skopeo
            .arg("--insecure-policy")
            .args(arguments)
            .env("REGISTRY_AUTH_FILE", auth_file);
        self.run_client(skopeo)
    }

    /// Asks for an image's digest as those do that are no kubelets: `by` the name of a `service-account`, of a `pull-secret`, or
    /// of one whose content is their `docker-config`; `knative` and `tekton` take a service account, a `scanner` a pull secret.
    ///
    /// # Errors
    ///
    /// If the registry refuses, or the program is not there.
    pub fn resolve_digest(
        &self,
        kubeconfig: &Path,
        namespace: &str,
        (by, name): (&str, &str),
        image: &str,
    ) -> Result<String, Error> {
        let docker_config = Scratch::new()?;
        let mut resolver = Command::new(tool("resolver")?);
        resolver
            .arg(kubeconfig)
            .args([namespace, by, name, image])
            .env("DOCKER_CONFIG", docker_config.path());
        self.run_client(resolver)
    }

    /// Signs an image as notation does, by a new key; the key's certificate is written to the file.
    ///
    /// # Errors
    ///
    /// If the registry refuses, or the program is not there.
    pub fn sign_image(&self, login: &Login, image: &str, certificate: &Path) -> Result<String, Error> {
        let config = docker_config(&login.host, &login.name, ADMIN);
        self.run_verifier("sign", &config, image, certificate)
    }

    /// Verifies an image's signature with a docker config, by `notation` or as `flux` does; returns the image's digest.
    ///
    /// # Errors
    ///
    /// If the registry refuses, there is no signature by the key of this certificate, or the program is not there.
    pub fn verify_image(
        &self,
        by: &str,
        docker_config: &str,
        image: &str,
        certificate: &Path,
    ) -> Result<String, Error> {
        self.run_verifier(by, docker_config, image, certificate)
    }

    fn run_verifier(
        &self,
        action: &str,
        docker_config: &str,
        image: &str,
        certificate: &Path,
    ) -> Result<String, Error> {
        let directory = Scratch::new()?;
        write(&directory.path().join("config.json"), docker_config)?;
        let mut verifier = Command::new(tool("verifier")?);
        verifier
            .args([action, image])
            .arg(certificate)
            .env("DOCKER_CONFIG", directory.path());
        self.run_client(verifier)
    }

    /// Signs an image as cosign does, by a new key; the public key is written to the file.
    ///
    /// # Errors
    ///
    /// If the registry refuses, or the program is not there.
    pub fn sign_by_cosign(&self, login: &Login, image: &str, key: &Path) -> Result<String, Error> {
        let config = docker_config(&login.host, &login.name, ADMIN);
        self.scan_image(&config, &["sign", image, &key.display().to_string()])
    }

    /// Has a scanner or a verifier ask for an image, with a docker config: `trivy IMAGE`, `cosign IMAGE KEY-FILE`, or
    /// `policy-controller IMAGE KEY-FILE KUBECONFIG NAMESPACE SERVICE-ACCOUNT`; returns the image's digest.
    ///
    /// # Errors
    ///
    /// If the registry refuses, there is no signature by that key, or the program is not there.
    pub fn scan_image(&self, docker_config: &str, arguments: &[&str]) -> Result<String, Error> {
        let directory = Scratch::new()?;
        write(&directory.path().join("config.json"), docker_config)?;
        let mut scanner = Command::new(scanners()?);
        scanner
            .args(arguments)
            .env("DOCKER_CONFIG", directory.path())
            // Trivy tries Azure's own identities first: this machine has none, and nobody is to be asked for one.
            .env("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential");
        self.run_client(scanner)
    }

    /// Runs a client that reaches this Azure as if it were the real one, and trusts it.
    fn run_client(&self, mut client: Command) -> Result<String, Error> {
        let program = client.get_program().to_string_lossy().into_owned();
        let output = client
            .env("SSL_CERT_FILE", self.authority_file())
            .env("HTTPS_PROXY", format!("http://{}", self.emulator.proxy_addr()))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(format!("running {program} ({INSTALL})")))?;
        if self.emulator.leaked_tokens() > 0 {
            return Err(Error::LeakedToken);
        }
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(Error::RegistryClient {
                program,
                status: output.status,
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        }
    }

    /// A directory for files that go with it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The certificate authority of everything that it serves, in PEM.
    pub fn authority_file(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    fn start_content(&self) -> Result<Supervised, Error> {
        let address = loopback::at(free_port()?);
        let directory = self.scratch.path().join("registry");
        fs::create_dir_all(&directory).map_err(Error::io(format!("making {}", directory.display())))?;
        let config = self.emulator.use_docker_registry(address, &directory)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config);
        let mut process = Supervised::spawn("docker-registry", &command, self.scratch.path())?;
        wait_for(&format!("docker-registry ({INSTALL})"), READY, || {
            match process.check_running() {
                Ok(()) => TcpStream::connect(address).map(|_| Ok(())),
                Err(ended) => Ok(Err(ended)),
            }
        })??;
        Ok(process)
    }
}

fn docker_config(host: &str, username: &str, password: &str) -> String {
    json!({"auths": {host: {"username": username, "password": password, "auth": base64(username, password)}}})
        .to_string()
}

fn base64(username: &str, password: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"))
}
