//! The Azure clouds: where their Entra ID, registries and resource manager are; and how an AcrRegistry names a cloud.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Azure cloud: where its Entra ID, its registries and its resource manager are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cloud {
    /// The worldwide cloud.
    Public,
    /// Azure Government.
    USGovernment,
    /// Azure operated by 21Vianet.
    China,
}

/// The Azure cloud. Default: the one that has the suffix of `loginServer`, else `Public`. `Other` is the cloud that the
/// settings of pullpass describe (`--other-cloud-suffix`), for a `loginServer` that ends in its suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CloudName {
    /// The worldwide cloud.
    Public,
    /// Azure Government.
    USGovernment,
    /// Azure operated by 21Vianet.
    China,
    /// A cloud that the settings of pullpass describe: air-gapped, or an Azure Stack.
    Other,
}

impl CloudName {
    /// Every name.
    pub const ALL: [Self; 4] = [Self::Public, Self::USGovernment, Self::China, Self::Other];

    /// Azure's cloud of that name; none if settings describe it.
    pub const fn azure(self) -> Option<Cloud> {
        match self {
            Self::Public => Some(Cloud::Public),
            Self::USGovernment => Some(Cloud::USGovernment),
            Self::China => Some(Cloud::China),
            Self::Other => None,
        }
    }

    /// The name that the custom resource has.
    pub const fn name(self) -> &'static str {
        match self.azure() {
            Some(cloud) => cloud.name(),
            None => "Other",
        }
    }
}

/// What is known of a cloud.
struct Facts {
    name: &'static str,
    login_server_suffix: &'static str,
    authority_host: &'static str,
    resource_manager_audience: &'static str,
    token_exchange_audience: &'static str,
}

impl Cloud {
    /// Every cloud, in the order in which they are tried and listed.
    pub const ALL: [Self; 3] = [Self::Public, Self::USGovernment, Self::China];

    /// The table that everything else about clouds is taken from.
    const fn facts(self) -> Facts {
        match self {
            Self::Public => Facts {
                name: "Public",
                login_server_suffix: "azurecr.io",
                authority_host: "login.microsoftonline.com",
                resource_manager_audience: "https://management.azure.com",
                token_exchange_audience: "api://AzureADTokenExchange",
            },
            Self::USGovernment => Facts {
                name: "USGovernment",
                login_server_suffix: "azurecr.us",
                authority_host: "login.microsoftonline.us",
                resource_manager_audience: "https://management.usgovcloudapi.net",
                token_exchange_audience: "api://AzureADTokenExchangeUSGov",
            },
            Self::China => Facts {
                name: "China",
                login_server_suffix: "azurecr.cn",
                authority_host: "login.chinacloudapi.cn",
                resource_manager_audience: "https://management.chinacloudapi.cn",
                token_exchange_audience: "api://AzureADTokenExchangeChina",
            },
        }
    }

