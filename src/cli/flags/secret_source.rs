//! Reading what nobody should see: from a file, from standard input, or from the user at the terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use console::Term;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::api::advice::with_advice;
use crate::azure::entra::check_certificate;
use crate::azure::remedy::of_given_certificate;
use crate::base::secret_text::SecretText;
use crate::cli::CliError;

/// More than any password or chain of certificates has: a Secret holds 1 MiB.
const MAX_BYTES: u64 = 512 * 1024;

/// Where a text that nobody should see comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum SecretSource {
    File(PathBuf),
    StandardInput,
    /// Nothing was said: the user at the terminal is asked.
    Prompt,
}

impl SecretSource {
    pub(in crate::cli) fn of(path: Option<&PathBuf>) -> Self {
        match path {
            None => Self::Prompt,
            Some(path) if path.as_os_str() == "-" => Self::StandardInput,
            Some(path) => Self::File(path.clone()),
        }
    }
}

/// The client secret of an application.
pub(in crate::cli) fn client_secret(source: &SecretSource, client_id: &str) -> Result<SecretText, CliError> {
    let what = format!("the client secret of {client_id}");
    Ok(read_from(source, &what, "--client-secret-file")?.trimmed())
}

/// The password of a repository-scoped token.
pub(in crate::cli) fn token_password(source: &SecretSource, name: &str) -> Result<SecretText, CliError> {
    let what = format!("the password of token {name}");
    Ok(read_from(source, &what, "--token-password-file")?.trimmed())
}

/// The certificate of an application with its private key, which fit together.
pub(in crate::cli) fn client_certificate(
    source: &SecretSource,
    client_id: &str,
) -> Result<SecretText, CliError> {
    let what = format!("the certificate of {client_id}");
    let pem = read_from(source, &what, "--client-certificate-file")?;
    match check_certificate(&pem, Timestamp::now()) {
        Ok(()) => Ok(pem),
        Err(error) => {
            let advice = of_given_certificate(client_id, error);
            Err(CliError::Input(with_advice(
                &format!("{what}: {error}"),
                advice.as_deref(),
            )))
        }
    }
}

fn read_from(source: &SecretSource, what: &str, flag: &str) -> Result<SecretText, CliError> {
    let terminal = Term::stderr();
    let may_ask = io::stdin().is_terminal() && terminal.is_term();
    let text = match source {
        SecretSource::File(path) => open(path)
            .and_then(limited)
            .map_err(|error| CliError::Input(format!("{} can't be read: {error}", path.display()))),
        // A user who types it there should not show it to the room.
        SecretSource::StandardInput | SecretSource::Prompt if may_ask => ask(&terminal, what)
            .map_err(|error| CliError::Input(format!("{what} can't be asked for: {error}"))),
        SecretSource::StandardInput => limited(io::stdin().lock())
            .map_err(|error| CliError::Input(format!("standard input can't be read: {error}"))),
        SecretSource::Prompt => Err(CliError::Input(format!(
            "{what} is missing, and there is no terminal to ask for it: give it with {flag} FILE, or {flag} - for \
             standard input"
        ))),
    }?;
    if text.trimmed().is_empty() {
        return Err(CliError::Input(format!("{what} is empty")));
    }
    Ok(text)
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn limited(from: impl Read) -> io::Result<SecretText> {
    // What is wiped, whatever fails.
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(io::Error::other("it is too long"));
    }
    SecretText::decode(&bytes).map_err(io::Error::other)
}

fn ask(terminal: &Term, what: &str) -> io::Result<SecretText> {
    let mut prompt = terminal;
    write!(prompt, "Give {what} (it is not shown): ")?;
    prompt.flush()?;
    terminal.read_secure_line().map(SecretText::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<SecretText, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let source = SecretSource::File(file.path().to_owned());
        client_secret(&source, "c").map_err(|error| {
            let error = error.to_string();
            error.replace(file.path().to_str().unwrap(), "FILE")
        })
    }

    #[test]
    fn marks_and_line_ends_of_a_file_are_no_secret() {
        let utf16: Vec<u8> = "\u{feff}hunter2\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [&b"hunter2\n"[..], b"\xef\xbb\xbfhunter2\r\n", &utf16] {
            assert_eq!(read(bytes).unwrap().expose(), "hunter2", "{bytes:x?}");
        }
    }

    #[test]
    fn an_encoding_that_is_none_is_said() {
        for (bytes, message) in [
            (&b"h\0u\0"[..], "FILE can't be read: it holds NUL characters"),
            (b"h\xe4", "FILE can't be read: it is not text in UTF-8"),
            (b"\xef\xbb\xbf\r\n", "the client secret of c is empty"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
