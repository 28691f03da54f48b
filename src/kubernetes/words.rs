//! The text of a call's error for people: the API server's own words, or else the error with its causes, and never a
//! secret.
//!
//! Some of the client's errors print their input. That can be a value of a Secret, a line of a kubeconfig, or the
//! output of the command that a kubeconfig has for credentials: a token.

use std::error::Error;
use std::io;

use kube::client::AuthError;
use kube::config::KubeconfigError;
use kube::runtime::watcher;

use crate::base::causes::causes_but;

/// How much of what a command says of its failure is repeated, in bytes.
const MAX_SAID: usize = 512;

/// An error as a person is told about it.
pub(crate) trait Words {
    /// The API server's own words, or else the error with all its causes.
    fn words(&self) -> String;
}

impl Words for kube::Error {
    fn words(&self) -> String {
        words(self)
    }
}

/// The words of an error that may come from the client of an API server.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    causes_but(error, other_words)
}

fn other_words(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<kube::Error>() {
        return match error {
            kube::Error::Api(status) => Some(status.message.clone()),
            _ => None,
        };
    }
    if let Some(watcher::Error::WatchError(status)) = error.downcast_ref::<watcher::Error>() {
        return Some(status.message.clone());
    }
    if let Some(error) = error.downcast_ref::<serde_json::Error>() {
        let (line, column) = (error.line(), error.column());
        return Some(format!("unexpected JSON at line {line}, column {column}"));
    }
    if let Some(KubeconfigError::Parse(error)) = error.downcast_ref::<KubeconfigError>() {
        let place = error.location().map_or_else(String::new, |place| {
            format!(" at line {}, column {}", place.line(), place.column())
        });
        return Some(format!("the kubeconfig is not YAML of a kubeconfig{place}"));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The client's own limits; the system's have a number and words.
        let is_limit = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
        return is_limit.then(|| "no answer in time".to_owned());
    }
    match error.downcast_ref::<AuthError>()? {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim();
            let said = said.get(..said.floor_char_boundary(MAX_SAID)).unwrap_or_default();
            Some(format!(
                "the command for credentials that the kubeconfig names failed with {}: {said}",
                out.status
            ))
        }
        AuthError::AuthExecParse(_) => {
            Some("the command for credentials that the kubeconfig names printed no ExecCredential".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn a_refusal_is_said_in_the_servers_own_words() {
        let status = serde_json::json!({"status": "Failure", "message": "no such right", "code": 403});
        let refusal = || Box::new(serde_json::from_value(status.clone()).unwrap());
        assert_eq!(kube::Error::Api(refusal()).words(), "no such right");
        let watch = watcher::Error::WatchError(refusal());
        assert_eq!(words(&watch), "no such right");
        let list = watcher::Error::InitialListFailed(kube::Error::Api(refusal()));
        assert_eq!(
            words(&list),
            "failed to perform initial object list: no such right"
        );
    }

    #[test]
    fn a_watch_that_fails_is_said_with_all_that_caused_it() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = kube::Error::Service(Box::new(io::Error::other(refused)));
        assert_eq!(
            words(&watcher::Error::InitialListFailed(error)),
            "failed to perform initial object list: ServiceError: connection refused"
        );
    }

    #[test]
    fn a_limit_of_the_client_is_said_in_plain_words() {
        let said = |error| kube::Error::Service(Box::new(io::Error::other(error))).words();
        let limit = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        assert_eq!(said(limit), "ServiceError: no answer in time");
        let limit = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(said(limit), "ServiceError: no answer in time");
        let system = said(io::Error::from_raw_os_error(110));
        assert!(system.contains("os error 110"), "{system}");
    }

    #[test]
    fn an_answer_that_is_not_understood_is_not_repeated() {
        let error = serde_json::from_str::<Vec<u8>>("[\"hunter2\"]").unwrap_err();
        assert!(error.to_string().contains("hunter2"), "{error}");
        let said = kube::Error::SerdeError(error).words();
        assert_eq!(
            said,
            "Error deserializing response: unexpected JSON at line 1, column 10"
        );
    }

    #[test]
    fn a_command_for_credentials_is_not_repeated() {
        let failed = AuthError::AuthExecRun {
            cmd: "login --password hunter2".to_owned(),
            out: Box::new(Output {
                status: ExitStatus::from_raw(0x100),
                stdout: b"{\"token\": \"hunter2\"}".to_vec(),
                stderr: b"the session has expired\n".to_vec(),
            }),
        };
        let error = kube::Error::Service(Box::new(io::Error::other(kube::Error::Auth(failed))));
        assert_eq!(
            error.words(),
            "ServiceError: auth error: the command for credentials that the kubeconfig names failed with exit status: 1: \
             the session has expired"
        );
    }

    #[test]
    fn a_broken_kubeconfig_is_not_repeated() {
        let text = "users:\n- name: me\n  user:\n    token: hunter2\n    token: hunter2\n   broken: [\n";
        let error = Kubeconfig::from_yaml(text).unwrap_err();
        assert!(format!("{error}").contains("hunter2"), "{error}");
        let said = words(&error);
        assert!(
            said.starts_with("the kubeconfig is not YAML of a kubeconfig at line "),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}
