//! ACR login servers and the clouds that they live in.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::registry::cloud::Cloud;
use crate::registry::custom_domain::{CustomDomain, CustomDomainError};
pub use crate::registry::endpoint::NAME_LENGTH;
use crate::registry::endpoint::{Endpoint, EndpointError, REGIONAL};
use crate::registry::image::RegistryHost;

/// The label of the host that layers come from.
const DATA: &str = "data";

/// The host of a registry, in lower case: `{name}.azurecr.{io,us,cn}`, or `{name}-{hash}.…` where the registry
/// was made with a domain name label. In a cloud that is none of Azure's it is any DNS name outside their zones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct LoginServer {
    host: Box<str>,
    cloud: Option<Cloud>,
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
    /// The host is a regional endpoint of a registry.
    #[error(
        "this is a regional endpoint: name the registry by its own host, which has neither the region nor `geo`, for \
         instance myregistry.azurecr.io for myregistry.westeurope.geo.azurecr.io"
    )]
    Regional,
    /// What comes before the suffix can't be a registry's name.
    #[error(
        "the part before the suffix must be a registry's name (5 to 50 letters and digits), \
         or that with a hyphen and a domain name label's hash"
    )]
    Name,
    /// The host of another cloud is no DNS name.
    #[error(
        "a login server of another cloud is a DNS name in lower case, for instance myregistry.azurecr.contoso.com, without \
         scheme, port or path"
    )]
    OtherName,
    /// The host that was said to be of another cloud is of an Azure cloud.
    #[error(
        "this host is of one of Azure's clouds, not of another one: leave the cloud out, or name that one"
    )]
    OtherAzure,
    /// The host that was said to be of another cloud is Docker Hub's.
    #[error(
        "a login server is not in docker.io: kubelets mean Docker Hub by names without a host, and would send it the credential"
    )]
    OtherDockerHub,
}

impl LoginServer {
    /// Parses a host of another cloud than Azure's. Which hosts are there, only the settings of pullpass say.
    pub fn of_other_cloud(text: &str) -> Result<Self, LoginServerError> {
        let host = CustomDomain::parse(text).map_err(|error| match error {
            CustomDomainError::Name => LoginServerError::OtherName,
            CustomDomainError::Azure => LoginServerError::OtherAzure,
            CustomDomainError::DockerHub => LoginServerError::OtherDockerHub,
        })?;
        Ok(Self {
            host: host.as_str().into(),
            cloud: None,
        })
    }

    /// Parses a host, in any case.
    pub fn parse(text: &str) -> Result<Self, LoginServerError> {
        let endpoint = Endpoint::parse(text)?;
        if endpoint.is_regional {
            return Err(LoginServerError::Regional);
        }
        Ok(Self::of_endpoint(&endpoint))
    }

    /// The login server of the registry that a person names by any of its hosts: its own or a regional endpoint, with or
    /// without HTTPS' own port.
    pub fn of_host(text: &str) -> Result<Self, LoginServerError> {
        let host = text.strip_suffix(":443").unwrap_or(text);
        Ok(Self::of_endpoint(&Endpoint::parse(host)?))
    }

    fn of_endpoint(endpoint: &Endpoint<'_>) -> Self {
        Self {
            host: endpoint.own_host().into_boxed_str(),
            cloud: Some(endpoint.cloud()),
        }
    }

    /// The login server of a registry without a domain name label.
    pub fn of_registry(name: &str, cloud: Cloud) -> Result<Self, LoginServerError> {
        Self::parse(&format!("{name}.{}", cloud.login_server_suffix()))
    }

    /// The host, in lower case.
    pub fn as_str(&self) -> &str {
        &self.host
    }

    /// The resource's name in lower case: what comes before the suffix, and before a domain name label's hash. In another
    /// cloud, the first label of the host.
    pub fn resource_name(&self) -> &str {
        let label = self.host.split('.').next().unwrap_or(&self.host);
        match self.cloud {
            Some(_) => label.split('-').next().unwrap_or(label),
            None => label,
        }
    }

    /// What the registry's regional endpoints have in common, as a kubelet matches hosts: part by part, with wildcards.
    /// Such endpoints are unknown in a cloud that is none of Azure's.
    pub fn regional_pattern(&self) -> Option<String> {
        let label = self.host.split('.').next().unwrap_or_default();
        let suffix = self.cloud?.login_server_suffix();
        Some(format!("{label}.*.{REGIONAL}.{suffix}"))
    }

