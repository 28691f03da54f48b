//! The installation itself, on a real control plane: as it is shipped, and with each fault injected.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON without what is indexed gives null, which fails the test"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use pullpass_test_support::{
    Authority, ControlPlane, Installation, MountedServiceAccount, Scratch, end_to_end_wanted, fits_schema,
    free_port, shipped, tool, wait_for,
};
use serde_json::{Value, json};

use crate::versions::{assert_versions, assert_versions_of_what_is_there, assert_versions_without_rights};
use crate::world::{Test, assert_text, pullpass, run};

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(1);
pub const OWN: &str = "pullpass-system";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/chart");
/// What is registered already, or stands in for what is in the cluster.
const REGISTERED: [&str; 4] = [
    "Namespace",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "Service",
];

fn check(kubeconfig: &Path, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    run(pullpass().env("KUBECONFIG", kubeconfig).args(arguments))
}

/// The report in JSON, which fits its schema and agrees with the exit code.
fn report(kubeconfig: &Path, arguments: &[&str]) -> Result<Value, Box<dyn Error>> {
    let output = check(kubeconfig, &[arguments, &["--output=json"]].concat())?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    fits_schema("installation-check", &report)?;
    let expected = i32::from(report["ok"] != true);
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    Ok(report)
}

/// The codes of the steps that failed. Each of them names a command.
fn codes(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().into_iter().flatten();
    let failed = steps.filter(|step| step["status"] == "failed");
    failed
        .map(|step| {
            let mut cures = step["cures"].as_array().into_iter().flatten();
            assert!(cures.any(|cure| cure["command"].is_string()), "{step:#}");
            step["code"].as_str().unwrap_or_default()
        })
        .collect()
}

/// A pullpass outside of the cluster, and in the cluster all that is shipped, with objects that stand for its replica.
struct World<'a> {
    cluster: &'a ControlPlane,
    _pullpass: Installation<'a>,
    /// What is shipped, except for what is registered.
    shipped: Value,
    stand_ins: Value,
    webhook: Value,
}

impl<'a> World<'a> {
    fn start(cluster: &'a ControlPlane) -> Result<Self, Box<dyn Error>> {
        let pullpass = Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass"))
            .whole_cluster("apps")
            .start()?;
        let mut objects = shipped(cluster, "cluster-wide")?;
        objects.retain(|object| !REGISTERED.contains(&object["kind"].as_str().unwrap_or_default()));
        let webhook = cluster.get_json(&["mutatingwebhookconfiguration", "pullpass"])?;
        let world = Self {
            cluster,
            shipped: json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            stand_ins: stand_ins(&pullpass)?,
            webhook: json!({
                "apiVersion": webhook["apiVersion"], "kind": webhook["kind"],
                "metadata": {"name": "pullpass"}, "webhooks": webhook["webhooks"],
            }),
            _pullpass: pullpass,
        };
        world.repair()?;
        Ok(world)
    }

    /// Makes everything as it is shipped.
    fn repair(&self) -> Test {
        for objects in [&self.shipped, &self.stand_ins, &self.webhook] {
            let apply = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
            self.cluster.run_with_input(&apply, &objects.to_string())?;
        }
        Ok(())
    }

    fn set_webhook(&self, change: impl FnOnce(&mut Value)) -> Test {
        let mut webhooks = self.webhook["webhooks"].clone();
        change(&mut webhooks);
        self.patch(
            &["mutatingwebhookconfiguration", "pullpass"],
            &json!({"webhooks": webhooks}),
        )
    }

    fn patch(&self, what: &[&str], patch: &Value) -> Test {
        let patch = format!("--patch={patch}");
        self.cluster
            .run(&[&["patch"], what, &["--type=merge", &patch]].concat())?;
        Ok(())
    }

    fn delete(&self, what: &[&str]) -> Test {
        self.cluster.run(&[&["delete"], what].concat())?;
        Ok(())
    }

