//! URLs, which are no place for a password and get one all the same: an error about one does not show it.

use std::ffi::OsStr;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

/// Parses a value, and leaves it out of the error, which clap's own parsers show.
#[derive(Debug)]
pub(super) struct Url<T>(PhantomData<fn() -> T>);

/// A parser of URLs.
pub(super) fn url<T>() -> Url<T> {
    Url(PhantomData)
}

// Derived, it would be for a `T` that is `Clone` only.
impl<T> Clone for Url<T> {
    fn clone(&self) -> Self {
        url()
    }
}

impl<T> TypedValueParser for Url<T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        // What is no text is no URL either.
        let parsed = value.to_str().unwrap_or_default().parse::<T>();
        parsed.map_err(|error| {
            let flag = arg.map(Arg::to_string).unwrap_or_default();
            let message = format!("invalid value for '{flag}': {error}\n");
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use crate::cli::flags::audit_log::AuditFlags;
    use crate::cli::flags::azure::AzureFlags;

    #[test]
    fn an_error_about_a_url_does_not_show_it() {
        for (flag, value) in [
            ("--audit-otlp", "https://me:hunter2@c.example"),
            ("--audit-otlp", "https://me:1/hunter2@c.example"),
            ("--authority-host", "https://me:hunter2@login.example"),
            ("--other-cloud-authority", "https://me:hunter2@login.example"),
            ("--other-cloud-audience", "https://me:hunter2@login.example"),
            ("--imds-endpoint", "http://me:hunter2@imds.example"),
        ] {
            let command = AuditFlags::augment_args(AzureFlags::augment_args(clap::Command::new("test")));
            let error = command.try_get_matches_from(["test", flag, value]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(flag), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_url_is_taken() {
        let command = AzureFlags::augment_args(clap::Command::new("test"));
        let matches = command.try_get_matches_from(["test", "--authority-host", "https://login.example"]);
        assert!(AzureFlags::from_arg_matches(&matches.unwrap()).is_ok());
    }
}
