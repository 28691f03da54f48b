//! `pullpass audit` and the leader's gauges: the same findings.

use std::path::Path;
use std::process::{Command, Output};

use pullpass_test_support::{ControlPlane, Scratch, fits_schema, wait_for};
use serde_json::{Value, json};

use crate::world::{
    CLOSED, OPEN, SOON, Test, attach, cluster, items, list, namespace, pullpass, text, with_written_index,
};

fn audit(cluster: &ControlPlane, flags: &[&str]) -> Result<Output, std::io::Error> {
    audit_with(cluster.kubeconfig(), flags)
}

fn audit_with(kubeconfig: &Path, flags: &[&str]) -> Result<Output, std::io::Error> {
    Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .arg("audit")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(flags)
        .output()
}

fn pod(namespace: &str, name: &str, image: &str, secret: Option<&str>) -> Value {
    let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": image}], "imagePullSecrets": secrets},
    })
}

const TABLE: &str = "\
NAMESPACE   REGISTRY                     ACRREGISTRY      STATE       PODS   REASON
after       closedregistry.azurecr.io    closedregistry   uncovered   1      forbidden
after       openregistry.azurecr.io      openregistry     covered     2      -
after       strangeregistry.azurecr.io   -                uncovered   1      unattached
before      openregistry.azurecr.io      openregistry     uncovered   2      not-injected
before      openregistry.azurecr.io      openregistry     uncovered   1      other-secret
out         openregistry.azurecr.io      openregistry     skipped     1      namespace-opted-out

Pods with images on Azure Container Registry: 8. Covered: 2; uncovered: 5; skipped: 1.
unattached: no AcrRegistry has the registry: attach it.
forbidden: the AcrRegistry is not for the namespace: change its spec.namespaces or the namespace's labels.
not-injected: admitted before the registry was attached, or while pullpass was unavailable: re-create the Pods (kubectl rollout restart).
other-secret: they name pull secrets that pullpass does not manage: re-create the Pods to get one that it does.
";

const WIDE: &str = "\
NAMESPACE   POD    REGISTRY                  STATE       SECRET   REASON
before      a      openregistry.azurecr.io   uncovered   -        not-injected
before      b      openregistry.azurecr.io   uncovered   -        not-injected
before      hand   openregistry.azurecr.io   uncovered   -        other-secret

Pods with images on Azure Container Registry: 3. Covered: 0; uncovered: 3; skipped: 0.
not-injected: admitted before the registry was attached, or while pullpass was unavailable: re-create the Pods (kubectl rollout restart).
other-secret: they name pull secrets that pullpass does not manage: re-create the Pods to get one that it does.
";

/// Pods from before pullpass, or left alone.
fn before(cluster: &ControlPlane, open: &str) -> Test {
    // Where it is seen whether pullpass is asked.
    namespace(cluster, "default", &Value::Null)?;
    namespace(cluster, "before", &Value::Null)?;
    namespace(cluster, "out", &json!({"pullpass.dev/inject": "disabled"}))?;
    cluster.apply(&list(&[
        pod("before", "a", open, None),
        pod("before", "b", open, None),
        pod("before", "hand", open, Some("by-hand")),
        pod("before", "elsewhere", "nginx", None),
        pod("out", "a", open, None),
    ]))?;
    Ok(())
}

/// Pods that pullpass was asked about.
fn after(cluster: &ControlPlane, open: &str) -> Test {
    attach(cluster)?;
    wait_for("the registry to be known", SOON, || {
        let probe = pod("after", "probe", open, None).to_string();
        let created = cluster
            .run_with_input(
                &["create", "--dry-run=server", "--output=json", "--filename=-"],
                &probe,
            )
            .map_err(|error| error.to_string())?;
        let is_known = created.stdout.contains(&format!("pullpass-{OPEN}"));
        if is_known { Ok(()) } else { Err(created.stdout) }
    })?;
    // The command says of each that is not.
    let ready = "--for=condition=Ready";
    cluster.run(&["wait", ready, "acrregistries", "--all", "--timeout=60s"])?;
    cluster.apply(&list(&[
        pod("after", "a", open, None),
        pod("after", "b", open, None),
        pod("after", "forbidden", "closedregistry.azurecr.io/app:v1", None),
        pod("after", "stranger", "strangeregistry.azurecr.io/app:v1", None),
    ]))?;
    Ok(())
}