    /// Waits until the check finds this fault and no other, and says what it printed.
    fn wait_for_fault(&self, code: &str, arguments: &[&str]) -> Result<Value, Box<dyn Error>> {
        // The API server acts on a configuration a moment after it changed.
        let report = wait_for(&format!("the check to find {code}"), SOON, || {
            let report = report(self.cluster.kubeconfig(), arguments).map_err(|error| error.to_string())?;
            let found = codes(&report);
            if found == [code] && report["code"] == code {
                Ok(report)
            } else {
                Err(format!("{report:#}"))
            }
        })?;
        Ok(report)
    }

    /// Runs the first command that a report names against the fault that it found.
    fn run_first_cure(&self, report: &Value) -> Test {
        let steps = report["steps"].as_array().into_iter().flatten();
        let mut cures = steps.filter_map(|step| step["cures"][0]["command"].as_str());
        let command = cures.next().ok_or("it names no command")?;
        let kubectl = self.cluster.kubectl();
        let directory = Path::new(kubectl.get_program())
            .parent()
            .ok_or("it has no directory")?;
        let path = format!("{}:{}", directory.display(), std::env::var("PATH")?);
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("PATH", path);
        let done = run(shell.env("KUBECONFIG", self.cluster.kubeconfig()))?;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command}: {said}");
        Ok(())
    }

    /// Waits until the check finds this fault and no other, and, once it is repaired, that all is well.
    fn assert_found(&self, code: &str, arguments: &[&str]) -> Test {
        let kubeconfig = self.cluster.kubeconfig();
        self.wait_for_fault(code, arguments)?;
        self.repair()?;
        let well = check(kubeconfig, &["--wait=1m"])?;
        let said = String::from_utf8_lossy(&well.stdout);
        assert_eq!(well.status.code(), Some(0), "{code}: {said}");
        Ok(())
    }
}

/// What a replica that leads says of its flags.
fn index(selector: &Value) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrIndex", "metadata": {"name": "pullpass"},
        "spec": {
            "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn", "namespaceSelector": selector,
            "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", OWN],
        },
    })
}

/// A replica, as the cluster would have it: its Pod, its endpoint, its Lease, the Secret with its certificate, and the AcrIndex.
fn stand_ins(pullpass: &Installation<'_>) -> Result<Value, Box<dyn Error>> {
    let certificate = pullpass.authority().server(&[pullpass.host()])?;
    let metadata = |name: &str| json!({"name": name, "namespace": OWN});
    let labels = json!({"app.kubernetes.io/name": "pullpass"});
    let restricted = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata("pullpass-0"),
        "spec": {"serviceAccountName": "pullpass", "containers": [{
            "name": "pullpass", "securityContext": restricted,
            "image": concat!("pullpass:", env!("CARGO_PKG_VERSION")),
        }]},
    });
    pod["metadata"]["labels"] = labels;
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("pullpass-0"),
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
    });
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "pullpass"});
    let renewed = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata("pullpass"),
        "spec": {"holderIdentity": "pullpass-0", "leaseDurationSeconds": 3600, "renewTime": renewed},
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata("webhook-certificate"),
        "stringData": {"tls.crt": certificate.certificate, "tls.key": certificate.key},
    });
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": [pod, slice, lease, secret, index(&json!([]))]}))
}

