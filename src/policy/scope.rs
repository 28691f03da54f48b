//! Which namespaces are injected: modes, labels and exclusions (`docs/policy.md`).

use std::collections::{BTreeMap, BTreeSet};

use kube::core::Expression;
use serde::Serialize;

use crate::api::names::{ALWAYS_INJECT_LABEL, INJECT_LABEL, NAMESPACE_NAME_LABEL, SYSTEM_NAMESPACES};
use crate::policy::namespace_selector::NamespaceSelector;

/// Labels of a Kubernetes object.
pub type Labels = BTreeMap<String, String>;

/// The labels of a namespace of which nothing else is known: the API server gives every namespace one with its name.
pub fn labels_by_name(namespace: &str) -> Labels {
    [(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned())].into()
}

/// Which namespaces are injected unless a label says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every namespace except the excluded ones and those labelled `disabled`.
    #[default]
    ClusterWide,
    /// Only namespaces labelled `enabled`.
    OptIn,
}

impl Mode {
    /// Every mode, the default first.
    pub const ALL: [Self; 2] = [Self::ClusterWide, Self::OptIn];

    /// The mode's name, as flags and records have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterWide => "cluster-wide",
            Self::OptIn => "opt-in",
        }
    }
}

/// What decides whether a namespace is injected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    mode: Mode,
    excluded: BTreeSet<String>,
    selector: NamespaceSelector,
}

/// Whether a namespace is injected, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Its Pods are injected.
    Injected {
        /// Every Pod gets the secret of every registry that the namespace may use.
        always: bool,
    },
    /// It is one that is always excluded, or was excluded by a flag.
    Excluded,
    /// Its label says `disabled`.
    OptedOut,
    /// The mode is `opt-in`, and its label does not say `enabled`.
    NotOptedIn,
    /// The namespace selector does not pick its labels.
    NotSelected,
}

impl Membership {
    /// The membership of a namespace that a selector of the API server has just picked: labels that say otherwise are old. A
    /// namespace that is left out by name stays so, since a flag can name more than the selectors do.
    #[must_use]
    pub fn of_picked(self, picked: Option<Picked>) -> Self {
        let Some(picked) = picked else { return self };
        let is_always = picked == Picked::Always;
        match self {
            Self::Excluded => self,
            Self::Injected { always } => Self::Injected {
                always: always || is_always,
            },
            Self::OptedOut | Self::NotOptedIn | Self::NotSelected => Self::Injected { always: is_always },
        }
    }

    /// Whether a namespace can be judged by the labels that this follows from, if a selector of the API server has just picked it.
    /// Labels that the selector contradicts are old in this, and so may be in all else: the namespace then counts as one that
    /// is not known yet.
    pub fn is_current(self, picked: Option<Picked>) -> bool {
        self == self.of_picked(picked)
    }
}

/// Which of the API server's selectors picked the namespace of a request. They say the same as the scope, of labels that
/// may be newer than those of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// That of the mode: the namespace is injected.
    ByMode,
    /// That of the mode, for namespaces in which every Pod gets the secret of every registry.
    Always,
}

impl Scope {
    /// A scope that leaves out the system's namespaces, pullpass' own and those listed.
    pub fn new(mode: Mode, own_namespace: &str, excluded: impl IntoIterator<Item = String>) -> Self {
        let always = SYSTEM_NAMESPACES
            .into_iter()
            .chain([own_namespace])
            .map(str::to_owned);
        Self {
            mode,
            excluded: always.chain(excluded).collect(),
            selector: NamespaceSelector::default(),
        }
    }

    /// The same, in another mode.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same, which leaves out these as well.
    #[must_use]
    pub fn without(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.excluded.extend(namespaces);
        self
    }

    /// The same with another selector, which a namespace's labels have to match besides. One that leaves out names is an
    /// exclusion: it holds of a namespace whose labels are not known, too.
    #[must_use]
    pub fn with_selector(mut self, selector: &NamespaceSelector) -> Self {
        let (mut requirements, mut excluded) = (Vec::new(), BTreeSet::new());
        for requirement in selector.requirements() {
            match requirement {
                Expression::NotIn(key, names) if key == NAMESPACE_NAME_LABEL => {
                    excluded.extend(names.iter().cloned());
                }
                other => requirements.push(other.clone()),
            }
        }
        self.selector = requirements.into_iter().collect();
        self.without(excluded)
    }

    /// What a namespace's labels have to match besides.
    pub fn selector(&self) -> &NamespaceSelector {
        &self.selector
    }

