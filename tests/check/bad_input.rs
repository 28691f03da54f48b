//! What is reported before any call.

use std::io::Write;
use std::process::Stdio;

use pullpass_emulator::RsaSigner;
use pullpass_test_support::{Azure, Scratch};

use crate::world::{Test, assert_said, login, pullpass, run};

#[test]
fn bad_input_is_told_of_with_exit_code_2() -> Test {
    let scratch = Scratch::new()?;
    let empty = scratch.path().join("empty");
    std::fs::write(&empty, "\n")?;
    let secret = |file: &str| format!("--client-secret-file={file}");
    let (empty, missing) = (secret(&empty.display().to_string()), secret("/nowhere/secret"));
    std::fs::write(scratch.path().join("certificate"), "no PEM")?;
    let certificate = scratch.path().join("certificate");
    let certificate = format!("--client-certificate-file={}", certificate.display());
    let expired = scratch.path().join("expired");
    let (from, end) = ("2024-01-01T00:00:00Z".parse()?, "2025-01-01T00:00:00Z".parse()?);
    let leaf = RsaSigner::FIRST.certificate_for("old", from, end)?;
    std::fs::write(&expired, format!("{leaf}{}", RsaSigner::FIRST.pem()))?;
    let expired = format!("--client-certificate-file={}", expired.display());
    let host = "myregistry.azurecr.io";
    let (tenant, client) = ("--tenant-id=t", "--client-id=c");
    for (arguments, expected) in [
        (
            vec!["My_Registry"],
            "neither the name of an AcrRegistry nor a login server",
        ),
        (
            vec![host, "--anonymous", "--repository=App"],
            "--repository: the repository must be lower-case",
        ),
        (
            vec![host, "--anonymous", "--repository=a.example/app"],
            "--repository: it names the registry a.example",
        ),
        (
            vec![host, tenant, client, &empty],
            "the client secret of c is empty",
        ),
        (
            vec![host, tenant, client, &missing],
            "/nowhere/secret can't be read: No such file",
        ),
        (vec![host, tenant, client], "--client-secret-file"),
        (vec![host, "--client-secret-file=-"], "--tenant-id"),
        (vec![host, "--workload-identity"], "AZURE_FEDERATED_TOKEN_FILE"),
        (
            vec![host, tenant, client, &certificate],
            "the certificate of c: there is no certificate in PEM",
        ),
        (
            vec![host, tenant, client, &expired],
            "the certificate of c: the certificate expired on 2025-01-01T00:00:00Z. What to do: make a certificate",
        ),
        (vec![host, "--token-name=puller"], "--token-password-file"),
        (vec![host, "--identity-resource-id=id"], "--managed-identity"),
        (vec![host, "--federated-token-file=file"], "--workload-identity"),
        (vec![host, "--token-name=puller", tenant], "cannot be used with"),
        (vec![host, "--in-cluster", tenant], "cannot be used with"),
        (
            vec![host, "--anonymous", "--managed-identity"],
            "cannot be used with",
        ),
        (
            vec![host, "--in-cluster", "--repository=app"],
            "cannot be used with",
        ),
    ] {
        let output = run(pullpass().args(&arguments))?;
        let said = String::from_utf8(output.stderr)?;
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
    Ok(())
}

#[test]
fn a_secret_may_come_by_standard_input() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let mut child = pullpass()
        .arg(&login.host)
        .args(azure.flags())
        .args([
            "--tenant-id",
            &login.tenant,
            "--client-id",
            &login.client,
            "--client-secret-file",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(login.password.as_bytes())?;
    }
    assert_said(&azure, "well", &child.wait_with_output()?, 0)
}
