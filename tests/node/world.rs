//! A cluster with a node, Azure, and a pullpass between them.

use std::error::Error;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pullpass_emulator::{Config, Failure, Fault, Step};
use pullpass_test_support::{
    Azure, ControlPlane, Installation, InstallationBuilder, Login, Node, node_wanted, wait_for,
};
use serde_json::{Value, json};

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);
/// How many tests there can be that want a registry of their own.
const LOGINS: usize = 26;

pub struct World<'a> {
    // In the order in which they are to be dropped.
    pub node: Node,
    pub pullpass: Installation<'a>,
    pub azure: Azure,
    pub cluster: &'a ControlPlane,
    logins: Vec<Login>,
    given: AtomicUsize,
}

/// A registry of the caller's own, with an image.
pub struct Registry {
    pub login: Login,
    pub repository: String,
    /// `HOST/REPOSITORY`.
    pub name: String,
    pub digest: String,
}

impl Registry {
    /// The image, by its tag.
    pub fn image(&self) -> String {
        format!("{}:v1", self.name)
    }

    pub fn pull_secret(&self) -> String {
        format!("pullpass-{}", self.login.name)
    }
}

/// The world that all tests share.
pub fn shared() -> Result<&'static World<'static>, Box<dyn Error>> {
    static WORLD: OnceLock<Result<World<'static>, String>> = OnceLock::new();
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    node_wanted()?;
    let world = WORLD.get_or_init(|| {
        let cluster = CLUSTER
            .get_or_init(|| ControlPlane::start().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(Clone::clone)?;
        World::start(cluster, |_| {}).map_err(|error| error.to_string())
    });
    Ok(world.as_ref().map_err(String::as_str)?)
}

/// Applies a file of a component, named as `COMPONENT/FILE`.
pub fn apply_component(cluster: &ControlPlane, file: &str) -> Test {
    let path = format!("{}/manifests/components/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.run(&["apply", "--server-side", "--filename", &path])?;
    Ok(())
}

/// Installs pullpass, as the only one of the cluster.
pub fn install<'a>(
    cluster: &'a ControlPlane,
    azure: &Azure,
    flags: &[&str],
) -> Result<Installation<'a>, Box<dyn Error>> {
    for file in ["bindings/crd", "bindings/rbac"] {
        apply_component(cluster, file)?;
    }
    let builder = Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass"))
        .whole_cluster("apps")
        .in_cluster()
        .flag("--bindings");
    let flags = azure
        .flags()
        .into_iter()
        .chain(flags.iter().map(|flag| (*flag).to_owned()));
    Ok(flags.fold(builder, InstallationBuilder::flag).start()?)
}

impl<'a> World<'a> {
    /// One of this cluster, with an Azure that differs from the usual.
    pub fn start(
        cluster: &'a ControlPlane,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Box<dyn Error>> {
        Self::with_flags(cluster, &[], change)
    }

    /// The same, with more flags of pullpass.
    pub fn with_flags(
        cluster: &'a ControlPlane,
        flags: &[&str],
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Box<dyn Error>> {
        let logins: Vec<_> = (1..=LOGINS)
            .map(|number| Login::new(&format!("registry{number:02}"), number))
            .collect();
        let azure = Azure::with(&logins, change)?;
        let (node, pullpass) = thread::scope(|scope| {
            let node = scope.spawn(|| Node::start(cluster, &azure));
            let pullpass = install(cluster, &azure, flags);
            (node.join(), pullpass)
        });
        Ok(Self {
            node: node.map_err(|_| "the start of the node has panicked")??,
            pullpass: pullpass?,
            azure,
            cluster,
            logins,
            given: AtomicUsize::new(0),
        })
    }

    /// Starts another pullpass, which takes the place of one that ended.
    pub fn install_again(&self) -> Result<Installation<'a>, Box<dyn Error>> {
        install(self.cluster, &self.azure, &[])
    }

    /// A registry that nobody else has.
    pub fn login(&self) -> Result<Login, Box<dyn Error>> {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let login = self.logins.get(number).cloned();
        Ok(login.ok_or("there are no registries left")?)
    }

