//! What the API server's own policies cost the creation of a Pod, beside the webhook and beside nothing, with few and many
//! registries, and with namespaces that have bindings. All take turns, since a machine is never quiet. A dry run is measured: the same admission, and no write.

#[expect(dead_code, reason = "other benchmarks share the rest of it")]
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use pullpass_test_support::{
    Azure, ControlPlane, Installation, InstallationBuilder, Login, kube_client, wait_for,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use support::{Output, Result, median, table};

const ADMISSION_POLICY: &str = include_str!("../../manifests/components/admission-policy/policy.yaml");
const ENFORCE: &str = include_str!("../../manifests/components/enforce/policy.yaml");
/// The label by which the policies pick the namespaces of their turns.
const TURN: &str = "bench";
const READY_TIMEOUT: Duration = Duration::from_mins(3);
/// What the component bindings has beside the setting.
const BINDINGS: [&str; 2] = [
    include_str!("../../manifests/components/bindings/crd.yaml"),
    include_str!("../../manifests/components/bindings/rbac.yaml"),
];
/// The host of the binding that each turn's namespace has.
const BOUND: &str = "boundregistry.azurecr.io";

/// Who looks at a Pod of a turn's namespace.
const TURNS: [&str; 6] = [
    "nothing",
    "admission-policy",
    "always-inject",
    "enforce",
    "both",
    "webhook",
];
/// The turn of the policy that looks at no image, and adds the names of all registries.
const ALWAYS: &str = "always-inject";
/// The turns in which the rules are judged.
const JUDGED: [&str; 3] = ["enforce", "both", "webhook"];
/// An AcrRegistry that is for no namespace, by which it shows that they are.
const CLOSED: &str = "closedregistry";

/// Of the token that pulls.
const PASSWORD: &str = "of-a-benchmark";

/// Measures what the API server's own policies cost the creation of a Pod
#[derive(Debug, Parser)]
struct Arguments {
    /// How many registries are attached, from few to many
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 10, 50, 200, 1_000])]
    registries: Vec<usize>,
    /// How many namespaces have an AcrPullBinding, beside those of the turns
    #[arg(long, default_value_t = 0)]
    bindings: usize,
    /// How many Pods of each kind are created in each turn
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
    /// A short form, which shows that it works: two numbers and few Pods
    #[arg(long, env = "QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured of one kind of Pod, with so many registries.
#[derive(Debug, Serialize)]
struct Row {
    registries: usize,
    pod: &'static str,
    /// The median of each turn, in milliseconds, in the order of the turns.
    milliseconds: Vec<f64>,
}

fn main() -> ExitCode {
    support::main("policy", || run(Arguments::parse()))
}

fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.quick {
        arguments.registries = vec![0, 10];
        arguments.pods = 10;
    }
    arguments.registries.sort_unstable();
    eprintln!("a control plane is started");
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    let azure = azure(arguments.registries.last().copied().unwrap_or_default())?;
    // Of the rules one is in force, so that every Pod is judged.
    let pullpass = Installation::builder(&cluster, env!("CARGO_BIN_EXE_pullpass"))
        .in_cluster()
        .flag("--forbidden=deny");
    let pullpass = azure
        .flags()
        .into_iter()
        .fold(pullpass, InstallationBuilder::flag);
    let has_bindings = arguments.bindings > 0;
    let pullpass = if has_bindings {
        for part in BINDINGS {
            cluster.apply(part)?;
        }
        pullpass.flag("--bindings").start()?
    } else {
        pullpass.start()?
    };
    let runtime = Runtime::new()?;
    let turns = prepare(&cluster, &pullpass, &runtime)?;
    cluster.create(&registry(CLOSED, &json!({"matchLabels": {TURN: "none"}})).to_string())?;
    if has_bindings {
        bind(&cluster, arguments.bindings)?;
    }
    let mut rows = Vec::new();
    let mut attached = 0;
    for registries in arguments.registries {
        eprintln!("{registries} AcrRegistries");
        attach(&cluster, attached..registries)?;
        attached = registries;
        let mut images = vec![
            ("without an image on ACR", "nginx".to_owned()),
            ("with one", image(registries)),
        ];
        if has_bindings {
            images.push(("with one of a binding", format!("{BOUND}/team/app:1")));
        }
        wait_until_known(&cluster, &runtime, &turns, registries, has_bindings)?;
        for (pod, image) in images {
            let milliseconds = measure(&runtime, &turns, &image, arguments.pods)?;
            rows.push(Row {
                registries,
                pod,
                milliseconds,
            });
        }
    }
    print!("{}", render(&rows, arguments.output)?);
    Ok(())
}

