//! A cluster of teams: each has a registry of its own, and its share of the namespaces.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use pullpass_test_support::{ControlPlane, Installation, Login, wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::floor::Floor;
use crate::observer::Observer;
use crate::support::Result;
use crate::world::{self, Administrator};

/// How many namespaces are made concurrently.
const CONCURRENCY: usize = 16;
/// How long pullpass may take to serve all of them.
const SERVED_TIMEOUT: Duration = Duration::from_mins(5);

/// The registries of so many teams.
pub(crate) fn logins(teams: usize) -> Vec<Login> {
    let numbers = 1..=teams;
    numbers
        .map(|number| Login::new(&format!("registry{number}"), number))
        .collect()
}

/// Makes so many namespaces for so many teams.
pub(crate) async fn make_namespaces(client: &Client, teams: usize, count: usize) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = stream::iter(0..count).map(|number| {
        let namespaces = namespaces.clone();
        async move {
            let object = json!({"metadata": {"name": namespace(number), "labels": labels(number % teams)}});
            let object = serde_json::from_value(object)?;
            namespaces.create(&PostParams::default(), &object).await?;
            Result::Ok(())
        }
    });
    made.buffer_unordered(CONCURRENCY).try_collect().await
}

/// The name of a namespace.
pub(crate) fn namespace(number: usize) -> String {
    format!("app-{number}")
}

fn name_of(team: usize) -> String {
    format!("t{team}")
}

/// The labels of a team's namespaces.
pub(crate) fn labels(team: usize) -> Value {
    json!({"team": name_of(team)})
}

/// What selects the namespaces of a team.
pub(crate) fn selector(team: usize) -> Value {
    json!({"namespaces": {"matchLabels": labels(team)}})
}

/// Attaches each registry for a team of its own, ahead of time.
pub(crate) fn attach(cluster: &ControlPlane, logins: &[Login]) -> Result<()> {
    let mut items = Vec::new();
    for (team, login) in logins.iter().enumerate() {
        let mut object = login.acr_registry();
        let fields = object.pointer_mut("/spec").and_then(Value::as_object_mut);
        let fields = fields.ok_or("an AcrRegistry has no spec")?;
        fields.insert("namespaces".to_owned(), json!({"matchLabels": labels(team)}));
        fields.insert("provision".to_owned(), json!("Eager"));
        items.extend([login.secret(&login.password), object]);
    }
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    Ok(())
}

/// Waits until the leader counts so many namespaces as served, of all registries together.
pub(crate) fn wait_for_served(pullpass: &Installation<'_>, count: usize) -> Result<()> {
    wait_for(
        &format!("{count} namespaces to be served"),
        SERVED_TIMEOUT,
        || {
            let metrics = pullpass.metrics().map_err(|error| error.to_string())?;
            let served: usize = metrics
                .lines()
                .filter(|line| line.starts_with("pullpass_namespaces{") && line.contains("state=\"served\""))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
                .sum();
            if served == count {
                Ok(())
            } else {
                Err(format!("{served} are"))
            }
        },
    )?;
    Ok(())
}

/// Watches through a client of its own.
pub(crate) fn observe(
    runtime: &Runtime,
    cluster: &ControlPlane,
    watch: impl FnOnce(Client) -> Observer,
) -> Result<Observer> {
    runtime.block_on(async { Ok(watch(world::client(cluster.kubeconfig()).await?)) })
}

/// One for each registry. They share connections, as pullpass' writes do.
pub(crate) fn floors(
    runtime: &Runtime,
    cluster: &ControlPlane,
    administrator: &Client,
    logins: &[Login],
) -> Result<Vec<Floor>> {
    let account = world::account_kubeconfig(cluster)?;
    runtime.block_on(async {
        let client = world::client(&account).await?;
        let mut floors = Vec::with_capacity(logins.len());
        for login in logins {
            let minted = Administrator::new(administrator.clone(), login.clone());
            let minted = minted.minted().await?;
            floors.push(Floor::new(client.clone(), login, minted)?);
        }
        Ok(floors)
    })
}

/// Waits until so many registries have a credential.
pub(crate) fn wait_until_minted(cluster: &ControlPlane, count: usize) -> Result<()> {
    wait_for("the registries to be ready", world::READY_TIMEOUT, || {
        let list = cluster.get_json(&["acrregistries"]);
        let list = list.map_err(|error| error.to_string())?;
        let items = list.get("items").and_then(Value::as_array);
        let reason = |item: &&Value| item.pointer("/status/conditions/0/reason") == Some(&json!("Minted"));
        let minted = items.into_iter().flatten().filter(reason).count();
        (minted == count)
            .then_some(())
            .ok_or_else(|| format!("{minted} of {count} are"))
    })?;
    Ok(())
}
