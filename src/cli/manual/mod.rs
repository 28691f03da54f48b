//! `pullpass man`: the help texts as man pages, and as the page `docs/cli.md`.

mod markdown;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, ValueEnum};
use clap_mangen::{Man, generate_to};

use super::{Cli, CliError};
use crate::cli::output::print;

/// Print the manual, which contains all help texts.
///
/// The man page describes the program; with --directory, there is also a page for every command. In Markdown, one page
/// describes everything. Exit code: 0; 1 if a page can't be written; 2 for bad input.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pullpass man | man -l -
  pullpass man --directory ~/.local/share/man/man1
  pullpass man --format markdown")]
pub(super) struct ManArgs {
    /// What to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Write a man page about the program and one about every command into this existing directory
    #[arg(long, value_name = "DIR", conflicts_with = "format")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A man page
    #[default]
    Roff,
    /// The page of the documentation
    Markdown,
}

/// What there is to describe: not the command that prints what is described.
fn command() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

pub(super) fn run(args: &ManArgs) -> Result<ExitCode, CliError> {
    if let Some(directory) = &args.directory {
        generate_to(command(), directory).map_err(|error| CliError::Io {
            what: "the man pages can't be written; give another --directory",
            error,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    match args.format {
        Format::Roff => Man::new(command()).render(&mut page).map_err(CliError::Output)?,
        Format::Markdown => page.extend(markdown::page(command()).bytes()),
    }
    print(&page).map(|()| ExitCode::SUCCESS)
}
