//! Where the layers of an image come from: a registry sends clients on to a storage account, or to its data endpoint.
//!
//! Source: Microsoft Learn, "Dedicated data endpoints in Azure Container Registry"; OCI distribution specification, "Pull".

use http::header::LOCATION;
use http::{Method, Uri};
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

/// Asks for a blob, and says where the registry has it come from. It is not followed.
pub async fn blob_source(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    digest: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<BlobSource, AcrError> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let request = authorized(login_server, Method::GET, &path, token);
    let response = answer(http, request, Bytes::new()).await?;
    if response.status.is_redirection() {
        let location = headers::text(&response.headers, &LOCATION).and_then(|text| text.parse::<Uri>().ok());
        let address = location.filter(|url| url.scheme_str() == Some("https") && url.host().is_some());
        return address.map(BlobSource::Elsewhere).ok_or({
            AcrError::ServiceError(ServiceError::Garbled {
                status: response.status.as_u16(),
                what: "a redirect to no https address",
            })
        });
    }
    match ServiceError::of(&response, now) {
        Some(trouble) => Err(AcrError::ServiceError(trouble)),
        None if response.status.is_success() => Ok(BlobSource::Registry),
        None => Err(AcrError::Refused(refusal(&response))),
    }
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
