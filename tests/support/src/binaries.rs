use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Says so itself when Go is missing.
const EXIT_NO_GO: i32 = 3;
/// Says so itself when something else is missing that it has to be given.
const EXIT_INCOMPLETE: i32 = 4;

/// Why there is no control plane to start, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is nothing to build with.
    #[error(
        "no Go toolchain to build the control plane, the node or a tool with: install Go 1.26 or newer, or set \
         KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl"
    )]
    NoGo,
    /// The directory that was given is not one of envtest's.
    #[error("KUBEBUILDER_ASSETS has no etcd or no kube-apiserver: fetch it with setup-envtest, or unset it")]
    Incomplete,
    /// There is no C compiler, or not the library that runc needs.
    #[error(
        "no C compiler, pkg-config or static libseccomp to build runc with: run tests/setup as root, or install them"
    )]
    NoRunc,
    /// The build failed; its own messages are on standard error.
    #[error("{} failed ({status}); its messages are above", .script.display())]
    Build {
        /// The script.
        script: PathBuf,
        /// How it ended.
        status: String,
    },
    /// The build could not be started.
    #[error("{}: {source}", .script.display())]
    Script {
        /// The script.
        script: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A binary that was asked for is not there.
    #[error(
        "no {name} in {}: unset KUBEBUILDER_ASSETS to have it built (envtest's assets lack it), or \
         do without it",
        .directory.display()
    )]
    Missing {
        /// The binary.
        name: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
}

/// The directory that holds the control plane's binaries.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Takes `KUBEBUILDER_ASSETS`, or builds the binaries unless they have been built before; the
    /// first build takes minutes and tells on standard error how far it is.
    pub fn locate() -> Result<Self, Unavailable> {
        let directory = build("../control-plane/build", Unavailable::Incomplete)?;
        Ok(Self { directory })
    }

    /// The key-value store.
    pub fn etcd(&self) -> Result<PathBuf, Unavailable> {
        self.find("etcd")
    }

    /// The API server.
    pub fn kube_apiserver(&self) -> Result<PathBuf, Unavailable> {
        self.find("kube-apiserver")
    }

    /// What makes Pods of Deployments; not among envtest's assets.
    pub fn kube_controller_manager(&self) -> Result<PathBuf, Unavailable> {
        self.find("kube-controller-manager")
    }

    /// The command line client.
    pub fn kubectl(&self) -> Result<PathBuf, Unavailable> {
        self.find("kubectl")
    }

    /// `keyring IMAGE SECRETS.json|-` prints which credentials a kubelet would use for an image; not
    /// among envtest's assets.
    pub fn keyring(&self) -> Result<PathBuf, Unavailable> {
        self.find("keyring")
    }

    fn find(&self, name: &'static str) -> Result<PathBuf, Unavailable> {
        let path = self.directory.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Unavailable::Missing {
                name,
                directory: self.directory.clone(),
            })
        }
    }
}

/// Where a tool of `tests/tools` is: `health`, `helm`, `reports`, `resolver` or `verifier`. Go builds it the first time, and keeps it in
/// its own cache.
///
/// # Errors
///
/// If it can't be built.
pub fn tool(name: &str) -> Result<PathBuf, Unavailable> {
    // Go looks at thousands of files before it says that there is nothing to build.
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let path = run("../tools/build", &[name], Unavailable::Incomplete)?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// Where the command of `tests/scanners` is. Go builds it the first time, which takes minutes, and keeps it in its own cache.
///
/// # Errors
///
/// If it can't be built.
pub(crate) fn scanners() -> Result<PathBuf, Unavailable> {
    build("../scanners/build", Unavailable::Incomplete)
}

/// Runs a build script, which prints the directory of its binaries.
pub(crate) fn build(script: &str, incomplete: Unavailable) -> Result<PathBuf, Unavailable> {
    run(script, &[], incomplete)
}

fn run(script: &str, arguments: &[&str], incomplete: Unavailable) -> Result<PathBuf, Unavailable> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Unavailable::Script {
            script: script.clone(),
            source,
        })?;
    match output.status.code() {
        Some(0) => {
            let printed = String::from_utf8_lossy(&output.stdout);
            Ok(PathBuf::from(printed.trim_end_matches('\n')))
        }
        Some(EXIT_NO_GO) => Err(Unavailable::NoGo),
        Some(EXIT_INCOMPLETE) => Err(incomplete),
        _ => Err(Unavailable::Build {
            script,
            status: output.status.to_string(),
        }),
    }
}
