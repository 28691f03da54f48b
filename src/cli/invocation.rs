//! Under which name the program was called: its own, or one of those that kubectl knows plugins by.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsStr;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;

/// What a user types before a command, where the program is a plugin.
const PLUGIN: &str = "kubectl pullpass";

/// As what the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invocation {
    /// As itself, under whatever name.
    Program,
    /// `kubectl pullpass`: kubectl runs `kubectl-pullpass`.
    KubectlPlugin,
    /// A Tab after `kubectl pullpass`: kubectl runs `kubectl_complete-pullpass`.
    KubectlCompletion,
}

impl Invocation {
    /// What the name means that the program was called under.
    pub(super) fn of(program: &OsStr) -> Self {
        let file = Path::new(program).file_name().and_then(OsStr::to_str);
        match file.and_then(|file| file.strip_suffix(EXE_SUFFIX)) {
            Some("kubectl-pullpass") => Self::KubectlPlugin,
            Some("kubectl_complete-pullpass") => Self::KubectlCompletion,
            _ => Self::Program,
        }
    }

    /// The command line, with what the user types in its usage and its examples.
    pub(super) fn command(self) -> clap::Command {
        match self {
            Self::Program => Cli::command(),
            Self::KubectlPlugin | Self::KubectlCompletion => as_plugin(Cli::command()),
        }
    }
}

fn as_plugin(command: clap::Command) -> clap::Command {
    let names: Vec<_> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    in_examples(command, &names)
        .bin_name(PLUGIN)
        .mut_subcommands(|command| in_examples(command, &names))
}

fn in_examples(command: clap::Command, names: &[String]) -> clap::Command {
    let Some(help) = command.get_after_help().map(ToString::to_string) else {
        return command;
    };
    let mut parts = help.split("pullpass ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_command = part
            .split_whitespace()
            .next()
            .is_some_and(|word| names.iter().any(|name| name == word));
        text.push_str(if is_command { PLUGIN } else { "pullpass" });
        text.extend([" ", part]);
    }
    command.after_help(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_and_not_where_it_lies() {
        for (program, invocation) in [
            ("pullpass", Invocation::Program),
            ("", Invocation::Program),
            ("/usr/bin/other", Invocation::Program),
            ("kubectl-pullpass/pullpass", Invocation::Program),
            ("bin/kubectl-pullpass", Invocation::KubectlPlugin),
            ("kubectl_complete-pullpass", Invocation::KubectlCompletion),
        ] {
            assert_eq!(Invocation::of(OsStr::new(program)), invocation, "{program}");
        }
    }
}
