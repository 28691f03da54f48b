//! The demo on a control plane.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{
    Azure, ControlPlane, Error, Installation, InstallationBuilder, Login, Node, wait_for,
};
use serde_json::Value;

use crate::paper::{Paper, line, output};
use crate::{Args, DEPLOYMENT, EXAMPLES, REGISTRY, joined, show_records, text};

const NAMESPACE: &str = "apps";
const SOON: Duration = Duration::from_secs(30);
/// The name of the registry of the examples, and its `AcrRegistry`'s.
const NAME: &str = "mycontainerregistry";
const PULL_SECRET: &str = "pullpass-mycontainerregistry";
/// The repository that the Deployment of the examples names.
const REPOSITORY: &str = "nginx";
/// The tenant and the client ID that stand in the example.
const PLACEHOLDER: &str = "00000000-0000-0000-0000-000000000000";

pub fn run(
    paper: &mut Paper,
    args: &Args,
    control_plane: ControlPlane,
    started: Duration,
) -> Result<(), Error> {
    show_control_plane(paper, &control_plane, started)?;
    let program = program(paper, args);
    let (azure, login, has_image) = show_azure(paper, program.as_deref())?;
    let node = match program {
        Some(_) if has_image => start_node(paper, &control_plane, &azure)?,
        _ => None,
    };
    let installation = install(paper, &control_plane, &azure, &args.pullpass)?;
    attach(paper, &control_plane, &azure, &login)?;
    deploy(paper, &control_plane, node.is_some())?;
    show_audit_log(paper, &installation)?;
    if node.is_some() {
        opt_out(paper, &control_plane, &login)?;
    } else if has_image {
        pull(paper, &control_plane, &azure, &login)?;
    }
    if args.keep {
        keep(paper, &control_plane, &azure);
    }
    drop(node);
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
        "etcd, kube-apiserver {} and kube-controller-manager, on loopback.",
        text(&versions, "/serverVersion/gitVersion")
    ));
    paper.took("until it was ready", started);
    Ok(())
}

/// What runs in the image, where there can be a node to run it.
fn program(paper: &Paper, args: &Args) -> Option<PathBuf> {
    let possible = if args.no_node {
        Err(Error::NoNode("--no-node is set".to_owned()))
    } else {
        Node::possible()
    };
    match possible.and_then(|()| Node::program()) {
        Ok(program) => Some(program),
        Err(reason) => {
            paper.warning(&format!("So Pods are admitted and stay Pending: {reason}."));
            None
        }
    }
}

fn start_node(paper: &mut Paper, control_plane: &ControlPlane, azure: &Azure) -> Result<Option<Node>, Error> {
    paper.step("A node");
    paper.text(
        "kubelet, containerd and runc, in namespaces of their own. containerd reaches the registry above by its real name, \
         and no other.",
    );
    let begin = Instant::now();
    match Node::start(control_plane, azure) {
        Ok(node) => {
            paper.took("until it was ready", begin.elapsed());
            paper.command("kubectl get nodes");
            output(&control_plane.run(&["get", "nodes"])?.stdout);
            Ok(Some(node))
        }
        Err(reason) => {
            paper.warning(&format!("So Pods are admitted and stay Pending: {reason}"));
            Ok(None)
        }
    }
}

/// Azure, its registry, and whether there is an image in it.
fn show_azure(paper: &mut Paper, program: Option<&Path>) -> Result<(Azure, Login, bool), Error> {
    paper.step("Azure, imitated");
    paper.text(
        "Entra ID's token endpoint and the registry's token service are imitated on loopback, under their real names. \
         The image lies in a real docker-registry.",
    );
    let login = Login {
        tenant: PLACEHOLDER.to_owned(),
        client: PLACEHOLDER.to_owned(),
        ..Login::new(NAME, 0)
    };
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let begin = Instant::now();
    let pushed = match program {
        Some(program) => azure.push_program(&login, REPOSITORY, program, &[]).map(drop),
        None => azure.push_image(&login, REPOSITORY),
    };
    match &pushed {
        Ok(()) => paper.took(
            &format!("until {}/{REPOSITORY}:v1 was pushed", login.host),
            begin.elapsed(),
        ),
        Err(error) => paper.warning(&format!("So nothing is pulled at the end: {error}.")),
    }
    Ok((azure, login, pushed.is_ok()))
}