/// What the webhook's configuration can lack.
fn inject_into_the_webhook(world: &World<'_>) -> Test {
    world.set_webhook(|webhooks| webhooks[1]["clientConfig"]["caBundle"] = Value::Null)?;
    world.assert_found("WEBHOOK_CA_MISSING_ERROR", &[])?;

    let other = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        Authority::new()?.pem(),
    );
    // Something else is mounted too, as the authority of clients.
    let mounts = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "pullpass", "volumeMounts": [{"name": "other", "mountPath": "/etc/other"}]}],
        "volumes": [{"name": "other", "secret": {"secretName": "other"}}],
    }}}});
    let own = format!("--namespace={OWN}");
    let patch = format!("--patch={mounts}");
    world
        .cluster
        .run(&["patch", "deployment", "pullpass", &own, &patch])?;
    let apart = format!("--from-literal=tls.crt={}", Authority::new()?.pem());
    world
        .cluster
        .run(&["create", "secret", "generic", "other", &own, &apart])?;
    for (entry, name) in [(0, "pods.pullpass.dev"), (1, "always.pullpass.dev")] {
        world.set_webhook(|webhooks| webhooks[entry]["clientConfig"]["caBundle"] = json!(other))?;
        let said = world.wait_for_fault("WEBHOOK_CA_WRONG_ERROR", &[])?.to_string();
        assert!(said.contains(&format!("by the caBundle of {name}: ")), "{said}");
        world.assert_found("WEBHOOK_CA_WRONG_ERROR", &[])?;
    }

    // What the shipped conditions do not name.
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "domains"},
        "spec": {
            "loginServer": "domainsregistry.azurecr.io", "identity": {"managedIdentity": {}},
            "customDomains": ["registry.contoso.com"],
        },
    });
    world.cluster.apply(&registry.to_string())?;
    let report = world.wait_for_fault("CUSTOM_DOMAIN_ERROR", &[])?.to_string();
    let named = "names registry.contoso.com (AcrRegistry domains)";
    assert!(report.contains(named), "{report}");
    world.delete(&["acrregistry", "domains"])?;

    inject_into_the_selectors(world)?;

    let closed = free_port()?;
    for policy in ["Ignore", "Fail"] {
        world.set_webhook(|webhooks| {
            for entry in webhooks.as_array_mut().into_iter().flatten() {
                entry["clientConfig"]["service"]["port"] = json!(closed);
                entry["failurePolicy"] = json!(policy);
            }
        })?;
        let said = world
            .wait_for_fault("WEBHOOK_UNREACHABLE_ERROR", &[])?
            .to_string();
        assert!(said.contains("got no answer"), "{said}");
        world.assert_found("WEBHOOK_UNREACHABLE_ERROR", &[])?;
    }
    // The dry run is about the other entry.
    world.set_webhook(|webhooks| webhooks[1]["clientConfig"]["service"]["port"] = json!(closed))?;
    let said = world
        .wait_for_fault("WEBHOOK_UNREACHABLE_ERROR", &[])?
        .to_string();
    let named = format!("the entry always.pullpass.dev calls port {closed} of the Service pullpass");
    assert!(said.contains(&named), "{said}");
    world.assert_found("WEBHOOK_UNREACHABLE_ERROR", &[])?;

    world.delete(&["mutatingwebhookconfiguration", "pullpass"])?;
    world.assert_found("WEBHOOK_MISSING_ERROR", &[])
}

