//! Where pullpass runs, for every command that has to know. `--namespace` is never that: it names what is looked at.

use std::fmt;

use clap::Args;
use clap::builder::UnknownArgumentValueParser;

use crate::api::names::OWN_NAMESPACE;
use crate::cli::target::ObjectName;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct OwnNamespace {
    /// The namespace that pullpass runs in
    #[arg(long = "own-namespace", value_name = "NAME", default_value = OWN_NAMESPACE, env = "PULLPASS_NAMESPACE")]
    own_namespace: ObjectName,
}

impl OwnNamespace {
    pub(in crate::cli) fn name(&self) -> &ObjectName {
        &self.own_namespace
    }

    pub(in crate::cli) fn as_str(&self) -> &str {
        self.own_namespace.as_str()
    }
}

impl fmt::Display for OwnNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Refuses `--namespace` where it could be taken for a limit: an AcrRegistry is in no namespace.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct NoNamespace {
    /// Refused: an AcrRegistry is in no namespace
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAME",
        hide = true,
        value_parser = UnknownArgumentValueParser::suggest("an AcrRegistry is in no namespace; --own-namespace is that of pullpass")
    )]
    _namespace: Option<String>,
}
