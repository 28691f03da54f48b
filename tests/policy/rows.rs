//! The tables of docs/policy.md and docs/design.md as rows, and what each row says. Nothing here is shared with what
//! is tested.

use serde_json::{Value, json};

use crate::world::{CLOSED, FREE, OPEN, OTHER_HOST};

/// A domain that the webhook's configuration names, and no AcrRegistry.
const STRANGE_DOMAIN: &str = "strange.contoso.com";

/// The domains that the webhook's configuration names.
pub fn custom_domains() -> [String; 4] {
    [
        format!("{OPEN}.contoso.com"),
        format!("{CLOSED}.contoso.com"),
        STRANGE_DOMAIN.to_owned(),
        OTHER_HOST.to_owned(),
    ]
}

pub const MODES: [&str; 2] = ["cluster-wide", "opt-in"];
pub const POLICIES: [&str; 3] = ["allow", "warn", "deny"];
/// Values of a label; none where it is not there.
const INJECT: [Option<&str>; 4] = [None, Some("enabled"), Some("disabled"), Some("Enabled")];
const ALWAYS: [Option<&str>; 3] = [None, Some("true"), Some("yes")];
const POD: [Option<&str>; 3] = [None, Some("disabled"), Some("enabled")];

/// What a Pod's image is to pullpass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Its registry is attached, for every namespace.
    Attached,
    /// The same, by a regional endpoint and with its port.
    Regional,
    /// The same, by a custom domain and with its port.
    CustomDomain,
    /// Its registry is attached, and not for this namespace.
    Forbidden,
    /// The same, by a custom domain.
    ForbiddenDomain,
    /// The same, on a registry of another cloud than Azure's own.
    ForbiddenOther,
    /// Its registry is attached, and needs no credential.
    Anonymous,
    /// It is on a registry that is not attached.
    Unattached,
    /// The same, by a regional endpoint.
    UnattachedRegional,
    /// It is on a host that registries serve layers from.
    Data,
    /// It is on a domain that no AcrRegistry has, and that the API server asks about.
    StrangeDomain,
    /// It is not on Azure Container Registry.
    Elsewhere,
}

impl Image {
    /// Every kind of image.
    pub const ALL: [Self; 12] = [
        Self::Attached,
        Self::Regional,
        Self::CustomDomain,
        Self::Forbidden,
        Self::ForbiddenDomain,
        Self::ForbiddenOther,
        Self::Anonymous,
        Self::Unattached,
        Self::UnattachedRegional,
        Self::Data,
        Self::StrangeDomain,
        Self::Elsewhere,
    ];

    pub fn reference(self) -> String {
        match self {
            Self::Attached => format!("{OPEN}.azurecr.io/app:v1"),
            Self::Regional => format!("{OPEN}.westeurope.geo.azurecr.io:443/app:v1"),
            Self::CustomDomain => format!("{OPEN}.contoso.com:443/app:v1"),
            Self::ForbiddenDomain => format!("{CLOSED}.contoso.com/app:v1"),
            Self::ForbiddenOther => format!("{OTHER_HOST}:443/app:v1"),
            Self::Forbidden => format!("{CLOSED}.azurecr.io/app:v1"),
            Self::Anonymous => format!("{FREE}.azurecr.io/app:v1"),
            Self::Unattached => "strangeregistry.azurecr.io/app:v1".to_owned(),
            Self::UnattachedRegional => "strangeregistry.chinaeast2.geo.azurecr.cn/app:v1".to_owned(),
            Self::Data => format!("{OPEN}.westeurope.data.azurecr.io/app:v1"),
            Self::StrangeDomain => format!("{STRANGE_DOMAIN}/app:v1"),
            Self::Elsewhere => "nginx:1".to_owned(),
        }
    }

    /// Whether it is on a registry that is attached for the namespace.
    pub fn is_granted(self) -> bool {
        matches!(self, Self::Attached | Self::Regional | Self::CustomDomain)
    }

    /// Whether it is on a registry, attached or not, or on a domain that the webhook's configuration names.
    fn is_on_acr(self) -> bool {
        !matches!(self, Self::Data | Self::Elsewhere)
    }
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    pub inject: Option<&'static str>,
    pub always: Option<&'static str>,
    /// Whether a flag excludes it.
    pub excluded: bool,
}

