//! The commands of `docs/from-az.md` are run as they stand there.

use std::fs;
use std::path::Path;

use pullpass_emulator::{Principal, Registry, ScopedToken};
use pullpass_test_support::Scratch;

use crate::attach::certificate;
use crate::command::{finish, pullpass};
use crate::world::{Test, shared};

#[test]
fn every_command_of_the_page_does_what_it_says() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let (leaf, pem) = certificate(&login)?;
    let mut principal = Principal::new(&login.tenant, &login.client).with_secret(&login.password);
    principal.certificates.push(leaf);
    world.azure.put_principal(principal)?;
    let mut registry = Registry::new(&login.tenant, &login.host);
    registry.tokens = vec![ScopedToken {
        name: "puller".to_owned(),
        passwords: vec![login.password.clone()],
        ..ScopedToken::default()
    }];
    world.azure.put_registry(registry)?;
    let directory = Scratch::new()?;
    fs::write(directory.path().join("password"), &login.password)?;
    fs::write(directory.path().join("certificate.pem"), pem)?;

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-az.md");
    let page = fs::read_to_string(page)?;
    let (mut ran, mut in_commands) = (0, false);
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            in_commands = line == "```sh";
        }
        if !in_commands {
            continue;
        }
        let line = line
            .replace("myregistry", &login.name)
            .replace("TENANT", &login.tenant)
            .replace("CLIENT", &login.client)
            .replace("acr-sp", &login.password_secret());
        let words = line
            .split_whitespace()
            .map(|word| if word == "''" { "" } else { word });
        let mut words = words.collect::<Vec<_>>().into_iter();
        let mut command = match words.next() {
            Some("pullpass") => {
                let mut command = pullpass();
                command.env("KUBECONFIG", world.cluster.kubeconfig());
                command
            }
            Some("kubectl") => world.cluster.kubectl(),
            _ => continue,
        };
        command.args(words).current_dir(directory.path());
        let ran_so = finish(command, "")?;
        // Other tests' Pods may be uncovered.
        let code = if line.starts_with("pullpass audit") && ran_so.code == Some(3) {
            Some(0)
        } else {
            ran_so.code
        };
        assert_eq!(code, Some(0), "{line}: {ran_so:#?}");
        ran += 1;
    }
    assert_eq!(ran, 17, "commands on the page");
    assert!(world.registry(&login).is_err());
    Ok(())
}