/// Applies a file of a component.
fn apply_of(world: &World<'_>, component: &str, file: &str) -> Test {
    let path = format!(
        "{}/manifests/components/{component}/{file}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    world
        .cluster
        .run(&["apply", "--server-side", "--filename", &path])?;
    Ok(())
}

/// Sets a variable of the Deployment, as `NAME=VALUE`, or removes it, as `NAME-`.
fn set_variable(world: &World<'_>, variable: &str) -> Test {
    let own = format!("--namespace={OWN}");
    world
        .cluster
        .run(&["set", "env", "deployment/pullpass", variable, &own])?;
    Ok(())
}

/// What the component reports can lack, while pullpass is told to write Reports.
fn inject_into_the_reports(world: &World<'_>) -> Test {
    set_variable(world, "PULLPASS_REPORTS=true")?;
    let report = report(world.cluster.kubeconfig(), &[])?;
    assert_eq!(codes(&report), ["RIGHTS_MISSING_ERROR", "FENCE_MISSING_ERROR"]);
    apply_of(world, "reports", "rbac")?;
    let well = check(world.cluster.kubeconfig(), &["--wait=1m"])?;
    assert!(well.status.success(), "{well:?}");
    world.delete(&["validatingadmissionpolicybinding", "pullpass-reports"])?;
    world.wait_for_fault("FENCE_UNBOUND_ERROR", &[])?;
    set_variable(world, "PULLPASS_REPORTS-")
}

/// Labels of the platform that the webhook's selectors and pullpass' flags name.
fn inject_into_the_selectors(world: &World<'_>) -> Test {
    let expression = json!({"key": "team", "operator": "In", "values": ["a", "b"]});
    world.cluster.apply(&index(&json!([expression])).to_string())?;
    world.set_webhook(|webhooks| {
        for entry in webhooks.as_array_mut().into_iter().flatten() {
            let expressions = entry["namespaceSelector"]["matchExpressions"].as_array_mut();
            if let Some(list) = expressions {
                list.push(expression.clone());
            }
        }
    })?;
    let report = world.wait_for_fault("NAMESPACE_NOT_INJECTED_ERROR", &["--namespace=default"])?;
    let why = "the webhook's selectors do not pick its labels";
    assert!(report.to_string().contains(why), "{report:#}");
    world.run_first_cure(&report)?;

    world.set_webhook(|_| {})?;
    let report = world.wait_for_fault("SETTINGS_DIFFER_ERROR", &[])?;
    let differ = "--namespace-selector selects namespaces by team in (a,b), and the webhook's configuration selects every namespace";
    assert!(report.to_string().contains(differ), "{report:#}");
    world.run_first_cure(&report)?;
    world.assert_found("SETTINGS_DIFFER_ERROR", &[])
}

/// What the component bindings can lack, while a part of it is there.
fn inject_into_the_bindings(world: &World<'_>) -> Test {
    let apply = |file: &str| apply_of(world, "bindings", file);
    let set = |value: &str| set_variable(world, &format!("PULLPASS_BINDINGS{value}"));
    apply("rbac")?;
    set("=true")?;
    let report = world.wait_for_fault("CRD_MISSING_ERROR", &[])?;
    let command = report["steps"][0]["cures"][0]["command"].as_str();
    assert!(
        command.is_some_and(|command| command.starts_with("pullpass crd --bindings | ")),
        "{report:#}"
    );
    apply("crd")?;
    world.delete(&["clusterrolebinding", "pullpass-bindings"])?;
    world.wait_for_fault("RIGHTS_MISSING_ERROR", &[])?;
    apply("rbac")?;
    let well = check(world.cluster.kubeconfig(), &["--wait=1m"])?;
    assert!(well.status.success(), "{well:?}");

    assert_versions_of_what_is_there(world.cluster)?;
    let binding = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"loginServer": "myregistry.azurecr.io", "serviceAccountName": "puller"},
    });
    world.cluster.apply(&binding.to_string())?;
    set("-")?;
    world.wait_for_fault("BINDINGS_OFF_ERROR", &[])?;
    // Without one, the definition alone does no harm.
    world.delete(&["acrpullbinding", "app", "--namespace=default"])?;
    let well = check(world.cluster.kubeconfig(), &["--wait=1m"])?;
    assert!(well.status.success(), "{well:?}");
    world.delete(&["customresourcedefinition", "acrpullbindings.pullpass.dev"])
}

