//! A cloud that is none of Azure's own, as the settings of the process describe it: air-gapped, or an Azure Stack.
//!
//! The person who runs pullpass describes it, and not the one who writes an AcrRegistry: to its hosts the secrets of identities
//! are sent.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::registry::custom_domain::{CustomDomain, CustomDomainError};
use crate::registry::login_server::LoginServer;

/// What the login servers of another cloud end in, without the leading dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudSuffix(CustomDomain);

/// Why a text is no such suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the suffix of another cloud's login servers is a DNS name of two labels or more in lower case, for instance \
     azurecr.contoso.com, that is in no zone of Azure's registries, nor in docker.io"
)]
pub struct CloudSuffixError;

impl CloudSuffix {
    /// Whether a login server is in this cloud.
    pub fn has(&self, login_server: &LoginServer) -> bool {
        let name = login_server.as_str().strip_suffix(self.0.as_str());
        login_server.cloud().is_none()
            && name
                .and_then(|name| name.strip_suffix('.'))
                .is_some_and(|name| !name.is_empty())
    }
}

impl FromStr for CloudSuffix {
    type Err = CloudSuffixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix('.').unwrap_or(text);
        let parsed = CustomDomain::parse(name);
        parsed.map(Self).map_err(|_: CustomDomainError| CloudSuffixError)
    }
}

impl fmt::Display for CloudSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}", self.0)
    }
}

/// What the process knows of another cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherCloud {
    /// What its login servers end in; none if the process was told about no other cloud.
    pub suffix: Option<CloudSuffix>,
    /// Whether it is known where its Entra ID is.
    pub has_authority: bool,
}

/// Why nothing is sent to a login server of another cloud.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtherCloudError {
    /// The process was told about no other cloud.
    #[error(
        "spec.cloud is Other, and pullpass does not know the hosts of that cloud: set --other-cloud-suffix \
         (the chart's \
         value otherCloud.suffix)"
    )]
    Unknown,
    /// The login server is somewhere else.
    #[error(
        "spec.loginServer does not end in {0}, as login servers of the other cloud do by --other-cloud-suffix (the chart's value \
         otherCloud.suffix): pullpass sends no credential elsewhere"
    )]
    Elsewhere(CloudSuffix),
    /// The identity asks Entra ID, and it is not known where that is.
    #[error(
        "spec.identity needs Entra ID, and pullpass does not know that of the other cloud: set \
         --other-cloud-authority and \
         --other-cloud-audience (the chart's values otherCloud.authority and otherCloud.audience), or use spec.identity.basic"
    )]
    NoAuthority,
}

impl OtherCloud {
    /// Whether credentials may be sent to a login server. One of Azure's own clouds always may have them.
    pub fn check(&self, login_server: &LoginServer, asks_entra: bool) -> Result<(), OtherCloudError> {
        if login_server.cloud().is_some() {
            return Ok(());
        }
        let suffix = self.suffix.as_ref().ok_or(OtherCloudError::Unknown)?;
        if !suffix.has(login_server) {
            return Err(OtherCloudError::Elsewhere(suffix.clone()));
        }
        if asks_entra && !self.has_authority {
            return Err(OtherCloudError::NoAuthority);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_a_dns_name_outside_azures_zones() {
        for text in ["azurecr.contoso.com", ".azurecr.contoso.com", "contoso.com"] {
            let suffix: CloudSuffix = text.parse().expect(text);
            assert_eq!(suffix.to_string(), format!(".{}", text.trim_start_matches('.')));
        }
        for text in [
            "",
            ".",
            "com",
            "Contoso.com",
            "..contoso.com",
            "https://contoso.com",
            "contoso.com:443",
            "azurecr.io",
            "x.azurecr.cn",
            "docker.io",
        ] {
            assert_eq!(text.parse::<CloudSuffix>(), Err(CloudSuffixError), "{text}");
        }
    }

    #[test]
    fn credentials_go_to_login_servers_under_the_suffix_alone() {
        let other = |has_authority| OtherCloud {
            suffix: Some("azurecr.contoso.com".parse().unwrap()),
            has_authority,
        };
        let elsewhere = || Err(OtherCloudError::Elsewhere("azurecr.contoso.com".parse().unwrap()));
        for (settings, host, asks_entra, expected) in [
            (other(true), "myregistry.azurecr.contoso.com", true, Ok(())),
            (other(false), "a.myregistry.azurecr.contoso.com", false, Ok(())),
            (
                other(false),
                "myregistry.azurecr.contoso.com",
                true,
                Err(OtherCloudError::NoAuthority),
            ),
            (other(true), "azurecr.contoso.com", true, elsewhere()),
            (other(true), "evilazurecr.contoso.com", true, elsewhere()),
            (
                other(true),
                "azurecr.contoso.com.evil.example",
                false,
                elsewhere(),
            ),
            (
                OtherCloud::default(),
                "myregistry.azurecr.contoso.com",
                false,
                Err(OtherCloudError::Unknown),
            ),
        ] {
            let login_server = LoginServer::of_other_cloud(host).unwrap();
            assert_eq!(settings.check(&login_server, asks_entra), expected, "{host}");
        }
    }

    #[test]
    fn azures_own_login_servers_need_no_settings() {
        let login_server = LoginServer::parse("myregistry.azurecr.cn").unwrap();
        for settings in [
            OtherCloud::default(),
            OtherCloud {
                suffix: Some("azurecr.contoso.com".parse().unwrap()),
                has_authority: false,
            },
        ] {
            assert_eq!(settings.check(&login_server, true), Ok(()));
        }
    }
}
