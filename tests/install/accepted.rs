//! The API server takes every object, with strict field validation and without a warning.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::process::Output;
use std::sync::Once;
use std::time::Duration;

use pullpass_test_support::{ControlPlane, Scratch, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::fitted::examples;
use crate::operators::define_operators;
use crate::render::{CHART, Choice, Test, chart, find, helm, succeeded};

const SOON: Duration = Duration::from_mins(1);
const STRICT: [&str; 4] = ["apply", "--server-side", "--validate=strict", "--filename"];
const ACR_IMAGE: &str = "--image=myregistry.azurecr.io/web:1";

/// Whether an API server is of a version that has what the component `admission-policy` needs. Of one that is older, that
/// is said, and the rest is tried.
pub fn takes_admission_policies(cluster: &ControlPlane) -> Result<bool, Box<dyn Error>> {
    const FIRST: u32 = 36;
    static SAID: Once = Once::new();
    let version: Value = serde_json::from_str(&cluster.run(&["get", "--raw", "/version"])?.stdout)?;
    let minor = version.get("minor").and_then(Value::as_str).unwrap_or_default();
    let takes = minor.trim_end_matches('+').parse::<u32>()? >= FIRST;
    if !takes {
        let what = format!(
            "LEFT OUT on Kubernetes 1.{minor}: the component admission-policy, which needs 1.{FIRST}"
        );
        // Not by a macro, whose words are shown of failed tests only.
        SAID.call_once(|| drop(writeln!(std::io::stderr(), "{what}")));
    }
    Ok(takes)
}

/// Removes from these objects what the API server is too old for.
fn retain_takeable(cluster: &ControlPlane, objects: &mut Vec<Value>) -> Test {
    if !takes_admission_policies(cluster)? {
        let kind = |object: &Value| object.get("kind").and_then(Value::as_str).map(str::to_owned);
        objects.retain(|object| kind(object).is_none_or(|kind| !kind.starts_with("MutatingAdmissionPolicy")));
    }
    Ok(())
}

/// A cluster with them.
fn cluster() -> Result<ControlPlane, Box<dyn Error>> {
    end_to_end_wanted()?;
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    define_operators(&cluster)?;
    Ok(cluster)
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// Applies on the server side, as a dry run, without a word of complaint.
fn try_out(cluster: &ControlPlane, objects: &[Value]) -> Test {
    let arguments = [&STRICT[..], &["-", "--dry-run=server"]].concat();
    let applied = cluster.run_with_input(&arguments, &list(objects))?;
    assert_eq!(applied.stderr, "");
    assert_eq!(
        applied.stdout.lines().count(),
        objects.len(),
        "{}",
        applied.stdout
    );
    Ok(())
}

/// Every value of the chart that adds something.
fn chart_with_everything() -> Result<Vec<Value>, Box<dyn Error>> {
    let mut objects = chart(&json!({
        "mode": "opt-in",
        "excludeNamespaces": ["one", "two"],
        "policy": {"unattached": "deny", "forbidden": "deny"},
        "webhook": {
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "namespaceSelector": {
                "matchLabels": {"some.test/team": "a"},
                "matchExpressions": [{"key": "some.test/env", "operator": "NotIn", "values": ["dev", "test"]}],
            },
            "labels": {"some.test/key": "value"},
            "annotations": {"some.test/key": "value"},
        },
        "commonLabels": {"some.test/team": "a"},
        "global": {"imageRegistry": "mirror.test", "imagePullSecrets": ["global"]},
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "extraObjects": ["{apiVersion: v1, kind: ConfigMap, metadata: {name: mine, namespace: '{{ .Release.Namespace }}'}}"],
        "replicas": 3,
        "shutdownDelay": 20,
        "terminationGracePeriodSeconds": 60,
        "hostNetwork": true,
        "ports": {"webhook": 9444, "metrics": 9102},
        "image": {"repository": "images.test/pullpass", "tag": "1", "digest": format!("sha256:{}", "0".repeat(64))},
        "imagePullSecrets": [{"name": "pull"}],
        "auditLog": "/var/log/pullpass/audit.log",
        "tls": {"source": "files", "files": {
            "secretName": "mine",
            "caBundle": pullpass_test_support::Authority::new()?.pem(),
        }},
        "rescue": true,
        "bindings": {"enabled": true},
        "workloadIdentity": {"clientId": "22222222-2222-2222-2222-222222222222", "projectedToken": true},
        "serviceAccount": {"annotations": {"some.test/key": "value"}},
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 3128}]}]},
        "monitoring": {
            "enabled": true,
            "labels": {"release": "prometheus"},
            "runbookUrl": "https://docs.test/operations",
            "serviceMonitor": {
                "annotations": {"some.test/key": "value"},
                "interval": "1m",
                "scrapeTimeout": "10s",
                "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
                "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "process_.*"}],
            },
            "prometheusRule": {"disabledAlerts": ["PullpassDown"]},
            "dashboard": {"annotations": {"grafana_folder": "Kubernetes"}},
        },
        "priorityClass": {"name": "mine"},
        "podAnnotations": {"some.test/key": "value"},
        "podLabels": {"some.test/key": "value", "azure.workload.identity/use": "false"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}},
        ]}},
        "topologySpreadConstraints": [{
            "topologyKey": "rack",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "pullpass"}},
        }],
        "podSecurityContext": {"fsGroup": 2000},
        "securityContext": {"capabilities": {"drop": ["ALL"]}},
        "extraEnv": [
            {"name": "HTTPS_PROXY", "value": "http://proxy.test:3128"},
            // Already there: twice it would be refused.
            {"name": "PULLPASS_LISTEN", "value": "[::]:9444"},
            {"name": "PULLPASS_LOG_FILE", "value": "/var/log/pullpass/filter"},
        ],
        "extraVolumes": [{"name": "log", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "log", "mountPath": "/var/log/pullpass"}],
        "extraContainers": [{"name": "shipper", "image": "images.test/shipper:1"}],
    }))?;
    objects.extend(chart(&json!({
        "monitoring": {
            "enabled": true,
            "serviceMonitor": {"apiVersion": "azmonitoring.coreos.com/v1", "namespace": "default"},
            "prometheusRule": {"namespace": "default"},
            "dashboard": {"namespace": "default", "labels": {"grafana_dashboard": null}},
        },
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["contoso.com"]},
        "tls": {"source": "cert-manager", "certManager": {"issuerRef": {"kind": "ClusterIssuer", "name": "mine"}}},
        "networkPolicy": {"enabled": false},
        "crds": {"install": false},
        "priorityClass": {"create": false, "name": ""},
        "podDisruptionBudget": {"enabled": false},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": null},
        "affinity": {},
        "topologySpreadConstraints": [],
    }))?);
    Ok(objects)
}

