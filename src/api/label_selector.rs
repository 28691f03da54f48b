//! Label selectors as text, in the syntax of `kubectl --selector`.
//!
//! Source: `Parse` in `k8s.io/apimachinery/pkg/labels`. What API objects hold has no numbers, so `>` and `<` are not known.

use std::collections::BTreeSet;
use std::iter::Peekable;

use kube::core::Expression;
use thiserror::Error;

use crate::base::qualified_name::{is_key, is_label_value};

/// Why a text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LabelSelectorError {
    /// It has another form.
    #[error(
        "the label selector has {found} where {expected} is expected: give requirements with commas between them, such as team=a, \
         team!=a, 'team in (a,b)', 'team notin (a,b)', team or '!team'"
    )]
    Form {
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// Kubernetes takes no such key.
    #[error(
        "`{0}` can't be a label's key: give at most 63 letters, digits, `-`, `_` and `.` with a letter or digit at both ends, \
         after a domain and a slash or without"
    )]
    Key(String),
    /// Kubernetes takes no such value.
    #[error(
        "`{0}` can't be a label's value: give at most 63 letters, digits, `-`, `_` and `.` with a letter or digit at both ends"
    )]
    Value(String),
}

/// Parses the requirements, in their order. An empty text has none.
pub fn parse(text: &str) -> Result<Vec<Expression>, LabelSelectorError> {
    let mut parser = Parser(tokens(text).into_iter().peekable());
    let mut expressions = Vec::new();
    if parser.0.peek().is_none() {
        return Ok(expressions);
    }
    loop {
        expressions.push(parser.requirement()?);
        match parser.0.next() {
            None => return Ok(expressions),
            Some(",") => {}
            Some(other) => return Err(unexpected(Some(other), "a comma")),
        }
    }
}

/// Words and signs, without the blanks between them.
fn tokens(text: &str) -> Vec<&str> {
    let is_sign = |character: char| "=!(),<>".contains(character);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if is_sign(first) {
            1
        } else {
            rest.find(|character: char| is_sign(character) || character.is_whitespace())
                .unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

fn is_word(token: &str) -> bool {
    !token.starts_with(['=', '!', '(', ')', ',', '<', '>'])
}

fn unexpected(found: Option<&str>, expected: &'static str) -> LabelSelectorError {
    let found = found.map_or_else(|| "its end".to_owned(), |found| format!("`{found}`"));
    LabelSelectorError::Form { found, expected }
}

/// What is left to read.
struct Parser<'t>(Peekable<std::vec::IntoIter<&'t str>>);

impl Parser<'_> {
    fn requirement(&mut self) -> Result<Expression, LabelSelectorError> {
        if self.0.next_if_eq(&"!").is_some() {
            return Ok(Expression::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        if self.0.peek().is_none_or(|next| *next == ",") {
            return Ok(Expression::Exists(key));
        }
        match self.0.next() {
            Some("=" | "==") => Ok(Expression::Equal(key, self.value()?)),
            Some("!=") => Ok(Expression::NotEqual(key, self.value()?)),
            Some("in") => Ok(Expression::In(key, self.values()?)),
            Some("notin") => Ok(Expression::NotIn(key, self.values()?)),
            other => Err(unexpected(other, "one of =, !=, in, notin")),
        }
    }

    fn key(&mut self) -> Result<String, LabelSelectorError> {
        let key = match self.0.next() {
            Some(key) if is_word(key) => key,
            other => return Err(unexpected(other, "a label's key")),
        };
        if is_key(key) {
            Ok(key.to_owned())
        } else {
            Err(LabelSelectorError::Key(key.to_owned()))
        }
    }

    /// A value, which may be empty.
    fn value(&mut self) -> Result<String, LabelSelectorError> {
        let value = self.0.next_if(|next| is_word(next)).unwrap_or_default();
        if is_label_value(value) {
            Ok(value.to_owned())
        } else {
            Err(LabelSelectorError::Value(value.to_owned()))
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, LabelSelectorError> {
        if self.0.next_if_eq(&"(").is_none() {
            return Err(unexpected(self.0.next(), "an opening parenthesis"));
        }
        if self.0.peek() == Some(&")") {
            return Err(unexpected(Some(")"), "a value"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            match self.0.next() {
                Some(")") => return Ok(values),
                Some(",") => {}
                other => return Err(unexpected(other, "a comma or a closing parenthesis")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_kubectl_takes() {
        for (text, expected) in [
            ("", &[][..]),
            (" ", &[]),
            ("team=a", &["team=a"]),
            ("team == a", &["team=a"]),
            ("team=", &["team="]),
            ("team = , b", &["team=", "b"]),
            ("team!=a", &["team!=a"]),
            ("team != ", &["team!="]),
            ("team in (b, a,b)", &["team in (a,b)"]),
            ("team in (,)", &["team in ()"]),
            ("team notin ( a ,, b )", &["team notin (,a,b)"]),
            ("contoso.com/team", &["contoso.com/team"]),
            ("! legacy", &["!legacy"]),
            ("b=1,a , !c,b=2", &["b=1", "a", "!c", "b=2"]),
            ("in in (in,notin)", &["in in (in,notin)"]),
        ] {
            let parsed = parse(text).unwrap();
            let parsed: Vec<_> = parsed.iter().map(ToString::to_string).collect();
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn another_text_is_refused_with_its_reason() {
        for (text, says) in [
            ("team=a,", "its end where a label's key"),
            (",team", "`,` where a label's key"),
            ("=a", "`=` where a label's key"),
            ("!", "its end where a label's key"),
            ("team in a", "`a` where an opening parenthesis"),
            ("team in", "its end where an opening parenthesis"),
            ("team in ()", "`)` where a value"),
            ("team in (a", "its end where a comma or a closing parenthesis"),
            ("team of (a)", "`of` where one of"),
            ("team>1", "`>` where one of"),
            ("team!", "`!` where one of"),
            ("te am", "`am` where one of"),
            ("team=a b", "`b` where a comma"),
            ("a=b=c", "`=` where a comma"),
            ("-team=a", "`-team` can't be a label's key"),
            ("/a", "`/a` can't be a label's key"),
            ("a/", "`a/` can't be a label's key"),
            ("team=-a", "`-a` can't be a label's value"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
