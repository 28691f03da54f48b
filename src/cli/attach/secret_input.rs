//! What the Secret that attaching writes is to hold.

use super::plan::{Content, Wanted};
use crate::base::secret_text::SecretText;
use crate::cli::CliError;
use crate::cli::flags::identity::{CERTIFICATE_KEY, PASSWORD_KEY, USERNAME_KEY};
use crate::cli::flags::secret_source::{client_certificate, client_secret, token_password};

/// Reads what a Secret is to hold.
pub(super) fn read(wanted: &Wanted) -> Result<Content, CliError> {
    Ok(match wanted {
        Wanted::ClientSecret { client_id, from } => [(PASSWORD_KEY, client_secret(from, client_id)?)].into(),
        Wanted::Token { name, from } => [
            (USERNAME_KEY, SecretText::from(name.as_str())),
            (PASSWORD_KEY, token_password(from, name)?),
        ]
        .into(),
        Wanted::Certificate { client_id, from } => {
            [(CERTIFICATE_KEY, client_certificate(from, client_id)?)].into()
        }
    })
}
