//! `pullpass review` as a person and as a script meets it: output, exit codes, errors.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pullpass_test_support::{ControlPlane, end_to_end_wanted, fits_schema};
use serde_json::{Value, json};

const CLUSTER: &str = r"
apiVersion: pullpass.dev/v1alpha1
kind: AcrRegistry
metadata: {name: mine}
spec:
  loginServer: myregistry.azurecr.io
  identity: {managedIdentity: {}}
---
apiVersion: v1
kind: Namespace
metadata: {name: quiet, labels: {pullpass.dev/inject: disabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Namespace
metadata: {name: jobs}
";

const WORKLOADS: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: apps}
spec:
  template:
    spec:
      containers: [{name: web, image: myregistry.azurecr.io/web:1}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  jobTemplate: {spec: {template: {spec: {containers: [{name: job, image: nginx}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: quiet}
spec:
  containers: [{name: c, image: myregistry.azurecr.io/web:1}]
  imagePullSecrets: [{name: own}]
";

fn review(arguments: &[&str], input: &str) -> (Output, tempfile::TempDir) {
    review_in(CLUSTER, arguments, input)
}

fn review_in(cluster: &str, arguments: &[&str], input: &str) -> (Output, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cluster.yaml"), cluster).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["review", "-f", "-", "--manifests"])
        .arg(directory.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    (child.wait_with_output().unwrap(), directory)
}

fn stdout(output: &Output) -> &str {
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The decisions in JSON, which fit their schema.
fn decisions(output: &Output) -> Vec<Value> {
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    fits_schema("review", &report).unwrap();
    serde_json::from_value(report["decisions"].take()).unwrap()
}

#[test]
fn a_table_of_decisions_is_the_default() {
    let (output, _directory) = review(&[], WORKLOADS);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "NAMESPACE   KIND         NAME      DECISION         ADDED           REASON\n\
         apps        Deployment   web       injected         pullpass-mine   the Pod names images of attached registries\n\
         default     CronJob      nightly   not-applicable   -               the Pod names no image on ACR\n\
         quiet       Pod          bare      skipped          -               the namespace is labelled pullpass.dev/inject=disabled\n"
    );
}

#[test]
fn patches_answers_and_pods_come_out() {
    let (output, _directory) = review(&["-o", "patch"], WORKLOADS);
    let patches: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(patches[0][0]["path"], "/spec/imagePullSecrets");
    assert_eq!(
        (&patches[1], &patches[2]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );

    let (output, _directory) = review(&["-o", "review"], WORKLOADS);
    let first: Value = serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
    assert_eq!(first["response"]["auditAnnotations"]["decision"], "injected");

    let (output, _directory) = review(&["-o", "yaml"], WORKLOADS);
    let text = stdout(&output);
    assert!(
        text.contains("generateName: web-") && text.contains("- name: pullpass-mine"),
        "{text}"
    );
    // What comes out is itself input, and needs nothing more.
    let (again, _directory) = review(&["-o", "json"], text);
    assert_eq!(decisions(&again)[0]["decision"], "already-present");
}

#[test]
fn formats_are_those_of_kubectl() {
    let (output, _directory) = review(&["-o", "name"], WORKLOADS);
    assert_eq!(
        stdout(&output),
        "deployment.apps/web\ncronjob.batch/nightly\npod/bare\n"
    );
    let (output, _directory) = review(&["-o", "wide", "--no-headers", "-n", "jobs"], WORKLOADS);
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with("apps ") && lines[0].ends_with(" myregistry.azurecr.io/web:1"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("jobs ") && lines[1].ends_with(" nginx"),
        "{}",
        lines[1]
    );
    let denied = WORKLOADS.replace("myregistry.azurecr.io/web:1", "otherregistry.azurecr.io/web:1");
    for format in ["table", "wide"] {
        let flags = ["--output", format, "--no-headers", "--unattached=warn"];
        let (output, _directory) = review(&flags, &denied);
        let rows = String::from_utf8_lossy(&output.stdout);
        let kinds: Vec<_> = rows.lines().map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(
            kinds,
            [Some("Deployment"), Some("CronJob"), Some("Pod")],
            "{format}"
        );
        let notes = String::from_utf8_lossy(&output.stderr);
        assert!(notes.starts_with("Deployment web: "), "{format}: {notes}");
    }
    let (output, _directory) = review(&["-o", "json", "--unattached=deny"], &denied);
    assert_eq!(decisions(&output)[0]["violations"][0]["action"], "deny");
}

#[test]
fn files_and_directories_are_read_together() {
    let scratch = tempfile::tempdir().unwrap();
    let deep = scratch.path().join("apps/deep");
    fs::create_dir_all(&deep).unwrap();
    let pod = |name: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n")
    };
    fs::write(scratch.path().join("one.yaml"), pod("one")).unwrap();
    fs::write(scratch.path().join("apps/two.yml"), pod("two")).unwrap();
    fs::write(scratch.path().join("apps/README.md"), "kind: [").unwrap();
    fs::write(deep.join("three.yaml"), pod("three")).unwrap();
    let named = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .current_dir(scratch.path())
            .args(["review", "-o", "name"])
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            errors,
            output.status.code(),
        )
    };
    let said = |arguments: &[&str]| named(arguments).0;
    assert_eq!(said(&["-f", "one.yaml", "-f", "apps"]), "pod/one\npod/two\n");
    assert_eq!(said(&["-f", "one.yaml,apps"]), "pod/one\npod/two\n");
    assert_eq!(said(&["-R", "-f", "apps/"]), "pod/two\npod/three\n");
    fs::remove_file(scratch.path().join("apps/two.yml")).unwrap();
    let (_, errors, code) = named(&["-f", "apps"]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("apps has no .yaml, .yml or .json file"),
        "{errors}"
    );
}

#[test]
fn a_directory_and_a_cluster_do_not_go_together() {
    let (output, _directory) = review(&["--context=production"], WORKLOADS);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("--manifests") && errors.contains("--context"),
        "{errors}"
    );
}

#[test]
fn an_admission_review_is_answered_as_it_is() {
    let (answer, _directory) = review(
        &["-o", "review"],
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"abc","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"apps","object":{"spec":{"containers":[{"name":"c","image":"myregistry.azurecr.io/a"}]}}}}"#,
    );
    let answer: Value = serde_json::from_str(stdout(&answer)).unwrap();
    assert_eq!(
        (&answer["response"]["uid"], &answer["response"]["allowed"]),
        (&Value::from("abc"), &Value::from(true))
    );
}

#[test]
fn a_denied_pod_is_exit_code_3() {
    let other = WORKLOADS.replace("myregistry.azurecr.io/web:1", "otherregistry.azurecr.io/web:1");
    let (output, _directory) = review(&["--unattached", "deny"], &other);
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    assert!(
        text.contains("denied") && text.contains("pullpass attach otherregistry.azurecr.io"),
        "{text}"
    );
}

#[test]
fn bad_input_is_exit_code_2_and_says_where() {
    for (input, message) in [
        ("kind: [", "- is not YAML"),
        ("", "- holds no object"),
        ("metadata: {name: s}\n", "an object has no kind"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
            "Pod p has no Pod spec",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: {}}\n",
            "Pod p: the Pod is malformed: expected an array",
        ),
    ] {
        let (output, _directory) = review(&[], input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{input}: {error}");
        assert!(
            error.contains(message) && output.stdout.is_empty(),
            "{input}: {error}"
        );
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["review", "-f"])
        .arg(Path::new("no").join("such.yaml"))
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

/// What `helm template` makes of a chart.
const CHART: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: more}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, image: myregistry.azurecr.io/web:1}]}}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: fn}
spec: {template: {spec: {containers: [{image: myregistry.westeurope.geo.azurecr.io/fn:1}]}}}
---
apiVersion: batch.example/v1
kind: Group
metadata: {name: many}
spec:
  tasks:
  - template: {spec: {containers: [{name: a, image: myregistry.azurecr.io/a:1}]}}
  - template: {spec: {containers: [{name: b, image: nginx}]}}