impl Namespace {
    pub fn labels(self) -> Vec<(&'static str, &'static str)> {
        let inject = self.inject.map(|value| ("pullpass.dev/inject", value));
        let always = self.always.map(|value| ("pullpass.dev/always-inject", value));
        inject.into_iter().chain(always).collect()
    }
}

/// Every kind of namespace.
pub fn namespaces() -> Vec<Namespace> {
    let kind = |inject, always, excluded| Namespace {
        inject,
        always,
        excluded,
    };
    INJECT
        .into_iter()
        .flat_map(|inject| ALWAYS.map(|always| kind(inject, always, false)))
        .chain([kind(Some("enabled"), Some("true"), true)])
        .collect()
}

/// A kind of Pod.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub label: Option<&'static str>,
    pub image: Image,
}

/// Every kind of Pod.
pub fn pods() -> Vec<Pod> {
    POD.into_iter()
        .flat_map(|label| Image::ALL.map(|image| Pod { label, image }))
        .collect()
}

impl Pod {
    pub fn name(self) -> String {
        let label = self.label.unwrap_or("unlabelled");
        format!("{label}-{:?}", self.image).to_lowercase()
    }

    pub fn object(self, namespace: &str) -> Value {
        let labels = self.label.map(|label| json!({"pullpass.dev/inject": label}));
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name(), "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"name": "main", "image": self.image.reference()}]},
        })
    }
}

/// What a row says of a Pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// pullpass' decision.
    pub decision: &'static str,
    /// Whether the Pod gets the open registry's secret.
    pub injected: bool,
    /// The rule that is violated, which the policy's word is the action of.
    pub violation: Option<&'static str>,
    /// How many warnings there are.
    pub warnings: usize,
}

/// Whether the API server's selectors and conditions let a Pod through to pullpass.
pub fn is_asked(mode: &str, namespace: Namespace, pod: Pod) -> bool {
    let picked = match mode {
        "opt-in" => namespace.inject == Some("enabled"),
        _ => namespace.inject != Some("disabled"),
    };
    picked && (pod.image.is_on_acr() || namespace.always == Some("true"))
}

/// What pullpass says of a Pod that it is asked about.
pub fn say(mode: &str, policy: &str, namespace: Namespace, pod: Pod) -> Said {
    let unknown = [
        namespace.inject == Some("Enabled"),
        namespace.always == Some("yes"),
        pod.label == Some("enabled"),
    ];
    let unknown = unknown.into_iter().filter(|unknown| *unknown).count();
    let opted_in = match mode {
        "opt-in" => namespace.inject == Some("enabled"),
        _ => namespace.inject != Some("disabled"),
    };
    if namespace.excluded || !opted_in {
        return Said {
            decision: "skipped",
            injected: false,
            violation: None,
            warnings: unknown,
        };
    }
    // A Pod's own label declines the secrets, not the rules.
    let declines = pod.label == Some("disabled");
    let violation = match pod.image {
        Image::Forbidden | Image::ForbiddenDomain | Image::ForbiddenOther => Some("forbidden"),
        Image::Unattached | Image::UnattachedRegional => Some("unattached"),
        Image::Attached
        | Image::Regional
        | Image::CustomDomain
        | Image::Anonymous
        | Image::Data
        | Image::StrangeDomain
        | Image::Elsewhere => None,
    };
    let denied = violation.is_some() && policy == "deny";
    let injected = !denied && !declines && (pod.image.is_granted() || namespace.always == Some("true"));
    let decision = match (denied, injected, violation) {
        (true, ..) => "denied",
        _ if declines => "skipped",
        (_, true, _) => "injected",
        (.., Some(_)) => "uncovered",
        _ if pod.image == Image::Anonymous => "already-present",
        (.., None) => "not-applicable",
    };
    let policy_warns = violation.is_some() && policy == "warn";
    Said {
        decision,
        injected,
        violation,
        warnings: if decision == "not-applicable" {
            0
        } else {
            unknown + usize::from(policy_warns)
        },
    }
}