/// What else can be gone, cut or old.
fn inject_into_the_rest(world: &World<'_>) -> Test {
    let own = format!("--namespace={OWN}");
    world.delete(&["endpointslice", "pullpass-0", &own])?;
    // What API servers write of themselves, unless they have a loopback address, as that of a test.
    let api_servers = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"name": "https", "port": 7443, "protocol": "TCP"}],
    });
    world.cluster.apply(&api_servers.to_string())?;
    let running = r#"--patch={"status": {"phase": "Running"}}"#;
    world.cluster.run(&[
        "patch",
        "pod",
        "pullpass-0",
        &own,
        "--subresource=status",
        "--type=merge",
        running,
    ])?;
    let blocked = world.wait_for_fault("EGRESS_BLOCKED_ERROR", &[])?;
    world.run_first_cure(&blocked)?;
    world.assert_found("WEBHOOK_NO_ENDPOINTS_ERROR", &[])?;
    world.delete(&["validatingadmissionpolicy", "pullpass-secrets"])?;
    world.assert_found("FENCE_MISSING_ERROR", &[])?;
    world.delete(&["validatingadmissionpolicybinding", "pullpass-own-secrets"])?;
    world.assert_found("FENCE_UNBOUND_ERROR", &[])?;
    world.delete(&["clusterrolebinding", "pullpass"])?;
    world.assert_found("RIGHTS_MISSING_ERROR", &[])?;

    let definition = ["customresourcedefinition", "acrregistries.pullpass.dev"];
    let newest = world.cluster.get_json(&definition)?;
    let remove = json!([{"op": "remove",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/provision"}]);
    let patch = format!("--patch={remove}");
    world
        .cluster
        .run(&[&["patch"], &definition[..], &["--type=json", &patch]].concat())?;
    let older = report(world.cluster.kubeconfig(), &[])?;
    assert_eq!(codes(&older), ["CRD_OUTDATED_ERROR"]);
    let cause = older["steps"][0]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("lacks v1alpha1: spec.provision"), "{cause}");
    world.patch(
        &definition,
        &json!({"spec": {"versions": newest["spec"]["versions"]}}),
    )?;

    let replica = ["pod", "pullpass-0", &own];
    let image = |image: &str| json!({"spec": {"containers": [{"name": "pullpass", "image": image}]}});
    let patch = format!("--patch={}", image("pullpass:v9.0.0"));
    world
        .cluster
        .run(&[&["patch"], &replica[..], &[&patch]].concat())?;
    world.assert_found("VERSION_SKEW_ERROR", &[])?;
    world.patch(
        &["lease", "pullpass", &own],
        &json!({"spec": {"holderIdentity": null}}),
    )?;
    world.assert_found("NO_LEADER_ERROR", &[])?;
    let long_ago = json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}});
    world.patch(&["lease", "pullpass", &own], &long_ago)?;
    world.assert_found("NO_LEADER_ERROR", &[])?;

    world
        .cluster
        .run(&["label", "namespace", "apps", "pullpass.dev/inject=disabled"])?;
    world.assert_found("NAMESPACE_NOT_INJECTED_ERROR", &["-n", "apps"])?;
    world.assert_found("NAMESPACE_NOT_INJECTED_ERROR", &["--namespace=kube-system"])
}

/// `namespace:` in a kustomization, which moves the Deployment and leaves the names inside objects.
fn move_by_kustomize(world: &World<'_>) -> Test {
    let scratch = Scratch::new()?;
    let up = "../".repeat(scratch.path().components().count());
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/overlays/cluster-wide");
    let kustomization = format!("namespace: elsewhere\nresources: [{up}{}]\n", &overlay[1..]);
    fs::write(scratch.path().join("kustomization.yaml"), kustomization)?;
    let moved = scratch.path().display().to_string();
    world.delete(&["deployment", "pullpass", &format!("--namespace={OWN}")])?;
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--kustomize",
        &moved,
    ];
    world.cluster.run(&apply)?;
    for (arguments, own) in [(&[][..], OWN), (&["--own-namespace=elsewhere"], "elsewhere")] {
        let report = report(world.cluster.kubeconfig(), arguments)?;
        assert_eq!(report["code"], "NAMESPACE_MOVED_ERROR", "{report:#}");
        let mut steps = report["steps"].as_array().into_iter().flatten();
        let moved = steps.find(|step| step["code"] == "NAMESPACE_MOVED_ERROR");
        let cures = moved.and_then(|step| step["cures"].as_array());
        let commands: Vec<_> = cures.into_iter().flatten().map(|cure| &cure["command"]).collect();
        let install =
            format!("helm upgrade --install pullpass manifests/chart --namespace {own} --create-namespace");
        assert_eq!(commands, [&Value::Null, &json!(install)], "{report:#}");
    }
    Ok(())
}