    /// The namespaces that are left out by name, in order.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.excluded.iter().map(String::as_str)
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Decides on one namespace. Labels are absent if the cache does not have the namespace yet: the API server's
    /// own selector picked it then, and is trusted.
    pub fn membership(&self, namespace: &str, labels: Option<&Labels>) -> Membership {
        if self.excluded.contains(namespace) {
            return Membership::Excluded;
        }
        let Some(labels) = labels else {
            return Membership::Injected { always: false };
        };
        let always = labels
            .get(ALWAYS_INJECT_LABEL)
            .is_some_and(|value| value == "true");
        match (labels.get(INJECT_LABEL).map(String::as_str), self.mode) {
            (Some("disabled"), _) => Membership::OptedOut,
            (Some("enabled"), _) | (_, Mode::ClusterWide) if self.selector.matches(labels) => {
                Membership::Injected { always }
            }
            (Some("enabled"), _) | (_, Mode::ClusterWide) => Membership::NotSelected,
            (_, Mode::OptIn) => Membership::NotOptedIn,
        }
    }

    /// Whether Pods of a namespace are injected.
    pub fn injects(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        matches!(self.membership(namespace, labels), Membership::Injected { .. })
    }
}

/// Labels whose value is none of those that mean something, with the values that do. They count as not set.
pub fn unknown_values(labels: &Labels) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
    [
        (INJECT_LABEL, ["enabled", "disabled"], "enabled or disabled"),
        (ALWAYS_INJECT_LABEL, ["true", "false"], "true or false"),
    ]
    .into_iter()
    .filter_map(|(label, known, expected)| {
        let value = labels.get(label)?;
        (!known.contains(&value.as_str())).then_some((label, value.as_str(), expected))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_row_of_mode_and_label() {
        let injected = Membership::Injected { always: false };
        for (mode, label, expected) in [
            (Mode::ClusterWide, None, injected),
            (Mode::ClusterWide, Some("enabled"), injected),
            (Mode::ClusterWide, Some("disabled"), Membership::OptedOut),
            (Mode::ClusterWide, Some("Disabled"), injected),
            (Mode::OptIn, None, Membership::NotOptedIn),
            (Mode::OptIn, Some("enabled"), injected),
            (Mode::OptIn, Some("disabled"), Membership::OptedOut),
            (Mode::OptIn, Some("true"), Membership::NotOptedIn),
        ] {
            let scope = Scope::new(mode, "pullpass-system", []);
            let labels = label.map_or_else(Labels::new, |value| labels(&[(INJECT_LABEL, value)]));
            assert_eq!(
                scope.membership("apps", Some(&labels)),
                expected,
                "{mode:?} {label:?}"
            );
        }
    }

    #[test]
    fn exclusion_comes_first_and_the_unknown_namespace_is_trusted() {
        let scope = Scope::new(Mode::OptIn, "own", ["legacy".to_owned()]);
        let enabled = labels(&[(INJECT_LABEL, "enabled")]);
        for namespace in ["kube-system", "kube-public", "kube-node-lease", "own", "legacy"] {
            assert_eq!(
                scope.membership(namespace, Some(&enabled)),
                Membership::Excluded,
                "{namespace}"
            );
            assert_eq!(
                scope.membership(namespace, None),
                Membership::Excluded,
                "{namespace}"
            );
        }
        assert_eq!(
            scope.membership("new", None),
            Membership::Injected { always: false }
        );
    }

    #[test]
    fn always_inject_needs_an_injected_namespace_and_the_word_true() {
        let scope = Scope::new(Mode::OptIn, "own", []);
        let both = labels(&[(INJECT_LABEL, "enabled"), (ALWAYS_INJECT_LABEL, "true")]);
        assert_eq!(
            scope.membership("apps", Some(&both)),
            Membership::Injected { always: true }
        );
        let alone = labels(&[(ALWAYS_INJECT_LABEL, "true")]);
        assert_eq!(scope.membership("apps", Some(&alone)), Membership::NotOptedIn);
        let odd = labels(&[(INJECT_LABEL, "enabled"), (ALWAYS_INJECT_LABEL, "yes")]);
        assert_eq!(
            scope.membership("apps", Some(&odd)),
            Membership::Injected { always: false }
        );
        assert_eq!(
            unknown_values(&odd).collect::<Vec<_>>(),
            [(ALWAYS_INJECT_LABEL, "yes", "true or false")]
        );
    }

    #[test]
    fn every_operator_of_the_selector_and_every_mode() {
        let injected = Membership::Injected { always: false };
        for (selector, pairs, expected) in [
            ("team in (a,b)", &[("team", "b")][..], injected),
            ("team in (a,b)", &[("team", "c")], Membership::NotSelected),
            ("team in (a,b)", &[], Membership::NotSelected),
            ("team notin (a,b)", &[("team", "b")], Membership::NotSelected),
            ("team notin (a,b)", &[("team", "c")], injected),
            ("team notin (a,b)", &[], injected),
            ("team", &[("team", "")], injected),
            ("team", &[], Membership::NotSelected),
            ("!team", &[("team", "")], Membership::NotSelected),
            ("!team", &[], injected),
            ("team=a,env!=test", &[("team", "a"), ("env", "dev")], injected),
            (
                "team=a,env!=test",
                &[("team", "a"), ("env", "test")],
                Membership::NotSelected,
            ),
        ] {
            let selector: NamespaceSelector = selector.parse().unwrap();
            for mode in Mode::ALL {
                let scope = Scope::new(mode, "own", []).with_selector(&selector);
                let mut labels = labels(pairs);
                let unlabelled = scope.membership("apps", Some(&labels));
                let expected_unlabelled = match mode {
                    Mode::ClusterWide => expected,
                    Mode::OptIn => Membership::NotOptedIn,
                };
                assert_eq!(unlabelled, expected_unlabelled, "{mode:?} {selector}");
                for (value, expected) in [("enabled", expected), ("disabled", Membership::OptedOut)] {
                    labels.insert(INJECT_LABEL.to_owned(), value.to_owned());
                    assert_eq!(
                        scope.membership("apps", Some(&labels)),
                        expected,
                        "{mode:?} {selector}"
                    );
                }
                assert_eq!(scope.membership("own", Some(&labels)), Membership::Excluded);
                assert_eq!(scope.membership("apps", None), injected);
                let picked = scope
                    .membership("apps", Some(&labels))
                    .of_picked(Some(Picked::ByMode));
                assert_eq!(picked, injected, "the labels are old");
            }
        }
    }

    #[test]
    fn names_that_the_selector_leaves_out_are_excluded() {
        let of = |text: &str| Scope::new(Mode::OptIn, "own", []).with_selector(&text.parse().unwrap());
        let scope = of("kubernetes.io/metadata.name notin (legacy,test),team");
        assert_eq!(scope.membership("legacy", None), Membership::Excluded);
        let excluded = ["legacy".to_owned(), "test".to_owned()];
        let by_flag = Scope::new(Mode::OptIn, "own", excluded);
        assert_eq!(scope, by_flag.with_selector(&"team".parse().unwrap()));
        // Names that it picks are a requirement as any other.
        let scope = of("kubernetes.io/metadata.name=apps").with_mode(Mode::ClusterWide);
        let membership = |name| scope.membership(name, Some(&labels_by_name(name)));
        assert_eq!(membership("apps"), Membership::Injected { always: false });
        assert_eq!(membership("other"), Membership::NotSelected);
    }

    #[test]
    fn a_selector_is_newer_than_labels_and_no_exclusion() {
        let scope = Scope::new(Mode::OptIn, "own", ["legacy".to_owned()]);
        let injected = |always| Membership::Injected { always };
        let always = labels(&[(INJECT_LABEL, "enabled"), (ALWAYS_INJECT_LABEL, "true")]);
        for (labels, picked, expected) in [
            (Some(labels(&[])), None, Membership::NotOptedIn),
            (Some(labels(&[])), Some(Picked::ByMode), injected(false)),
            (
                Some(labels(&[(INJECT_LABEL, "disabled")])),
                Some(Picked::Always),
                injected(true),
            ),
            (
                Some(labels(&[(INJECT_LABEL, "enabled")])),
                Some(Picked::Always),
                injected(true),
            ),
            (Some(always), Some(Picked::ByMode), injected(true)),
            (None, Some(Picked::Always), injected(true)),
            (None, Some(Picked::ByMode), injected(false)),
        ] {
            let membership = scope.membership("apps", labels.as_ref()).of_picked(picked);
            assert_eq!(membership, expected, "{labels:?} {picked:?}");
            let excluded = scope.membership("legacy", labels.as_ref()).of_picked(picked);
            assert_eq!(excluded, Membership::Excluded, "{labels:?} {picked:?}");
        }
    }

    #[test]
    fn another_mode_keeps_the_exclusions() {
        assert_eq!(Mode::ALL.map(Mode::as_str), ["cluster-wide", "opt-in"]);
        let scope = Scope::new(Mode::ClusterWide, "own", ["excluded".to_owned()]).with_mode(Mode::OptIn);
        assert_eq!(scope.mode(), Mode::OptIn);
        for namespace in ["own", "excluded", "kube-system"] {
            assert_eq!(
                scope.membership(namespace, Some(&labels(&[(INJECT_LABEL, "enabled")]))),
                Membership::Excluded
            );
        }
        assert_eq!(
            scope.membership("apps", Some(&Labels::new())),
            Membership::NotOptedIn
        );
    }
}
