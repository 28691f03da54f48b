//! The code of a condition that reports a problem.

use crate::api::reason::Reason;
use crate::azure::acr::AcrFault;
use crate::azure::mint::MintFault;
use crate::check::finding::Code;

/// The code that fits a reason best; none is that of a later release. Which service `Unreachable`, `Throttled` and
/// `ExchangeRejected` are about is what the fault tells.
pub(super) fn code_of(reason: Option<Reason>, fault: Option<MintFault>) -> Code {
    match reason {
        Some(Reason::InvalidSpec) => Code::LoginServer,
        Some(
            Reason::CredentialSecretMissing
            | Reason::ServiceAccountMissing
            | Reason::NotGranted
            | Reason::EntraRejected,
        ) => Code::AadLogin,
        Some(
            Reason::NameConflict
            | Reason::SecretsRefused
            | Reason::NamespaceNotInjected
            | Reason::TooManyBindings,
        ) => Code::PullSecret,
        Some(Reason::PullDenied) => Code::AccessToken,
        Some(Reason::NotAsked) => Code::CustomDomain,
        Some(Reason::ExchangeRejected | Reason::Throttled) => fault.map_or(Code::RefreshToken, of_fault),
        Some(Reason::Unreachable) | None => fault.map_or(Code::Controller, of_fault),
    }
}

fn of_fault(fault: MintFault) -> Code {
    match fault {
        MintFault::Entra => Code::AadLogin,
        MintFault::Registry(AcrFault::NoAccess) => Code::AccessToken,
        MintFault::Registry(AcrFault::Forbidden) => Code::Forbidden,
        MintFault::Registry(AcrFault::Barred(barrier)) => barrier.into(),
        MintFault::Registry(AcrFault::NoToken) => Code::RefreshToken,
    }
}
