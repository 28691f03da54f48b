//! Where the layers of an image come from: a registry sends clients on to a storage account, or to its data endpoint.
//!
//! Source: Microsoft Learn, "Dedicated data endpoints in Azure Container Registry"; OCI distribution specification, "Pull".

use http::header::{LOCATION, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::content::{authorized, get_manifest};
use super::{AcrError, answer, refusal};
use crate::azure::service_error::ServiceError;
use crate::base::secret_text::SecretText;
use crate::http::HttpClient;
use crate::http::headers;
use crate::registry::login_server::LoginServer;

/// As little of a blob as can be asked for. A data endpoint need not answer HEAD: no client pulls by it.
const FIRST_BYTE: HeaderValue = HeaderValue::from_static("bytes=0-0");
/// How often a registry may send a client on to itself.
const MAX_OWN_REDIRECTS: usize = 3;

/// Where a registry has clients get a blob. The address is signed, so that it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum BlobSource {
    /// From itself.
    Registry,
    /// From elsewhere, without the token.
    Elsewhere(Uri),
}

/// The digest of the smallest blob of an image, its configuration, which comes the way that its layers come; of several
/// platforms, of the first. None for what is no image.
pub async fn configuration_digest(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    reference: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<Option<String>, AcrError> {
    let mut reference = reference.to_owned();
    // An index does not have another one in it.
    for _ in 0..2 {
        let response = get_manifest(http, login_server, repository, &reference, token, now).await?;
        let manifest: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        if let Some(digest) = text("/config/digest").filter(|digest| is_digest(digest)) {
            return Ok(Some(digest.to_owned()));
        }
        match text("/manifests/0/digest").filter(|digest| is_digest(digest)) {
            Some(digest) => digest.clone_into(&mut reference),
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Asks for a blob, and returns the host from which the registry serves it. A redirect to another host is not followed.
pub async fn blob_source(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    digest: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<BlobSource, AcrError> {
    let mut path = format!("/v2/{repository}/blobs/{digest}");
    let mut own_redirects = 0;
    loop {
        let request = authorized(login_server, Method::GET, &path, token).header(RANGE, FIRST_BYTE);
        let response = answer(http, request, Bytes::new()).await?;
        if !response.status.is_redirection() {
            return match ServiceError::of(&response, now) {
                Some(trouble) => Err(AcrError::ServiceError(trouble)),
                None if response.status.is_success() => Ok(BlobSource::Registry),
                None => Err(AcrError::Refused(refusal(&response))),
            };
        }
        let garbled = |what| {
            let status = response.status.as_u16();
            AcrError::ServiceError(ServiceError::Garbled { status, what })
        };
        let location = headers::text(&response.headers, &LOCATION);
        match location.and_then(|location| redirect(login_server, &path, location)) {
            Some(Redirect::Own(next)) if own_redirects < MAX_OWN_REDIRECTS => {
                own_redirects += 1;
                path = next;
            }
            Some(Redirect::Own(_)) => return Err(garbled("one redirect to itself after the other")),
            Some(Redirect::Elsewhere(address)) => return Ok(BlobSource::Elsewhere(address)),
            None => return Err(garbled("a redirect to no https address")),
        }
    }
}

/// Asks another host for a blob's first byte, without the token.
pub fn first_byte(address: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = address;
    request.headers_mut().insert(RANGE, FIRST_BYTE);
    request
}

/// Where a redirect leads to.
#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    /// To another path of the registry, which wants the token there too.
    Own(String),
    /// To another host.
    Elsewhere(Uri),
}

/// Resolves the target of a redirect that came for a path of the registry; none if it is no https address.
fn redirect(login_server: &LoginServer, path: &str, location: &str) -> Option<Redirect> {
    let mut marks = location.chars().filter(|c| matches!(c, ':' | '/' | '?' | '#'));
    let has_scheme = marks.next() == Some(':');
    let own = login_server.as_str();
    let absolute = if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("https:{location}")
    } else if location.starts_with('/') {
        format!("https://{own}{location}")
    } else {
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let before = if location.starts_with('?') {
            path
        } else {
            path.rfind('/').and_then(|at| path.get(..=at))?
        };
        format!("https://{own}{before}{location}")
    };
    let address: Uri = absolute.parse().ok()?;
    let host = address.host().filter(|_| address.scheme_str() == Some("https"))?;
    let is_own = host.eq_ignore_ascii_case(own) && matches!(address.port_u16(), None | Some(443));
    Some(if is_own {
        let path = address.path_and_query().map_or("/", PathAndQuery::as_str);
        Redirect::Own(path.to_owned())
    } else {
        Redirect::Elsewhere(address)
    })
}

/// A digest becomes a part of a path.
fn is_digest(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"+._-=".contains(&byte);
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        [algorithm, hex]
            .iter()
            .all(|part| !part.is_empty() && part.len() <= 128 && part.bytes().all(is_sound))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_resolved_against_the_registry() {
        let login_server = LoginServer::parse("myregistry.azurecr.io").unwrap();
        let own = |path: &str| Some(Redirect::Own(path.to_owned()));
        let elsewhere = |url: &'static str| Some(Redirect::Elsewhere(Uri::from_static(url)));
        for (location, expected) in [
            ("https://myregistry.azurecr.io/v2/b?x=1", own("/v2/b?x=1")),
            ("https://MyRegistry.AzureCR.io:443/v2/b", own("/v2/b")),
            ("HTTPS://myregistry.azurecr.io", own("/")),
            ("/v2/other/blobs/b", own("/v2/other/blobs/b")),
            ("other?x=a:b", own("/v2/app/blobs/other?x=a:b")),
            ("?x=/b", own("/v2/app/blobs/sha256:0a?x=/b")),
            ("//myregistry.azurecr.io/b", own("/b")),
            (
                "//store.example/b?sig=1",
                elsewhere("https://store.example/b?sig=1"),
            ),
            (
                "https://store.example:8443/b",
                elsewhere("https://store.example:8443/b"),
            ),
            (
                "https://myregistry.azurecr.io:8443/b",
                elsewhere("https://myregistry.azurecr.io:8443/b"),
            ),
            ("http://store.example/b", None),
            ("http://myregistry.azurecr.io/b", None),
            ("ftp:b", None),
            ("https:///b", None),
        ] {
            for path in ["/v2/app/blobs/sha256:0a", "/v2/app/blobs/sha256:0a?y=/c"] {
                let found = redirect(&login_server, path, location);
                assert_eq!(found, expected, "{path} {location}");
            }
        }
    }

    #[test]
    fn another_host_is_asked_as_clients_ask_it() {
        let request = first_byte(Uri::from_static("https://store.example/b"));
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()[RANGE], "bytes=0-0");
    }

    #[test]
    fn only_digests_are_asked_for() {
        for text in ["sha256:0a", "sha512+b64u:A_-="] {
            assert!(is_digest(text), "{text}");
        }
        for text in [
            "",
            "sha256:",
            ":0a",
            "sha256:../a",
            "sha256:a?b",
            "sha256",
            "sha256:a b",
        ] {
            assert!(!is_digest(text), "{text}");
        }
    }
}
