//! A cluster without IPv4: its own network has the loopback address of IPv6 alone, and Services have addresses of IPv6.

use std::fs;
use std::process::Command;

use pullpass_test_support::{ControlPlane, MountedServiceAccount, Scratch, Supervised, end_to_end_wanted};
use serde_json::json;

use crate::client::assert_pulls_when_attached;
use crate::world::{SOON, Test, World, text};

/// Takes IPv4 away, has `localhost` mean IPv6 alone, and runs a program.
const WITHOUT_IPV4: &str = r#"
ip link set lo up
ip address delete 127.0.0.1/8 dev lo
mount --bind "$1" /etc/hosts
shift
exec "$@"
"#;

#[test]
fn a_cluster_without_ipv4_pulls_as_others_do() -> Test {
    end_to_end_wanted()?;
    if !fs::exists("/proc/net/if_inet6")? {
        eprintln!("LEFT OUT: the kernel has no IPv6, so that no cluster is without IPv4");
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let hosts = scratch.path().join("hosts");
    fs::write(&hosts, "::1 localhost\n")?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--map-root-user",
            "--net",
            "--mount",
            "bash",
            "-euc",
            WITHOUT_IPV4,
            "bash",
        ])
        .arg(hosts)
        .arg(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture", "ipv6_only::inside"]);
    let mut inside = Supervised::spawn("ipv6-only", &command, scratch.path())?;
    let ended = inside.wait(SOON * 2)?;
    assert!(ended.success(), "{}", inside.log_tail());
    let said = fs::read_to_string(inside.stdout())?;
    assert!(said.contains("1 passed"), "{said}");
    Ok(())
}

#[test]
#[ignore = "a_cluster_without_ipv4_pulls_as_others_do runs it, in a network without IPv4"]
fn inside() -> Test {
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
    let cluster = ControlPlane::start()?;
    let service = cluster.get_json(&["service", "kubernetes", "--namespace=default"])?;
    assert!(text(&service, "/spec/clusterIP").contains(':'), "{service:#}");
    let world = World::start(&cluster, 1, |_| {})?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    cluster.apply(&login.secret(&login.password).to_string())?;
    // A Pod is injected, and an image pulled with the pull secret that its namespace has then.
    assert_pulls_when_attached(&world, &login, &json!({}))?;

    // A program in a Pod is told the address of the API server, and no name.
    let audit = MountedServiceAccount::new(&cluster, "pullpass-system", "pullpass")?
        .command(env!("CARGO_BIN_EXE_pullpass"))
        .args(["audit", "--output=json"])
        .output()?;
    let said = String::from_utf8_lossy(&audit.stdout);
    assert!(
        audit.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&audit.stderr)
    );
    assert!(said.contains(&login.host), "{said}");
    Ok(())
}
