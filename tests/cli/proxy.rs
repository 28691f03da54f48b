//! A cluster behind a proxy, as a kubeconfig or the environment names one.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use pullpass_test_support::{ControlPlane, Scratch};
use serde_json::{Value, json};

use crate::command::{finish, pullpass, run};
use crate::world::{Test, shared};

/// Audits the Pods of a namespace in which there are none.
const AUDIT: [&str; 3] = ["audit", "--namespace", "kube-public"];

/// A proxy, and the heads of what it was asked. It ends with the test's process.
fn proxy() -> Result<(SocketAddr, Receiver<String>), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (asked, heads) = channel();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let asked = asked.clone();
            thread::spawn(move || {
                let mut client = BufReader::new(client);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if !matches!(client.read_line(&mut head), Ok(length) if length > 0) {
                        return;
                    }
                }
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let _ = asked.send(head);
                let _ = tunnel(client.into_inner(), &target);
            });
        }
    });
    Ok((address, heads))
}

fn tunnel(mut client: TcpStream, target: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)
}

/// The cluster's kubeconfig, with a proxy.
fn kubeconfig(cluster: &ControlPlane, scratch: &Scratch, proxy: &str) -> Result<PathBuf, Box<dyn Error>> {
    let mut content: Value = serde_saphyr::from_str(&fs::read_to_string(cluster.kubeconfig())?)?;
    let named = content
        .pointer_mut("/clusters/0/cluster")
        .and_then(Value::as_object_mut)
        .ok_or("the kubeconfig names no cluster")?;
    named.insert("proxy-url".to_owned(), json!(proxy));
    let file = scratch.path().join("kubeconfig");
    fs::write(&file, content.to_string())?;
    Ok(file)
}

#[test]
fn the_proxy_of_a_kubeconfig_is_asked_for_the_cluster() -> Test {
    let world = shared()?;
    let (address, heads) = proxy()?;
    let scratch = Scratch::new()?;
    let file = kubeconfig(world.cluster, &scratch, &format!("http://user:hunter2@{address}"))?;
    run(&file, &AUDIT)?.ok()?;
    let head = heads.try_recv()?;
    let url = world.cluster.url();
    let host = url.trim_start_matches("https://");
    assert!(
        head.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase().contains("proxy-authorization: basic "),
        "{head}"
    );
    Ok(())
}

#[test]
fn a_proxy_that_can_not_be_used_is_said_without_its_password() -> Test {
    let world = shared()?;
    let scratch = Scratch::new()?;
    let file = kubeconfig(world.cluster, &scratch, "socks5://user:hunter2@127.0.0.1:1")?;
    let said = run(&file, &AUDIT)?.failed(1)?;
    assert!(
        said.contains("only an http:// proxy can be used for HTTPS"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    Ok(())
}

#[test]
fn the_environments_proxy_is_not_asked_for_this_machine() -> Test {
    let world = shared()?;
    let mut command = pullpass();
    command
        .args(AUDIT)
        .arg("--kubeconfig")
        .arg(world.cluster.kubeconfig())
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    finish(command, "")?.ok()?;
    Ok(())
}
