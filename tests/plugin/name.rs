//! Under kubectl the program calls itself what its user typed.

use std::fs;

use crate::kubectl::{Test, kubectl};

#[test]
fn kubectl_finds_the_plugin() -> Test {
    let kubectl = kubectl()?;
    let listed = kubectl.run(&["plugin", "list", "--name-only"])?;
    assert_eq!(
        String::from_utf8(listed.stdout)?.lines().last(),
        Some("kubectl-pullpass"),
        "{}",
        String::from_utf8(listed.stderr)?
    );
    let version = kubectl.run(&["pullpass", "--version"])?;
    assert!(String::from_utf8(version.stdout)?.starts_with("pullpass "));
    Ok(())
}

#[test]
fn usage_examples_and_errors_say_kubectl_pullpass() -> Test {
    let kubectl = kubectl()?;
    for (arguments, said) in [
        (vec!["pullpass", "--help"], "Usage: kubectl pullpass <COMMAND>"),
        (vec!["pullpass", "--help"], "\n  kubectl pullpass audit"),
        (
            vec!["pullpass", "audit", "--help"],
            "Usage: kubectl pullpass audit [OPTIONS]",
        ),
        (
            vec!["pullpass", "review", "-h"],
            "| kubectl pullpass review -f - --manifests",
        ),
        (
            vec!["pullpass", "help", "man"],
            "\n  kubectl pullpass man | man -l -",
        ),
    ] {
        let output = kubectl.run(&arguments)?;
        let help = String::from_utf8(output.stdout)?;
        assert!(help.contains(said), "{arguments:?}: {help}");
        let examples = help.lines().filter(|line| line.starts_with("  pullpass "));
        assert_eq!(examples.count(), 0, "{arguments:?}: {help}");
    }
    let wrong = kubectl.run(&["pullpass", "audit", "--outputs"])?;
    assert_eq!(wrong.status.code(), Some(2));
    let error = String::from_utf8(wrong.stderr)?;
    assert!(error.contains("Usage: kubectl pullpass audit"), "{error}");
    Ok(())
}

#[test]
fn an_exit_code_comes_through() -> Test {
    let kubectl = kubectl()?;
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: myregistry.azurecr.io/a}]}}";
    fs::write(kubectl.directory().join("pod.yaml"), pod)?;
    let review = |flags: &[&str]| kubectl.run(&[&["pullpass", "review", "-f", "pod.yaml"], flags].concat());
    assert_eq!(review(&[])?.status.code(), Some(0));
    assert_eq!(review(&["--unattached=deny"])?.status.code(), Some(3));
    Ok(())
}
