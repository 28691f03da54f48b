//! Certificates and keys in PEM: those of applications, those that are served, and those that lie in the Secret.

use std::collections::BTreeMap;
use std::sync::Once;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use pullpass::azure::entra::check_certificate;
use pullpass::base::secret_text::SecretText;
use pullpass::certificates::Held;
use pullpass::server::TlsMaker;

/// Nothing that is read as PEM panics, and no error repeats what it read.
///
/// The input is one text in PEM for all that is read; or parts with a NUL byte between them, in the order of the Secret's
/// entries.
pub fn check(input: &[u8]) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another thread may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let Some(text) = crate::text(input) else { return };
    let pem = SecretText::from(text);
    // In 2027: a time at which certificates are valid.
    let now = Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH);
    if let Err(error) = check_certificate(&pem, now) {
        assert!(error.to_string().len() < 300);
    }
    if let Err(error) = TlsMaker::new(None).make(text, &pem) {
        assert!(error.to_string().len() < 300, "{error}");
    }
    let parts: Vec<_> = text.split('\0').collect();
    let part = |at: usize| parts[at % parts.len()];
    let entries = [
        "tls.crt",
        "tls.key",
        "ca.crt",
        "ca.key",
        "next-ca.crt",
        "next-ca.key",
        "previous-ca.crt",
    ];
    let data: BTreeMap<_, _> = entries
        .iter()
        .enumerate()
        .filter(|(at, _)| *at < 4 || parts.len() > *at)
        .map(|(at, entry)| ((*entry).to_owned(), ByteString(part(at).as_bytes().to_vec())))
        .collect();
    let secret = Secret {
        data: Some(data),
        ..Secret::default()
    };
    let now = Timestamp::UNIX_EPOCH;
    let held = Held::of(Some(&secret), "pullpass.pullpass-system.svc", now);
    assert_eq!(held, Held::of(Some(&secret), "pullpass.pullpass-system.svc", now));
}
