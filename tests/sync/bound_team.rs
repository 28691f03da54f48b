//! A team that pulls as an identity of its own, and what it does for that.

use std::error::Error;

use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, text};

pub const ACCOUNT: &str = "puller";
pub const BINDING: &str = "app";
pub const PULL_SECRET: &str = "pullpass-binding-app";

/// A namespace with a registry that it may pull from, as a ServiceAccount there that nobody has made yet.
pub struct Team<'a, 'w> {
    pub world: &'a World<'w>,
    pub login: Login,
    pub namespace: String,
}

impl<'a, 'w> Team<'a, 'w> {
    pub fn new(world: &'a World<'w>) -> Result<Self, Box<dyn Error>> {
        let login = world.login()?;
        world.azure.push_image(&login, "app")?;
        Self::of(world, login)
    }

    /// The same with this registry.
    pub fn of(world: &'a World<'w>, login: Login) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            world,
            login,
            namespace: world.pullpass.new_namespace(&[])?,
        })
    }

    /// One that has done all that there is to do.
    pub fn bound(world: &'a World<'w>) -> Result<Self, Box<dyn Error>> {
        let team = Self::new(world)?;
        team.do_all()?;
        Ok(team)
    }

    /// Does all that there is to do.
    pub fn do_all(&self) -> Test {
        self.trust()?;
        self.make_account()?;
        self.grant()?;
        self.bind()?;
        self.wait_for_reason("Minted")?;
        Ok(())
    }

    /// The name of the minted credential.
    pub fn minted(&self) -> String {
        format!("binding-credential-{}.{BINDING}", self.namespace)
    }

    /// Waits until the minted credential is gone.
    pub fn wait_until_forgotten(&self) -> Test {
        wait_for("the minted credential to go", SOON, || {
            match self.world.secret("pullpass-system", &self.minted()) {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        Ok(())
    }

    /// Does what a message says: runs the commands in it that are kubectl's.
    pub fn obey(&self, message: &str) -> Test {
        let commands = message.split('`').skip(1).step_by(2);
        for command in commands.filter(|command| command.starts_with("kubectl ")) {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            self.world.cluster.run(&words)?;
        }
        Ok(())
    }

    /// Waits until the pull secret holds another credential than this.
    pub fn wait_for_other_than(&self, before: &Value) -> Test {
        wait_for("another credential in the pull secret", SOON, || {
            let secret = self.world.secret(&self.namespace, PULL_SECRET);
            let secret = secret.map_err(|error| error.to_string())?.unwrap_or_default();
            let data = secret.get("data");
            if data.is_some() && data != before.get("data") {
                Ok(())
            } else {
                Err("it is the same".to_owned())
            }
        })?;
        Ok(())
    }

    /// Has the identity trust the ServiceAccount.
    pub fn trust(&self) -> Test {
        self.world.trust(&self.login, &self.namespace, ACCOUNT)
    }

    pub fn make_account(&self) -> Test {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": self.namespace, "annotations": {
                "azure.workload.identity/client-id": self.login.client,
                "azure.workload.identity/tenant-id": self.login.tenant,
            }},
        });
        self.world.cluster.apply(&account.to_string())?;
        Ok(())
    }

    pub fn grant(&self) -> Test {
        for command in [
            vec![
                "role",
                "pullpass",
                "--verb=create",
                "--resource=serviceaccounts/token",
                "--resource-name=puller",
            ],
            vec![
                "rolebinding",
                "pullpass",
                "--role=pullpass",
                "--serviceaccount=pullpass-system:pullpass",
            ],
        ] {
            let create = [&["create"], &command[..], &["--namespace", &self.namespace]].concat();
            self.world.cluster.run(&create)?;
        }
        Ok(())
    }

    pub fn bind(&self) -> Test {
        self.bind_with(&json!({}))
    }

    /// Binds with these fields more in the spec.
    pub fn bind_with(&self, more: &Value) -> Test {
        let mut binding = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": BINDING, "namespace": self.namespace},
            "spec": {"loginServer": self.login.host, "serviceAccountName": ACCOUNT},
        });
        let spec = binding.pointer_mut("/spec").and_then(Value::as_object_mut);
        if let (Some(spec), Some(more)) = (spec, more.as_object()) {
            spec.extend(more.clone());
        }
        self.world.cluster.apply(&binding.to_string())?;
        Ok(())
    }

    /// Waits for the reason of the condition `Ready`, and returns its message.
    pub fn wait_for_reason(&self, reason: &str) -> Result<String, Box<dyn Error>> {
        let what = format!("the binding in {} to be {reason}", self.namespace);
        Ok(wait_for(&what, SOON, || {
            let get = ["acrpullbinding", BINDING, "--namespace", &self.namespace];
            let object = self
                .world
                .cluster
                .get_json(&get)
                .map_err(|error| error.to_string())?;
            if text(&object, "/status/conditions/0/reason") == reason {
                Ok(text(&object, "/status/conditions/0/message").to_owned())
            } else {
                Err(format!("{object:#}"))
            }
        })?)
    }

    /// Waits until the pull secret is there, or is not.
    pub fn wait_for_secret(&self, is_there: bool) -> Result<Value, Box<dyn Error>> {
        let what = format!("the pull secret in {} to be there: {is_there}", self.namespace);
        Ok(wait_for(&what, SOON, || {
            let secret = self.world.secret(&self.namespace, PULL_SECRET);
            match secret.map_err(|error| error.to_string())? {
                Some(secret) if is_there => Ok(secret),
                None if !is_there => Ok(Value::Null),
                other => Err(format!("{other:?}")),
            }
        })?)
    }

    /// The pull secrets that a new Pod with an image of the team's registry gets in a namespace.
    pub fn injected_in(&self, namespace: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "app-", "namespace": namespace},
            "spec": {"containers": [{"name": "app", "image": format!("{}/app:v1", self.login.host)}]},
        });
        let create = ["create", "--output", "json", "--filename", "-"];
        let created = self.world.cluster.run_with_input(&create, &pod.to_string())?;
        let pod: Value = serde_json::from_str(&created.stdout)?;
        let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
        let names = secrets
            .into_iter()
            .flatten()
            .map(|secret| text(secret, "/name").to_owned());
        Ok(names.collect())
    }
}
