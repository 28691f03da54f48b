//! Flags that several commands share.

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};

use crate::api::names::OWN_NAMESPACE;
use crate::cli::flags::choice::one_of;
use crate::policy::decision::Settings;
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::{Mode, Scope};

/// What a decision depends on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Decisions")]
pub(in crate::cli) struct DecisionFlags {
    /// Which namespaces are injected unless a label says otherwise
    #[arg(long, value_parser = mode(), default_value = Mode::default().as_str(), env = "PULLPASS_MODE")]
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
    #[arg(long, visible_alias = "namespace", value_name = "NAME", default_value = OWN_NAMESPACE, env = "PULLPASS_NAMESPACE")]
    pub(in crate::cli) own_namespace: String,
    /// What to do about an image on ACR whose registry is not attached
    #[arg(long, value_parser = action(), value_name = "ACTION", default_value = Action::Allow.as_str(), env = "PULLPASS_UNATTACHED")]
    pub(in crate::cli) unattached: Action,
    /// What to do about an image whose registry is attached, but not for the Pod's namespace
    #[arg(long, value_parser = action(), value_name = "ACTION", default_value = Action::Warn.as_str(), env = "PULLPASS_FORBIDDEN")]
    pub(in crate::cli) forbidden: Action,
}

impl DecisionFlags {
    pub(in crate::cli) fn settings(&self) -> Settings {
        Settings {
            scope: Scope::new(
                self.mode,
                &self.own_namespace,
                self.exclude_namespaces.iter().cloned(),
            ),
            policy: Policy {
                unattached: self.unattached,
                forbidden: self.forbidden,
            },
        }
    }
}

/// A parser for modes.
pub(in crate::cli) fn mode() -> impl TypedValueParser<Value = Mode> {
    one_of(Mode::ALL, |mode| {
        PossibleValue::new(mode.as_str()).help(match mode {
            Mode::ClusterWide => "Every namespace but the excluded ones and those labelled `disabled`",
            Mode::OptIn => "Only namespaces labelled `enabled`",
        })
    })
}

fn action() -> impl TypedValueParser<Value = Action> {
    one_of(Action::ALL, |action| {
        PossibleValue::new(action.as_str()).help(match action {
            Action::Allow => "It is only recorded",
            Action::Warn => "The sender of the request is warned",
            Action::Deny => "The request is refused",
        })
    })
}