/// An Azure with so many registries, and the one that is for no namespace: `always-inject` leaves out registries for which nothing
/// could be minted.
fn azure(registries: usize) -> Result<Azure> {
    let names = (0..registries)
        .map(|number| format!("registry{number}"))
        .chain([CLOSED.to_owned()]);
    let logins: Vec<_> = names
        .zip(1..)
        .map(|(name, number)| Login::new(&name, number))
        .collect();
    Ok(Azure::with_token(&logins, "token", PASSWORD)?)
}

/// Makes a namespace for each turn, and the policies that look at some of them.
fn prepare(cluster: &ControlPlane, pullpass: &Installation<'_>, runtime: &Runtime) -> Result<Vec<Api<Pod>>> {
    let client = kube_client(runtime, cluster.kubeconfig())?;
    let mut pods = Vec::new();
    for turn in TURNS {
        if turn == "webhook" {
            pullpass.add_namespace(turn, &[(TURN, turn)])?;
        } else {
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": turn},
            });
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": turn, "labels": {TURN: turn}},
            });
            cluster.apply(&list(&[namespace, account]))?;
        }
        pods.push(Api::namespaced(client.clone(), turn));
    }
    let token = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "token", "namespace": "pullpass-system", "annotations": {"pullpass.dev/registries": "*"},
        },
        "stringData": {"username": "token", "password": PASSWORD},
    });
    cluster.apply(&token.to_string())?;
    for (policies, turn) in [(ADMISSION_POLICY, "admission-policy"), (ENFORCE, "enforce")] {
        for text in policies.split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(text)?;
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let turns = if name == Some("pullpass-always") {
                vec![ALWAYS]
            } else {
                vec![turn, "both"]
            };
            if let Some(constraints) = object
                .pointer_mut("/spec/matchConstraints")
                .and_then(Value::as_object_mut)
            {
                let picked = json!({"key": TURN, "operator": "In", "values": turns});
                constraints.insert(
                    "namespaceSelector".to_owned(),
                    json!({"matchExpressions": [picked]}),
                );
            }
            cluster.apply(&object.to_string())?;
        }
    }
    Ok(pods)
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// An image of the last of so many registries; of a stranger's where there is none.
fn image(registries: usize) -> String {
    match registries.checked_sub(1) {
        Some(last) => format!("registry{last}.azurecr.io/team/app:1"),
        None => "stranger.azurecr.io/team/app:1".to_owned(),
    }
}

fn registry(name: &str, namespaces: &Value) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
        "spec": {
            "loginServer": format!("{name}.azurecr.io"),
            "identity": {"basic": {"secretRef": {"name": "token"}}},
            "namespaces": namespaces,
        },
    })
}

fn attach(cluster: &ControlPlane, numbers: std::ops::Range<usize>) -> Result<()> {
    let every = Value::Null;
    let objects: Vec<_> = numbers
        .map(|number| registry(&format!("registry{number}"), &every))
        .collect();
    if !objects.is_empty() {
        cluster.create(&list(&objects))?;
    }
    Ok(())
}

/// Binds every turn's namespace and so many others, and waits until the index has that.
fn bind(cluster: &ControlPlane, others: usize) -> Result<()> {
    let binding = |namespace: &str, host: &str| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "app", "namespace": namespace},
            "spec": {"loginServer": host, "serviceAccountName": "puller"},
        })
    };
    let mut objects: Vec<_> = TURNS.iter().map(|turn| binding(turn, BOUND)).collect();
    for number in 0..others {
        let namespace = format!("team-{number}");
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        objects.push(binding(&namespace, &format!("teamregistry{number}.azurecr.io")));
    }
    cluster.create(&list(&objects))?;
    wait_for("the bindings in the index", READY_TIMEOUT, || {
        let index = cluster
            .get_json(&["acrindex", "pullpass"])
            .map_err(|error| error.to_string())?;
        let bindings = index.pointer("/spec/bindings").and_then(Value::as_object);
        let known = bindings.map_or(0, serde_json::Map::len);
        if known == TURNS.len() + others {
            Ok(())
        } else {
            Err(format!("{known} of {others}"))
        }
    })?;
    Ok(())
}

