//! Commands as the page shows them: for the cluster that was looked at, wherever the reader's kubeconfig points.

use std::borrow::Cow;

/// A command with the context that `pullpass audit` was given, where it is one that takes a context.
pub(super) fn in_context<'a>(command: &'a str, context: Option<&str>) -> Cow<'a, str> {
    let Some(context) = context else {
        return Cow::Borrowed(command);
    };
    // The flag stands before whatever follows a `--` or a pipe. pullpass takes it after its subcommand.
    let words = match command.split(' ').next() {
        Some("kubectl") => 1,
        Some("pullpass") => 2,
        _ => return Cow::Borrowed(command),
    };
    let mut ends = command.match_indices(' ').map(|(index, _)| index);
    let end = ends.nth(words - 1).unwrap_or(command.len());
    let (before, rest) = command.split_at(end);
    Cow::Owned(format!("{before} --context {}{rest}", quoted(context)))
}

/// A word of a POSIX shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_for_the_context_that_was_given() {
        for (command, expected) in [
            ("kubectl get pods", "kubectl --context prod get pods"),
            (
                "kubectl exec x -- kubectl get pods",
                "kubectl --context prod exec x -- kubectl get pods",
            ),
            ("pullpass check", "pullpass check --context prod"),
            ("pullpass check shop", "pullpass check --context prod shop"),
            ("az acr show --name x", "az acr show --name x"),
            ("kubectl-x y", "kubectl-x y"),
            ("", ""),
        ] {
            assert_eq!(in_context(command, Some("prod")), expected);
            assert_eq!(in_context(command, None), command);
        }
    }

    #[test]
    fn a_context_is_one_word_of_a_shell() {
        for (context, expected) in [
            ("prod", "prod"),
            ("admin@prod-1.example:6443/x", "admin@prod-1.example:6443/x"),
            ("", "''"),
            ("a b", "'a b'"),
            ("~", "'~'"),
            ("x; rm -rf $HOME `id`", "'x; rm -rf $HOME `id`'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(context), expected);
        }
    }
}
