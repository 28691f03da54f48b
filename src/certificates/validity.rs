//! When a certificate is good, and when it is to be replaced.

use jiff::{SignedDuration, Timestamp};
use rcgen::CertificateParams;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::BACKDATED;
use crate::base::clock::whole_seconds;

/// The time that a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first instant.
    pub from: Timestamp,
    /// When it expires.
    pub until: Timestamp,
}

impl Validity {
    /// One that begins now, or a little before for clocks that are behind.
    pub(super) fn beginning(now: Timestamp, lifetime: SignedDuration) -> Self {
        Self {
            // Certificates know no finer time.
            from: whole_seconds(now.saturating_sub(BACKDATED).unwrap_or(Timestamp::MIN)),
            until: whole_seconds(now.saturating_add(lifetime).unwrap_or(Timestamp::MAX)),
        }
    }

    /// A certificate's own. Times that can't be represented are taken for the nearest that can.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let time = |seconds, otherwise| Timestamp::from_second(seconds).unwrap_or(otherwise);
        let validity = certificate.validity();
        Self {
            from: time(validity.not_before.timestamp(), Timestamp::MIN),
            until: time(validity.not_after.timestamp(), Timestamp::MAX),
        }
    }

    /// When two thirds are over, which leaves a third for what can go wrong.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.until.duration_since(self.from);
        self.from.saturating_add(life / 3 * 2).unwrap_or(Timestamp::MAX)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }

    /// Whether it is not yet valid. As certificates begin before they are made, only a clock that was far ahead makes one
    /// like that.
    pub fn is_to_come(&self, now: Timestamp) -> bool {
        now < self.from
    }

    pub(super) fn write(&self, params: &mut CertificateParams) {
        let time = |at: Timestamp, otherwise| {
            OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(otherwise)
        };
        params.not_before = time(self.from, params.not_before);
        params.not_after = time(self.until, params.not_after);
    }
}
