use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_client::ApiClient;
use crate::binaries::Binaries;
use crate::error::Error;
use crate::etcd;
use crate::files::{self, Files, audit_log, url, write};
use crate::kubeconfig::{self, Credential};
use crate::kubectl::{self, Kubectl, KubectlOutput};
use crate::loopback;
use crate::pki::Authority;
use crate::process::Supervised;
use crate::resource_path::resource_path;
use crate::scratch::Scratch;
use crate::seed;
use crate::wait::{free_port, wait_for};

/// Generous, since it only bounds how long a broken start takes to be noticed.
const READY: Duration = Duration::from_secs(90);
/// What the API server gets to finish requests before it is killed: it would wait a minute for watches,
/// and etcd has all that it knows.
const GRACE: Duration = Duration::from_secs(1);
/// Only bounds how long a broken test takes.
const ESTABLISHED_TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// What a [`ControlPlane`] is made of.
#[derive(Debug)]
pub struct Builder {
    binaries: Option<Binaries>,
    controller_manager: bool,
    seeded: bool,
    api_server_arguments: Vec<String>,
}

impl Builder {
    /// Uses these binaries instead of those that [`Binaries::locate`] finds.
    #[must_use]
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// Whether workloads get Pods and namespaces their service accounts; they do by default.
    ///
    /// Without it the `default` service accounts have to be made before Pods are accepted.
    #[must_use]
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Whether etcd begins with what an API server writes when it starts for the first time; it does by default, as that
    /// is the same each time.
    #[must_use]
    pub fn seeded(mut self, wanted: bool) -> Self {
        self.seeded = wanted;
        self
    }

    /// Adds a flag to the API server's command line, as in `--feature-gates=Some=true`.
    #[must_use]
    pub fn api_server_argument(mut self, argument: impl Into<String>) -> Self {
        self.api_server_arguments.push(argument.into());
        self
    }

    /// Starts everything and waits until it is ready.
    pub fn start(self) -> Result<ControlPlane, Error> {
        let binaries = match self.binaries {
            Some(binaries) => binaries,
            None => Binaries::locate()?,
        };
        let scratch = Scratch::new()?;
        let files = Files::write(scratch.path())?;
        let etcd_port = free_port()?;
        let etcd_url = format!("http://{}", loopback::at(etcd_port));
        let port = free_port()?;

        let mut api_server_command = files.api_server(binaries.kube_apiserver()?, port, &etcd_url);
        api_server_command.args(self.api_server_arguments);
        let controller_manager_command = if self.controller_manager {
            Some(files.controller_manager(binaries.kube_controller_manager()?, port)?)
        } else {
            None
        };
        let (kubeconfig, admin) = files.admin(port)?;
        let client = ApiClient::new(port, files.authority.pem(), &admin)?;
        let kubectl = Kubectl {
            binary: binaries.kubectl()?,
            cache: scratch.path().join("kubectl"),
        };

        // What is planted has Services of IPv4.
        if self.seeded && loopback::address().is_ipv4() {
            seed::plant(&binaries, &files::etcd_directory(scratch.path()))?;
        }
        // The API server comes up while etcd does, and waits for it by itself.
        let etcd = Supervised::spawn("etcd", &files.etcd(binaries.etcd()?, &etcd_url)?, scratch.path())?;
        let mut control_plane = ControlPlane {
            controller_manager: None,
            api_server: Mutex::default(),
            etcd: Mutex::new(etcd),
            api_server_command,
            kubectl,
            kubeconfig,
            client,
            authority: files.authority,
            port,
            etcd_port,
            scratch,
        };
        control_plane.start_api_server()?;
        if let Some(command) = controller_manager_command {
            control_plane.start_controller_manager(&command)?;
        }
        Ok(control_plane)
    }
}

/// A Kubernetes control plane without nodes: etcd, API server and controller manager on loopback.
///
/// Pods are admitted and stay `Pending` unless there is a [`Node`](crate::Node). Everything ends when this value is dropped and also when
/// the process that holds it is killed, so it may live in a `static`.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they are to be dropped: nobody outlives what it depends on.
    controller_manager: Option<Supervised>,
    api_server: Mutex<Option<Supervised>>,
    etcd: Mutex<Supervised>,
    api_server_command: Command,
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    client: ApiClient,
    authority: Authority,
    port: u16,
    etcd_port: u16,
    scratch: Scratch,
}

