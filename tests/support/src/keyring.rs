//! A kubelet's keyring.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::Binaries;

/// The names of those Secrets whose credentials a kubelet would try for an image, in its order.
///
/// # Errors
///
/// If the keyring is not there or ends with an error.
pub fn kubelet_tries(image: &str, secrets: &[Value]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut keyring = Command::new(Binaries::locate()?.keyring()?)
        .args([image, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = keyring.stdin.take() {
        stdin.write_all(json!(secrets).to_string().as_bytes())?;
    }
    let output = keyring.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("the keyring ended with {}", output.status).into());
    }
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let credentials = answer.get("credentials").and_then(Value::as_array);
    Ok(credentials
        .into_iter()
        .flatten()
        .filter_map(|credential| Some(credential.get("secret")?.as_str()?.to_owned()))
        .collect())
}