    /// The same, with an image that runs until it is asked to end.
    pub fn registry(&self) -> Result<Registry, Box<dyn Error>> {
        let login = self.login()?;
        let program = Node::program()?;
        // One docker-registry holds the images of all, by their repositories.
        let repository = format!("team/{}", login.name);
        let digest = self.azure.push_program(&login, &repository, &program, &[])?;
        Ok(Registry {
            name: format!("{}/{repository}", login.host),
            repository,
            login,
            digest,
        })
    }

    /// The same, attached.
    pub fn attached(&self) -> Result<Registry, Box<dyn Error>> {
        let registry = self.registry()?;
        self.attach(&registry)?;
        Ok(registry)
    }

    /// Attaches a registry and waits until its credential is minted.
    pub fn attach(&self, registry: &Registry) -> Test {
        let login = &registry.login;
        self.apply(&[login.secret(&login.password), login.acr_registry()])?;
        let resource = format!("acrregistry/{}", login.name);
        self.cluster
            .run(&["wait", "--for=condition=Ready", "--timeout=120s", &resource])?;
        Ok(())
    }

    /// Applies all objects at one time.
    pub fn apply(&self, objects: &[Value]) -> Test {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        // What a controller has made at the same moment is no conflict.
        let arguments = ["apply", "--server-side", "--filename", "-"];
        self.cluster.run_with_input(&arguments, &list.to_string())?;
        Ok(())
    }

    /// Creates a Pod, and returns the warnings.
    pub fn create(&self, pod: &Value) -> Result<Vec<String>, Box<dyn Error>> {
        let created = self.cluster.create(&pod.to_string())?;
        Ok(created.warnings().into_iter().map(str::to_owned).collect())
    }

    /// A new namespace.
    pub fn namespace(&self) -> Result<String, Box<dyn Error>> {
        let name = new_name();
        self.apply(&namespace(&name))?;
        Ok(name)
    }

    /// Whatever is done with the registry fails from now on, as if nothing were there.
    pub fn take_down(&self, registry: &Registry) {
        for step in [
            Step::Challenge,
            Step::Exchange,
            Step::Token,
            Step::Manifest,
            Step::Blob,
        ] {
            self.azure
                .inject(Failure::new(step, Fault::Reset).at(&registry.login.host));
        }
    }

    /// How often a kubelet's pull has reached the registry: it can't begin without a manifest or a challenge.
    pub fn pulls(&self, registry: &Registry) -> u64 {
        self.azure.counts().calls_at(Step::Manifest, &registry.login.host)
    }

    /// Waits until the pull secret of a registry passes a check.
    pub fn wait_for_secret(
        &self,
        namespace: &str,
        registry: &Registry,
        what: &str,
        mut is_so: impl FnMut(&Value) -> bool,
    ) -> Result<Value, Box<dyn Error>> {
        let name = registry.pull_secret();
        let what = format!("the Secret {name} in {namespace} to {what}");
        Ok(wait_for(&what, SOON, || {
            let secret = self
                .cluster
                .get_json(&["secret", &name, "--namespace", namespace])
                .map_err(|error| error.to_string())?;
            if is_so(&secret) {
                Ok(secret)
            } else {
                Err(format!("{:#?}", secret.pointer("/metadata")))
            }
        })?)
    }

    /// Has pullpass mint another token, and waits until the pull secret in this namespace has it.
    pub fn rotate(&self, namespace: &str, registry: &Registry) -> Result<Value, Box<dyn Error>> {
        let before = self.wait_for_secret(namespace, registry, "be there", |_| true)?;
        self.cluster.run(&[
            "delete",
            "secret",
            "--namespace=pullpass-system",
            &format!("credential-{}", registry.login.name),
        ])?;
        self.wait_for_secret(namespace, registry, "have another token", |secret| {
            secret.get("data") != before.get("data")
        })
    }

    /// The Events of a reason about the Pods of a namespace.
    pub fn events(&self, namespace: &str, reason: &str) -> Result<Vec<Value>, Box<dyn Error>> {
        let selector = format!("reason={reason}");
        let mut list =
            self.cluster
                .get_json(&["events", "--namespace", namespace, "--field-selector", &selector])?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(events)) => Ok(events),
            other => Err(format!("no list of Events: {other:?}").into()),
        }
    }
}

/// A name that no other namespace has.
pub fn new_name() -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(1);
    format!("team-{}", GIVEN.fetch_add(1, Ordering::Relaxed))
}

/// A namespace and its service account, without which no Pod is admitted: the controller would make it a moment later.
pub fn namespace(name: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        }),
    ]
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
