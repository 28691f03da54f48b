//! What a refusal of Entra ID is about.
//!
//! Source of the codes: Microsoft Learn, "Microsoft Entra authentication and authorization error codes".

use crate::azure::entra::Refusal;

/// What a code of Entra ID is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntraFault {
    /// The client secret is wrong or expired.
    Secret,
    /// The tenant does not have the application.
    Application,
    /// There is no such tenant.
    Tenant,
    /// The service principal is disabled.
    Disabled,
    /// The assertion is outside its time.
    Time,
    /// The assertion is no token, or one for somebody else.
    Assertion,
    /// The assertion's signature does not belong to a key that Entra ID knows.
    Signature,
    /// The assertion's signature algorithm is not one that Entra ID accepts.
    Algorithm,
    /// The application does not trust the token's issuer, subject or audience.
    Trust,
    /// The tenant does not have the audience that was asked for.
    Audience,
    /// A Conditional Access policy.
    ConditionalAccess,
}

impl Refusal {
    /// What it is about, where its code tells.
    pub(crate) fn fault(&self) -> Option<EntraFault> {
        self.code.and_then(EntraFault::of_code)
    }
}

impl EntraFault {
    pub(crate) fn of_code(code: u32) -> Option<Self> {
        Some(match code {
            7_000_215 | 7_000_222 => Self::Secret,
            700_016 => Self::Application,
            90_002 => Self::Tenant,
            7_000_112 => Self::Disabled,
            700_024 => Self::Time,
            50_027 | 700_023 => Self::Assertion,
            50_013 | 700_027 | 5_000_131 => Self::Signature,
            5_002_738 => Self::Algorithm,
            70_021 | 700_211 | 700_212 | 700_213 => Self::Trust,
            500_011 | 500_014 | 650_052 => Self::Audience,
            53_000..=53_999 => Self::ConditionalAccess,
            _ => return None,
        })
    }

    /// What the first code in a text is about.
    pub(crate) fn named_in(text: &str) -> Option<Self> {
        let (_, after) = text.split_once("AADSTS")?;
        let digits = after.split(|next: char| !next.is_ascii_digit()).next()?;
        Self::of_code(digits.parse().ok()?)
    }

    /// Whether it is about the identity itself, so that no other audience can help.
    pub(crate) fn is_about_the_identity(self) -> bool {
        match self {
            Self::Secret
            | Self::Application
            | Self::Tenant
            | Self::Disabled
            | Self::Time
            | Self::Assertion
            | Self::Signature
            | Self::Algorithm
            | Self::Trust => true,
            Self::Audience | Self::ConditionalAccess => false,
        }
    }
}
