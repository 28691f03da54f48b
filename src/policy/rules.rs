//! What happens to a Pod whose images no attached registry is there for, or is not for this namespace
//! (`docs/policy.md`).

use serde::Serialize;

/// What is done about a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is only recorded.
    Allow,
    /// The sender of the request is warned.
    Warn,
    /// The request is refused.
    Deny,
}

impl Action {
    /// Every action, the mildest first.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Warn, Self::Deny];

    /// The action's name, as flags, records and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// The rule that a Pod's image violates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The image's host is an ACR login server that no AcrRegistry has.
    Unattached,
    /// The registry is attached, but its `namespaces` selector leaves this namespace out.
    Forbidden,
}

impl Rule {
    /// The rule's name, as flags, records and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unattached => "unattached",
            Self::Forbidden => "forbidden",
        }
    }
}

/// The action of each rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What is done about [`Rule::Unattached`].
    pub unattached: Action,
    /// What is done about [`Rule::Forbidden`].
    pub forbidden: Action,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unattached: Action::Allow,
            forbidden: Action::Warn,
        }
    }
}

impl Policy {
    /// The action of a rule.
    pub fn action(self, rule: Rule) -> Action {
        match rule {
            Rule::Unattached => self.unattached,
            Rule::Forbidden => self.forbidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_actions_have_the_words_of_flags_and_metrics() {
        let policy = Policy {
            unattached: Action::Warn,
            forbidden: Action::Deny,
        };
        for (rule, word, action) in [
            (Rule::Unattached, "unattached", "warn"),
            (Rule::Forbidden, "forbidden", "deny"),
        ] {
            assert_eq!((rule.as_str(), policy.action(rule).as_str()), (word, action));
        }
        assert_eq!(Action::Allow.as_str(), "allow");
    }
}
