//! What `docs/upgrade.md` says, done with Helm as it is written there: an upgrade from the version before, and the way
//! back.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::time::Duration;

use pullpass_test_support::{ControlPlane, Scratch, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::accepted::takes_admission_policies;
use crate::documents::run;
use crate::render::{COMPONENTS, Choice, ROOT, Test, checkout};

/// The chart of 0.1.0, at the commit that CHANGELOG.md names: `git archive --prefix=pullpass/ 4917180:manifests/chart |
/// gzip -9 --no-name`.
const BEFORE: &[u8] = include_bytes!("testdata/chart-0.1.0.tgz");
/// The values file of both versions.
const VALUES: &str = "image: {repository: images.test/pullpass}\npolicy: {forbidden: deny}\nreplicas: 3\n";
const SOON: Duration = Duration::from_mins(1);
/// More than the newer version accepts.
const REPOSITORIES: usize = 20;

/// The command in a section of the page that begins with these words.
fn command(heading: &str, beginning: &str) -> Result<String, Box<dyn Error>> {
    let page = fs::read_to_string(format!("{ROOT}/docs/upgrade.md"))?;
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .ok_or_else(|| format!("there is no heading {heading}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let line = section
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(beginning));
    Ok(line
        .ok_or_else(|| format!("{heading} has no command {beginning}"))?
        .to_owned())
}

/// The commands of the way back that unbind policies.
fn unbind() -> Result<[String; 2], Box<dyn Error>> {
    let delete = |kind: &str| command("Roll back", &format!("kubectl delete {kind} "));
    Ok([
        delete("validatingadmissionpolicybinding")?,
        delete("mutatingadmissionpolicybinding")?,
    ])
}

#[test]
fn the_way_back_unbinds_every_policy_that_reads_the_index() -> Test {
    let objects = Choice {
        overlay: "cluster-wide",
        components: COMPONENTS.to_vec(),
    }
    .kustomize()?;
    let bound: BTreeSet<(String, String)> = objects
        .iter()
        .filter(|object| object.pointer("/spec/paramRef").is_some())
        .map(|object| {
            let text = |pointer| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            (text("/kind").to_lowercase(), text("/metadata/name").to_owned())
        })
        .collect();
    assert!(bound.len() >= 4, "{bound:?}");
    let mut unbound = BTreeSet::new();
    for command in unbind()? {
        let mut words = command
            .split_whitespace()
            .skip(2)
            .filter(|word| !word.starts_with("--"));
        let kind = words.next().unwrap_or_default();
        unbound.extend(words.map(|name| (kind.to_owned(), name.to_owned())));
    }
    assert_eq!(unbound, bound);
    Ok(())
}

fn registry(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": name},
        "spec": spec,
    })
    .to_string()
}

fn repositories(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("team/app{number}")).collect()
}

fn patch(count: usize) -> String {
    json!({"spec": {"credential": {"repositories": repositories(count)}}}).to_string()
}

/// A cluster with a release of the chart, and a directory as a person has it who upgrades: a checkout, and the values
/// file.
struct Release {
    cluster: ControlPlane,
    checkout: Scratch,
}

