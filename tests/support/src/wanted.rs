use std::env;
use std::ffi::OsStr;
use std::sync::OnceLock;

use crate::error::Error;
use crate::node::Node;

/// Ends a test that needs a control plane as failed where end-to-end tests are not wanted (`PULLPASS_E2E=off`), before
/// it starts anything. There is no way to leave a test out and have it reported as passed; those that need nothing run.
pub fn end_to_end_wanted() -> Result<(), Error> {
    decide(env::var_os("PULLPASS_E2E").as_deref()).inspect_err(|error| {
        // The harness shows only the error's `Debug`, and this with it.
        eprintln!("{error}");
    })
}

/// The same for a test that needs a real node, which not every machine can have.
pub fn node_wanted() -> Result<(), Error> {
    static POSSIBLE: OnceLock<Result<(), String>> = OnceLock::new();
    end_to_end_wanted()?;
    let possible = POSSIBLE.get_or_init(|| {
        Node::possible().map_err(|error| match error {
            Error::NoNode(reason) => reason,
            other => other.to_string(),
        })
    });
    possible
        .clone()
        .map_err(Error::NoNode)
        .inspect_err(|error| eprintln!("{error}"))
}

fn decide(setting: Option<&OsStr>) -> Result<(), Error> {
    match setting {
        None => Ok(()),
        Some(value) if value == "off" => Err(Error::NotRun),
        Some(value) => Err(Error::Wanted(value.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_left_out_has_failed() {
        assert!(decide(None).is_ok());
        let off = decide(Some(OsStr::new("off")));
        assert!(matches!(&off, Err(Error::NotRun)), "{off:?}");
        let other = decide(Some(OsStr::new("on")));
        assert!(
            matches!(&other, Err(Error::Wanted(value)) if value == "on"),
            "{other:?}"
        );
    }
}
