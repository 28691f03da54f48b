//! A world in which the component bindings is installed.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_test_support::{ControlPlane, InstallationBuilder, Login, end_to_end_wanted};

use crate::world::{RESYNC, Test, World};

/// How many tests can have a registry of their own in it.
const LOGINS: usize = 32;

/// The one that the tests of `AcrPullBindings` share: the component is not installed in that of the others.
pub fn with_bindings() -> Result<&'static World<'static>, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    static WORLD: OnceLock<Result<World<'static>, String>> = OnceLock::new();
    end_to_end_wanted()?;
    let started = CLUSTER.get_or_init(|| {
        let cluster = ControlPlane::start().map_err(|error| error.to_string())?;
        install_bindings(&cluster).map_err(|error| error.to_string())?;
        Ok(cluster)
    });
    let cluster = started.as_ref().map_err(String::as_str)?;
    let world = WORLD.get_or_init(|| {
        let settle = |builder: InstallationBuilder<'static>| builder.flag(RESYNC).flag("--bindings");
        World::with_pullpass(cluster, LOGINS, |_| {}, settle).map_err(|error| error.to_string())
    });
    Ok(world.as_ref().map_err(String::as_str)?)
}

/// Installs what the component bindings has beside the setting.
pub fn install_bindings(cluster: &ControlPlane) -> Test {
    for file in ["crd.yaml", "rbac.yaml"] {
        let path = format!(
            "{}/manifests/components/bindings/{file}",
            env!("CARGO_MANIFEST_DIR")
        );
        cluster.run(&["apply", "--server-side", "--filename", &path])?;
    }
    Ok(())
}

impl World<'_> {
    /// Has a registry's application trust a ServiceAccount.
    pub fn trust(&self, login: &Login, namespace: &str, account: &str) -> Test {
        self.trust_for(login, namespace, account, "api://AzureADTokenExchange")
    }

    /// The same for tokens with another audience than pullpass asks for.
    pub fn trust_for(&self, login: &Login, namespace: &str, account: &str, audience: &str) -> Test {
        let subject = format!("system:serviceaccount:{namespace}:{account}");
        self.azure.trust(self.cluster, login, &subject, audience)?;
        Ok(())
    }
}
