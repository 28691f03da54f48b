//! The command line (`docs/cli.md`).

mod attach;
mod audit;
mod bind;
mod check;
mod completions;
mod crd;
mod detach;
mod flags;
mod invocation;
mod kubectl_completion;
mod manual;
mod output;
mod review;
#[cfg(target_os = "linux")]
mod serve;
mod table;
mod target;
mod unbind;
mod version;
mod waiting;
mod written;

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{FromArgMatches, Parser, Subcommand};
use thiserror::Error;

use self::invocation::Invocation;
use crate::base::causes::causes;
#[cfg(target_os = "linux")]
use crate::serve::ServeError;
use crate::view::manifests::ManifestsError;

/// Image pull credentials for Azure Container Registry, given to Pods at admission.
#[derive(Debug, Parser)]
#[command(
    name = "pullpass",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 success; 1 failure; 2 usage or input error; 3 findings that need attention. \
                  COMMAND --help says which.\n\n\
                  Examples:\n  \
                  pullpass attach myregistry --help\n  \
                  pullpass audit\n  \
                  pullpass review -f deployment.yaml --manifests ./cluster"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Each says what it is for at its arguments: a comment here would replace that, and with it the exit codes.
#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(target_os = "linux")]
    Serve(Box<serve::ServeArgs>),
    Review(review::ReviewArgs),
    Attach(Box<attach::AttachArgs>),
    Detach(detach::DetachArgs),
    Bind(Box<bind::BindArgs>),
    Unbind(unbind::UnbindArgs),
    Audit(audit::AuditArgs),
    Check(Box<check::CheckArgs>),
    Version(version::VersionArgs),
    Crd(crd::CrdArgs),
    Completions(completions::CompletionsArgs),
    Man(manual::ManArgs),
}

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
enum CliError {
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    #[error("{0}")]
    Input(String),
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[cfg(target_os = "linux")]
    #[error(
        "the audit log can't be opened: {0}. Choose another file with --audit-log, or - for standard output"
    )]
    Audit(#[source] io::Error),
    #[error("{what}: {error}")]
    Io {
        what: &'static str,
        #[source]
        error: io::Error,
    },
    #[error("the cluster can't be used: {0}")]
    Cluster(String),
    #[error("{0}")]
    Failed(String),
    #[error("Azure can't be used: {0}")]
    Azure(String),
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) | Self::Manifests(_) => ExitCode::from(2),
            #[cfg(target_os = "linux")]
            Self::Serve(ServeError::Manifests(_)) => ExitCode::from(2),
            #[cfg(target_os = "linux")]
            Self::Serve(_) | Self::Audit(_) => ExitCode::FAILURE,
            Self::Io { .. } | Self::Cluster(_) | Self::Failed(_) | Self::Azure(_) | Self::Output(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

/// How long the end of the program waits for what is still under way: longer than the audit log waits for its last records
/// to be taken. Looking up a host's name can take longer, and can't be given up.
const EXIT_TIMEOUT: Duration = Duration::from_secs(6);

/// Runs what waits for a network.
fn block_on<F: Future>(future: F) -> Result<F::Output, CliError> {
    block_on_and_end(future, EXIT_TIMEOUT)
}

fn block_on_and_end<F: Future>(future: F, rest: Duration) -> Result<F::Output, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| CliError::Io {
        what: "the runtime can't be started",
        error,
    })?;
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(rest);
    Ok(output)
}

/// Runs the program.
pub fn run() -> ExitCode {
    let mut words = env::args_os();
    let invocation = Invocation::of(&words.next().unwrap_or_default());
    let done = match invocation {
        Invocation::KubectlCompletion => kubectl_completion::run(words),
        Invocation::Program | Invocation::KubectlPlugin => run_command(invocation),
    };
    match done {
        Ok(code) => code,
        // The reader of the output has seen enough, as `head` does.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pullpass: {}", causes(&error));
            error.exit_code()
        }
    }
}

fn run_command(invocation: Invocation) -> Result<ExitCode, CliError> {
    let matches = invocation.command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        #[cfg(target_os = "linux")]
        Command::Serve(args) => serve::run(*args),
        Command::Review(args) => review::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Bind(args) => bind::run(&args),
        Command::Unbind(args) => unbind::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Version(args) => version::run(&args),
        Command::Crd(args) => crd::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => manual::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::collections::BTreeSet;

    use super::*;
    use clap::builder::{PossibleValue, StyledStr};
    use clap::{Arg, CommandFactory};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_mean_what_they_mean_to_kubectl() {
        let shorts = [
            ('A', "all-namespaces"),
            ('R', "recursive"),
            ('f', "filename"),
            ('l', "selector"),
            ('n', "namespace"),
            ('o', "output"),
        ];
        let of_clusters = [
            "context",
            "cluster",
            "user",
            "as",
            "as-group",
            "as-uid",
            "request-timeout",
        ];
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let long = |argument: &Arg| argument.get_long().unwrap_or_default().to_owned();
            let longs: BTreeSet<_> = command.get_arguments().map(long).collect();
            for argument in command.get_arguments() {
                let long = long(argument);
                if let Some(short) = argument.get_short() {
                    assert!(shorts.contains(&(short, long.as_str())), "{name} -{short}");
                }
                if long == "dry-run" {
                    let values = argument.get_possible_values();
                    let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
                    assert_eq!(values, ["none", "client", "server"], "{name}");
                }
            }
            let reaches_clusters = longs.contains("kubeconfig");
            for flag in of_clusters {
                assert_eq!(longs.contains(flag), reaches_clusters, "{name} --{flag}");
            }
            let writes = ["attach", "detach", "bind", "unbind"].contains(&name);
            assert_eq!(longs.contains("dry-run"), writes, "{name}");
        }
    }

    #[test]
    fn durations_have_one_placeholder() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let is_duration = argument.get_value_parser().type_id() == TypeId::of::<Duration>();
                let names = argument.get_value_names().unwrap_or_default();
                let is_called_so = names.iter().any(|name| name == "DURATION");
                assert_eq!(is_called_so, is_duration, "{} {argument}", command.get_name());
            }
        }
    }

    #[test]
    fn a_task_that_hangs_does_not_keep_the_program() {
        let (never, hangs) = std::sync::mpsc::channel::<()>();
        let done = block_on_and_end(
            async { drop(tokio::task::spawn_blocking(move || hangs.recv())) },
            Duration::from_millis(1),
        );
        assert!(done.is_ok());
        // Only now it may end.
        drop(never);
    }

    #[test]
    fn every_command_has_examples_exit_codes_and_help() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let text = |text: Option<&StyledStr>| text.map(ToString::to_string).unwrap_or_default();
            let (about, examples) = (text(command.get_long_about()), text(command.get_after_help()));
            assert!(
                examples.contains("Example") && examples.contains(&format!("pullpass {name}")),
                "{name} has no example: give it one in after_help"
            );
            assert!(
                about.contains("Exit code: 0"),
                "{name} does not say its exit codes: put them into the comment of its arguments, and none on its variant"
            );
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {argument} has no help");
            }
        }
    }
}