#[test]
fn the_api_server_accepts_every_object_of_kustomize_and_chart() -> Test {
    let cluster = cluster()?;
    cluster.run(&["create", "namespace", "pullpass-system"])?;
    let mut distinct = BTreeSet::new();
    for choice in Choice::pairs() {
        for object in choice.kustomize()?.into_iter().chain(chart(&choice.values())?) {
            distinct.insert(object.to_string());
        }
    }
    for object in chart_with_everything()? {
        distinct.insert(object.to_string());
    }
    let mut objects: Vec<Value> = distinct
        .iter()
        .map(|object| serde_json::from_str(object))
        .collect::<Result<_, _>>()?;
    // The Pod of the chart's test needs its ServiceAccount, which a dry run does not create; tests/check creates both.
    objects.retain(|object| object.get("kind") != Some(&json!("Pod")));
    retain_takeable(&cluster, &mut objects)?;
    try_out(&cluster, &objects)
}

/// As Artifact Hub shows them.
#[test]
fn the_examples_in_the_charts_metadata_are_accepted() -> Test {
    let cluster = cluster()?;
    cluster.run(&["create", "namespace", "apps"])?;
    let examples = examples()?;
    let objects = chart(&json!({"bindings": {"enabled": true}}))?;
    for object in &objects {
        if object.get("kind") == Some(&json!("CustomResourceDefinition")) {
            cluster.apply(&object.to_string())?;
        }
    }
    cluster.wait_until_established()?;
    assert_eq!(examples.len(), 2);
    try_out(&cluster, &examples)
}

