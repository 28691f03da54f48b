//! Why there is no credential, with what to do about it.

use std::fmt;
use std::time::Duration;

use super::MintRequest;
use super::advice;
use super::cause::{MintCause, MintStep};
use crate::api::advice::with_advice;
use crate::api::reason::Reason;
use crate::azure::acr::AcrError;
use crate::azure::entra::EntraError;
use crate::azure::remedy::EntraFault;
use crate::azure::service_error::ServiceError;

/// No credential. It reads the same for the same failure, and no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintError {
    step: MintStep,
    cause: MintCause,
    advice: Option<String>,
}

impl MintError {
    pub(super) fn unusable_password() -> Self {
        Self {
            step: MintStep::Prepare,
            cause: MintCause::Password,
            advice: advice::of_password(),
        }
    }

    pub(super) fn in_request(request: &MintRequest, step: MintStep, cause: MintCause) -> Self {
        let advice = advice::advice(request, step, &cause);
        Self::with_advice(step, cause, advice)
    }

    pub(super) fn with_advice(step: MintStep, cause: MintCause, advice: Option<String>) -> Self {
        Self { step, cause, advice }
    }

    /// The step that failed.
    pub fn step(&self) -> MintStep {
        self.step
    }

    /// What went wrong.
    pub fn cause(&self) -> &MintCause {
        &self.cause
    }

    /// What to do about it, if there is something to say.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The reason for the condition `Ready`.
    pub fn reason(&self) -> Reason {
        match &self.cause {
            MintCause::Password => Reason::CredentialSecretMissing,
            MintCause::TooLarge { .. } => Reason::InvalidSpec,
            MintCause::Entra(error) => match error {
                EntraError::ServiceError(trouble) | EntraError::ImdsServiceError(trouble) => {
                    reason_of(trouble)
                }
                EntraError::Refused(_) | EntraError::ImdsRefused(_) | EntraError::TokenAlgorithm(_) => {
                    Reason::EntraRejected
                }
                EntraError::Certificate(_) | EntraError::EmptySecret | EntraError::TokenFile { .. } => {
                    Reason::CredentialSecretMissing
                }
                EntraError::Identity(_) => Reason::InvalidSpec,
            },
            MintCause::Registry { error, .. } => match error {
                AcrError::ServiceError(trouble) => reason_of(trouble),
                AcrError::Refused(_) | AcrError::NoAccess { .. } => Reason::ExchangeRejected,
                AcrError::TooLong => Reason::InvalidSpec,
                AcrError::NoChallenge | AcrError::WrongRealm { .. } | AcrError::Token(_) => {
                    Reason::Unreachable
                }
            },
        }
    }

    /// For how long the service that failed asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.service_error()?.retry_after()
    }

    /// The service error behind the error, if that is what it is.
    pub fn service_error(&self) -> Option<&ServiceError> {
        match &self.cause {
            MintCause::Entra(error) => error.service_error(),
            MintCause::Registry {
                error: AcrError::ServiceError(trouble),
                ..
            } => Some(trouble),
            MintCause::Password | MintCause::TooLarge { .. } | MintCause::Registry { .. } => None,
        }
    }

    /// Whether another audience could do better.
    pub(super) fn may_be_the_audience(&self) -> bool {
        match &self.cause {
            MintCause::Password | MintCause::TooLarge { .. } => false,
            MintCause::Entra(error) => error
                .refusal()
                .is_some_and(|refusal| !refusal.fault().is_some_and(EntraFault::is_about_the_identity)),
            MintCause::Registry { error, .. } => {
                self.step == MintStep::Exchange && matches!(error, AcrError::Refused(_))
            }
        }
    }

    /// The one that came further; of equals, this one.
    pub(super) fn further_of(self, other: Self) -> Self {
        if other.step > self.step { other } else { self }
    }
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_advice(&self.cause.to_string(), self.advice.as_deref()))
    }
}

impl std::error::Error for MintError {}

fn reason_of(trouble: &ServiceError) -> Reason {
    match trouble {
        ServiceError::Throttled { .. } => Reason::Throttled,
        ServiceError::NoAnswer(_)
        | ServiceError::Unavailable { .. }
        | ServiceError::Redirected { .. }
        | ServiceError::Garbled { .. } => Reason::Unreachable,
    }
}
