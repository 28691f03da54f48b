//! Custom domains: hosts outside Azure's own zones that a registry answers under too.

use std::fmt;

use thiserror::Error;

use crate::base::dns::{MAX_LABEL, is_subdomain};
use crate::registry::cloud::Cloud;

/// A DNS name of two labels or more, in lower case, that is not in the zone of a cloud's registries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomDomain(Box<str>);

/// Why a text is not a custom domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CustomDomainError {
    /// It is no DNS name.
    #[error(
        "a custom domain is a DNS name in lower case, for instance registry.contoso.com, without scheme, port, path or \
         wildcard"
    )]
    Name,
    /// It ends as login servers do.
    #[error(
        "a custom domain does not end in {}: a login server goes into spec.loginServer, and its regional endpoints need not \
         be named",
        Cloud::suffixes()
    )]
    Azure,
    /// It is Docker Hub's.
    #[error(
        "a custom domain is not in docker.io: kubelets mean Docker Hub by names without a host, and would send it the credential"
    )]
    DockerHub,
}

impl CustomDomain {
    /// Parses a domain. Upper case is refused, because kubelets match credentials by case.
    pub fn parse(text: &str) -> Result<Self, CustomDomainError> {
        let is_label = |label: &str| label.len() <= MAX_LABEL;
        // No top-level domain begins with a digit, and every IPv4 address ends in a label that does.
        let is_top = |label: &str| label.starts_with(|first: char| first.is_ascii_lowercase());
        let fits = is_subdomain(text)
            && text.split('.').all(is_label)
            && text.rsplit_once('.').is_some_and(|(_, top)| is_top(top));
        if !fits {
            return Err(CustomDomainError::Name);
        }
        if Cloud::ALL
            .into_iter()
            .any(|cloud| is_in(text, cloud.login_server_suffix()))
        {
            return Err(CustomDomainError::Azure);
        }
        if is_in(text, "docker.io") {
            return Err(CustomDomainError::DockerHub);
        }
        Ok(Self(text.into()))
    }

    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a host is a zone's name, or in it.
fn is_in(host: &str, zone: &str) -> bool {
    host.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl fmt::Display for CustomDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_domain_is_a_dns_name_in_lower_case() {
        for good in [
            "registry.contoso.com",
            "contoso.com",
            "1.registry.contoso.xn--p1ai",
            "azurecr.io.contoso.com",
            "notazurecr.io",
        ] {
            assert_eq!(CustomDomain::parse(good).unwrap().as_str(), good);
        }
        let long_label = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "registry",
            "Registry.contoso.com",
            "registry.contoso.com.",
            "registry.contoso.com:443",
            "registry.contoso.com/team",
            "https://registry.contoso.com",
            "*.contoso.com",
            "registry_1.contoso.com",
            "10.0.0.1",
            "[::1]",
            &long_label,
        ] {
            assert_eq!(CustomDomain::parse(bad), Err(CustomDomainError::Name), "{bad}");
        }
    }

    #[test]
    fn docker_hub_is_no_custom_domain() {
        for host in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(
                CustomDomain::parse(host),
                Err(CustomDomainError::DockerHub),
                "{host}"
            );
        }
        assert!(CustomDomain::parse("docker.io.contoso.com").is_ok());
        assert!(CustomDomain::parse("mydocker.io").is_ok());
    }

    #[test]
    fn a_host_of_azure_is_no_custom_domain() {
        for cloud in Cloud::ALL {
            let suffix = cloud.login_server_suffix();
            for host in [
                suffix.to_owned(),
                format!("myregistry.{suffix}"),
                format!("myregistry.westeurope.geo.{suffix}"),
                format!("myregistry.westeurope.data.{suffix}"),
            ] {
                assert_eq!(
                    CustomDomain::parse(&host),
                    Err(CustomDomainError::Azure),
                    "{host}"
                );
            }
        }
    }
}
