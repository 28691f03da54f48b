//! `--dry-run`, as kubectl has it.

use clap::{Args, ValueEnum};

/// How far a command goes with what it would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum DryRun {
    /// Change it
    #[default]
    None,
    /// Say what would be changed, and send nothing
    Client,
    /// Send it to the API server, which checks it and stores nothing
    Server,
}

#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct DryRunFlag {
    /// Change nothing: print what would be changed (client, or no value), or let the API server check it (server)
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value_t,
        default_missing_value = "client",
        hide_possible_values = true,
        value_name = "none|client|server"
    )]
    pub(in crate::cli) dry_run: DryRun,
}

impl DryRun {
    /// Whether the API server is asked to keep nothing.
    pub(in crate::cli) fn is_of_server(self) -> bool {
        self == Self::Server
    }

    /// What kubectl writes behind what the API server would have done.
    pub(in crate::cli) fn suffix(self) -> &'static str {
        match self {
            Self::None | Self::Client => "",
            Self::Server => " (server dry run)",
        }
    }
}