/// What a user of kubectl types.
fn assert_kubectls_habits(cluster: &ControlPlane) -> Test {
    let said = |flags: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        Ok(String::from_utf8(audit(cluster, flags)?.stdout)?)
    };
    let (table, notes) = TABLE.split_once("\n\n").ok_or("a table has notes")?;
    let (_, rows) = table.split_once('\n').ok_or("a table has headings")?;
    let bare = audit(cluster, &["-A", "--no-headers", "--request-timeout=30s"])?;
    assert_eq!(String::from_utf8(bare.stdout)?, format!("{rows}\n"));
    assert_eq!(String::from_utf8(bare.stderr)?, notes);
    assert_eq!(said(&["-n", "before", "-o", "name"])?, "pod/a\npod/b\npod/hand\n");
    cluster.run(&["label", "pod", "hand", "--namespace=before", "tier=cache"])?;
    assert_eq!(
        said(&["-A", "-l", "tier in (cache,web)", "-o", "name"])?,
        "pod/hand\n"
    );
    let yaml: Value = serde_saphyr::from_str(&said(&["-o", "yaml"])?)?;
    let json: Value = serde_json::from_str(&said(&["-o", "json"])?)?;
    assert_eq!(yaml, json);
    fits_schema("audit-report", &json)?;

    let refused = audit(cluster, &["--as=jane"])?;
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr)?;
    assert!(errors.contains("User \"jane\" cannot"), "{errors}");
    assert_eq!(
        said(&[
            "--as=jane",
            "--as-group=team-a",
            "--as-group=system:masters",
            "--as-uid=7b79"
        ])?,
        TABLE
    );
    let nobody = audit(cluster, &["--as-group=team-a"])?;
    assert_eq!(nobody.status.code(), Some(2));
    let both = audit(cluster, &["-A", "--namespace=before"])?;
    assert_eq!(both.status.code(), Some(2));
    Ok(())
}

/// What `pullpass review` knows without a directory: registries, labels, and what the webhook is told to do.
fn assert_a_review_asks_the_cluster(cluster: &ControlPlane) -> Test {
    let review = |flags: &[&str]| -> Result<Value, Box<dyn std::error::Error>> {
        let scratch = Scratch::new()?;
        let file = scratch.path().join("pods.json");
        let image = |name: &str| format!("{name}.azurecr.io/app:v1");
        let pods = [
            pod("after", "open", &image(OPEN), None),
            pod("after", "closed", &image(CLOSED), None),
            pod("nowhere", "lost", &image(OPEN), None),
            // Beside its namespace, which is not in the cluster yet.
            pod("coming", "quiet", &image(OPEN), None),
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "coming", "labels": {"pullpass.dev/inject": "disabled"}},
            }),
        ];
        std::fs::write(&file, list(&pods))?;
        let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["review", "-o", "json", "--kubeconfig"])
            .arg(cluster.kubeconfig())
            .arg("--filename")
            .arg(&file)
            .args(flags)
            .output()?;
        let notes = String::from_utf8(output.stderr)?;
        let note = "does not have these namespaces, which count as having no labels: nowhere. Create";
        assert!(notes.contains(note), "{notes}");
        let report = serde_json::from_slice(&output.stdout)?;
        fits_schema("review", &report)?;
        Ok(report)
    };
    let outcomes = |report: &Value| -> Vec<String> {
        items(report, "/decisions")
            .map(|decision| text(decision, "/decision").to_owned())
            .collect()
    };
    assert_eq!(
        outcomes(&review(&[])?),
        ["injected", "uncovered", "injected", "skipped"]
    );
    // Flags come before what the cluster says.
    assert_eq!(
        outcomes(&review(&["--mode=opt-in", "--forbidden=deny"])?),
        ["skipped", "skipped", "skipped", "skipped"]
    );
    assert_eq!(
        outcomes(&review(&["--forbidden=deny", "--cluster=test"])?),
        ["injected", "denied", "injected", "skipped"]
    );
    Ok(())
}