/// `helm test`, as far as there is no node: the chart's test runs with the rights that the chart gives it, in a place that looks
/// like a Pod, and nothing is kept from it but the certificate's Secret.
fn run_the_charts_test(world: &World<'_>) -> Test {
    let rendered = Command::new(tool("helm")?)
        .args(["template", "pullpass", CHART, "--namespace", OWN])
        .args(["--set", "reports.enabled=true"])
        .args(["--show-only", "templates/tests/check.yaml"])
        .output()?;
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(std::str::from_utf8(&rendered.stdout)?)?;
    objects.retain(|object| !object.is_null());
    let (pods, rights): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object["kind"] == "Pod");
    let pod = pods.first().ok_or("the test has no Pod")?;
    let apply = ["apply", "--server-side", "--filename", "-"];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": rights});
    world.cluster.run_with_input(&apply, &list.to_string())?;
    // Its namespace lets the Pod in, and pullpass' Service does not select it.
    let dry_run = ["create", "--dry-run=server", "--filename", "-"];
    world.cluster.run_with_input(&dry_run, &pod.to_string())?;
    assert_ne!(pod["metadata"]["labels"]["app.kubernetes.io/name"], "pullpass");

    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let arguments = pod["spec"]["containers"][0]["args"]
        .as_array()
        .into_iter()
        .flatten();
    let output = MountedServiceAccount::new(world.cluster, OWN, account)?
        .command(env!("CARGO_BIN_EXE_pullpass"))
        .args(arguments.filter_map(Value::as_str))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(
        said.contains("All is well.") && !said.contains("can't be read"),
        "{said}"
    );
    Ok(())
}

#[test]
fn each_fault_of_an_installation_is_found() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    let before = report(cluster.kubeconfig(), &["--pre"])?;
    assert_eq!(
        (&before["complete"], &before["before"]),
        (&json!(true), &json!(true))
    );

    cluster.run(&["create", "serviceaccount", "default", "--namespace=default"])?;
    let world = World::start(&cluster)?;
    let upgrade = report(cluster.kubeconfig(), &["--pre"])?;
    assert_eq!(
        upgrade["steps"][3]["detail"],
        "pullpass is installed in pullpass-system: this is an upgrade"
    );
    let other = report(cluster.kubeconfig(), &["--pre", "--own-namespace=elsewhere"])?;
    assert_eq!(codes(&other), ["OTHER_INSTALLATION_ERROR"]);

    let well = report(cluster.kubeconfig(), &["--wait=1m"])?;
    assert_eq!(
        (&well["complete"], &well["namespace"]),
        (&json!(true), &json!("default"))
    );
    let said = String::from_utf8(check(cluster.kubeconfig(), &[])?.stdout)?;
    assert_text(
        "installation-well",
        &said.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
    )?;

    assert_versions(&cluster)?;
    let yaml = check(cluster.kubeconfig(), &["--output=yaml"])?.stdout;
    assert_eq!(
        serde_saphyr::from_str::<Value>(std::str::from_utf8(&yaml)?)?,
        well
    );

    run_the_charts_test(&world)?;
    inject_into_the_webhook(&world)?;
    inject_into_the_bindings(&world)?;
    inject_into_the_reports(&world)?;
    inject_into_the_rest(&world)?;

    let nobody = cluster.service_account_kubeconfig("default", "default")?;
    let refused = check(&nobody, &[])?;
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("you may not read any part of the installation"),
        "{errors}"
    );
    assert_versions_without_rights(&cluster)?;

    move_by_kustomize(&world)
}