#[test]
fn a_field_that_does_not_exist_is_noticed_in_all_kinds() -> Test {
    let cluster = cluster()?;
    cluster.run(&["create", "namespace", "pullpass-system"])?;
    let choice = Choice {
        overlay: "opt-in",
        components: vec!["cert-manager", "rescue", "monitoring"],
    };
    let objects = choice.kustomize()?;
    for (kind, name) in [
        ("Certificate", "pullpass"),
        ("Issuer", "pullpass"),
        ("ServiceMonitor", "pullpass"),
        ("PrometheusRule", "pullpass"),
        ("Deployment", "pullpass"),
    ] {
        let mut object = find(&objects, kind, name)?.clone();
        try_out(&cluster, std::slice::from_ref(&object))?;
        let spec = object.get_mut("spec").and_then(Value::as_object_mut);
        spec.ok_or("there is no spec")?
            .insert("noSuchField".to_owned(), json!(1));
        let refused = try_out(&cluster, &[object]);
        let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("noSuchField"), "{kind}: {said}");
    }
    Ok(())
}

/// Has a Pod of the Deployment admitted, as a dry run, in the namespace that is there.
fn try_out_pod(cluster: &ControlPlane, objects: &[Value]) -> Result<Value, Box<dyn Error>> {
    let template = find(objects, "Deployment", "pullpass")?
        .pointer("/spec/template")
        .ok_or("there is no template")?;
    let mut pod = template.clone();
    for (pointer, key, value) in [
        ("", "apiVersion", "v1"),
        ("", "kind", "Pod"),
        ("/metadata", "name", "pullpass"),
        ("/metadata", "namespace", "pullpass-system"),
    ] {
        let map = pod.pointer_mut(pointer).and_then(Value::as_object_mut);
        map.ok_or("the template is none")?
            .insert(key.to_owned(), json!(value));
    }
    let created = cluster.run_with_input(
        &[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "--output=json",
            "--filename",
            "-",
        ],
        &pod.to_string(),
    )?;
    assert_eq!(created.stderr, "");
    Ok(serde_json::from_str(&created.stdout)?)
}

#[test]
fn the_deployments_pods_pass_restricted_pod_security() -> Test {
    let cluster = cluster()?;
    for choice in Choice::pairs() {
        let mut objects = choice.kustomize()?;
        retain_takeable(&cluster, &mut objects)?;
        cluster.run_with_input(&[&STRICT[..], &["-"]].concat(), &list(&objects))?;
        let created = try_out_pod(&cluster, &objects)?;
        // Where no PriorityClass were found, the Pod would be refused.
        assert_eq!(created.pointer("/spec/priority"), Some(&json!(1_000_000_000)));
        // Where these were missing, the API server would add them with five minutes.
        let tolerated = created.pointer("/spec/tolerations").and_then(Value::as_array);
        let seconds: Vec<_> = tolerated
            .into_iter()
            .flatten()
            .map(|toleration| toleration.get("tolerationSeconds").and_then(Value::as_u64))
            .collect();
        assert_eq!(seconds, [Some(30), Some(30)]);
    }
    Ok(())
}

#[test]
fn a_pod_on_the_host_network_is_admitted_in_its_namespace() -> Test {
    let cluster = cluster()?;
    let values = json!({
        "hostNetwork": true,
        "ports": {"webhook": 9444, "metrics": 9102},
        "namespace": {"create": true},
    });
    let objects = chart(&values)?;
    cluster.run_with_input(&[&STRICT[..], &["-"]].concat(), &list(&objects))?;
    try_out_pod(&cluster, &objects)?;

    let level = "pod-security.kubernetes.io/enforce=restricted";
    cluster.run(&["label", "namespace", "pullpass-system", "--overwrite", level])?;
    let refused = try_out_pod(&cluster, &objects);
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("hostNetwork=true"), "{said}");
    Ok(())
}