#[test]
fn it_says_which_pods_have_no_pull_secret_and_why() -> Test {
    let cluster = cluster()?;
    let open = format!("{OPEN}.azurecr.io/app:v1");
    before(&cluster, &open)?;
    let missing = audit(&cluster, &[])?;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let said = String::from_utf8(missing.stderr)?;
    assert!(
        said.contains("AcrRegistries can't be listed; is pullpass installed"),
        "{said}"
    );
    let pullpass = pullpass(&cluster).whole_cluster("after").start()?;
    after(&cluster, &open)?;

    let found = audit(&cluster, &[])?;
    assert_eq!(String::from_utf8(found.stdout)?, TABLE);
    assert_eq!(found.status.code(), Some(3));
    let found = audit(&cluster, &["--namespace=before", "--uncovered", "--output=wide"])?;
    assert_eq!(String::from_utf8(found.stdout)?, WIDE);
    let found = audit(&cluster, &["--output=json"])?;
    let report: Value = serde_json::from_slice(&found.stdout)?;
    assert_eq!(
        report["summary"],
        json!({"covered": 2, "uncovered": 5, "skipped": 1})
    );
    let hand = items(&report, "/pods")
        .find(|row| text(row, "/pod") == "hand")
        .ok_or("the Pod is not there")?;
    let expected = json!({
        "namespace": "before", "pod": "hand", "host": "openregistry.azurecr.io", "registry": OPEN,
        "state": "uncovered", "reason": "other-secret", "secret": null, "pullSecrets": ["by-hand"],
        "images": [open],
    });
    assert_eq!(*hand, expected);

    assert_kubectls_habits(&cluster)?;
    assert_a_review_asks_the_cluster(&cluster)?;

    let gauges = |expected: &[&str]| {
        wait_for("the leader's gauges", SOON, || {
            let metrics = pullpass.metrics().map_err(|error| error.to_string())?;
            let lines: Vec<_> = metrics
                .lines()
                .filter(|line| line.starts_with("pullpass_uncovered_pods"))
                .collect();
            let all = expected.iter().all(|line| lines.contains(line)) && lines.len() == expected.len();
            if all { Ok(()) } else { Err(lines.join("\n")) }
        })
    };
    let by = |namespace: &str, registry: &str, reason: &str, pods: u32| {
        format!(
            "pullpass_uncovered_pods_by_reason{{namespace=\"{namespace}\",registry=\"{registry}\",reason=\"{reason}\"}} {pods}"
        )
    };
    gauges(&[
        "pullpass_uncovered_pods 5",
        &by("after", "closedregistry", "forbidden", 1),
        &by("after", "", "unattached", 1),
        &by("before", OPEN, "not-injected", 2),
        &by("before", OPEN, "other-secret", 1),
    ])?;

    // Where nobody is uncovered, the exit code says so.
    cluster.run(&[
        "delete",
        "pods",
        "--all",
        "--namespace=before",
        "--grace-period=0",
        "--force",
    ])?;
    cluster.run(&[
        "delete",
        "pod",
        "forbidden",
        "stranger",
        "--namespace=after",
        "--grace-period=0",
        "--force",
    ])?;
    let found = audit(&cluster, &["--output=wide"])?;
    assert_eq!(found.status.code(), Some(0), "{found:?}");
    gauges(&["pullpass_uncovered_pods 0"])?;

    let unknown = audit(&cluster, &["--namespace=nowhere"])?;
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(unknown.stderr)?,
        "pullpass: there is no namespace nowhere\n"
    );
    Ok(())
}

