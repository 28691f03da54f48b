use std::net::SocketAddr;
use std::process::Command;

use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::files::write;
use crate::scratch::Scratch;

/// Where a Pod has the files by which it reaches the API server.
const DIRECTORY: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// What a Pod has to reach the API server: a token of its ServiceAccount, the authority, its namespace, and the
/// address in two variables.
#[derive(Debug)]
pub struct MountedServiceAccount {
    files: Scratch,
    api_server: SocketAddr,
}

impl MountedServiceAccount {
    /// Asks for a token of the ServiceAccount, and writes what a kubelet mounts.
    pub fn new(cluster: &ControlPlane, namespace: &str, name: &str) -> Result<Self, Error> {
        let token = cluster.run(&["create", "token", name, "--namespace", namespace])?;
        let files = Scratch::new()?;
        for (file, content) in [
            ("token", token.stdout.trim()),
            ("ca.crt", cluster.ca_pem()),
            ("namespace", namespace),
        ] {
            write(&files.path().join(file), content)?;
        }
        Ok(Self {
            files,
            api_server: cluster.address(),
        })
    }

    /// A command that runs a program with these files where a Pod has them, in a mount namespace of its own and with no
    /// other variable than `PATH`.
    pub fn command(&self, program: &str) -> Command {
        let mounted = format!(
            "mount -t tmpfs none /run && mkdir -p {DIRECTORY} && cp {}/* {DIRECTORY} && exec \"$0\" \"$@\"",
            self.files.path().display()
        );
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-ec", &mounted, program])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("KUBERNETES_SERVICE_HOST", self.api_server.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", self.api_server.port().to_string());
        command
    }
}
