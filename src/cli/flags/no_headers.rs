//! `--no-headers`, as kubectl has it.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct NoHeaders {
    /// Print no table headings
    #[arg(long)]
    no_headers: bool,
}

impl NoHeaders {
    /// Whether tables have headings.
    pub(in crate::cli) fn with_header(self) -> bool {
        !self.no_headers
    }
}
