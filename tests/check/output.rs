//! How it is said: as JSON, in colour, and line by line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use pullpass_emulator::{Failure, Fault, Step};
use pullpass_test_support::Azure;
use serde_json::{Value, json};

use crate::world::{Test, assert_said, check, identity, login, pullpass, run};

#[test]
fn json_has_every_step_with_stable_names() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let well: Value = serde_json::from_slice(&check(&azure, &login, &["--output=json"])?.stdout)?;
    assert_eq!(well["schema"], "pullpass.dev/check/v1");
    assert_eq!(
        (&well["ok"], &well["complete"], &well["code"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    let steps: Vec<_> = well["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| &step["step"])
        .collect();
    assert_eq!(steps, ["dns", "tls", "challenge", "entra", "exchange", "clock"]);

    azure.revoke(&login.client, &login.host)?;
    let output = check(&azure, &login, &["--output=json", "--repository=app:v1"])?;
    assert_eq!(output.status.code(), Some(1));
    let mut refused: Value = serde_json::from_slice(&output.stdout)?;
    let mut exchange = refused["steps"][4].take();
    assert!(exchange["millis"].is_u64(), "{exchange:#}");
    exchange["millis"] = json!(1);
    let commands: Vec<_> = exchange["cures"].as_array().into_iter().flatten().collect();
    assert_eq!(commands.len(), 4);
    assert_eq!(
        commands[0]["command"],
        format!(
            "az role assignment create --role AcrPull --assignee {} --scope $(az acr show --name myregistry --query id --output tsv)",
            login.client
        )
    );
    exchange["cures"] = Value::Null;
    assert_eq!(
        exchange,
        json!({
            "step": "exchange", "status": "failed", "millis": 1, "detail": null,
            "code": "CONNECTIVITY_REFRESH_TOKEN_ERROR",
            "cause": "myregistry.azurecr.io does not accept the identity (HTTP 401 UNAUTHORIZED): the \
             identity has no role there, or the role does not act yet",
            "cures": null,
        })
    );
    assert_eq!(
        refused["steps"][5],
        json!({
            "step": "accessToken", "status": "skipped", "millis": null,
            "detail": "not tried, since this failed: Exchange", "code": null, "cause": null, "cures": [],
        })
    );
    refused["steps"] = Value::Null;
    assert_eq!(
        refused,
        json!({
            "schema": "pullpass.dev/check/v1", "loginServer": login.host, "registry": null, "repository": "app:v1",
            "identity": format!("application {} of tenant {}", login.client, login.tenant), "from": "here",
            "ok": false, "complete": false, "code": "CONNECTIVITY_REFRESH_TOKEN_ERROR", "steps": null,
        })
    );
    Ok(())
}

#[test]
fn without_an_identity_the_rest_is_named() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let anonymous = |more: &[&str]| run(pullpass().arg(&login.host).args(azure.flags()).args(more));
    assert_said(
        &azure,
        "anonymous",
        &anonymous(&["--anonymous", "--repository=app"])?,
        0,
    )?;
    let report: Value = serde_json::from_slice(&anonymous(&["--anonymous", "--output=json"])?.stdout)?;
    assert_eq!(
        (&report["ok"], &report["complete"]),
        (&json!(true), &json!(false))
    );
    // Where nobody is named and no cluster is to be had, as much is done.
    let text = String::from_utf8(anonymous(&[])?.stdout)?;
    assert!(
        text.contains("no identity was named, and the cluster can't be used: "),
        "{text}"
    );
    assert!(text.contains("Not checked: Entra ID token, Exchange."), "{text}");
    Ok(())
}

#[test]
fn colour_is_for_terminals_and_for_those_who_want_it() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let with = |variables: &[(&str, &str)]| {
        let output = run(pullpass()
            .arg(&login.host)
            .arg("--anonymous")
            .args(azure.flags())
            .envs(variables.iter().copied()))?;
        Ok::<_, Box<dyn std::error::Error>>(output.stdout.contains(&0x1b))
    };
    assert!(!with(&[])?);
    assert!(with(&[("CLICOLOR_FORCE", "1")])?);
    assert!(!with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])?);
    Ok(())
}

#[test]
fn a_step_is_told_of_when_it_ends() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    azure.inject(Failure::new(Step::Exchange, Fault::Hang));
    let mut child = pullpass()
        .arg(&login.host)
        .args(azure.flags())
        .args(identity(&azure, &login, &login.password)?)
        .arg("--timeout=600")
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    // This ends long before the exchange does.
    let entra = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("Entra ID token"));
    let is_running = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    assert!(entra.is_some_and(|line| line.starts_with('✓')) && is_running);
    Ok(())
}
