//! The Secret: reading it, and writing what it should hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{Authority, AuthorityCertificate, CertificateState, Flaw, Leaf, Next, Previous, Validity};
use crate::api::names::{
    MANAGED_BY_LABEL, MANAGER, NEXT_CA_TRUSTED_SINCE_ANNOTATION, PREVIOUS_CA_RETIRED_AT_ANNOTATION,
    TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY, TLS_TYPE, WEBHOOK_CERTIFICATE,
};
use crate::base::secret_text::SecretText;

const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const NEXT_CA_CRT: &str = "next-ca.crt";
const NEXT_CA_KEY: &str = "next-ca.key";
const PREVIOUS_CA_CRT: &str = "previous-ca.crt";

/// What the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// There is none.
    Absent,
    /// It can't be used.
    Broken {
        /// Why.
        flaw: Flaw,
        /// The authority, where that much of it is good.
        authority: Option<Box<Authority>>,
    },
    /// It can be used.
    Whole(Box<CertificateState>),
}

impl Held {
    /// Reads the Secret, for a host and at a time. A clock that is slow makes nothing invalid: a certificate that is
    /// not valid yet is valid for others.
    pub fn of(secret: Option<&Secret>, host: &str, now: Timestamp) -> Self {
        let Some(secret) = secret else {
            return Self::Absent;
        };
        let authority = match authority(secret, now) {
            Ok(authority) => authority,
            Err(flaw) => {
                return Self::Broken {
                    flaw,
                    authority: None,
                };
            }
        };
        match rest(secret, &authority, host, now) {
            Ok((leaf, next, previous)) => Self::Whole(Box::new(CertificateState {
                authority,
                leaf,
                next,
                previous,
            })),
            Err(flaw) => Self::Broken {
                flaw,
                authority: Some(Box::new(authority)),
            },
        }
    }
}

impl CertificateState {
    /// Whether it would still be read as [`Held::Whole`].
    pub(super) fn is_good(&self, host: &str, now: Timestamp) -> bool {
        let next = self
            .next
            .as_ref()
            .map(|next| next.authority.certificate().validity());
        check(&self.authority, &self.leaf, host, now).is_ok() && next.is_none_or(|next| !next.is_over(now))
    }

    /// The Secret, to be created.
    pub fn secret(&self, namespace: &str) -> Secret {
        let mut secret = Secret {
            type_: Some(TLS_TYPE.to_owned()),
            data: Some(self.data()),
            ..Secret::default()
        };
        secret.metadata.name = Some(WEBHOOK_CERTIFICATE.to_owned());
        secret.metadata.namespace = Some(namespace.to_owned());
        secret
            .labels_mut()
            .insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
        for (key, at) in self.times() {
            if let Some(at) = at {
                secret.annotations_mut().insert(key.to_owned(), at);
            }
        }
        secret
    }

    /// A merge patch that makes exactly this of a Secret, and of no later version of it.
    pub fn patch(&self, secret: &Secret) -> Value {
        let mut data: Map<_, _> = secret
            .data
            .iter()
            .flatten()
            .map(|(key, _)| (key.clone(), Value::Null))
            .collect();
        data.extend(self.data().into_iter().map(|(key, value)| (key, json!(value))));
        let annotations: Map<_, _> = self
            .times()
            .into_iter()
            .map(|(key, at)| (key.to_owned(), json!(at)))
            .collect();
        json!({
            "metadata": {
                "resourceVersion": secret.metadata.resource_version,
                "labels": {MANAGED_BY_LABEL: MANAGER},
                "annotations": annotations,
            },
            "data": data,
        })
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), ByteString(value.into()));
        put(CA_CRT, self.authority.certificate().pem());
        put(CA_KEY, self.authority.key().expose());
        put(TLS_CERTIFICATE_KEY, self.leaf.pem());
        put(TLS_PRIVATE_KEY_KEY, self.leaf.key().expose());
        if let Some(next) = &self.next {
            put(NEXT_CA_CRT, next.authority.certificate().pem());
            put(NEXT_CA_KEY, next.authority.key().expose());
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS_CA_CRT, previous.certificate.pem());
        }
        data
    }

    fn times(&self) -> [(&'static str, Option<String>); 2] {
        let trusted = self.next.as_ref().and_then(|next| next.trusted_since);
        let retired = self.previous.as_ref().map(|previous| previous.retired_at);
        [
            (NEXT_CA_TRUSTED_SINCE_ANNOTATION, trusted.map(|at| at.to_string())),
            (
                PREVIOUS_CA_RETIRED_AT_ANNOTATION,
                retired.map(|at| at.to_string()),
            ),
        ]
    }
}

