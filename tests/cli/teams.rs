//! The commands of `docs/teams.md` are run as they stand there, by somebody who has the rights that the page names; what Azure
//! would have done is done before.

use std::fs;
use std::path::Path;

use pullpass_test_support::wait_for;

use crate::bound_world::with_bindings;
use crate::command::{finish, pullpass};
use crate::world::{SOON, Test, World};

/// Under this heading the page speaks to a cluster administrator.
const ADMINISTRATORS: &str = "## Install the component";

/// A word of a command, for this registry and this namespace.
fn fitted(word: &str, registry: &str, namespace: &str) -> String {
    match word {
        "shop" => namespace.to_owned(),
        word => word.replace("contosoapps", registry),
    }
}

/// Gives a user the rights that the page names, and nothing else.
fn make_owner(world: &World, user: &str, namespace: &str) -> Test {
    let flag = format!("--user={user}");
    for role in ["admin", "pullpass-edit"] {
        let clusterrole = format!("--clusterrole={role}");
        let create = [
            "create",
            "rolebinding",
            role,
            &clusterrole,
            &flag,
            "--namespace",
            namespace,
        ];
        world.cluster.run(&create)?;
    }
    let create = [
        "create",
        "clusterrolebinding",
        user,
        "--clusterrole=pullpass-view",
        &flag,
    ];
    world.cluster.run(&create)?;
    wait_for("the rights to be known", SOON, || {
        let may = |verb, what, scope: &[&str]| {
            let may = world.cluster.may(user, verb, what, scope);
            may.map_err(|error| error.to_string())
        };
        let in_namespace = ["--namespace", namespace];
        let has_all = may("create", "acrpullbindings", &in_namespace)?
            && may("create", "roles", &in_namespace)?
            && may("list", "acrregistries", &[])?;
        if has_all {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })?;
    assert!(!world.cluster.may(user, "create", "acrregistries", &[])?);
    assert!(
        !world
            .cluster
            .may(user, "get", "secrets", &["--namespace", "pullpass-system"])?
    );
    Ok(())
}

#[test]
fn every_command_of_the_page_does_what_it_says() -> Test {
    let world = with_bindings()?;
    let login = world.login()?;
    let namespace = world.pullpass.new_namespace(&[])?;
    world.trust(&login, &namespace, "puller")?;
    world.azure.push_image(&login, "web")?;
    let azure = world.azure.flags();
    let owner = format!("owner-of-{namespace}");
    make_owner(world, &owner, &namespace)?;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/teams.md");
    let page = fs::read_to_string(page)?;
    let (mut ran, mut in_commands, mut said) = (0, false, String::new());
    let mut is_owners = true;
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            in_commands = line == "```sh";
        }
        if line.starts_with("## ") {
            is_owners = line != ADMINISTRATORS;
        }
        if !in_commands {
            continue;
        }
        let words: Vec<_> = line
            .split_whitespace()
            .map(|word| fitted(word, &login.name, &namespace))
            .map(|word| {
                word.replace("TENANT", &login.tenant)
                    .replace("CLIENT", &login.client)
            })
            .collect();
        let mut command = match words.first().map(String::as_str) {
            Some("pullpass") => {
                let mut command = pullpass();
                command.env("KUBECONFIG", world.cluster.kubeconfig());
                command
            }
            Some("kubectl") => world.cluster.kubectl(),
            _ => continue,
        };
        command.args(words.iter().skip(1));
        if is_owners {
            command.args(["--as", &owner]);
        }
        if words.iter().any(|word| word == "check") {
            command.args(&azure);
        }
        let ended = finish(command, "")?;
        assert_eq!(ended.code, Some(0), "{line}: {ended:#?}");
        said.push_str(
            &ended
                .stdout
                .replace(&login.name, "contosoapps")
                .replace(&namespace, "shop"),
        );
        ran += 1;
    }
    assert_eq!(ran, 10, "commands on the page");
    // What the page shows is what was said, except for times, and with what stands on standard error left out.
    let shown = said
        .replace(&login.tenant, "TENANT")
        .replace(&login.client, "CLIENT");
    let mut in_output = false;
    for line in page.lines().map(str::trim_end) {
        if line.trim_start().starts_with("```") {
            in_output = ["```text", "```yaml"].contains(&line.trim_start());
            continue;
        }
        let line = if line.starts_with("   ") {
            line.get(3..).unwrap_or_default()
        } else {
            line
        };
        let is_elsewhere = line.starts_with("Waiting for") || line.contains("its credential expires at");
        if in_output && !is_elsewhere && !line.is_empty() {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }
    Ok(())
}