#[test]
fn a_cluster_that_is_not_there_is_said_with_what_to_do() -> Test {
    let scratch = pullpass_test_support::Scratch::new()?;
    let kubeconfig = scratch.path().join("kubeconfig");
    let port = pullpass_test_support::free_port()?;
    std::fs::write(
        &kubeconfig,
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}'}}}}], users: [{{name: u, user: {{}}}}]}}"
        ),
    )?;
    let found = audit_with(&kubeconfig, &[])?;
    assert_eq!(found.status.code(), Some(1));
    let said = String::from_utf8(found.stderr)?;
    assert!(said.contains("refused"), "{said}");
    let found = audit_with(&kubeconfig, &["--context=other"])?;
    let said = String::from_utf8(found.stderr)?;
    assert!(said.contains("other") && said.contains("--context"), "{said}");
    Ok(())
}

#[test]
fn it_says_what_the_api_server_does_by_itself() -> Test {
    let cluster = with_written_index(&json!({
        "mode": "opt-in", "unattached": "allow", "forbidden": "warn",
        "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", "legacy", "pullpass-system"],
    }))?;
    let policies = || -> Result<Value, Box<dyn std::error::Error>> {
        let found = audit(&cluster, &["--output=json"])?;
        let found: Value = serde_json::from_slice(&found.stdout)?;
        Ok(found.get("admissionPolicies").cloned().unwrap_or_default())
    };
    let none = json!({"inject": false, "enforce": false, "disagreements": []});
    assert_eq!(policies()?, none);
    let apply = |file: &str| {
        let file = format!("{}/manifests/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        cluster.run(&["apply", "--filename", &file])
    };
    apply("base/webhook")?;
    // Flags and selectors are to agree without policies too.
    let by_flags = policies()?;
    assert_eq!(
        (&by_flags["inject"], &by_flags["enforce"]),
        (&json!(false), &json!(false)),
        "{by_flags}"
    );
    apply("components/admission-policy/policy")?;
    apply("components/enforce/policy")?;
    let found = policies()?;
    assert_eq!(by_flags["disagreements"], found["disagreements"]);
    assert_eq!(
        (&found["inject"], &found["enforce"]),
        (&json!(true), &json!(true)),
        "{found}"
    );
    let told: Vec<_> = items(&found, "/disagreements")
        .filter_map(Value::as_str)
        .collect();
    assert!(told[0].contains("is in mode opt-in"), "{told:?}");
    assert!(
        told[1].ends_with("do not exclude the same namespaces: legacy"),
        "{told:?}"
    );
    let table = String::from_utf8(audit(&cluster, &[])?.stdout)?;
    assert!(
        table.contains("add pull secrets and judge the rules too"),
        "{table}"
    );
    assert_eq!(told.len(), 2, "{told:?}");
    // Policies of another version, as after an upgrade that left them out, one that leaves out a namespace that pullpass does not
    // exclude, and one whose sibling is gone.
    let older = r#"--patch=[{"op": "remove", "path": "/spec/matchConditions/0"}]"#;
    for policy in [
        "mutatingadmissionpolicy/pullpass-always",
        "validatingadmissionpolicy/pullpass-enforce",
    ] {
        cluster.run(&["patch", policy, "--type=json", older])?;
    }
    let exempting = r#"--patch=[{"op": "add", "path": "/spec/matchConstraints/namespaceSelector/matchExpressions/-",
        "value": {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["apps"]}}]"#;
    let policy = "validatingadmissionpolicy/pullpass-enforce";
    cluster.run(&["patch", policy, "--type=json", exempting])?;
    cluster.run(&["delete", "validatingadmissionpolicybinding", "pullpass-warn"])?;
    let found = policies()?;
    let told: Vec<_> = items(&found, "/disagreements")
        .filter_map(Value::as_str)
        .skip(2)
        .collect();
    let expected = [
        "MutatingAdmissionPolicy pullpass-always is not the one of version",
        "ValidatingAdmissionPolicy pullpass-enforce excludes namespaces by name that --exclude-namespaces does not, so that their \
         Pods pass it by: apps",
        "ValidatingAdmissionPolicy pullpass-enforce is not the one of version",
        "ValidatingAdmissionPolicy pullpass-warn is not in force, and pullpass-enforce is",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    assert!(
        told.iter()
            .zip(expected)
            .all(|(told, expected)| told.starts_with(expected)),
        "{told:?}"
    );
    // A binding that refuses nothing, and one whose policy is gone, have the API server do nothing.
    let audited = r#"--patch={"spec": {"validationActions": ["Audit"]}}"#;
    let enforcing = "validatingadmissionpolicybinding/pullpass-enforce";
    cluster.run(&["patch", enforcing, "--type=merge", audited])?;
    cluster.run(&["delete", "mutatingadmissionpolicy", "pullpass"])?;
    let found = policies()?;
    assert_eq!(
        (&found["inject"], &found["enforce"]),
        (&json!(false), &json!(false)),
        "{found}"
    );
    Ok(())
}