fn authority(secret: &Secret, now: Timestamp) -> Result<Authority, Flaw> {
    let certificate = text(secret, CA_CRT)?.ok_or(Flaw::Missing(CA_CRT))?;
    let key = key(secret, CA_KEY)?.ok_or(Flaw::Missing(CA_KEY))?;
    let authority = Authority::parse((CA_CRT, certificate), (CA_KEY, key))?;
    check_over(CA_CRT, authority.certificate().validity(), now)?;
    Ok(authority)
}

fn rest(
    secret: &Secret,
    authority: &Authority,
    host: &str,
    now: Timestamp,
) -> Result<(Leaf, Option<Next>, Option<Previous>), Flaw> {
    let certificate = text(secret, TLS_CERTIFICATE_KEY)?.ok_or(Flaw::Missing(TLS_CERTIFICATE_KEY))?;
    let leaf_key = key(secret, TLS_PRIVATE_KEY_KEY)?.ok_or(Flaw::Missing(TLS_PRIVATE_KEY_KEY))?;
    let leaf = Leaf::parse(
        (TLS_CERTIFICATE_KEY, certificate),
        (TLS_PRIVATE_KEY_KEY, leaf_key),
    )?;
    check(authority, &leaf, host, now)?;
    let next = match (text(secret, NEXT_CA_CRT)?, key(secret, NEXT_CA_KEY)?) {
        (None, None) => None,
        (None, Some(_)) => return Err(Flaw::Missing(NEXT_CA_CRT)),
        (Some(_), None) => return Err(Flaw::Missing(NEXT_CA_KEY)),
        (Some(certificate), Some(key)) => {
            let authority = Authority::parse((NEXT_CA_CRT, certificate), (NEXT_CA_KEY, key))?;
            check_over(NEXT_CA_CRT, authority.certificate().validity(), now)?;
            Some(Next {
                authority,
                trusted_since: time(secret, NEXT_CA_TRUSTED_SINCE_ANNOTATION)?,
            })
        }
    };
    let previous = match text(secret, PREVIOUS_CA_CRT)? {
        None => None,
        Some(certificate) => Some(Previous {
            certificate: AuthorityCertificate::parse(certificate, PREVIOUS_CA_CRT)?,
            retired_at: time(secret, PREVIOUS_CA_RETIRED_AT_ANNOTATION)?
                .ok_or(Flaw::Annotation(PREVIOUS_CA_RETIRED_AT_ANNOTATION))?,
        }),
    };
    Ok((leaf, next, previous))
}

/// Whether clients accept a certificate that is served now.
fn check(authority: &Authority, leaf: &Leaf, host: &str, now: Timestamp) -> Result<(), Flaw> {
    check_over(CA_CRT, authority.certificate().validity(), now)?;
    check_over(TLS_CERTIFICATE_KEY, leaf.validity(), now)?;
    let at = now
        .max(leaf.validity().from)
        .max(authority.certificate().validity().from);
    leaf.verify([authority.certificate()], host, at)
        .map_err(|error| Flaw::NotTrusted {
            host: host.to_owned(),
            reason: error.to_string(),
        })
}

fn check_over(entry: &'static str, validity: Validity, now: Timestamp) -> Result<(), Flaw> {
    if validity.is_over(now) {
        return Err(Flaw::Over {
            entry,
            until: validity.until,
        });
    }
    Ok(())
}

fn text<'a>(secret: &'a Secret, entry: &'static str) -> Result<Option<&'a str>, Flaw> {
    let value = secret.data.as_ref().and_then(|data| data.get(entry));
    value
        .map(|value| std::str::from_utf8(&value.0).map_err(|_| Flaw::Certificate(entry)))
        .transpose()
}

fn key(secret: &Secret, entry: &'static str) -> Result<Option<SecretText>, Flaw> {
    let key = text(secret, entry).map_err(|_| Flaw::Key(entry))?;
    Ok(key.map(SecretText::from))
}

fn time(secret: &Secret, annotation: &'static str) -> Result<Option<Timestamp>, Flaw> {
    let text = secret.annotations().get(annotation);
    text.map(|text| text.parse().map_err(|_| Flaw::Annotation(annotation)))
        .transpose()
}
