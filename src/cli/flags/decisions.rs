//! Flags that several commands share.

use clap::Args;

use crate::api::names::OWN_NAMESPACE;
use crate::policy::decision::Settings;
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::{Mode, Scope};

/// What a decision depends on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Decisions")]
pub(in crate::cli) struct DecisionFlags {
    /// Which namespaces are injected unless a label says otherwise
    #[arg(long, value_enum, default_value_t, env = "PULLPASS_MODE")]
    pub(in crate::cli) mode: Mode,
    /// Namespaces that are never injected, besides the system's and pullpass' own
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "PULLPASS_EXCLUDE_NAMESPACES"
    )]
    pub(in crate::cli) exclude_namespaces: Vec<String>,
    /// The namespace that pullpass runs in
    #[arg(long, value_name = "NAME", default_value = OWN_NAMESPACE, env = "PULLPASS_NAMESPACE")]
    pub(in crate::cli) namespace: String,
    /// What to do about an image on ACR whose registry is not attached
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = Action::Allow, env = "PULLPASS_UNATTACHED")]
    pub(in crate::cli) unattached: Action,
    /// What to do about an image whose registry is attached, but not for the Pod's namespace
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = Action::Warn, env = "PULLPASS_FORBIDDEN")]
    pub(in crate::cli) forbidden: Action,
}

impl DecisionFlags {
    pub(in crate::cli) fn settings(&self) -> Settings {
        Settings {
            scope: Scope::new(
                self.mode,
                &self.namespace,
                self.exclude_namespaces.iter().cloned(),
            ),
            policy: Policy {
                unattached: self.unattached,
                forbidden: self.forbidden,
            },
        }
    }
}
