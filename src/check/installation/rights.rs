//! What the service account of pullpass has to be allowed to do. A test holds it against `manifests/base/rbac.yaml`.

use std::fmt;

use super::{Facts, StepOutcome, apply_again, fault, judged, well};
use crate::api::names::{INDEX, WEBHOOK_CONFIGURATION};
use crate::check::finding::Code;

/// How many missing rights are named.
const MAX_NAMED: usize = 5;

/// A right on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// What may be done.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The resource, with its subresource if it is about one.
    pub resource: &'static str,
    /// The only object that it is about.
    pub name: Option<&'static str>,
    /// Whether it is only about pullpass' own namespace.
    pub own_namespace: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = self.name {
            write!(f, "/{name}")?;
        }
        if self.own_namespace {
            write!(f, " (own namespace)")?;
        }
        Ok(())
    }
}

const fn anywhere(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        group,
        resource,
        name: None,
        own_namespace: false,
    }
}

const fn on(verb: &'static str, group: &'static str, resource: &'static str, name: &'static str) -> Right {
    Right {
        name: Some(name),
        ..anywhere(verb, group, resource)
    }
}

const fn own(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        own_namespace: true,
        ..anywhere(verb, group, resource)
    }
}

const GROUP: &str = "pullpass.dev";
const ADMISSION: &str = "admissionregistration.k8s.io";
const LEASES: &str = "coordination.k8s.io";
const REPORTS: &str = "openreports.io";

/// The rights that every installation needs.
pub const RIGHTS: &[Right] = &[
    anywhere("get", GROUP, "acrregistries"),
    anywhere("list", GROUP, "acrregistries"),
    anywhere("watch", GROUP, "acrregistries"),
    anywhere("patch", GROUP, "acrregistries/status"),
    anywhere("get", "", "namespaces"),
    anywhere("list", "", "namespaces"),
    anywhere("watch", "", "namespaces"),
    anywhere("get", "", "pods"),
    anywhere("list", "", "pods"),
    anywhere("watch", "", "pods"),
    anywhere("create", "", "secrets"),
    anywhere("patch", "", "secrets"),
    anywhere("delete", "", "secrets"),
    anywhere("create", "", "events"),
    anywhere("patch", "", "events"),
    anywhere("create", "events.k8s.io", "events"),
    anywhere("patch", "events.k8s.io", "events"),
    on(
        "get",
        ADMISSION,
        "mutatingwebhookconfigurations",
        WEBHOOK_CONFIGURATION,
    ),
    anywhere("create", GROUP, "acrindexes"),
    on("get", GROUP, "acrindexes", INDEX),
    on("patch", GROUP, "acrindexes", INDEX),
    anywhere("list", "", "events"),
    anywhere("watch", "", "events"),
    anywhere("get", "", "serviceaccounts"),
    anywhere("list", "", "serviceaccounts"),
    anywhere("watch", "", "serviceaccounts"),
    own("get", "", "secrets"),
    own("list", "", "secrets"),
    own("watch", "", "secrets"),
    own("create", "", "secrets"),
    own("patch", "", "secrets"),
    own("delete", "", "secrets"),
    own("get", LEASES, "leases"),
    own("list", LEASES, "leases"),
    own("watch", LEASES, "leases"),
    own("create", LEASES, "leases"),
    own("patch", LEASES, "leases"),
    own("delete", LEASES, "leases"),
];

/// Those that one needs which manages its certificate itself.
pub const OWN_CERTIFICATE: &[Right] = &[
    on(
        "watch",
        ADMISSION,
        "mutatingwebhookconfigurations",
        WEBHOOK_CONFIGURATION,
    ),
    on(
        "patch",
        ADMISSION,
        "mutatingwebhookconfigurations",
        WEBHOOK_CONFIGURATION,
    ),
];

/// Those that one needs which carries `AcrPullBindings` out.
pub const BINDING_RIGHTS: &[Right] = &[
    anywhere("get", GROUP, "acrpullbindings"),
    anywhere("list", GROUP, "acrpullbindings"),
    anywhere("watch", GROUP, "acrpullbindings"),
    anywhere("patch", GROUP, "acrpullbindings/status"),
];

/// Those that one needs which writes Reports.
pub const REPORT_RIGHTS: &[Right] = &[
    anywhere("list", REPORTS, "reports"),
    anywhere("create", REPORTS, "reports"),
    anywhere("patch", REPORTS, "reports"),
    anywhere("delete", REPORTS, "reports"),
];

impl Facts {
    pub(super) fn rights(&self) -> StepOutcome {
        judged(&self.missing_rights, |missing| {
            if missing.is_empty() {
                return well("the service account has every right that it needs");
            }
            let named: Vec<_> = missing.iter().take(MAX_NAMED).map(Right::to_string).collect();
            let rest = missing.len().saturating_sub(MAX_NAMED);
            let rest = if rest == 0 {
                String::new()
            } else {
                format!(" and {rest} more")
            };
            let cause = format!(
                "the ServiceAccount pullpass of {} may not {}{rest}",
                self.own_namespace,
                named.join(", ")
            );
            fault(Code::RightsMissing, cause, vec![apply_again()])
        })
    }
}
