//! What admission knows in this check: a few registries, namespaces and settings.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use pullpass::api::acr_registry::AcrRegistry;
use pullpass::policy::attached::{AttachedRegistries, AttachedRegistry};
use pullpass::policy::decision::Settings;
use pullpass::policy::rules::{Action, Policy};
use pullpass::policy::scope::{Labels, Mode, Scope};
use serde_json::json;

/// The registries: name, login server, and the value of the label `team` that a namespace must have.
pub(super) const REGISTRIES: [(&str, &str, Option<&str>); 4] = [
    ("alpha", "alpharegistry.azurecr.io", None),
    ("beta-a", "betaregistry.azurecr.us", Some("a")),
    ("beta-b", "betaregistry.azurecr.us", Some("b")),
    ("gamma", "gammaregistry.azurecr.cn", None),
];

/// The namespaces that are known, and their labels. Any other is unknown.
pub(super) const NAMESPACES: [(&str, &[(&str, &str)]); 5] = [
    ("apps", &[]),
    ("team-a", &[("team", "a")]),
    ("enabled", &[("pullpass.dev/inject", "enabled"), ("team", "b")]),
    ("off", &[("pullpass.dev/inject", "disabled")]),
    ("always", &[("pullpass.dev/always-inject", "true"), ("team", "b")]),
];

static KNOWN: LazyLock<AttachedRegistries> = LazyLock::new(|| {
    let registry = |(name, host, team): (&str, &str, Option<&str>)| {
        let mut object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": host, "identity": {"managedIdentity": {}}},
        });
        if let Some(team) = team {
            object["spec"]["namespaces"] = json!({"matchLabels": {"team": team}});
        }
        let object: AcrRegistry = serde_json::from_value(object).expect("an AcrRegistry");
        AttachedRegistry::parse(&object).expect("an AcrRegistry that can be acted on")
    };
    REGISTRIES.into_iter().map(registry).collect()
});

static LABELS: LazyLock<Vec<(&str, Labels)>> = LazyLock::new(|| {
    let labels = |pairs: &[(&str, &str)]| {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    NAMESPACES.map(|(name, pairs)| (name, labels(pairs))).to_vec()
});

/// What holds for one input.
pub(super) struct World {
    settings: Settings,
}

impl World {
    /// Settings that depend only on the input.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let choice = hasher.finish();
        let action = |choice: u64| match choice % 3 {
            0 => Action::Allow,
            1 => Action::Warn,
            _ => Action::Deny,
        };
        let mode = if choice.is_multiple_of(2) {
            Mode::ClusterWide
        } else {
            Mode::OptIn
        };
        Self {
            settings: Settings {
                scope: Scope::new(mode, "pullpass-system", ["legacy".to_owned()]),
                policy: Policy {
                    unattached: action(choice >> 8),
                    forbidden: action(choice >> 16),
                },
            },
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    #[expect(clippy::unused_self, reason = "the world has them")]
    pub(super) fn registries(&self) -> &'static AttachedRegistries {
        &KNOWN
    }

    #[expect(clippy::unused_self, reason = "the world has them")]
    pub(super) fn labels(&self, namespace: &str) -> Option<&'static Labels> {
        let known = LABELS.iter().find(|(name, _)| *name == namespace);
        known.map(|(_, labels)| labels)
    }
}
