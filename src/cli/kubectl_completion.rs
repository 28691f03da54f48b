//! Completion after `kubectl pullpass`: kubectl runs `kubectl_complete-pullpass` with the words so far, of which the last
//! is being typed, and reads cobra's format: a candidate a line, its help after a tab, and at the end what the shell is to
//! do beyond that (<https://github.com/spf13/cobra/blob/main/site/content/completions/_index.md>).

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::process::ExitCode;

use clap_complete::CompletionCandidate;
use clap_complete::engine::complete;

use crate::cli::CliError;
use crate::cli::invocation::Invocation;
use crate::cli::output::print;

/// Cobra's `ShellCompDirectiveNoSpace`: more of the same word follows.
const NO_SPACE: u8 = 2;
/// Cobra's `ShellCompDirectiveNoFileComp`: where there is no candidate, files are none either.
const NO_FILES: u8 = 4;

pub(super) fn run(words: impl Iterator<Item = OsString>) -> Result<ExitCode, CliError> {
    let mut words: Vec<_> = std::iter::once(OsString::new()).chain(words).collect();
    if words.len() == 1 {
        words.push(OsString::new());
    }
    let typed = words.last().cloned().unwrap_or_default();
    let (last, directory) = (words.len() - 1, env::current_dir().ok());
    // It fails where there is nothing to say, which is no candidate.
    let candidates = complete(
        &mut Invocation::KubectlCompletion.command(),
        words,
        last,
        directory.as_deref(),
    )
    .unwrap_or_default();
    print(render(&candidates, &typed)).map(|()| ExitCode::SUCCESS)
}

fn render(candidates: &[CompletionCandidate], typed: &OsStr) -> String {
    let is_flag = |candidate: &CompletionCandidate| starts_with_dash(candidate.get_value());
    // As kubectl's own: flags are offered when one is begun, or where nothing else can come.
    let flags = starts_with_dash(typed) || candidates.iter().all(is_flag);
    let (mut text, mut directive) = (String::new(), NO_FILES);
    for candidate in candidates.iter().filter(|candidate| flags || !is_flag(candidate)) {
        let Some(value) = candidate.get_value().to_str() else {
            continue;
        };
        // Of --flag=value, cobra's scripts complete only the value.
        let value = match value.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => value,
            _ => value,
        };
        if value.ends_with('/') {
            directive |= NO_SPACE;
        }
        text.push_str(value);
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(line) = help.lines().next() {
            text.extend(["\t", line]);
        }
        text.push('\n');
    }
    // Writing to a String does not fail.
    let _ = writeln!(text, ":{directive}");
    text
}

fn starts_with_dash(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}