---
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: nightly}
spec: {templates: [{container: {image: myregistry.azurecr.io/job:1}}]}
";

#[test]
fn a_rendered_chart_is_reviewed_as_it_is() {
    let (output, _directory) = review(&[], CHART);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "NAMESPACE   KIND      NAME                            DECISION         ADDED           REASON\n\
         default     Rollout   web                             injected         pullpass-mine   the Pod names images of attached registries\n\
         default     Service   fn                              injected         pullpass-mine   the Pod names images of attached registries\n\
         default     Group     many (spec.tasks[0].template)   injected         pullpass-mine   the Pod names images of attached registries\n\
         default     Group     many (spec.tasks[1].template)   not-applicable   -               the Pod names no image on ACR\n\
         \n3 objects make no Pods: 2 ConfigMap, 1 Service\n\
         \nnot reviewed, since they have no Pod template that pullpass finds, and may make Pods all the same: Workflow nightly\n"
    );
    let (output, _directory) = review(&["-o", "json"], CHART);
    assert_eq!(decisions(&output).len(), 4);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("Workflow nightly"), "{notes}");
    let denied = CHART.replace("myregistry.azurecr.io/web", "otherregistry.azurecr.io/web");
    let (output, _directory) = review(&["--unattached=deny"], &denied);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn objects_without_pods_are_no_error() {
    let (output, _directory) = review(&[], "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n");
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).ends_with("\n1 object makes no Pods: 1 Service\n"));
}

