//! `--no-headers`, as kubectl has it.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct NoHeaders {
    /// Leave out the headings of tables
    #[arg(long)]
    no_headers: bool,
}

impl NoHeaders {
    /// Whether tables have headings.
    pub(in crate::cli) fn with_header(self) -> bool {
        !self.no_headers
    }
}