impl Release {
    /// The version before, with an AcrRegistry that only this version accepts, and with the Secrets that there would
    /// be.
    fn before() -> Result<Self, Box<dyn Error>> {
        let release = Self {
            cluster: ControlPlane::builder().controller_manager(false).start()?,
            checkout: checkout()?,
        };
        let directory = release.checkout.path();
        fs::write(directory.join("values.yaml"), VALUES)?;
        fs::write(directory.join("chart-0.1.0.tgz"), BEFORE)?;
        release.run(
            "helm install pullpass chart-0.1.0.tgz --namespace pullpass-system --create-namespace --values \
             values.yaml",
        )?;
        release
            .run("kubectl wait --for=condition=Established crd/acrregistries.pullpass.dev --timeout=60s")?;
        let spec = json!({
            "loginServer": "longlist.azurecr.io",
            "identity": {"managedIdentity": {}},
            "credential": {"kind": "AccessToken", "repositories": repositories(REPOSITORIES)},
        });
        release.cluster.apply(&registry("longlist", &spec))?;
        for (namespace, name) in [
            ("default", "pullpass-longlist"),
            ("pullpass-system", "credential-longlist"),
        ] {
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace, "labels": {"pullpass.dev/registry": "longlist"}},
            });
            release.cluster.apply(&secret.to_string())?;
        }
        Ok(release)
    }

    fn run(&self, commands: &str) -> Result<String, Box<dyn Error>> {
        run(&self.cluster, &self.checkout, commands)
    }

    fn registry(&self, name: &str) -> Result<Value, Box<dyn Error>> {
        Ok(self.cluster.get_json(&["acrregistry", name])?)
    }

    /// Patches the AcrRegistry with the long list.
    fn patch(&self, patch: &str) -> Test {
        self.cluster.run(&[
            "patch",
            "acrregistry",
            "longlist",
            "--type=merge",
            "--patch",
            patch,
        ])?;
        Ok(())
    }

    /// The version that the Deployment runs, and what of it comes from the values file.
    fn deployed(&self) -> Result<(String, Value, Value), Box<dyn Error>> {
        let deployment = self
            .cluster
            .get_json(&["deployment", "pullpass", "--namespace=pullpass-system"])?;
        let container = deployment.pointer("/spec/template/spec/containers/0");
        let container = container.ok_or("there is no container")?;
        let variables = container.get("env").and_then(Value::as_array);
        let forbidden = variables
            .into_iter()
            .flatten()
            .filter(|variable| variable.get("name") == Some(&json!("PULLPASS_FORBIDDEN")))
            .filter_map(|variable| variable.get("value").cloned())
            .collect();
        let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
        let replicas = deployment.pointer("/spec/replicas").cloned().unwrap_or_default();
        Ok((image.to_owned(), forbidden, replicas))
    }

    /// Every policy of the API server's own, and every binding of one.
    fn policies(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        let mut kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings".to_owned();
        if takes_admission_policies(&self.cluster)? {
            kinds += ",mutatingadmissionpolicies,mutatingadmissionpolicybindings";
        }
        let found = self.cluster.run(&["get", &kinds, "--output=name"])?.stdout;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// As the page says, to the first revision, which has the chart of the version before.
    fn roll_back(&self) -> Test {
        let [validating, mutating] = unbind()?;
        self.run(&validating)?;
        if takes_admission_policies(&self.cluster)? {
            self.run(&mutating)?;
        }
        let history = self.run(&command("Roll back", "helm history ")?)?;
        let revisions: Vec<&str> = history
            .lines()
            .filter(|line| line.contains("pullpass-0.1.0"))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(revisions, ["1"], "{history}");
        self.run(&command("Roll back", "helm rollback ")?.replace("REVISION", "1"))?;
        Ok(())
    }

    /// The API server follows a change of a definition a moment later.
    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> Test) -> Test {
        wait_for(what, SOON, || is_so(self).map_err(|error| error.to_string()))?;
        Ok(())
    }
}

#[test]
fn a_helm_upgrade_and_its_rollback_keep_registries() -> Test {
    end_to_end_wanted()?;
    let release = Release::before()?;
    let deployed = |version: &str| {
        let image = format!("images.test/pullpass:{version}");
        (image, json!(["deny"]), json!(3))
    };
    assert_eq!(release.deployed()?, deployed("0.1.0"));
    let (policies, before) = (release.policies()?, release.registry("longlist")?);

    // The same values file, and the definitions come with the rest.
    release.run(&command("Upgrade", "helm upgrade ")?)?;
    assert_eq!(release.deployed()?, deployed(env!("CARGO_PKG_VERSION")));
    let other = registry(
        "other",
        &json!({
            "loginServer": "other.azurecr.io",
            "customDomains": ["registry.contoso.com"],
            "identity": {"anonymous": {}},
        }),
    );
    release.wait_until("the new definition", |release| {
        release.cluster.apply(&other)?;
        Ok(())
    })?;
    let domains = |release: &Release| -> Result<Option<Value>, Box<dyn Error>> {
        Ok(release.registry("other")?.pointer("/spec/customDomains").cloned())
    };
    assert_eq!(domains(&release)?, Some(json!(["registry.contoso.com"])));
    release.run("kubectl get crd acrindexes.pullpass.dev")?;

    // A list that is too long now stays, beside other changes, and can't become another one that is too long.
    release.patch(r#"{"spec": {"provision": "Eager"}}"#)?;
    let refused = release
        .patch(&patch(18))
        .err()
        .ok_or("a list of 18 is accepted")?;
    assert!(
        refused.to_string().contains("spec.credential.repositories"),
        "{refused}"
    );
    let kept = release.registry("longlist")?;
    assert_eq!(kept["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(kept["spec"]["credential"], before["spec"]["credential"]);

    // What the older version does not know is in use.
    let components = "--set enforce.enabled=true --set bindings.enabled=true";
    release.run(&format!("{} {components}", command("Upgrade", "helm upgrade ")?))?;
    assert!(release.policies()?.len() > policies.len());

    release.roll_back()?;
    assert_eq!(release.deployed()?, deployed("0.1.0"));
    assert_eq!(release.policies()?, policies);
    release.wait_until("the former definition", |release| match domains(release)? {
        None => Ok(()),
        Some(domains) => Err(domains.to_string().into()),
    })?;
    assert_eq!(release.registry("other")?["spec"]["identity"], json!({}));
    let kept = release.registry("longlist")?;
    assert_eq!(kept["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(kept["spec"]["credential"], before["spec"]["credential"]);
    assert_eq!(kept["spec"]["provision"], json!("Eager"));
    release.run("kubectl get crd acrindexes.pullpass.dev acrpullbindings.pullpass.dev")?;
    release.run("kubectl get secret pullpass-longlist --namespace default")?;
    release.run("kubectl get secret credential-longlist --namespace pullpass-system")?;
    Ok(())
}