fn install<'a>(
    paper: &mut Paper,
    control_plane: &'a ControlPlane,
    azure: &Azure,
    pullpass: &Path,
) -> Result<Installation<'a>, Error> {
    paper.step("pullpass is installed");
    paper.text(
        "The objects of manifests/base: the namespace, the custom resource, the service account with its rights, and \
         the webhook configuration, which asks only about Pods with an image on *.azurecr.io, .us or .cn. pullpass \
         itself runs as a process next to the cluster, as that service account.",
    );
    let begin = Instant::now();
    let builder = Installation::builder(control_plane, pullpass)
        .whole_cluster(NAMESPACE)
        .in_cluster();
    let installation = azure
        .flags()
        .into_iter()
        .fold(builder, InstallationBuilder::flag)
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
    azure: &Azure,
    login: &Login,
) -> Result<(), Error> {
    paper.step("A registry is attached");
    let file = azure.directory().join("password");
    std::fs::write(&file, &login.password).map_err(|source| Error::Io {
        what: format!("writing {}", file.display()),
        source,
    })?;
    let command = [
        "create",
        "secret",
        "generic",
        "acr-sp",
        "--namespace",
        "pullpass-system",
    ];
    paper.command(&format!(
        "kubectl {} --from-file=password=FILE",
        command.join(" ")
    ));
    let from_file = format!("--from-file=password={}", file.display());
    output(&control_plane.run(&[&command[..], &[&from_file]].concat())?.stdout);
    let registries = format!("pullpass.dev/registries={NAME}");
    let annotate = [
        "annotate",
        "secret",
        "acr-sp",
        &registries,
        "--namespace",
        "pullpass-system",
    ];
    paper.command(&format!("kubectl {}", annotate.join(" ")));
    output(&control_plane.run(&annotate)?.stdout);
    let begin = Instant::now();
    kubectl(paper, control_plane, &["apply"], REGISTRY)?;
    let resource = format!("acrregistry/{NAME}");
    control_plane.run(&["wait", "--for=condition=Ready", "--timeout=30s", &resource])?;
    paper.took("until its credential was minted", begin.elapsed());
    paper.command("kubectl get acrregistries");
    output(&control_plane.run(&["get", "acrregistries"])?.stdout);
    Ok(())
}

fn deploy(paper: &mut Paper, control_plane: &ControlPlane, has_node: bool) -> Result<(), Error> {
    paper.step("A Deployment without credentials");
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
    paper.took("until its two Pods exist", begin.elapsed());
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
    if !has_node {
        return Ok(());
    }
    let running = ["rollout", "status", "deployment", "--namespace", NAMESPACE];
    control_plane.run(&[&running[..], &["--timeout=60s"]].concat())?;
    line("");
    paper.took(
        "until both ran, with an image that the kubelet pulled",
        begin.elapsed(),
    );
    show_workloads(paper, control_plane)
}

fn show_workloads(paper: &Paper, control_plane: &ControlPlane) -> Result<(), Error> {
    let arguments = ["get", "deployments,pods", "--namespace", NAMESPACE];
    paper.command(&format!("kubectl {}", arguments.join(" ")));
    output(&control_plane.run(&arguments)?.stdout);
    Ok(())
}