    /// The name that it has in the custom resource.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// What every login server of this cloud ends in, without the leading dot.
    pub const fn login_server_suffix(self) -> &'static str {
        self.facts().login_server_suffix
    }

    /// The host of Entra ID.
    pub const fn authority_host(self) -> &'static str {
        self.facts().authority_host
    }

    /// The audience of Azure Resource Manager, which older registries accept as their own.
    pub const fn resource_manager_audience(self) -> &'static str {
        self.facts().resource_manager_audience
    }

    /// The audience that Entra ID wants of a service account token (workload identity).
    pub const fn token_exchange_audience(self) -> &'static str {
        self.facts().token_exchange_audience
    }

    /// Every suffix in a sentence: `.azurecr.io, .azurecr.us or .azurecr.cn`.
    pub(crate) fn suffixes() -> String {
        let suffixes = Self::ALL.map(|cloud| format!(".{}", cloud.login_server_suffix()));
        match suffixes.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// `azurecr[.](io|us|cn)`, of all suffixes.
    fn pattern() -> String {
        let ends = Cloud::ALL.map(|cloud| cloud.login_server_suffix().strip_prefix("azurecr.").unwrap());
        format!("azurecr[.]({})", ends.join("|"))
    }

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    #[test]
    fn match_conditions_know_every_cloud() {
        // The API server's own policies look hosts up, and need no other port, nor a region that is none.
        for (path, region, port) in [
            ("manifests/base/webhook.yaml", "+", "(:[0-9]+)?"),
            ("manifests/chart/files/webhook.yaml", "+", "(:[0-9]+)?"),
            (
                "manifests/components/admission-policy/policy.yaml",
                "{1,63}",
                "(:0*443)?",
            ),
            (
                "manifests/chart/files/admission-policy.yaml",
                "{1,63}",
                "(:0*443)?",
            ),
        ] {
            let whole = format!(
                "image.matches('(?i)^[a-z0-9-]+[.]([a-z0-9]{region}[.]geo[.])?{}{port}/')",
                pattern()
            );
            let text = read(path);
            let matches = text.matches("image.matches(").count();
            assert!(matches >= 2, "{path}");
            assert_eq!(text.matches(&whole).count(), matches, "{path} has {whole}");
        }
    }

    #[test]
    fn the_rules_of_the_api_server_know_every_cloud() {
        for path in [
            "manifests/components/enforce/policy.yaml",
            "manifests/chart/files/enforce.yaml",
        ] {
            let text = read(path);
            // Once in the policy that refuses, and once in the one that warns.
            let whole = format!("[.]([a-z0-9]{{1,63}}[.]geo[.])?{}$'", pattern());
            assert_eq!(text.matches(&whole).count(), 2, "{path} has {whole}");
            assert_eq!(text.matches("azurecr[.]").count(), 2, "{path}");
        }
    }

    #[test]
    fn the_custom_resource_knows_every_cloud() {
        let text = crate::api::acr_registry::manifest().unwrap();
        // YAML may wrap and quote lines.
        let text = text
            .replace("''", "'")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let map = Cloud::ALL.map(|cloud| format!("'{}': '.{}'", cloud.name(), cloud.login_server_suffix()));
        for expected in [
            format!("endsWith({{{}}}[self.cloud])", map.join(", ")),
            format!("(-[A-Za-z0-9]+)?[.]{}$", pattern()),
            format!("!self.loginServer.matches('(^|[.])({}|docker[.]io)$')", pattern()),
            format!("!domain.matches('(^|[.])({}|docker[.]io)$')", pattern()),
            format!("ends in {}", Cloud::suffixes()),
        ] {
            assert!(text.contains(&expected), "{expected}");
        }
    }

    #[test]
    fn names_are_those_of_the_custom_resource() {
        for name in CloudName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
        let azure: Vec<_> = CloudName::ALL.into_iter().filter_map(CloudName::azure).collect();
        assert_eq!(azure, Cloud::ALL);
    }

    #[test]
    fn manifests_and_pages_name_the_audience_of_the_public_cloud() {
        let audiences = Cloud::ALL.map(Cloud::token_exchange_audience);
        let all: std::collections::BTreeSet<_> = audiences.into_iter().collect();
        assert_eq!(all.len(), Cloud::ALL.len(), "each cloud has its own: {all:?}");
        for path in [
            "docs/install.md",
            "manifests/chart/templates/deployment.yaml",
            "manifests/components/workload-identity/kustomization.yaml",
        ] {
            let text = read(path);
            assert!(text.contains(Cloud::Public.token_exchange_audience()), "{path}");
        }
    }

    /// A variant that is missing from the list would be missing from every other test too.
    #[test]
    fn all_has_every_variant_of_the_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(CloudName)).unwrap();
        let known = CloudName::ALL.map(CloudName::name);
        let (mut left, mut found) = (vec![&schema], Vec::new());
        while let Some(value) = left.pop() {
            found.extend(value.get("const").and_then(|name| name.as_str()));
            let names = value.get("enum").and_then(|names| names.as_array());
            found.extend(names.into_iter().flatten().filter_map(|name| name.as_str()));
            let parts = value.get("oneOf").and_then(|parts| parts.as_array());
            left.extend(parts.into_iter().flatten());
        }
        found.sort_unstable();
        let mut expected = known.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
