//! `--dry-run`: everything is said and checked, and no cluster is needed.

use std::error::Error;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Ran, finish, pullpass};
use crate::world::Test;

const IDS: [&str; 4] = ["--tenant-id", "TENANT", "--client-id", "CLIENT"];

fn attach(flags: &[&str], input: &str) -> Result<Ran, Box<dyn Error>> {
    let mut command = pullpass();
    command.args(["attach", "MyRegistry", "--dry-run"]).args(flags);
    // A cluster that is asked would be missed.
    command.args(["--kubeconfig", "nowhere"]);
    finish(command, input)
}

const YAML: &str = "\
apiVersion: v1
data:
  password: aHVudGVyMg==
kind: Secret
metadata:
  annotations:
    pullpass.dev/registries: myregistry
  name: identity-myregistry
  namespace: pullpass-system
type: Opaque
---
apiVersion: pullpass.dev/v1alpha1
kind: AcrRegistry
metadata:
  name: myregistry
spec:
  identity:
    servicePrincipal:
      clientId: CLIENT
      clientSecretRef:
        key: password
        name: identity-myregistry
      tenantId: TENANT
  loginServer: myregistry.azurecr.io
";

#[test]
fn the_objects_are_printed_as_they_would_be_written() -> Test {
    let flags = [&IDS[..], &["--client-secret-file=-"]].concat();
    let yaml = attach(&[&flags[..], &["--output=yaml"]].concat(), "hunter2\n")?;
    assert_eq!(
        yaml.stderr,
        "pullpass: the output has the value of secret/identity-myregistry\n"
    );
    assert_eq!(yaml.ok()?, YAML);

    let list = attach(&[&flags[..], &["--output=json"]].concat(), "hunter2")?.ok()?;
    let list: Value = serde_json::from_str(&list)?;
    assert_eq!(list["items"][0]["data"]["password"], "aHVudGVyMg==");
    assert_eq!(list["items"][1]["metadata"]["name"], "myregistry");

    let names = attach(&[&flags[..], &["--output=name"]].concat(), "hunter2")?;
    let expected = "secret/identity-myregistry\nacrregistry.pullpass.dev/myregistry\n";
    assert_eq!((names.stdout.as_str(), names.stderr.as_str()), (expected, ""));

    let said = attach(&flags, "hunter2")?;
    assert_eq!(
        said.stdout,
        "would write secret/identity-myregistry in namespace pullpass-system, with password and the annotation \
         pullpass.dev/registries=myregistry\n\
         would write acrregistry.pullpass.dev/myregistry: myregistry.azurecr.io, service principal CLIENT of tenant TENANT\n"
    );
    assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
    Ok(())
}

#[test]
fn every_kind_of_identity_is_said() -> Test {
    for (flags, says) in [
        (
            &["--workload-identity"][..],
            "workload identity that pullpass was given",
        ),
        (&["--managed-identity"][..], "managed identity of the system"),
        (
            &["--managed-identity", "--client-id=CLIENT"][..],
            "managed identity CLIENT",
        ),
        (
            &["--basic=acr-token", "--own-namespace=elsewhere"][..],
            "a user name and a password of the registry",
        ),
    ] {
        let expected =
            format!("would write acrregistry.pullpass.dev/myregistry: myregistry.azurecr.io, {says}\n");
        assert_eq!(attach(flags, "")?.ok()?, expected);
    }
    let token = ["--token-name=puller", "--token-password-file=-", "--output=json"];
    let list: Value = serde_json::from_str(&attach(&token, "hunter2")?.ok()?)?;
    assert_eq!(
        list["items"][0]["data"],
        json!({"username": "cHVsbGVy", "password": "aHVudGVyMg=="})
    );
    Ok(())
}

fn fails(flags: &[&str], input: &str) -> Result<String, Box<dyn Error>> {
    let said = attach(flags, input)?.failed(2)?;
    assert!(!said.contains("hunter2"), "{said}");
    Ok(said)
}

