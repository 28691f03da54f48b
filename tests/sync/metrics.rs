//! The metrics of credentials and secrets, held against what the cluster and Azure have.

use std::error::Error;

use jiff::Timestamp;
use pullpass_emulator::Step;
use pullpass_test_support::{Installation, Login, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret, replica, text};

/// The value of a series, written as Prometheus does: name, then labels.
fn value(replica: &Installation<'_>, series: &str) -> Result<Option<f64>, Box<dyn Error>> {
    let metrics = replica.metrics()?;
    let value = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(series)?;
        rest.strip_prefix(' ')
    });
    Ok(value.map(str::parse).transpose()?)
}

fn wait_for_value(replica: &Installation<'_>, series: &str, expected: f64) -> Test {
    wait_for(&format!("{series} to be {expected}"), SOON, || {
        match value(replica, series) {
            Ok(Some(value)) if (value - expected).abs() < f64::EPSILON => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

/// How many pull secrets pullpass wrote, as the API server saw it.
fn writes(world: &World) -> Result<f64, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    let count = events
        .iter()
        .filter(|event| {
            text(event, "/verb") == "patch"
                && text(event, "/objectRef/resource") == "secrets"
                && text(event, "/objectRef/namespace") != "pullpass-system"
                // Not one, and not written: the try whether the fence is in force.
                && !text(event, "/objectRef/name").starts_with("pullpass-fence.probe-")
        })
        .count();
    Ok(f64::from(u32::try_from(count)?))
}

/// After two credentials that were minted, and one that was refused.
fn assert_azure_was_asked(world: &World) -> Test {
    let asked = |service: &str, code: u16| {
        let series = format!("pullpass_azure_requests_total{{service=\"{service}\",code=\"{code}\"}}");
        value(&world.pullpass, &series).map(Option::unwrap_or_default)
    };
    assert!((asked("entra", 200)? - 2.0).abs() < f64::EPSILON);
    assert!(asked("entra", 401)? >= 1.0);
    assert!(asked("acr", 200)? >= 2.0);
    Ok(())
}

/// The AcrRegistry when its status counts two namespaces that have the pull secret, and one that can't.
fn counted_in_the_status(world: &World, login: &Login) -> Result<Value, Box<dyn Error>> {
    Ok(wait_for("the status to count both", SOON, || {
        let object = world.registry(login).map_err(|error| error.to_string())?;
        let counted = |state: &str| {
            object
                .pointer(&format!("/status/namespaces/{state}"))
                .and_then(Value::as_u64)
        };
        if (counted("served"), counted("failed")) == (Some(2), Some(1)) {
            Ok(object)
        } else {
            Err(object.to_string())
        }
    })?)
}

#[test]
fn the_metrics_say_what_the_cluster_and_azure_have() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 2, |_| {})?;
    wait_for_value(&world.pullpass, "pullpass_leader", 1.0)?;
    let login = world.attached(&json!({}))?;
    let name = &login.name;
    let namespaces = [world.namespace_in_need(&login)?, world.namespace_in_need(&login)?];
    for namespace in &namespaces {
        world.wait_for_secret(namespace, &login)?;
    }
    // Everything is written again every other second, so that the two are equal only in between.
    wait_for("the writes to be those that the API server saw", SOON, || {
        let seen = writes(&world).map_err(|error| error.to_string())?;
        match value(&world.pullpass, "pullpass_secret_write_duration_seconds_count") {
            Ok(Some(count)) if (count - seen).abs() < f64::EPSILON && count > 2.0 => Ok(()),
            other => Err(format!("{other:?} where the API server saw {seen}")),
        }
    })?;

    // Where a foreign Secret has the name, none can be written, and each try takes two calls.
    let taken = world.pullpass.new_namespace(&[])?;
    let foreign = pull_secret(&login);
    cluster.run(&["create", "secret", "generic", &foreign, "--namespace", &taken])?;
    world.run_pod(&taken, &login)?;

    let state = |state: &str| format!("pullpass_namespaces{{registry=\"{name}\",state=\"{state}\"}}");
    wait_for_value(&world.pullpass, &state("served"), 2.0)?;
    wait_for_value(&world.pullpass, &state("failed"), 1.0)?;
    let object = counted_in_the_status(&world, &login)?;
    let expires: Timestamp = text(&object, "/status/credential/expiresAt").parse()?;
    let expiry = format!("pullpass_credential_expiry_timestamp_seconds{{registry=\"{name}\"}}");
    let seconds = f64::from(u32::try_from(expires.as_second())?);
    wait_for_value(&world.pullpass, &expiry, seconds)?;

    // One for each Pod that got its secret: the third waits.
    wait_for_value(&world.pullpass, "pullpass_secret_ready_lag_seconds_count", 2.0)?;
    let lag = value(&world.pullpass, "pullpass_secret_ready_lag_seconds_sum")?.unwrap_or_default();
    assert!(lag > 0.0 && lag < 60.0, "{lag}");
    let writes_as = |result: &str| {
        value(
            &world.pullpass,
            &format!("pullpass_secret_writes_total{{result=\"{result}\"}}"),
        )
    };
    assert!(writes_as("written")?.is_some_and(|count| count >= 2.0));
    assert!(writes_as("name-conflict")?.is_some_and(|count| count >= 1.0));
    // The third Pod gets its secret when the foreign one is gone.
    cluster.run(&["delete", "secret", &foreign, "--namespace", &taken])?;
    wait_for_value(&world.pullpass, &state("served"), 3.0)?;
    wait_for_value(&world.pullpass, &state("failed"), 0.0)?;
    world.wait_for_reason(&login, "Minted")?;

    // A password that is refused, and one that is not.
    let refreshes = |result: &str, reason: &str| {
        format!(
            "pullpass_credential_refresh_total{{registry=\"{name}\",result=\"{result}\",reason=\"{reason}\"}}"
        )
    };
    let (success, failure) = (refreshes("success", ""), refreshes("failure", "EntraRejected"));
    wait_for_value(&world.pullpass, &success, 1.0)?;
    assert_eq!(value(&world.pullpass, &failure)?, None);
    world.cluster.apply(&login.secret("wrong").to_string())?;
    world.wait_for_reason(&login, "EntraRejected")?;
    let failures = value(&world.pullpass, &failure)?.unwrap_or_default();
    assert!(failures >= 1.0, "{failures}");
    let condition = |status: &str, reason: &str| {
        format!(
            "pullpass_registry_condition{{registry=\"{name}\",type=\"Ready\",status=\"{status}\",reason=\"{reason}\"}}"
        )
    };
    wait_for_value(&world.pullpass, &condition("False", "EntraRejected"), 1.0)?;
    wait_for_value(&world.pullpass, &condition("True", ""), 0.0)?;
    // The old one is in use until there is another.
    wait_for_value(&world.pullpass, &expiry, seconds)?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    wait_for_value(&world.pullpass, &success, 2.0)?;
    wait_for_value(&world.pullpass, &condition("True", "Minted"), 1.0)?;
    assert_eq!(
        value(&world.pullpass, &condition("False", "EntraRejected"))?,
        None
    );
    assert_azure_was_asked(&world)?;
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 2);

    // Another replica does not lead, and says of registries nothing that it does not know.
    let second = replica(&cluster, &world.azure)?;
    wait_for_value(&second, "pullpass_leader", 0.0)?;
    wait_for_value(&world.pullpass, "pullpass_leader", 1.0)?;
    assert_eq!(value(&second, &expiry)?, None);

    // Of a registry that is detached nothing is said any more.
    world.detach(&login)?;
    world.wait_until_nothing_is_left(&login)?;
    let series = format!("registry=\"{name}\"");
    wait_for("the series of the registry to end", SOON, || {
        let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
        let left: Vec<_> = metrics.lines().filter(|line| line.contains(&series)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("; "))
        }
    })?;
    Ok(())
}
