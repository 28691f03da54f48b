//! The secret sync while clients without credentials hold the webhook's port.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pullpass::server::Limits;
use pullpass_test_support::wait_for;
use serde_json::json;

use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret};

/// How often another connection is opened.
const INTERVAL: Duration = Duration::from_millis(2);

/// Connections that say nothing, a few more than a replica keeps open, each in the place of an older one.
struct Flood {
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let client = thread::spawn(move || {
            let mut open = VecDeque::new();
            while !ends.load(Ordering::Relaxed) {
                open.extend(TcpStream::connect_timeout(&address, SOON));
                if open.len() > Limits::default().connections + 32 {
                    open.pop_front();
                }
                thread::sleep(INTERVAL);
            }
        });
        Self {
            is_over,
            client: Some(client),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.client.take().map(JoinHandle::join);
    }
}

/// Waits until more than so many connections were ended for others, and returns how many were.
fn wait_until_more_are_ended(world: &World, before: u64) -> Result<u64, Box<dyn std::error::Error>> {
    let series = "pullpass_requests_refused_total{reason=\"connections\"} ";
    Ok(wait_for("connections to be ended for others", SOON, || {
        let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
        let count = metrics.lines().find_map(|line| line.strip_prefix(series));
        match count.and_then(|count| count.parse().ok()) {
            Some(count) if count > before => Ok(count),
            count => Err(format!("{count:?}")),
        }
    })?)
}

#[test]
fn pull_secrets_are_written_while_the_port_is_flooded() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 2, |_| {})?;
    let early = world.attached(&json!({}))?;
    let _flood = Flood::start(world.pullpass.address());
    let before = wait_until_more_are_ended(&world, 0)?;

    let namespace = world.namespace_in_need(&early)?;
    let secret = world.wait_for_secret(&namespace, &early)?;
    cluster.run(&[
        "delete",
        "secret",
        "--namespace",
        &namespace,
        &pull_secret(&early),
    ])?;
    world.wait_for_secret_that(&namespace, &early, "be put back", |other| {
        other.pointer("/metadata/uid") != secret.pointer("/metadata/uid")
    })?;
    let late = world.attached(&json!({"provision": "Eager"}))?;
    world.wait_for_secret(&namespace, &late)?;
    wait_until_more_are_ended(&world, before)?;
    Ok(())
}
