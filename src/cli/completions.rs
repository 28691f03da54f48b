//! `pullpass completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::cli::output::print;
use crate::cli::{Cli, CliError};

/// Print a script that makes a shell complete pullpass' commands and flags.
///
/// Exit code: 0; 2 for a shell that is not known.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(pullpass completions bash)    # for this shell only; the lines below are permanent
  pullpass completions bash > ~/.local/share/bash-completion/completions/pullpass
  pullpass completions zsh > ~/.zfunc/_pullpass    # ~/.zfunc is in fpath before compinit
  pullpass completions fish > ~/.config/fish/completions/pullpass.fish
  pullpass completions powershell >> $PROFILE
  pullpass completions elvish >> ~/.config/elvish/rc.elv

The kubectl plugin needs kubectl's own completion, which asks this program under another name:
  ln -s \"$(command -v kubectl-pullpass)\" ~/.local/bin/kubectl_complete-pullpass")]
pub(super) struct CompletionsArgs {
    /// The shell to print the script for
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "pullpass", &mut script);
    print(&script).map(|()| ExitCode::SUCCESS)
}
