//! ACR login servers and the clouds that they live in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::registry::cloud::Cloud;
use crate::registry::image::RegistryHost;

/// The shortest and the longest name of a registry resource.
pub const NAME_LENGTH: std::ops::RangeInclusive<usize> = 5..=50;
/// The longest DNS label (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// The host of a registry, in lower case: `{name}.azurecr.{io,us,cn}`, or `{name}-{hash}.…` where the registry
/// was made with a domain name label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoginServer {
    host: Box<str>,
    cloud: Cloud,
}

/// Why a text is not a login server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoginServerError {
    /// The host is of no Azure cloud.
    #[error(
        "a login server ends in {} and has no scheme, port or path",
        Cloud::suffixes()
    )]
    Suffix,
    /// What comes before the suffix can't be a registry's name.
    #[error(
        "the part before the suffix must be a registry's name (5 to 50 letters and digits), \
         or that with a hyphen and a domain name label's hash"
    )]
    Name,
}

impl LoginServer {
    /// Parses a host, in any case.
    pub fn parse(text: &str) -> Result<Self, LoginServerError> {
        let cloud = cloud_of(text)?;
        Ok(Self {
            host: text.to_ascii_lowercase().into_boxed_str(),
            cloud,
        })
    }

    /// The login server of a registry without a domain name label.
    pub fn of_registry(name: &str, cloud: Cloud) -> Result<Self, LoginServerError> {
        Self::parse(&format!("{name}.{}", cloud.login_server_suffix()))
    }

    /// The host, in lower case.
    pub fn as_str(&self) -> &str {
        &self.host
    }

    /// The cloud that the suffix tells.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Whether an image's registry is an ACR login server: the host by its form, and no port but HTTPS' own.
    pub fn is_named_by(registry: &RegistryHost<'_>) -> bool {
        registry.is_default_port() && cloud_of(registry.host()).is_ok()
    }
}

fn cloud_of(host: &str) -> Result<Cloud, LoginServerError> {
    let (label, suffix) = host.split_once('.').ok_or(LoginServerError::Suffix)?;
    let cloud = Cloud::ALL
        .into_iter()
        .find(|cloud| suffix.eq_ignore_ascii_case(cloud.login_server_suffix()))
        .ok_or(LoginServerError::Suffix)?;
    let (name, hash) = match label.split_once('-') {
        Some((name, hash)) => (name, Some(hash)),
        None => (label, None),
    };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let fits = label.len() <= MAX_LABEL && NAME_LENGTH.contains(&name.len());
    if fits && is_word(name) && hash.is_none_or(is_word) {
        Ok(cloud)
    } else {
        Err(LoginServerError::Name)
    }
}

impl FromStr for LoginServer {
    type Err = LoginServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for LoginServer {
    type Error = LoginServerError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<LoginServer> for String {
    fn from(login_server: LoginServer) -> Self {
        login_server.host.into()
    }
}

impl fmt::Display for LoginServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::image::ImageReference;
    use proptest::prelude::*;

    #[test]
    fn hosts_of_the_three_clouds_are_login_servers_in_any_case() {
        for (text, host, cloud) in [
            ("myregistry.azurecr.io", "myregistry.azurecr.io", Cloud::Public),
            ("MyRegistry.AzureCR.io", "myregistry.azurecr.io", Cloud::Public),
            (
                "myregistry.azurecr.us",
                "myregistry.azurecr.us",
                Cloud::USGovernment,
            ),
            ("myregistry.azurecr.cn", "myregistry.azurecr.cn", Cloud::China),
            (
                "myregistry-abc123def.azurecr.io",
                "myregistry-abc123def.azurecr.io",
                Cloud::Public,
            ),
            ("12345.azurecr.io", "12345.azurecr.io", Cloud::Public),
        ] {
            let login_server = LoginServer::parse(text).expect(text);
            assert_eq!(
                (login_server.as_str(), login_server.cloud()),
                (host, cloud),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let too_long = format!("{}.azurecr.io", "a".repeat(51));
        for text in [
            "",
            "azurecr.io",
            ".azurecr.io",
            "abcd.azurecr.io",
            too_long.as_str(),
            "myregistry.azurecr.io.",
            "myregistry.azurecr.io.evil.example",
            "myregistry.azurecr.io:443",
            "https://myregistry.azurecr.io",
            "myregistry.azurecr.io/app",
            "myregistry.eastus.data.azurecr.io",
            "evil-azurecr.io",
            "myregistry-.azurecr.io",
            "-myregistry.azurecr.io",
            "myregistry-a-b.azurecr.io",
            "my_registry.azurecr.io",
            "myregistry.azurecr.de",
            "user@myregistry.azurecr.io",
            "myregistr\u{443}.azurecr.io",
        ] {
            assert!(LoginServer::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_is_on_acr_by_host_and_port_only() {
        for (image, expected) in [
            ("myregistry.azurecr.io/a", true),
            ("MYREGISTRY.azurecr.io/a", true),
            ("myregistry.azurecr.io:443/a", true),
            ("myregistry.azurecr.io:0443/a", false),
            ("myregistry.azurecr.io:5000/a", false),
            ("myregistry.azurecr.io.evil.example/a", false),
            ("evil.example/myregistry.azurecr.io/a", false),
            ("azurecr.io/a", false),
        ] {
            let registry = ImageReference::parse(image).unwrap().registry().unwrap();
            assert_eq!(LoginServer::is_named_by(&registry), expected, "{image}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_is_lower_case_and_parses_to_itself(text in "[A-Za-z0-9-]{0,60}\\.[aA]zurecr\\.(io|us|cn|de)") {
            if let Ok(login_server) = LoginServer::parse(&text) {
                prop_assert_eq!(login_server.as_str(), text.to_ascii_lowercase());
                prop_assert_eq!(LoginServer::parse(login_server.as_str()), Ok(login_server.clone()));
            }
        }
    }
}
