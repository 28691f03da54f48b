//! `--no-headers`, as kubectl has it.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct NoHeaders {
    /// Print only the rows of the table, without headings; notes go to standard error
    #[arg(long)]
    no_headers: bool,
}

impl NoHeaders {
    /// Whether tables have headings, and notes below them.
    pub(in crate::cli) fn with_header(self) -> bool {
        !self.no_headers
    }
}