#[test]
fn helm_installs_upgrades_and_uninstalls_the_chart() -> Test {
    let cluster = cluster()?;
    let scratch = Scratch::new()?;
    let run = |arguments: &[&str]| -> Result<Output, Box<dyn Error>> {
        let mut command = helm(&scratch)?;
        command.arg("--kubeconfig").arg(cluster.kubeconfig());
        Ok(command
            .args(["--namespace", "pullpass-system"])
            .args(arguments)
            .output()?)
    };
    let installed = succeeded(
        "helm install",
        &run(&["install", "pullpass", CHART, "--create-namespace"])?,
    )?;
    assert!(
        installed.contains("kubectl rollout status deployment/pullpass"),
        "{installed}"
    );
    cluster.write_ca_bundle("Q0E=")?;

    let upgrade = [
        "upgrade",
        "pullpass",
        CHART,
        "--set",
        "mode=opt-in",
        "--set",
        "replicas=3",
    ];
    succeeded("helm upgrade", &run(&upgrade)?)?;
    let webhooks = cluster.get_json(&["mutatingwebhookconfiguration", "pullpass"])?;
    for index in 0..2 {
        let webhook = |pointer: &str| webhooks.pointer(&format!("/webhooks/{index}{pointer}")).cloned();
        assert_eq!(
            webhook("/clientConfig/caBundle"),
            Some(json!("Q0E=")),
            "the upgrade took it away"
        );
        assert_eq!(
            webhook("/namespaceSelector/matchExpressions/1"),
            Some(json!({"key": "pullpass.dev/inject", "operator": "In", "values": ["enabled"]}))
        );
    }

    succeeded("helm uninstall", &run(&["uninstall", "pullpass"])?)?;
    // Every AcrRegistry would have gone with it.
    cluster.run(&["get", "crd", "acrregistries.pullpass.dev"])?;
    let left = cluster.run(&[
        "get",
        "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies,priorityclasses",
        "--selector=app.kubernetes.io/part-of=pullpass",
        "--output=name",
    ])?;
    assert_eq!(left.stdout, "");

    // What was kept is taken over by the next release.
    succeeded("helm install", &run(&["install", "pullpass", CHART])?)?;
    Ok(())
}

#[test]
fn failed_calls_are_counted_under_the_names_that_alerts_read() -> Test {
    let cluster = cluster()?;
    let choice = Choice {
        overlay: "cluster-wide",
        components: Vec::new(),
    };
    for (policy, series) in [
        (
            "Ignore",
            vec![
                "apiserver_admission_webhook_fail_open_count{",
                r#"name="pods.pullpass.dev""#,
            ],
        ),
        (
            "Fail",
            vec![
                "apiserver_admission_webhook_rejection_count{",
                r#"name="pods.pullpass.dev""#,
                r#"error_type="calling_webhook_error""#,
            ],
        ),
    ] {
        let mut objects = choice.kustomize()?;
        for object in &mut objects {
            let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
            for webhook in webhooks.into_iter().flatten().filter_map(Value::as_object_mut) {
                webhook.insert("failurePolicy".to_owned(), json!(policy));
            }
        }
        cluster.run_with_input(&[&STRICT[..], &["-"]].concat(), &list(&objects))?;
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        });
        cluster.apply(&account.to_string())?;
        // The API server takes about a second to act on a new configuration, and nobody is there to be asked.
        wait_for("a failure to be counted", SOON, || {
            let _ = cluster.run(&["run", "web", ACR_IMAGE, "--dry-run=server"]);
            let metrics = cluster
                .run(&["get", "--raw", "/metrics"])
                .map_err(|error| error.to_string())?
                .stdout;
            let counted = |line: &str| series.iter().all(|part| line.contains(part));
            if metrics.lines().any(counted) {
                Ok(())
            } else {
                Err(format!("{series:?} is not there"))
            }
        })?;
    }
    Ok(())
}
