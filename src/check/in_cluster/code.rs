//! The code of a condition that is not as it should be.

use crate::api::reason::Reason;
use crate::check::finding::Code;

/// The code that fits a reason best; what `Unreachable` and `Throttled` are about stands in the message alone.
pub(super) fn code_of(reason: &str, cause: &str) -> Code {
    let is = |known: Reason| reason == known.as_str();
    let is_entra = cause.contains("Entra ID") || cause.contains("managed identity endpoint");
    if is(Reason::InvalidSpec) {
        Code::LoginServer
    } else if is(Reason::CredentialSecretMissing) || is(Reason::EntraRejected) || is_entra {
        Code::AadLogin
    } else if is(Reason::NameConflict) || is(Reason::SecretsRefused) {
        Code::PullSecret
    } else if cause.contains("the token does not allow pulling from") {
        Code::AccessToken
    } else if is(Reason::ExchangeRejected) && cause.contains("HTTP 403") {
        Code::Forbidden
    } else if is(Reason::ExchangeRejected) || is(Reason::Throttled) {
        Code::RefreshToken
    } else if cause.contains("does not resolve") {
        Code::Dns
    } else if cause.contains("TLS failed") {
        Code::Ssl
    } else if cause.contains("no TCP connection") || cause.contains("the proxy did not connect") {
        Code::Tcp
    } else if cause.contains("no pull token from") {
        Code::RefreshToken
    } else {
        Code::Controller
    }
}
