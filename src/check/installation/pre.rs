//! What has to be so before pullpass is installed.

use std::collections::BTreeSet;

use super::egress::before;
use super::{InstallationStep, Known, StepOutcome, fault, finding, judged, well};
use crate::check::advice::kubectl;
use crate::check::finding::{Code, Finding};

/// The oldest version of Kubernetes that is supported.
const OLDEST: (u32, u32) = (1, 30);

/// The resources that an installation is made of beside those that every cluster has, as `GROUP/VERSION` and plural.
pub const APIS: [(&str, &str); 3] = [
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies"),
    ("coordination.k8s.io/v1", "leases"),
];

/// What who installs pullpass creates: API groups and resources.
pub const INSTALL_RIGHTS: [(&str, &str); 15] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("policy", "poddisruptionbudgets"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("scheduling.k8s.io", "priorityclasses"),
    ("networking.k8s.io", "networkpolicies"),
];

/// What was read of a cluster that pullpass is to be installed in.
#[derive(Debug, Clone)]
pub struct PreFacts {
    /// The namespace that it is to run in.
    pub own_namespace: String,
    /// Major and minor version of Kubernetes, as the API server says them.
    pub kubernetes: (String, String),
    /// Those of [`APIS`] that the API server lacks.
    pub missing_apis: Known<Vec<&'static str>>,
    /// Those of [`INSTALL_RIGHTS`] that the user lacks.
    pub missing_rights: Known<Vec<&'static str>>,
    /// The namespace of the Service that a webhook configuration of this name calls, if there is one.
    pub registered_in: Known<Option<String>>,
    /// The ports that API servers listen on.
    pub api_server_ports: Known<BTreeSet<i32>>,
}

impl PreFacts {
    /// Its state.
    pub fn findings(&self) -> Vec<Finding<InstallationStep>> {
        vec![
            finding(InstallationStep::Kubernetes, self.kubernetes()),
            finding(InstallationStep::Apis, self.apis()),
            finding(InstallationStep::InstallRights, self.rights()),
            finding(InstallationStep::Vacancy, self.vacancy()),
            finding(
                InstallationStep::Egress,
                judged(&self.api_server_ports, |ports| well(before(ports))),
            ),
        ]
    }

    fn kubernetes(&self) -> StepOutcome {
        let (major, minor) = &self.kubernetes;
        // Some say `30+`.
        let number = |text: &str| {
            text.trim_end_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap_or(0)
        };
        if (number(major), number(minor)) >= OLDEST {
            return well(format!("{major}.{minor}"));
        }
        let (oldest, least) = OLDEST;
        fault(
            Code::KubernetesVersion,
            format!("Kubernetes is {major}.{minor}, and pullpass needs {oldest}.{least} or newer"),
            vec![kubectl(
                "Upgrade the cluster; see its version:",
                "kubectl version".to_owned(),
            )],
        )
    }

    fn apis(&self) -> StepOutcome {
        judged(&self.missing_apis, |missing| {
            if missing.is_empty() {
                return well("the API server has all that pullpass needs");
            }
            fault(
                Code::ApiMissing,
                format!("the API server does not serve {}", missing.join(", ")),
                vec![kubectl(
                    "See what it serves, and its flag --runtime-config:",
                    "kubectl api-resources".to_owned(),
                )],
            )
        })
    }

    fn rights(&self) -> StepOutcome {
        judged(&self.missing_rights, |missing| {
            if missing.is_empty() {
                return well("you may create all that pullpass consists of");
            }
            fault(
                Code::InstallRights,
                format!("you may not create {}", missing.join(", ")),
                vec![kubectl(
                    "Ask a cluster administrator to install pullpass, or to grant you the rights; list your rights:",
                    format!("kubectl auth can-i --list --namespace {}", self.own_namespace),
                )],
            )
        })
    }

    fn vacancy(&self) -> StepOutcome {
        judged(&self.registered_in, |registered| match registered {
            Some(namespace) if *namespace != self.own_namespace => fault(
                Code::OtherInstallation,
                format!(
                    "pullpass is registered in the namespace {namespace}, and a cluster has room for one"
                ),
                vec![kubectl(
                    "To upgrade that one, name its namespace with --own-namespace. To remove it, see docs/install.md; what \
                         registers it:",
                    "kubectl get mutatingwebhookconfiguration pullpass".to_owned(),
                )],
            ),
            Some(namespace) => well(format!(
                "pullpass is installed in {namespace}: this is an upgrade"
            )),
            None => well("no other installation is registered"),
        })
    }
}
