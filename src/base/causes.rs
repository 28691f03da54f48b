//! An error as people read it: with everything that caused it.
//!
//! Libraries say what they were about and leave the reason to `source()`: "client error (Connect)" alone hides that the
//! connection was refused, or that a certificate could not be used. What a person reads of an error comes from here.

use std::error::Error;
use std::io;

/// The errors that led to one, itself first.
///
/// `io::Error::source` passes by what the error itself was made of, so that comes too.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// An error with what caused it, each once.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    causes_but(error, |_| None)
}

/// An error with what caused it, where some errors have other words than their own, since those may hold a secret.
///
/// Nothing is taken from below an error that has other words: many an error repeats its cause. One above that repeats
/// them has them replaced.
pub fn causes_but(
    error: &(dyn Error + 'static),
    other_words: impl Fn(&(dyn Error + 'static)) -> Option<String>,
) -> String {
    let mut said: Vec<String> = Vec::new();
    for error in chain(error) {
        let own = error.to_string();
        let Some(other) = other_words(error) else {
            said.push(own);
            continue;
        };
        // An empty text is in every other one.
        if !own.is_empty() {
            for before in &mut said {
                *before = before.replace(&own, &other);
            }
        }
        said.push(other);
        break;
    }
    let mut text = String::new();
    for more in said {
        if text.is_empty() {
            text = more;
        } else if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("client error (Connect)")]
    struct Silent(#[source] io::Error);

    #[derive(Debug, Error)]
    #[error("it can't be read: {0}")]
    struct Repeating(#[source] Leaf);

    #[derive(Debug, Error)]
    #[error("{0}")]
    struct Leaf(&'static str);

    #[test]
    fn a_cause_below_an_io_error_is_said() {
        let refused = io::Error::other(Silent(io::ErrorKind::ConnectionRefused.into()));
        let error = Silent(io::Error::other(refused));
        assert_eq!(causes(&error), "client error (Connect): connection refused");
    }

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        assert_eq!(causes(&Repeating(Leaf("no"))), "it can't be read: no");
    }

    #[test]
    fn other_words_replace_an_error_wherever_it_is_repeated() {
        let other = |error: &(dyn Error + 'static)| error.is::<Leaf>().then(|| "something".to_owned());
        let error = Silent(io::Error::other(Repeating(Leaf("hunter2"))));
        let text = causes_but(&error, other);
        assert_eq!(text, "client error (Connect): it can't be read: something");
    }
}
