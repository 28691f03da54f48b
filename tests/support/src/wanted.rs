use std::env;
use std::io::{self, Write};
use std::process;
use std::sync::OnceLock;

use crate::error::Error;

const BANNER: &str = "
**********************************************************************
**                                                                  **
**                 END-TO-END TESTS WERE NOT RUN                    **
**                                                                  **
**   PULLPASS_E2E=off is set. Nothing of what they show was shown.  **
**   With CI=true this is a failure.                                **
**                                                                  **
**********************************************************************
";

/// Ends the whole program where end-to-end tests are not wanted (`PULLPASS_E2E=off`), so that none is reported as
/// passed.
pub fn end_to_end_wanted() -> Result<(), Error> {
    static OTHER: OnceLock<Option<String>> = OnceLock::new();
    let other = OTHER.get_or_init(|| match env::var_os("PULLPASS_E2E") {
        None => None,
        Some(value) if value == "off" => {
            // Past the test harness, which would keep it for itself. Who has closed standard error sees the status.
            let _ = io::stderr().write_all(BANNER.as_bytes());
            process::exit(i32::from(env::var_os("CI").is_some_and(|ci| ci == "true")))
        }
        Some(value) => Some(value.display().to_string()),
    });
    match other {
        None => Ok(()),
        Some(value) => Err(Error::Wanted(value.clone())),
    }
}