    /// Azure's cloud that the suffix tells; none for a cloud that the settings of pullpass describe.
    pub fn cloud(&self) -> Option<Cloud> {
        self.cloud
    }

    /// Whether an image's registry is on ACR: a registry's own host or a regional endpoint by its form, and no port but
    /// HTTPS' own.
    pub fn is_named_by(registry: &RegistryHost<'_>) -> bool {
        registry.is_default_port() && registry.endpoint().is_some()
    }

    /// The host that an image's registry is known by, in lower case: of a regional endpoint the registry's own, and of any
    /// other host that host, with the port only where it is not HTTPS' own.
    pub fn known_host<'a>(registry: &RegistryHost<'a>) -> Cow<'a, str> {
        match Self::regional(registry) {
            Some(endpoint) => Cow::Owned(endpoint.own_host()),
            None => registry.canonical(),
        }
    }

    /// Whether an image's registry is named by a regional endpoint, so that it is known by another host.
    pub fn is_regional(registry: &RegistryHost<'_>) -> bool {
        Self::regional(registry).is_some()
    }

    fn regional<'h, 'a>(registry: &'h RegistryHost<'a>) -> Option<&'h Endpoint<'a>> {
        let endpoint = registry.endpoint().filter(|endpoint| endpoint.is_regional)?;
        registry.is_default_port().then_some(endpoint)
    }

    /// The data endpoint that has the layers of a regional endpoint, where the registry has such; none of any other host.
    pub fn data_endpoint_of(host: &str) -> Option<String> {
        Endpoint::parse(host)
            .ok()
            .filter(|endpoint| endpoint.is_regional)?;
        let mut parts = host.splitn(4, '.');
        let (label, region, _, suffix) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{label}.{region}.{DATA}.{suffix}").to_ascii_lowercase())
    }
}

impl From<EndpointError> for LoginServerError {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Suffix => Self::Suffix,
            EndpointError::Name => Self::Name,
        }
    }
}