#[test]
fn kinds_of_an_api_server_are_all_known() {
    end_to_end_wanted().unwrap();
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument("--runtime-config=api/all=true")
        .start()
        .unwrap();
    let served = cluster.run(&["get", "--raw", "/apis"]).unwrap();
    let served: Value = serde_json::from_str(&served.stdout).unwrap();
    let groups: Vec<_> = served["groups"].as_array().unwrap().iter().collect();
    assert!(groups.len() > 15, "{groups:?}");
    for group in groups {
        let object = json!({
            "apiVersion": group["preferredVersion"]["groupVersion"], "kind": "Sample", "metadata": {"name": "one"},
        });
        let (output, _directory) = review(&[], &object.to_string());
        let text = stdout(&output);
        assert!(
            text.ends_with("1 object makes no Pods: 1 Sample\n"),
            "{group}: {text}"
        );
    }
}

#[test]
fn lists_of_kubectl_and_of_the_api_are_read() {
    let pod = r#"{"metadata":{"name":"p","namespace":"apps"},"spec":{"containers":[{"name":"c","image":"myregistry.azurecr.io/a"}]}}"#;
    for list in [
        format!(r#"{{"apiVersion":"v1","kind":"PodList","items":[{pod}]}}"#),
        format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":""}},"items":[{}]}}"#,
            pod.replacen('{', r#"{"apiVersion":"v1","kind":"Pod","#, 1)
        ),
    ] {
        let (output, _directory) = review(&["-o", "json"], &format!("\u{feff}{list}"));
        assert_eq!(decisions(&output)[0]["decision"], "injected", "{list}");
    }
}

#[test]
fn a_namespace_that_is_not_there_has_no_labels() {
    let registry = CLUSTER.split("---").next().unwrap();
    let (output, _directory) = review_in(registry, &["--mode=opt-in"], WORKLOADS);
    let text = stdout(&output);
    assert!(!text.contains("injected  "), "{text}");
    // A label may say otherwise in either mode, whatever registries there are.
    let system = WORKLOADS.replace("namespace: apps", "namespace: kube-system");
    let (cluster_wide, _directory) = review_in(registry, &[], &system);
    let (scripts, _directory) = review_in(registry, &["-o", "json"], WORKLOADS);
    for (said, names) in [
        (&output.stdout, "apps, default, quiet"),
        (&cluster_wide.stdout, "default, quiet"),
        (&scripts.stderr, "apps, default, quiet"),
    ] {
        let said = String::from_utf8_lossy(said);
        let note = format!("no file has these namespaces, which count as having no labels: {names}. Add");
        assert!(said.contains(&note), "{said}");
    }
    let (output, _directory) = review(&["--mode=opt-in"], WORKLOADS);
    assert!(!stdout(&output).contains("these namespaces"));
}

#[test]
fn namespaces_of_the_input_count() {
    let shop = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pullpass.dev/inject: disabled}}