impl ControlPlane {
    /// Starts one with a controller manager.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// For one that differs from the default.
    pub fn builder() -> Builder {
        Builder {
            binaries: None,
            controller_manager: true,
            seeded: true,
            api_server_arguments: Vec::new(),
        }
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The address in it, as a Pod is told it.
    pub(crate) fn address(&self) -> SocketAddr {
        loopback::at(self.port)
    }

    /// The certificate authority of the API server and of its clients.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Where logs, keys and data lie; files of a test may be put there too.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes a kubeconfig for a bearer token; `user` only names it.
    pub fn kubeconfig_for_token(&self, user: &str, token: &str) -> Result<PathBuf, Error> {
        let plain: String = user
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let content = kubeconfig::render(&self.url(), self.ca_pem(), user, &Credential::Token(token));
        write(
            &self.scratch.path().join(format!("token-{plain}.kubeconfig")),
            &content,
        )
    }

    /// A kubeconfig with a certificate for `user` in `group`.
    pub(crate) fn kubeconfig_for_certificate(
        &self,
        user: &str,
        group: Option<&str>,
    ) -> Result<String, Error> {
        let identity = self.authority.client(user, group)?;
        let credential = Credential::Certificate(&identity);
        Ok(kubeconfig::render(&self.url(), self.ca_pem(), user, &credential))
    }

    /// Writes a kubeconfig with a fresh token of a service account.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.client.post(&path, &request)?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        self.kubeconfig_for_token(&format!("{namespace}-{name}"), token.unwrap_or_default())
    }

    /// The audit log: one JSON event a line for every write of a Pod and every use of a Secret.
    pub fn audit_log(&self) -> PathBuf {
        audit_log(self.scratch.path())
    }

    /// The events of the audit log that are written so far.
    pub fn audit_events(&self) -> Result<Vec<Value>, Error> {
        let path = self.audit_log();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // It is made with the first event.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io(format!("reading {}", path.display()))(error)),
        };
        // What does not parse is the end of the file while it is being written.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// A kubectl command of the administrator, to be completed.
    pub fn kubectl(&self) -> Command {
        self.kubectl.command(&self.kubeconfig)
    }