impl FromStr for LoginServer {
    type Err = LoginServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
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
    fn a_regional_endpoint_has_a_data_endpoint() {
        for (host, expected) in [
            (
                "MyRegistry-a1b2.westeurope.geo.azurecr.io",
                Some("myregistry-a1b2.westeurope.data.azurecr.io"),
            ),
            (
                "myregistry.chinaeast2.geo.azurecr.cn",
                Some("myregistry.chinaeast2.data.azurecr.cn"),
            ),
            ("myregistry.azurecr.io", None),
            ("registry.contoso.com", None),
            ("myregistry.westeurope.geo.contoso.com", None),
        ] {
            assert_eq!(LoginServer::data_endpoint_of(host).as_deref(), expected, "{host}");
        }
    }

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
                (host, Some(cloud)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_host_of_another_cloud_is_any_dns_name() {
        for text in [
            "myregistry.azurecr.local.contoso.com",
            "registry.contoso.com",
            "my-registry.appliance.contoso.com",
        ] {
            let login_server = LoginServer::of_other_cloud(text).expect(text);
            assert_eq!((login_server.as_str(), login_server.cloud()), (text, None));
            assert_eq!(login_server.regional_pattern(), None);
            assert!(LoginServer::parse(text).is_err(), "{text}");
        }
        for (text, error) in [
            ("registry", LoginServerError::OtherName),
            ("Registry.contoso.com", LoginServerError::OtherName),
            ("registry.contoso.com:443", LoginServerError::OtherName),
            ("https://registry.contoso.com", LoginServerError::OtherName),
            ("10.0.0.1", LoginServerError::OtherName),
            ("myregistry.azurecr.io", LoginServerError::OtherAzure),
            (
                "myregistry.westeurope.geo.azurecr.cn",
                LoginServerError::OtherAzure,
            ),
            ("registry-1.docker.io", LoginServerError::OtherDockerHub),
        ] {
            assert_eq!(LoginServer::of_other_cloud(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_resource_has_the_name_before_the_hash() {
        for text in ["MyRegistry.azurecr.io", "myregistry-abc123def.azurecr.cn"] {
            assert_eq!(
                LoginServer::parse(text).unwrap().resource_name(),
                "myregistry",
                "{text}"
            );
        }
    }

    #[test]
    fn a_region_has_63_characters_at_most() {
        let of_region =
            |length| LoginServer::of_host(&format!("myregistry.{}.geo.azurecr.io", "a".repeat(length)));
        assert!(of_region(63).is_ok());
        assert!(of_region(64).is_err());
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
            ("myregistry.westeurope.geo.azurecr.io/a", true),
            ("myregistry-a1b2.ChinaEast2.GEO.azurecr.cn:443/a", true),
            ("myregistry.usgovvirginia.geo.azurecr.us/a", true),
            ("myregistry.westeurope.geo.azurecr.io:5000/a", false),
            ("myregistry.westeurope.data.azurecr.io/a", false),
            ("myregistry.west.europe.geo.azurecr.io/a", false),
            ("myregistry.west-europe.geo.azurecr.io/a", false),
            ("myregistry.geo.azurecr.io/a", false),
            ("abcd.westeurope.geo.azurecr.io/a", false),
            ("myregistry.westeurope.geo.azurecr.io.evil.example/a", false),
            ("myregistry.azurecr.io:0443/a", true),
            ("myregistry.azurecr.io:04430/a", false),
            ("myregistry.azurecr.io:5000/a", false),
            ("myregistry.azurecr.io.evil.example/a", false),
            ("evil.example/myregistry.azurecr.io/a", false),
            ("azurecr.io/a", false),
        ] {
            let registry = ImageReference::parse(image).unwrap().registry().unwrap();
            assert_eq!(LoginServer::is_named_by(&registry), expected, "{image}");
        }
    }

    #[test]
    fn a_regional_endpoint_is_known_by_its_registry() {
        for (image, known) in [
            (
                "MyRegistry.WestEurope.Geo.azurecr.io:443/a",
                "myregistry.azurecr.io",
            ),
            (
                "myregistry-a1b2.chinaeast2.geo.azurecr.cn/a",
                "myregistry-a1b2.azurecr.cn",
            ),
            ("MyRegistry.azurecr.io:443/a", "myregistry.azurecr.io"),
            (
                "myregistry.westeurope.geo.azurecr.io:5000/a",
                "myregistry.westeurope.geo.azurecr.io:5000",
            ),
            (
                "myregistry.westeurope.data.azurecr.io/a",
                "myregistry.westeurope.data.azurecr.io",
            ),
            ("Registry.example/a", "registry.example"),
        ] {
            let registry = ImageReference::parse(image).unwrap().registry().unwrap();
            assert_eq!(LoginServer::known_host(&registry), known, "{image}");
        }
    }

    #[test]
    fn a_registry_is_named_by_any_of_its_hosts() {
        for (text, host) in [
            ("myregistry.azurecr.io:443", Some("myregistry.azurecr.io")),
            (
                "MyRegistry.westeurope.geo.azurecr.io",
                Some("myregistry.azurecr.io"),
            ),
            (
                "myregistry-a1b2.westeurope.geo.azurecr.io:443",
                Some("myregistry-a1b2.azurecr.io"),
            ),
            ("myregistry.azurecr.io:5000", None),
            ("myregistry.azurecr.io:443:443", None),
            ("myregistry.westeurope.data.azurecr.io", None),
        ] {
            let login_server = LoginServer::of_host(text).ok();
            assert_eq!(login_server.as_ref().map(LoginServer::as_str), host, "{text}");
        }
        let regional = LoginServer::parse("myregistry.westeurope.geo.azurecr.io");
        assert_eq!(regional, Err(LoginServerError::Regional));
    }

    proptest! {
        #[test]
        fn a_host_that_parses_is_lower_case_and_parses_to_itself(text in "[A-Za-z0-9-]{0,60}\\.[aA]zurecr\\.(io|us|cn|de)") {
            if let Ok(login_server) = LoginServer::parse(&text) {
                prop_assert_eq!(login_server.as_str(), text.to_ascii_lowercase());
                prop_assert_eq!(LoginServer::parse(login_server.as_str()), Ok(login_server.clone()));
            }
        }
    }

    #[test]
    fn a_domain_label_has_63_characters_at_most() {
        let host = |hash: usize| format!("{}-{}.azurecr.io", "n".repeat(50), "h".repeat(hash));
        assert!(LoginServer::parse(&host(12)).is_ok());
        assert!(LoginServer::parse(&host(13)).is_err());
    }

    #[test]
    fn a_login_server_is_written_as_its_host() {
        let login_server = LoginServer::parse("MyRegistry.azurecr.io").unwrap();
        assert_eq!(String::from(login_server), "myregistry.azurecr.io");
        let refused = LoginServer::parse("registry.example").unwrap_err().to_string();
        assert!(
            refused.contains(".azurecr.io, .azurecr.us or .azurecr.cn"),
            "{refused}"
        );
    }
}