---
";
    let pods = WORKLOADS.replace("namespace: apps", "namespace: shop");
    let (output, _directory) = review(&["-o", "json"], &format!("{shop}{pods}"));
    let found = &decisions(&output)[0];
    assert_eq!(
        (&found["decision"], &found["injected"]),
        (&json!("skipped"), &json!([]))
    );
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(!notes.contains("these namespaces"), "{notes}");
    let strangers = pods.replace("myregistry", "otherregistry");
    let (output, _directory) = review(&["--unattached=deny"], &format!("{shop}{strangers}"));
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    // A label that the input does not name stays as it is.
    let plain = "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: quiet}\n";
    let (output, _directory) = review(&["-o", "json"], &format!("{WORKLOADS}{plain}"));
    assert_eq!(decisions(&output)[2]["decision"], "skipped");
}

#[test]
fn service_accounts_of_the_input_count() {
    let strict = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: strict, namespace: shop, annotations: {kubernetes.io/enforce-mountable-secrets: \"true\"}}
---
apiVersion: v1
kind: Pod
metadata: {name: strict, namespace: shop}
spec: {serviceAccountName: strict, containers: [{name: main, image: myregistry.azurecr.io/web:7}]}
";
    let (output, _directory) = review(&["-o", "json"], strict);
    let found = &decisions(&output)[0];
    assert_eq!(found["decision"], "uncovered", "{found}");
    assert!(
        found["reason"]
            .as_str()
            .unwrap()
            .contains("enforces mountable secrets"),
        "{found}"
    );
    let listing = strict.replacen("\n---", "\nimagePullSecrets: [{name: pullpass-mine}]\n---", 1);
    let (output, _directory) = review(&["-o", "json"], &listing);
    assert_eq!(decisions(&output)[0]["injected"], json!(["pullpass-mine"]));
    // Those of the directory are the same.
    let (account, pod) = strict.split_once("---").unwrap();
    let (output, _directory) = review_in(&format!("{CLUSTER}---{account}"), &["-o", "json"], pod);
    assert_eq!(decisions(&output)[0]["decision"], "uncovered");
}

#[test]
fn another_cloud_is_said_to_be_unknown() {
    let other = CLUSTER.replace(
        "loginServer: myregistry.azurecr.io",
        "cloud: Other\n  loginServer: myregistry.azurecr.contoso.com",
    );
    let pods = WORKLOADS.replace("azurecr.io", "azurecr.contoso.com");
    let note = "AcrRegistry mine is in another cloud and counts as attached";
    let (output, _directory) = review_in(&other, &[], &pods);
    let text = stdout(&output);
    assert!(text.contains("pullpass-mine") && text.contains(note), "{text}");
    let (output, _directory) = review_in(&other, &["-o", "json"], &pods);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.matches(note).count(), 1, "{errors}");
    let (output, _directory) = review(&[], WORKLOADS);
    assert!(!stdout(&output).contains("another cloud"));
}

#[test]
fn a_teams_binding_counts_beside_its_pods() {
    let binding = "
apiVersion: pullpass.dev/v1alpha1
kind: AcrPullBinding
metadata: {name: team, namespace: apps}
spec: {loginServer: myregistry.azurecr.io, serviceAccountName: puller}
---
";
    let (output, _directory) = review(&[], &format!("{binding}{WORKLOADS}"));
    let said = stdout(&output);
    assert!(said.contains("pullpass-binding-team,pullpass-mine"), "{said}");
    assert!(
        said.contains("\n1 object makes no Pods: 1 AcrPullBinding\n"),
        "{said}"
    );
    // One of the directory is the same.
    let cluster = format!("{CLUSTER}---{binding}");
    let (output, _directory) = review_in(cluster.trim_end_matches("---\n"), &[], WORKLOADS);
    let said = stdout(&output);
    assert!(said.contains("pullpass-binding-team,pullpass-mine"), "{said}");
    let elsewhere = binding.replace("apps", "other");
    let (output, _directory) = review(&[], &format!("{elsewhere}{WORKLOADS}"));
    assert!(!stdout(&output).contains("binding-team"));
}
