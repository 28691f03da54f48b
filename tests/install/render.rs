//! What kustomize and Helm make of the manifests.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use pullpass_test_support::{Binaries, Scratch, tool};
use serde_json::{Value, json};

pub type Test = Result<(), Box<dyn Error>>;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/chart");

/// All of `manifests/components` that need no input; `custom-domains` needs the domains.
pub const COMPONENTS: [&str; 8] = [
    "cert-manager",
    "rescue",
    "reports",
    "bindings",
    "monitoring",
    "workload-identity",
    "admission-policy",
    "enforce",
];

/// A way to install pullpass, in kustomize's terms.
#[derive(Clone, Debug)]
pub struct Choice {
    pub overlay: &'static str,
    pub components: Vec<&'static str>,
}

impl Choice {
    /// Every overlay with every set of two components at most, and of all but one at least: how two of them go together shows
    /// in one of these, and each more component would double the number of all sets.
    pub fn pairs() -> Vec<Self> {
        let mut sets = vec![Vec::new()];
        for component in COMPONENTS {
            let with: Vec<Vec<&str>> = sets
                .iter()
                .map(|set| [set.as_slice(), &[component]].concat())
                .collect();
            sets.extend(with);
        }
        sets.retain(|set| set.len() <= 2 || set.len() + 1 >= COMPONENTS.len());
        ["cluster-wide", "opt-in"]
            .into_iter()
            .flat_map(|overlay| {
                sets.iter().map(move |components| Self {
                    overlay,
                    components: components.clone(),
                })
            })
            .collect()
    }

    /// The chart's values that mean the same.
    pub fn values(&self) -> Value {
        let has = |component| self.components.contains(&component);
        json!({
            "mode": self.overlay,
            "tls": {"source": if has("cert-manager") { "cert-manager" } else { "own" }},
            "rescue": has("rescue"),
            "reports": {"enabled": has("reports")},
            "bindings": {"enabled": has("bindings")},
            "admissionPolicy": {"enabled": has("admission-policy")},
            "enforce": {"enabled": has("enforce")},
            "monitoring": {"enabled": has("monitoring")},
            "workloadIdentity": {"projectedToken": has("workload-identity")},
            // Helm makes it by --create-namespace; that it can render it is for those who use no helm install.
            "namespace": {"create": true},
            // kustomize has none.
            "test": {"enabled": false},
        })
    }

    /// What kustomize makes of it.
    pub fn kustomize(&self) -> Result<Vec<Value>, Box<dyn Error>> {
        kustomize(&json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [format!("../manifests/overlays/{}", self.overlay)],
            "components": self.components.iter().map(|component| format!("../manifests/components/{component}"))
                .collect::<Vec<_>>(),
        }))
    }
}

/// A place that looks like the root of a checkout, for directories beside `manifests` as `docs/install.md` has them.
pub fn checkout() -> Result<Scratch, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    symlink(format!("{ROOT}/manifests"), scratch.path().join("manifests"))?;
    Ok(scratch)
}

/// What kustomize makes of a kustomization in a directory beside `manifests`.
pub fn kustomize(kustomization: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    kustomize_with(&kustomization.to_string(), &[])
}

/// The same of a text, with these other files beside it.
pub fn kustomize_with(kustomization: &str, files: &[(&str, &str)]) -> Result<Vec<Value>, Box<dyn Error>> {
    let checkout = checkout()?;
    let directory = checkout.path().join("my-pullpass");
    fs::create_dir(&directory)?;
    for (name, text) in files.iter().chain(&[("kustomization.yaml", kustomization)]) {
        fs::write(directory.join(name), text)?;
    }
    let output = Command::new(kubectl()?)
        .arg("kustomize")
        .arg(directory)
        .output()?;
    objects(&succeeded("kubectl kustomize", &output)?)
}

/// kubectl, which has kustomize in it.
pub fn kubectl() -> Result<PathBuf, Box<dyn Error>> {
    static KUBECTL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = KUBECTL.get_or_init(|| {
        Binaries::locate()
            .and_then(|binaries| binaries.kubectl())
            .map_err(|error| error.to_string())
    });
    Ok(found.as_ref().map_err(String::as_str)?.clone())
}

/// Helm.
pub fn helm_binary() -> Result<&'static Path, Box<dyn Error>> {
    static HELM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = HELM.get_or_init(|| tool("helm").map_err(|error| error.to_string()));
    Ok(found.as_ref().map_err(String::as_str)?)
}

/// A Helm that knows nothing of the user's own settings, to be completed.
pub fn helm(scratch: &Scratch) -> Result<Command, Box<dyn Error>> {
    let mut command = Command::new(helm_binary()?);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HELM_") {
            command.env_remove(variable);
        }
    }
    for (variable, directory) in [
        ("HELM_CACHE_HOME", "cache"),
        ("HELM_CONFIG_HOME", "config"),
        ("HELM_DATA_HOME", "data"),
    ] {
        command.env(variable, scratch.path().join(directory));
    }
    command.env_remove("KUBECONFIG");
    Ok(command)
}

/// Runs `helm template` in a namespace with these values.
pub fn template(namespace: &str, values: &Value) -> Result<Output, Box<dyn Error>> {
    template_with(namespace, values, &[])
}

/// The same with these other arguments.
pub fn template_with(namespace: &str, values: &Value, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    template_of(Path::new(CHART), namespace, values, arguments)
}

/// The same of another chart.
pub fn template_of(
    chart: &Path,
    namespace: &str,
    values: &Value,
    arguments: &[&str],
) -> Result<Output, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("values.json");
    fs::write(&file, values.to_string())?;
    let mut command = helm(&scratch)?;
    command
        .args(["template", "pullpass"])
        .arg(chart)
        .args(["--namespace", namespace])
        // What Helm takes a cluster for that it does not ask.
        .args(["--kube-version", "1.30.0", "--values"])
        .arg(file)
        .args(arguments);
    Ok(command.output()?)
}

/// What the chart makes of these values.
pub fn chart(values: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    objects(&succeeded(
        "helm template",
        &template("pullpass-system", values)?,
    )?)
}

/// The standard output of a command that must have succeeded.
pub fn succeeded(what: &str, output: &Output) -> Result<String, Box<dyn Error>> {
    if output.status.success() {
        Ok(String::from_utf8(output.stdout.clone())?)
    } else {
        let said = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream));
        Err(format!("{what}: {}: {}", output.status, said.concat()).into())
    }
}

pub fn objects(yaml: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    objects.retain(|object| !object.is_null());
    Ok(objects)
}

/// Objects by kind, namespace and name.
pub fn by_name(objects: Vec<Value>) -> Result<BTreeMap<String, Value>, Box<dyn Error>> {
    let mut named = BTreeMap::new();
    for object in objects {
        let part = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        let name = format!(
            "{} {} {}",
            part("/kind"),
            part("/metadata/namespace"),
            part("/metadata/name")
        );
        if named.insert(name.clone(), object).is_some() {
            return Err(format!("there are two of {name}").into());
        }
    }
    Ok(named)
}

/// The only object of a kind with this name.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value, Box<dyn Error>> {
    objects
        .iter()
        .find(|object| {
            object.get("kind").and_then(Value::as_str) == Some(kind)
                && object.pointer("/metadata/name").and_then(Value::as_str) == Some(name)
        })
        .ok_or_else(|| format!("there is no {kind} {name}").into())
}