#[test]
fn kubectls_values_of_the_flag_are_taken() -> Test {
    for flag in ["--dry-run=client", "--dry-run"] {
        let mut command = pullpass();
        command.args([
            "attach",
            "myregistry",
            "--managed-identity",
            flag,
            "--kubeconfig=nowhere",
        ]);
        let said = finish(command, "")?;
        assert_eq!(
            said.stderr,
            "pullpass: nothing was written, and no cluster was asked\n"
        );
    }
    let mut command = pullpass();
    command.args([
        "attach",
        "myregistry",
        "--managed-identity",
        "--dry-run=none",
        "--kubeconfig=nowhere",
    ]);
    let said = finish(command, "")?.failed(1)?;
    assert!(said.contains("the cluster can't be used"), "{said}");
    // A namespace could be taken for a limit of who may use the registry.
    for (command, flag) in [("attach", "-n"), ("detach", "--namespace")] {
        let mut refused = pullpass();
        refused.args([command, "myregistry", flag, "apps", "--kubeconfig=nowhere"]);
        let said = finish(refused, "")?.failed(2)?;
        assert!(said.contains("an AcrRegistry is in no namespace"), "{said}");
    }
    Ok(())
}

#[test]
fn regional_endpoints_and_nobody_are_attached_as_the_registry() -> Test {
    let mut command = pullpass();
    command
        .args([
            "attach",
            "MyRegistry.westeurope.geo.azurecr.io:443",
            "--anonymous",
        ])
        .args(["--dry-run", "--output=yaml", "--kubeconfig", "nowhere"]);
    assert_eq!(
        finish(command, "")?.ok()?,
        "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata:\n  name: myregistry\nspec:\n  identity:\n    \
         anonymous: {}\n  loginServer: myregistry.azurecr.io\n"
    );
    let said = fails(&["--anonymous", "--credential-kind=RefreshToken"], "")?;
    assert!(said.contains("--anonymous has no credential"), "{said}");
    Ok(())
}

#[test]
fn bad_input_is_said_with_what_to_do_and_never_shown() -> Test {
    let scratch = pullpass_test_support::Scratch::new()?;
    let write = |name: &str, text: &[u8]| -> std::io::Result<String> {
        let path = scratch.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let secret = |path: &str| [&IDS[..], &["--client-secret-file", path]].concat().join(" ");
    let certificate = |path: &str| {
        [&IDS[..], &["--client-certificate-file", path]]
            .concat()
            .join(" ")
    };
    let big = write("big", &vec![b'a'; 600 * 1024])?;
    let binary = write("binary", &[0x80, 0xff])?;
    let pfx = write("pfx", &[0x30, 0x82, 0x09, 0xe1, 0x02, 0x01, 0x03])?;
    let no_key = write(
        "no-key",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )?;
    for (flags, input, says) in [
        (String::new(), "", "say who pulls"),
        (
            IDS.join(" "),
            "",
            "pullpass: the client secret of CLIENT is missing, and there is no terminal to ask for it: give it with \
             --client-secret-file FILE, or --client-secret-file - for standard input\n",
        ),
        (
            secret("-"),
            " \n",
            "pullpass: the client secret of CLIENT is empty\n",
        ),
        (secret("/nowhere/at/all"), "", "/nowhere/at/all can't be read"),
        (secret(&big), "", "it is too long"),
        (secret(&binary), "", "UTF-8"),
        (certificate(&pfx), "", "openssl pkcs12 -in FILE"),
        (certificate("-"), "hunter2", "there is no certificate in PEM"),
        (certificate(&no_key), "", "there is no private key in PEM"),
        ("--token-name=t".to_owned(), "", "--token-password-file FILE"),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let said = fails(&flags, input)?;
        assert!(said.contains(says), "{flags:?}: {said}");
    }
    Ok(())
}

#[test]
fn without_a_cluster_it_is_said_which_to_name() -> Test {
    let mut command = pullpass();
    command
        .args(["detach", "myregistry", "--kubeconfig"])
        .arg(Path::new("nowhere"));
    let said = finish(command, "")?.failed(1)?;
    assert!(
        said.contains("Name one with --kubeconfig and --context"),
        "{said}"
    );
    Ok(())
}
