//! Flags that several commands share.

use std::collections::BTreeSet;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::flags::choice::one_of;
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::policy::decision::Settings;
use crate::policy::namespace_selector::NamespaceSelector;
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::{Mode, Scope};

/// What the flags are called by that a cluster may answer in the place of.
const DECISIONS: [&str; 5] = [
    "mode",
    "exclude_namespaces",
    "own_namespace",
    "unattached",
    "forbidden",
];

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
    /// Labels that a namespace must have to be injected, in the syntax of `kubectl --selector`
    #[arg(long, value_name = "SELECTOR", env = "PULLPASS_NAMESPACE_SELECTOR")]
    pub(in crate::cli) namespace_selector: Option<NamespaceSelector>,
    #[command(flatten)]
    pub(in crate::cli) own_namespace: OwnNamespace,
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
            scope: self.select(Scope::new(
                self.mode,
                self.own_namespace.as_str(),
                self.exclude_namespaces.iter().cloned(),
            )),
            policy: Policy {
                unattached: self.unattached,
                forbidden: self.forbidden,
            },
        }
    }

    /// The scope with the selector, where one is given.
    fn select(&self, scope: Scope) -> Scope {
        match &self.namespace_selector {
            Some(selector) => scope.with_selector(selector),
            None => scope,
        }
    }
}

/// The same for a command that can ask a cluster: what no flag says, the cluster may say.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ClusterDecisionFlags {
    flags: DecisionFlags,
    /// The flags that were given, or their environment variables.
    given: BTreeSet<&'static str>,
}

impl ClusterDecisionFlags {
    /// What the flags say, and their defaults.
    pub(in crate::cli) fn settings(&self) -> Settings {
        self.flags.settings()
    }

    /// What the flags say, and a cluster of what they don't. Namespaces are excluded by either.
    pub(in crate::cli) fn settings_over(&self, cluster: Settings) -> Settings {
        let is_given = |name| self.given.contains(name);
        // A cluster does not say which of them are excluded by a flag: those that flags name here come besides.
        let own = is_given("own_namespace").then(|| self.flags.own_namespace.as_str().to_owned());
        let excluded = self.flags.exclude_namespaces.iter().cloned().chain(own);
        let scope = cluster.scope.without(excluded);
        let scope = self.flags.select(scope);
        Settings {
            scope: if is_given("mode") {
                scope.with_mode(self.flags.mode)
            } else {
                scope
            },
            policy: Policy {
                unattached: if is_given("unattached") {
                    self.flags.unattached
                } else {
                    cluster.policy.unattached
                },
                forbidden: if is_given("forbidden") {
                    self.flags.forbidden
                } else {
                    cluster.policy.forbidden
                },
            },
        }
    }
}

impl Args for ClusterDecisionFlags {
    fn augment_args(command: Command) -> Command {
        DecisionFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        DecisionFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for ClusterDecisionFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |name: &&str| {
            let source = matches.value_source(name);
            source.is_some_and(|source| source != ValueSource::DefaultValue)
        };
        Ok(Self {
            flags: DecisionFlags::from_arg_matches(matches)?,
            given: DECISIONS.into_iter().filter(is_given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A parser for modes.
pub(in crate::cli) fn mode() -> impl TypedValueParser<Value = Mode> {
    one_of(Mode::ALL, |mode| {
        PossibleValue::new(mode.as_str()).help(match mode {
            Mode::ClusterWide => "Every namespace except the excluded ones and those labelled `disabled`",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        let command = ClusterDecisionFlags::augment_args(Command::new("test"));
        let matches = command.no_binary_name(true).get_matches_from(arguments);
        let flags = ClusterDecisionFlags::from_arg_matches(&matches).unwrap();
        let cluster = Settings {
            scope: Scope::new(Mode::OptIn, "elsewhere", ["legacy".to_owned()])
                .with_selector(&"env=prod".parse().unwrap()),
            policy: Policy {
                unattached: Action::Deny,
                forbidden: Action::Deny,
            },
        };
        flags.settings_over(cluster)
    }

    #[test]
    fn flags_come_before_what_a_cluster_says() {
        let scope = |mode, excluded: &[&str], selector: &str| {
            let excluded = ["legacy"].iter().chain(excluded).map(|name| (*name).to_owned());
            Scope::new(mode, "elsewhere", excluded).with_selector(&selector.parse().unwrap())
        };
        let of_cluster = settings(&[]);
        assert_eq!(of_cluster.scope, scope(Mode::OptIn, &[], "env=prod"));
        assert_eq!(of_cluster.policy.unattached, Action::Deny);
        let given = settings(&["--mode=cluster-wide", "--unattached=allow"]);
        assert_eq!(given.scope, scope(Mode::ClusterWide, &[], "env=prod"));
        assert_eq!(
            (given.policy.unattached, given.policy.forbidden),
            (Action::Allow, Action::Deny)
        );
        let excluded = settings(&["--exclude-namespaces=a,b"]);
        assert_eq!(excluded.scope, scope(Mode::OptIn, &["a", "b"], "env=prod"));
        let elsewhere = settings(&["--own-namespace=other"]);
        assert_eq!(elsewhere.scope, scope(Mode::OptIn, &["other"], "env=prod"));
        let selected = settings(&["--namespace-selector=team in (a,b)"]);
        assert_eq!(selected.scope, scope(Mode::OptIn, &[], "team in (a,b)"));
        let all = settings(&["--namespace-selector="]);
        assert_eq!(all.scope, scope(Mode::OptIn, &[], ""));
    }
}
