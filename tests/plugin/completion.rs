//! What kubectl's own completion says after `kubectl pullpass`, which every shell's script asks.

use std::error::Error;
use std::fs;

use crate::kubectl::{Kubectl, Test, kubectl};

/// What can come next, and what the shell is told to do beyond that.
fn completed(kubectl: &Kubectl, words: &[&str]) -> Result<(Vec<String>, String), Box<dyn Error>> {
    let output = kubectl.run(&[&["__complete"], words].concat())?;
    let mut lines: Vec<_> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    let directive = lines.pop().unwrap_or_default();
    Ok((lines, directive))
}

fn values(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split('\t').next()).collect()
}

#[test]
fn commands_come_with_what_they_are_for() -> Test {
    let kubectl = kubectl()?;
    let (lines, directive) = completed(&kubectl, &["pullpass", ""])?;
    assert_eq!(directive, ":4");
    let values = values(&lines);
    for command in ["serve", "review", "audit", "completions"] {
        assert!(values.contains(&command), "{lines:?}");
    }
    assert!(values.iter().all(|value| !value.starts_with('-')), "{lines:?}");
    let (lines, _) = completed(&kubectl, &["pullpass", "cr"])?;
    assert_eq!(
        lines,
        ["crd\tPrint the definitions of the AcrRegistry and AcrIndex resources, in YAML"]
    );
    Ok(())
}

#[test]
fn flags_and_their_values_are_completed() -> Test {
    let kubectl = kubectl()?;
    for (words, expected) in [
        (vec!["audit", "--kube"], vec!["--kubeconfig"]),
        (
            vec!["audit", "--output", ""],
            vec!["table", "wide", "json", "yaml", "name", "html", "openreports"],
        ),
        (vec!["audit", "-o", "j"], vec!["json"]),
        // Of --flag=value the shell completes what comes after the sign.
        (vec!["audit", "--output=w"], vec!["wide"]),
        (vec!["audit", "--namespace", "a"], vec![]),
        (vec!["audit", "nothing", "more", "--help="], vec![]),
        (vec!["unknown", "--x", "y"], vec![]),
    ] {
        let (lines, directive) = completed(&kubectl, &[&["pullpass"], words.as_slice()].concat())?;
        assert_eq!(
            (values(&lines), directive.as_str()),
            (expected, ":4"),
            "{words:?}"
        );
    }
    // Where nothing else can come, a flag can.
    let (lines, _) = completed(&kubectl, &["pullpass", "audit", ""])?;
    assert!(values(&lines).contains(&"--context"), "{lines:?}");
    Ok(())
}

#[test]
fn contexts_are_those_of_the_kubeconfig() -> Test {
    let kubectl = kubectl()?;
    let contexts = ["test", "production"].map(|name| format!("{{name: {name}, context: {{cluster: c}}}}"));
    fs::create_dir(kubectl.directory().join(".kube"))?;
    fs::write(
        kubectl.directory().join(".kube/config"),
        format!(
            "{{apiVersion: v1, kind: Config, contexts: [{}]}}",
            contexts.join(", ")
        ),
    )?;
    let (lines, directive) = completed(&kubectl, &["pullpass", "audit", "--context", ""])?;
    assert_eq!(
        (values(&lines), directive.as_str()),
        (vec!["test", "production"], ":4")
    );
    let (lines, _) = completed(&kubectl, &["pullpass", "audit", "--context=p"])?;
    assert_eq!(values(&lines), ["production"]);
    Ok(())
}

#[test]
fn files_are_completed_and_a_directory_goes_on() -> Test {
    let kubectl = kubectl()?;
    fs::create_dir(kubectl.directory().join("apps"))?;
    fs::write(kubectl.directory().join("apps/web.yaml"), "")?;
    let (lines, directive) = completed(&kubectl, &["pullpass", "review", "-f", "ap"])?;
    assert_eq!((values(&lines), directive.as_str()), (vec!["apps/"], ":6"));
    let (lines, directive) = completed(&kubectl, &["pullpass", "review", "-f", "apps/"])?;
    assert_eq!(
        (values(&lines), directive.as_str()),
        (vec!["apps/web.yaml"], ":4")
    );
    Ok(())
}
