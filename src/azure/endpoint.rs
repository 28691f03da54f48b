//! Places that can be given by hand: the Entra authority and the managed identity endpoint.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use thiserror::Error;

use crate::registry::cloud::Cloud;

/// The origin of an Entra authority, as in `AZURE_AUTHORITY_HOST`: `https://login.microsoftonline.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityHost(Authority);

/// The origin of a managed identity endpoint: `http://169.254.169.254` on Azure's machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImdsEndpoint(Uri);

/// Where identities of another cloud than Azure's own get their tokens, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEntra {
    /// Its authority.
    pub authority_host: AuthorityHost,
    /// The audience that its registries accept.
    pub audience: Audience,
}

/// An audience of tokens: an `https://` URL, maybe with a path, as Azure Stack's resource managers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(String);

impl Audience {
    /// The audience.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url =
            |url: Uri| url.scheme() == Some(&Scheme::HTTPS) && url.query().is_none() && url.host().is_some();
        if !text.contains(['@', '#']) && text.parse().is_ok_and(is_url) {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(EndpointError::Audience)
        }
    }
}

/// Why a text is not such an origin, or no audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not a URL of only a host.
    #[error("write a URL with a host, maybe a port, and nothing else")]
    Form,
    /// Not HTTPS.
    #[error("an Entra authority must be an https:// URL, for instance https://login.microsoftonline.com")]
    NotHttps,
    /// No audience.
    #[error(
        "an audience is an https:// URL without a query, for instance https://containerregistry.azure.net or \
         https://management.contoso.onmicrosoft.com/00000000-0000-0000-0000-000000000000"
    )]
    Audience,
}

impl FromStr for AuthorityHost {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, authority) = origin(text)?;
        if scheme == Scheme::HTTPS {
            Ok(Self(authority))
        } else {
            Err(EndpointError::NotHttps)
        }
    }
}

impl AuthorityHost {
    /// Whether it is that of one of Azure's clouds, on HTTPS' own port.
    pub fn is_of_a_cloud(&self) -> bool {
        let is_default_port = self.0.port().is_none_or(|port| port == 443_u16);
        is_default_port
            && Cloud::ALL
                .iter()
                .any(|cloud| self.0.host().eq_ignore_ascii_case(cloud.authority_host()))
    }
}

impl fmt::Display for AuthorityHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

impl ImdsEndpoint {
    /// The same path and query at this endpoint.
    pub(super) fn rebase(&self, url: &Uri) -> Result<Uri, http::uri::InvalidUriParts> {
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = url.path_and_query().cloned();
        Uri::from_parts(parts)
    }
}

impl FromStr for ImdsEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, authority) = origin(text)?;
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/");
        uri.build().map(Self).map_err(|_| EndpointError::Form)
    }
}

fn origin(text: &str) -> Result<(Scheme, Authority), EndpointError> {
    // Before anything is taken for the host: a password with a # in it ends there.
    if text.contains('@') {
        return Err(EndpointError::Form);
    }
    let parts = text.parse::<Uri>().map_err(|_| EndpointError::Form)?.into_parts();
    let bare = parts.path_and_query.is_none_or(|path| path.as_str() == "/");
    match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) if bare && !authority.host().is_empty() => Ok((scheme, authority)),
        _ => Err(EndpointError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_an_https_origin() {
        for text in [
            "https://login.microsoftonline.us",
            "https://login.microsoftonline.us/",
        ] {
            let host: AuthorityHost = text.parse().unwrap();
            assert_eq!(host.to_string(), "https://login.microsoftonline.us");
        }
        for (text, error) in [
            ("http://login.example", EndpointError::NotHttps),
            ("login.example", EndpointError::Form),
            ("", EndpointError::Form),
            ("https://login.example/tenant", EndpointError::Form),
            ("https://login.example/?x", EndpointError::Form),
            ("https://user:hunter2@login.example", EndpointError::Form),
            ("https://user:1#hunter2@login.example", EndpointError::Form),
        ] {
            assert_eq!(text.parse::<AuthorityHost>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_audience_is_an_https_url() {
        for (text, expected) in [
            (
                "https://containerregistry.azure.net",
                "https://containerregistry.azure.net",
            ),
            (
                "https://management.contoso.com/1-2/",
                "https://management.contoso.com/1-2",
            ),
        ] {
            let audience: Audience = text.parse().unwrap();
            assert_eq!(audience.as_str(), expected);
        }
        for text in [
            "",
            "containerregistry.azure.net",
            "http://containerregistry.azure.net",
            "https://containerregistry.azure.net/?a=b",
            "https://user:hunter2@containerregistry.azure.net",
            "https://containerregistry.azure.net/a b",
        ] {
            assert_eq!(text.parse::<Audience>(), Err(EndpointError::Audience), "{text}");
        }
    }

    #[test]
    fn the_authorities_of_azures_clouds_are_known() {
        for (text, expected) in [
            ("https://login.microsoftonline.com/", true),
            ("https://Login.MicrosoftOnline.us:443", true),
            ("https://login.chinacloudapi.cn", true),
            ("https://login.microsoftonline.com:8443", false),
            ("https://login.microsoftonline.com.example", false),
            ("https://login.example", false),
        ] {
            let host: AuthorityHost = text.parse().unwrap();
            assert_eq!(host.is_of_a_cloud(), expected, "{text}");
        }
    }

    #[test]
    fn a_request_moves_to_the_endpoint_with_path_and_query() {
        let endpoint: ImdsEndpoint = "http://127.0.0.1:8080".parse().unwrap();
        let url = "http://169.254.169.254/metadata/token?resource=x"
            .parse()
            .unwrap();
        assert_eq!(
            endpoint.rebase(&url).unwrap(),
            "http://127.0.0.1:8080/metadata/token?resource=x"
        );
    }
}
