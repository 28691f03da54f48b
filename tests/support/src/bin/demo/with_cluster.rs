//! The demo on a control plane.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pullpass_test_support::{ControlPlane, Error, Installation, wait_for};
use serde_json::{Value, json};

use crate::paper::{Paper, line, output};
use crate::{Args, DEPLOYMENT, EXAMPLES, REGISTRY, example, joined, show_records, text};

const NAMESPACE: &str = "apps";
const SOON: Duration = Duration::from_secs(30);

pub fn run(
    paper: &mut Paper,
    args: &Args,
    control_plane: ControlPlane,
    started: Duration,
) -> Result<(), Error> {
    show_control_plane(paper, &control_plane, started)?;
    let installation = install(paper, &control_plane, &args.pullpass)?;
    attach(paper, &control_plane, &installation)?;
    deploy(paper, &control_plane)?;
    show_audit_log(paper, &installation)?;
    if args.keep {
        keep(paper, &control_plane);
    }
    drop(installation);
    drop(control_plane);
    paper.step("The end");
    paper.text("Everything that was started is stopped now, and its files are removed.");
    Ok(())
}

fn show_control_plane(
    paper: &mut Paper,
    control_plane: &ControlPlane,
    started: Duration,
) -> Result<(), Error> {
    paper.step("A Kubernetes control plane");
    let versions = control_plane.run(&["version", "--output=json"])?.stdout;
    let versions: Value = serde_json::from_str(&versions).map_err(|error| Error::Io {
        what: versions,
        source: error.into(),
    })?;
    paper.text(&format!(
        "etcd, kube-apiserver {} and kube-controller-manager, on loopback. There are no nodes: Pods are admitted and \
         stay Pending.",
        text(&versions, "/serverVersion/gitVersion")
    ));
    paper.took("until it was ready", started);
    Ok(())
}

fn install<'a>(
    paper: &mut Paper,
    control_plane: &'a ControlPlane,
    pullpass: &Path,
) -> Result<Installation<'a>, Error> {
    paper.step("pullpass is installed");
    paper.text(
        "The objects of manifests/base: the namespace, the custom resource, and the webhook configuration, which asks \
         only about Pods with an image on *.azurecr.io, .us or .cn. pullpass itself runs as a process next to the \
         cluster.",
    );
    let begin = Instant::now();
    let installation = Installation::builder(control_plane, pullpass)
        .whole_cluster(NAMESPACE)
        .start()?;
    paper.took(
        "until the API server asked it for the first time",
        begin.elapsed(),
    );
    Ok(installation)
}

fn attach(
    paper: &mut Paper,
    control_plane: &ControlPlane,
    installation: &Installation<'_>,
) -> Result<(), Error> {
    paper.step("A registry is attached");
    let begin = Instant::now();
    kubectl(paper, control_plane, &["apply"], REGISTRY)?;
    // This pullpass reads the objects from files.
    installation.add_manifest("registry", &example(REGISTRY)?)?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"containers": [{"name": "probe", "image": "mycontainerregistry.azurecr.io/probe"}]},
    });
    wait_for("pullpass to know the registry", SOON, || {
        let arguments = ["create", "--dry-run=server", "--output=json", "--filename=-"];
        let created = control_plane
            .run_with_input(&arguments, &pod.to_string())
            .map_err(|error| error.to_string())?;
        if created.stdout.contains("pullpass-mycontainerregistry") {
            Ok(())
        } else {
            Err(created.stdout)
        }
    })?;
    paper.took("until a Pod would get its pull secret", begin.elapsed());
    Ok(())
}

fn deploy(paper: &mut Paper, control_plane: &ControlPlane) -> Result<(), Error> {
    paper.step("A Deployment that says nothing of credentials");
    let begin = Instant::now();
    kubectl(
        paper,
        control_plane,
        &["apply", "--namespace", NAMESPACE],
        DEPLOYMENT,
    )?;
    let pods = wait_for("the two Pods", SOON, || {
        let mut list = control_plane
            .get_json(&["pods", "--namespace", NAMESPACE])
            .map_err(|error| error.to_string())?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(pods)) if pods.len() == 2 => Ok(pods),
            other => Err(format!("{other:?}")),
        }
    })?;
    paper.took("until its two Pods were there", begin.elapsed());
    line("");
    let rows: Vec<_> = pods
        .iter()
        .map(|pod| {
            vec![
                text(pod, "/metadata/name").to_owned(),
                text(pod, "/status/phase").to_owned(),
                joined(pod, "/spec/containers", "/image"),
                joined(pod, "/spec/imagePullSecrets", "/name"),
            ]
        })
        .collect();
    paper.table(&["POD", "STATUS", "IMAGE", "IMAGE PULL SECRETS"], &rows);
    Ok(())
}

fn show_audit_log(paper: &mut Paper, installation: &Installation<'_>) -> Result<(), Error> {
    paper.step("Why they have it: pullpass' audit log");
    let records = installation.wait_for_records(NAMESPACE, 2)?;
    show_records(paper, &records);
    Ok(())
}

/// Ends with the signal that Ctrl-C sends; the processes and files end with this one.
fn keep(paper: &mut Paper, control_plane: &ControlPlane) {
    paper.step("Yours to try, until Ctrl-C");
    let command = control_plane.kubectl();
    let directory = Path::new(command.get_program()).parent();
    output(&format!(
        "export KUBECONFIG={} PATH={}:$PATH",
        control_plane.kubeconfig().display(),
        directory.unwrap_or(Path::new(".")).display()
    ));
    output(&format!(
        "kubectl get pods --namespace {NAMESPACE} --output yaml | grep -A1 imagePullSecrets"
    ));
    loop {
        thread::park();
    }
}

fn kubectl(paper: &Paper, control_plane: &ControlPlane, arguments: &[&str], file: &str) -> Result<(), Error> {
    paper.command(&format!("kubectl {} -f examples/{file}", arguments.join(" ")));
    let path = format!("{EXAMPLES}/{file}");
    let printed = control_plane.run(&[arguments, &["--filename", &path]].concat())?;
    output(&printed.stderr);
    output(&printed.stdout);
    Ok(())
}
