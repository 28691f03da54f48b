//! Connections that the API server keeps for its next request.

use std::thread;
use std::time::Duration;

use crate::ask::Connection;
use crate::world::{NAMESPACE, Test, World};

/// Longer than anything that a client may take within a request. That it is kept for longer than by the API server is
/// shown by a clock that the test moves (`src/server/connection.rs`).
const IDLE: Duration = Duration::from_secs(7);

/// The API server keeps an idle connection for 90 seconds. A server that closes it sooner does so now and then while a review is on
/// its way, and that review is lost: a POST is not sent again.
#[test]
fn a_connection_that_is_idle_is_not_ended_here() -> Test {
    let world = World::start(|_| {})?;
    let login = world.login(1)?;
    let replica = world.start_replica(&[])?;
    world.publish(&[&replica])?;
    world.attach(login)?;
    world.wait_until_injected(login)?;
    let mut connection = Connection::open(&replica, &world.bundle()?)?;
    connection.ask(NAMESPACE, login)?;
    thread::sleep(IDLE);
    let answer = connection.ask(NAMESPACE, login)?;
    assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
    assert!(
        !answer.head.to_ascii_lowercase().contains("connection: close"),
        "{}",
        answer.head
    );
    Ok(())
}