/// Waits until both the policies and the webhook inject what the last of so many registries needs, and refuse what is
/// forbidden.
fn wait_until_known(
    cluster: &ControlPlane,
    runtime: &Runtime,
    turns: &[Api<Pod>],
    registries: usize,
    has_bindings: bool,
) -> Result<()> {
    wait_for("the index", READY_TIMEOUT, || {
        let index = cluster
            .get_json(&["acrindex", "pullpass"])
            .map_err(|error| error.to_string())?;
        let hosts = index.pointer("/spec/hosts").and_then(Value::as_object);
        let known = hosts.map_or(0, serde_json::Map::len);
        if known == registries + 1 {
            Ok(())
        } else {
            Err(format!("{known} of {registries}"))
        }
    })?;
    for (name, pods) in TURNS.into_iter().zip(turns) {
        let expected = match name {
            "nothing" | "enforce" => 0,
            ALWAYS => registries + usize::from(has_bindings),
            _ => registries.min(1),
        };
        wait_for("everybody to know the registries", READY_TIMEOUT, || {
            let created = runtime
                .block_on(create(pods, &image(registries)))
                .map_err(|error| error.to_string())?;
            let secrets = created
                .spec
                .and_then(|spec| spec.image_pull_secrets)
                .map_or(0, |secrets| secrets.len());
            if secrets == expected {
                Ok(())
            } else {
                Err(format!("{name}: {secrets} pull secrets"))
            }
        })?;
        let closed = format!("{CLOSED}.azurecr.io/team/app:1");
        wait_for("the rules to be judged where they are", READY_TIMEOUT, || {
            let refusal = match runtime.block_on(create(pods, &closed)) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            if refusal.contains("(rule: forbidden)") == JUDGED.contains(&name) {
                Ok(())
            } else {
                Err(format!("{name}: {refusal}"))
            }
        })?;
    }
    Ok(())
}

async fn create(pods: &Api<Pod>, image: &str) -> Result<Pod> {
    let pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"},
        "spec": {"containers": [{"name": "main", "image": image}, {"name": "other", "image": "nginx"}]},
    }))?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Ok(pods.create(&dry_run, &pod).await?)
}

/// The median of each turn, in milliseconds.
fn measure(runtime: &Runtime, turns: &[Api<Pod>], image: &str, pods: u32) -> Result<Vec<f64>> {
    let mut took = vec![Vec::new(); turns.len()];
    for _ in 0..pods {
        for (turn, took) in turns.iter().zip(&mut took) {
            let begun = Instant::now();
            runtime.block_on(create(turn, image))?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(took.into_iter().map(|took| median(took.into_iter())).collect())
}

fn render(rows: &[Row], output: Output) -> Result<String> {
    if output == Output::Json {
        return Ok(serde_json::to_string_pretty(&json!({"turns": TURNS, "rows": rows}))? + "\n");
    }
    let [nothing, policy, always, enforce, both, webhook] = TURNS.map(str::to_owned);
    let mut lines = vec![[
        "AcrRegistries".to_owned(),
        "a Pod".to_owned(),
        nothing,
        policy,
        always,
        enforce,
        both,
        webhook,
    ]];
    for row in rows {
        let floor = row.milliseconds.first().copied().unwrap_or(f64::NAN);
        let cell = |turn: usize| {
            let took = row.milliseconds.get(turn).copied().unwrap_or(f64::NAN);
            if turn == 0 {
                format!("{took:.2} ms")
            } else {
                format!("{took:.2} ms ({:.2})", took / floor)
            }
        };
        lines.push([
            row.registries.to_string(),
            row.pod.to_owned(),
            cell(0),
            cell(1),
            cell(2),
            cell(3),
            cell(4),
            cell(5),
        ]);
    }
    Ok(format!(
        "{}medians; in parentheses: times what it takes with nothing\n",
        table(&lines)
    ))
}