    /// A kubectl command under another kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path) -> Command {
        self.kubectl.command(kubeconfig)
    }

    /// Runs kubectl as the administrator.
    pub fn run(&self, arguments: &[&str]) -> Result<KubectlOutput, Error> {
        self.run_with_input(arguments, "")
    }

    /// Runs kubectl as the administrator, with `input` on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<KubectlOutput, Error> {
        let mut command = self.kubectl();
        command.args(arguments);
        kubectl::run(command, input)
    }

    /// Whether an account may do something, as `kubectl auth can-i VERB WHAT` says in words; whatever else it says is an
    /// error, and not a no.
    pub fn may(&self, account: &str, verb: &str, what: &str, scope: &[&str]) -> Result<bool, Error> {
        let mut command = self.kubectl();
        command
            .args(["auth", "can-i", verb, what, "--as", account])
            .args(scope);
        kubectl::yes_or_no(command)
    }

    /// Runs `kubectl apply` on objects in YAML.
    pub fn apply(&self, yaml: &str) -> Result<KubectlOutput, Error> {
        self.run_with_input(&["apply", "--filename", "-"], yaml)
    }

    /// Runs `kubectl create` on objects in YAML, which `apply` can't do for `generateName`.
    pub fn create(&self, yaml: &str) -> Result<KubectlOutput, Error> {
        self.run_with_input(&["create", "--filename", "-"], yaml)
    }

    /// Waits until the API server serves all `CustomResourceDefinitions` that it has. `kubectl wait` fails on one of which it has
    /// said nothing yet.
    pub fn wait_until_established(&self) -> Result<(), Error> {
        let established = || -> Result<(), String> {
            let all = self
                .get_json(&["customresourcedefinitions"])
                .map_err(|error| error.to_string())?;
            let mut items = all.get("items").and_then(Value::as_array).into_iter().flatten();
            let pending = items.find(|definition| !is_established(definition));
            pending.map_or(Ok(()), |definition| Err(format!("{definition:#}")))
        };
        Ok(wait_for(
            "the definitions to be served",
            ESTABLISHED_TIMEOUT,
            established,
        )?)
    }

    /// What the API server says at a path.
    pub fn get_raw(&self, path: &str) -> Result<Value, Error> {
        self.client.get(path)
    }

    /// Who signs the tokens of service accounts.
    pub fn issuer(&self) -> Result<String, Error> {
        let discovery = self.get_raw("/.well-known/openid-configuration")?;
        let issuer = discovery.get("issuer").and_then(Value::as_str);
        Ok(issuer.unwrap_or_default().to_owned())
    }

    /// What `kubectl get ARGUMENTS --output json` prints.
    pub fn get_json(&self, arguments: &[&str]) -> Result<Value, Error> {
        // Tests look every few milliseconds, and a process of kubectl is most of what such a look costs.
        if let Some(path) = resource_path(arguments) {
            return self.client.get(&path).map(as_kubectl_prints);
        }
        let mut command = self.kubectl();
        command.arg("get").args(arguments).args(["--output", "json"]);
        kubectl::json(command)
    }

    /// The API server's process, while there is one.
    pub fn api_server(&mut self) -> Option<&mut Supervised> {
        self.api_server
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
    }

    /// The controller manager's process, if one was asked for.
    pub fn controller_manager(&mut self) -> Option<&mut Supervised> {
        self.controller_manager.as_mut()
    }

    /// Stops the API server; its state stays in etcd.
    pub fn stop_api_server(&self) -> Result<(), Error> {
        if let Some(mut api_server) = self.lock_api_server().take() {
            api_server.stop(GRACE)?;
        }
        Ok(())
    }

    /// Starts the API server if it is stopped, on the port that it had, and waits until it is ready.
    pub fn start_api_server(&self) -> Result<(), Error> {
        let mut api_server = self.lock_api_server();
        if api_server.is_none() {
            let process = Supervised::spawn("kube-apiserver", &self.api_server_command, self.scratch.path())?;
            *api_server = Some(process);
        }
        let begin = Instant::now();
        loop {
            self.etcd
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .check_running()?;
            if let Some(api_server) = &mut *api_server {
                api_server.check_running()?;
            }
            let Err(error) = self.client.look("/readyz") else {
                return Ok(());
            };
            not_ready_yet(begin, api_server.as_ref(), &error)?;
        }
    }

    /// Stops the API server and starts it again.
    pub fn restart_api_server(&self) -> Result<(), Error> {
        self.stop_api_server()?;
        self.start_api_server()
    }

    /// Writes a certificate authority into the shipped webhook configuration, as pullpass does once it has one.
    pub fn write_ca_bundle(&self, base64: &str) -> Result<(), Error> {
        let webhooks = ["pods.pullpass.dev", "always.pullpass.dev"]
            .map(|name| json!({"name": name, "clientConfig": {"caBundle": base64}}));
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass"},
            "webhooks": webhooks,
        });
        let arguments = [
            "apply",
            "--server-side",
            "--field-manager=pullpass",
            "--filename",
            "-",
        ];
        self.run_with_input(&arguments, &configuration.to_string())
            .map(drop)
    }

    /// Calls the API server as the administrator.
    pub(crate) fn client(&self) -> &ApiClient {
        &self.client
    }

    /// Makes etcd forget all states but the present one: a watch that goes on from an earlier one has expired, except
    /// for what the API server itself still remembers.
    pub fn compact_etcd(&self) -> Result<(), Error> {
        etcd::compact(self.etcd_port)
    }

    /// The keys of all that etcd has, in order.
    pub fn etcd_keys(&self) -> Result<Vec<String>, Error> {
        etcd::keys(self.etcd_port)
    }

    /// Stops everything, and returns etcd's directory, where nothing is left of keys that begin so.
    pub(crate) fn end_without(&mut self, prefixes: &[&str]) -> Result<PathBuf, Error> {
        self.controller_manager = None;
        self.stop_api_server()?;
        for prefix in prefixes {
            etcd::delete(self.etcd_port, prefix)?;
        }
        let process = self.etcd.get_mut().unwrap_or_else(PoisonError::into_inner);
        process.stop(GRACE)?;
        Ok(files::etcd_directory(self.scratch.path()))
    }

    fn lock_api_server(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It gives up after some seconds without an API server, so it is started after that.
    fn start_controller_manager(&mut self, command: &Command) -> Result<(), Error> {
        let mut process = Supervised::spawn("kube-controller-manager", command, self.scratch.path())?;
        let begin = Instant::now();
        loop {
            process.check_running()?;
            // Pods are refused before this exists.
            let account = "/api/v1/namespaces/default/serviceaccounts/default";
            let Err(error) = self.client.look(account) else {
                break;
            };
            not_ready_yet(begin, Some(&process), &error)?;
        }
        self.controller_manager = Some(process);
        Ok(())
    }
}

/// An object or a list as kubectl prints it: without the managed fields, and with the kind of each item.
fn as_kubectl_prints(mut answer: Value) -> Value {
    let text = |field: &str| {
        answer
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, version) = (text("kind"), text("apiVersion"));
    let without_managed_fields = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    without_managed_fields(&mut answer);
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    if let (Some(items), Some(kind)) = (items, kind.strip_suffix("List")) {
        for item in items {
            without_managed_fields(item);
            if let Some(fields) = item.as_object_mut() {
                fields.insert("apiVersion".to_owned(), json!(version));
                fields.insert("kind".to_owned(), json!(kind));
            }
        }
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!("v1"));
            fields.insert("kind".to_owned(), json!("List"));
        }
    }
    answer
}

/// Waits a little, or fails when the time is up.
fn not_ready_yet(begin: Instant, process: Option<&Supervised>, error: &Error) -> Result<(), Error> {
    if begin.elapsed() < READY {
        thread::sleep(POLL);
        return Ok(());
    }
    Err(Error::NotReady {
        process: process
            .map(|process| process.name().to_owned())
            .unwrap_or_default(),
        waited: begin.elapsed(),
        reason: error.to_string(),
        tail: process.map(Supervised::log_tail).unwrap_or_default(),
    })
}

/// Whether the API server serves what a `CustomResourceDefinition` defines.
fn is_established(definition: &Value) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        condition.get("type") == Some(&json!("Established"))
            && condition.get("status") == Some(&json!("True"))
    })
}