/// The same image, which is on the node by now, in a Pod without the pull secret.
fn opt_out(paper: &mut Paper, control_plane: &ControlPlane, login: &Login) -> Result<(), Error> {
    paper.step("A Pod that opted out is refused the same image");
    let image = format!("--image={}/{REPOSITORY}:v1", login.host);
    let run = [
        "run",
        "opted-out",
        "--namespace",
        NAMESPACE,
        &image,
        "--labels=pullpass.dev/inject=disabled",
    ];
    let begin = Instant::now();
    paper.command(&format!("kubectl {}", run.join(" ")));
    output(&control_plane.run(&run)?.stdout);
    let mut nudged = false;
    let said = wait_for("the kubelet to be refused the image", SOON, || {
        let pod = control_plane
            .get_json(&["pod", "opted-out", "--namespace", NAMESPACE])
            .map_err(|error| error.to_string())?;
        let waiting = "/status/containerStatuses/0/state/waiting";
        let reason = text(&pod, &format!("{waiting}/reason"));
        if reason == "ErrImagePull" && !nudged {
            // The kubelet looks at the Pod again after ten seconds, or when the Pod changes.
            let annotate = [
                "annotate",
                "pod",
                "opted-out",
                "--namespace",
                NAMESPACE,
                "demo=waits",
            ];
            control_plane.run(&annotate).map_err(|error| error.to_string())?;
            nudged = true;
        }
        if reason == "ImagePullBackOff" {
            Ok(text(&pod, &format!("{waiting}/message")).to_owned())
        } else {
            Err(reason.to_owned())
        }
    })?;
    paper.took("until the kubelet waits before its next attempt", begin.elapsed());
    show_workloads(paper, control_plane)?;
    line("");
    // What comes before tells the same, once for each layer of software.
    let cause = said.rsplit("failed to authorize: ").next().unwrap_or_default();
    paper.text(&format!("The kubelet says: {cause}"));
    Ok(())
}

fn show_audit_log(paper: &mut Paper, installation: &Installation<'_>) -> Result<(), Error> {
    paper.step("Why they have it: pullpass' audit log");
    let records = installation.wait_for_records(NAMESPACE, 2)?;
    show_records(paper, &records);
    Ok(())
}

fn pull(paper: &mut Paper, control_plane: &ControlPlane, azure: &Azure, login: &Login) -> Result<(), Error> {
    paper.step("The image is pulled with the Secret from the Pods' namespace");
    paper.text(
        "skopeo is given that Secret's docker config, as a kubelet would use it, and then an empty one.",
    );
    let image = format!("docker://{}/{REPOSITORY}:v1", login.host);
    let begin = Instant::now();
    let secret = wait_for("the pull secret", SOON, || {
        control_plane.get_json(&["secret", PULL_SECRET, "--namespace", NAMESPACE])
    })?;
    let broken = |error: &dyn std::fmt::Display| Error::Io {
        what: format!("reading the Secret {PULL_SECRET}"),
        source: std::io::Error::other(error.to_string()),
    };
    let config = STANDARD
        .decode(text(&secret, "/data/.dockerconfigjson"))
        .map_err(|error| broken(&error))?;
    let config = String::from_utf8(config).map_err(|error| broken(&error))?;
    paper.command(&format!("skopeo inspect {image}"));
    let printed = azure.skopeo(&config, &["inspect", "--format", "{{.Name}} {{.Digest}}", &image])?;
    output(&printed);
    paper.took("until it was pulled", begin.elapsed());
    paper.command(&format!("skopeo inspect {image}   # without the Secret"));
    match azure.skopeo(r#"{"auths":{}}"#, &["inspect", &image]) {
        Ok(_) => Err(broken(&"the image can be pulled without it")),
        Err(Error::RegistryClient { stderr, .. }) => {
            let said = stderr.lines().last().unwrap_or_default();
            // What comes before the message is for machines.
            let said = said.split_once("msg=").map_or(said, |(_, message)| message);
            output(&said.trim_matches('"').replace(r#"\""#, "\""));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Ends with the signal that Ctrl-C sends; the processes and files end with this one.
fn keep(paper: &mut Paper, control_plane: &ControlPlane, azure: &Azure) {
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
    paper.text("The way to the registry, for skopeo and curl:");
    output(&format!(
        "HTTPS_PROXY=http://{} SSL_CERT_FILE={} skopeo inspect docker://{NAME}.azurecr.io/{REPOSITORY}:v1",
        azure.proxy_addr(),
        azure.authority_file().display()
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