const BOUND: &str = "\
NAMESPACE   REGISTRY                   ACRREGISTRY   STATE       PODS   REASON
blog        teamregistry.azurecr.io    -             uncovered   1      unattached
shop        otherregistry.azurecr.io   -             uncovered   1      unattached
shop        teamregistry.azurecr.io    shop/team     uncovered   1      not-injected
shop        teamregistry.azurecr.io    shop/team     covered     1      -
";

#[test]
fn a_binding_is_attached_in_its_own_namespace() -> Test {
    let cluster = cluster()?;
    for definitions in ["base/crd.yaml", "components/bindings/crd.yaml"] {
        let file = format!("{}/manifests/{definitions}", env!("CARGO_MANIFEST_DIR"));
        cluster.run(&["apply", "--server-side", "--filename", &file])?;
    }
    cluster.wait_until_established()?;
    for team in ["shop", "blog"] {
        namespace(&cluster, team, &Value::Null)?;
    }
    let image = "teamregistry.azurecr.io/app:v1";
    cluster.apply(&list(&[
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "team", "namespace": "shop"},
            "spec": {"loginServer": "teamregistry.azurecr.io", "serviceAccountName": "puller"},
        }),
        pod("shop", "covered", image, Some("pullpass-binding-team")),
        pod("shop", "lacking", image, None),
        pod("shop", "stranger", "otherregistry.azurecr.io/app:v1", None),
        pod("blog", "lacking", image, None),
    ]))?;
    // As pullpass would say of it, which does not run here.
    let told = json!({"status": {"conditions": [{
        "type": "Ready", "status": "False", "reason": "NotGranted", "message": "it is not granted. What to do: grant it",
        "lastTransitionTime": "2026-11-22T18:00:00Z",
    }]}});
    let patch = told.to_string();
    let team = ["patch", "acrpullbinding", "team", "--namespace=shop"];
    let as_pullpass = ["--subresource=status", "--type=merge", "--patch", &patch];
    cluster.run(&[&team[..], &as_pullpass].concat())?;

    let said = |flags: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let output = audit(&cluster, flags)?;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let table = said(&[])?;
    assert!(table.starts_with(BOUND), "{table}");
    let note = "\nAcrPullBinding team in namespace shop is not ready: NotGranted: it is not granted";
    assert!(table.contains(note), "{table}");
    assert!(said(&["-n", "shop"])?.contains(note));
    assert!(!said(&["-n", "blog"])?.contains(note));
    let wide = said(&["-o", "wide"])?;
    let covered = wide.lines().find(|line| line.contains(" covered "));
    assert!(
        covered.is_some_and(|line| line.contains("pullpass-binding-team")),
        "{wide}"
    );
    let page = said(&["-o", "html"])?;
    for part in [
        "AcrPullBinding team in namespace shop is not ready",
        "pullpass check team --namespace shop",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let reports = said(&["-o", "openreports"])?;
    assert!(reports.contains("pullSecret: pullpass-binding-team"), "{reports}");
    Ok(())
}
