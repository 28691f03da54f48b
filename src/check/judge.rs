//! From what was observed of a step to what it means.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::advice;
use super::finding::{CheckStep, Code, StepFailure, StepOutcome, failed, passed};
use super::subject::{Subject, Target};
use crate::azure::acr::{AcrError, AcrRefusal, Manifest};
use crate::azure::mint::{MintCause, MintError};
use crate::azure::service_error::ServiceError;
use crate::http::{HttpError, Resolution};
use crate::registry::login_server::LoginServer;

/// How far clocks may be apart. Entra ID and what verifies JSON Web Tokens elsewhere allow as much.
///
/// Source: Microsoft.IdentityModel, `TokenValidationParameters.DefaultClockSkew`.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// `Date` has whole seconds, and an answer is some time on its way.
const SAME_TIME: SignedDuration = SignedDuration::from_secs(3);

/// What was observed of a step.
#[derive(Debug)]
pub enum Observation {
    /// Whether the registry's name has an address.
    Resolved(Result<Resolution, HttpError>),
    /// Whether there is a connection, and its version of TLS.
    Connected(Result<&'static str, HttpError>),
    /// Whether the endpoint that was named is the registry's, and its version of TLS.
    Endpoint(Result<&'static str, EndpointFault>),
    /// What `/v2/` asks for.
    Challenged(Result<(), AcrError>),
    /// Entra ID or the registry gave what was asked for.
    Given,
    /// It did not.
    Refused(MintError),
    /// The identity has a part that is missing; what, and what to do.
    Incomplete(String),
    /// Whether a user name and a password were taken, and let pull.
    LoggedIn(Result<(), AcrError>),
    /// A manifest.
    Manifest {
        /// Which, with the tag that was chosen.
        target: Target,
        /// What the registry said.
        answer: Result<Manifest, AcrError>,
    },
    /// Where layers come from.
    Layers(Layers),
    /// Times.
    Clock(ClockReading),
}

/// Why an endpoint is of no use.
#[derive(Debug)]
pub enum EndpointFault {
    /// It has no address, or there is no connection.
    Unreached(HttpError),
    /// It does not answer as the registry does.
    Answer(AcrError),
}

/// Where a registry has clients get layers, and whether they can.
#[derive(Debug)]
pub enum Layers {
    /// It is no image, so there are none.
    NoImage,
    /// The registry did not say.
    Refused(AcrError),
    /// From the registry itself.
    Registry,
    /// From another host.
    Elsewhere {
        /// The host.
        host: String,
        /// What it answers.
        reached: Result<StatusCode, HttpError>,
    },
}

/// What shows whether a clock is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// This machine's time when the registry answered.
    pub local: Timestamp,
    /// The `Date` of the answer.
    pub date: Option<Timestamp>,
    /// When a token was made that had come by then: it can be set back on purpose, but never lies in the future.
    pub token_issued_at: Option<Timestamp>,
}

/// What an observation of a step means.
pub fn judge(subject: &Subject, step: CheckStep, observation: &Observation) -> StepOutcome {
    match observation {
        Observation::Resolved(Ok(resolution)) => passed(match resolution {
            Resolution::Override(address) => format!("{address}, by --resolve"),
            Resolution::Proxy => "left to the proxy".to_owned(),
            Resolution::Addresses(addresses) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                texts.join(", ")
            }
        }),
        Observation::Connected(Ok(version)) => passed(format!("{version}, the certificate is trusted")),
        Observation::Resolved(Err(error))
        | Observation::Connected(Err(error))
        | Observation::Endpoint(Err(EndpointFault::Unreached(error))) => unreached(subject, error),
        Observation::Endpoint(Err(EndpointFault::Answer(error))) => refused(subject, step, error),
        Observation::Endpoint(Ok(version)) => passed(format!(
            "{}: {version}, the certificate is trusted, and it is {}",
            subject.host_of(step),
            subject.login_server
        )),
        Observation::Challenged(Ok(())) => passed("requires its own token".to_owned()),
        Observation::Challenged(Err(error)) | Observation::LoggedIn(Err(error)) => {
            refused(subject, step, error)
        }
        Observation::LoggedIn(Ok(())) => passed(subject.target.as_ref().map_or_else(
            || "user name and password are right".to_owned(),
            |target| format!("may pull from {}", target.repository),
        )),
        Observation::Given => passed(match step {
            CheckStep::Entra => subject.identity.to_string(),
            CheckStep::Exchange => "a refresh token".to_owned(),
            CheckStep::Dns
            | CheckStep::Tls
            | CheckStep::Challenge
            | CheckStep::Endpoint
            | CheckStep::AccessToken
            | CheckStep::Manifest
            | CheckStep::Layers
            | CheckStep::Clock
            | CheckStep::Spec
            | CheckStep::Controller
            | CheckStep::Ready
            | CheckStep::PullAuthorized
            | CheckStep::Policies
            | CheckStep::CustomDomains
            | CheckStep::Credential
            | CheckStep::PullSecrets => subject
                .target
                .as_ref()
                .map(|target| format!("may pull from {}", target.repository))
                .unwrap_or_default(),
        }),
        Observation::Refused(error) => minted(subject, step, error),
        Observation::Incomplete(message) => StepOutcome::Failed(StepFailure {
            code: Code::AadLogin,
            cause: message.clone(),
            cures: vec![advice::attach_again(subject)],
        }),
        Observation::Manifest {
            target,
            answer: Ok(manifest),
        } => passed(match &manifest.media_type {
            Some(media_type) => format!("{target} ({media_type})"),
            None => target.to_string(),
        }),
        Observation::Manifest {
            target,
            answer: Err(error),
        } => manifest(subject, target, error),
        Observation::Layers(found) => layers(subject, found),
        Observation::Clock(reading) => clock(*reading),
    }
}

fn layers(subject: &Subject, found: &Layers) -> StepOutcome {
    let (host, cause) = match found {
        Layers::NoImage => {
            return StepOutcome::Skipped {
                why: "it is no image".to_owned(),
            };
        }
        Layers::Refused(error) => return refused(subject, CheckStep::Layers, error),
        Layers::Registry => return passed(format!("come from the registry itself{}", not_followed(subject))),
        Layers::Elsewhere {
            host,
            reached: Ok(status),
        } if status.is_success() => return passed(format!("come from {host}{}", not_followed(subject))),
        Layers::Elsewhere {
            host,
            reached: Ok(status),
        } => (
            host,
            format!(
                "layers come from {host}, which refuses them (HTTP {})",
                status.as_u16()
            ),
        ),
        Layers::Elsewhere {
            host,
            reached: Err(error),
        } => {
            let failure = error.failure();
            (
                host,
                format!("layers come from {host}, which can't be reached from here: {failure}"),
            )
        }
    };
    failed(Code::DataEndpoint, cause, advice::data_endpoint(subject, host))
}

/// What is not known of the regional endpoint that was named: the login server is asked for layers, and has its own region's.
fn not_followed(subject: &Subject) -> String {
    let Some(endpoint) = &subject.endpoint else {
        return String::new();
    };
    LoginServer::data_endpoint_of(endpoint)
        .map(|data| {
            format!(
                ", as the login server says; {endpoint} sends clients to {data} or a storage account of its region, which was \
                 not asked"
            )
        })
        .unwrap_or_default()
}

fn unreached(subject: &Subject, error: &HttpError) -> StepOutcome {
    let code = error.failure().barrier().map_or(Code::Tcp, Code::from);
    failed(code, error.to_string(), advice::unreached(subject, error))
}

/// What a step is about when nothing more is known.
fn code_of_step(step: CheckStep) -> Code {
    match step {
        CheckStep::Entra => Code::AadLogin,
        CheckStep::Exchange => Code::RefreshToken,
        CheckStep::AccessToken | CheckStep::Manifest | CheckStep::Layers => Code::AccessToken,
        CheckStep::Dns
        | CheckStep::Tls
        | CheckStep::Challenge
        | CheckStep::Endpoint
        | CheckStep::Clock
        | CheckStep::Spec
        | CheckStep::Controller
        | CheckStep::Ready
        | CheckStep::PullAuthorized
        | CheckStep::Policies
        | CheckStep::CustomDomains
        | CheckStep::Credential
        | CheckStep::PullSecrets => Code::Challenge,
    }
}

fn code_of(step: CheckStep, error: &AcrError) -> Code {
    let is_early = matches!(
        step,
        CheckStep::Challenge | CheckStep::Endpoint | CheckStep::Exchange
    );
    match error {
        AcrError::Refused(AcrRefusal {
            is_about_encryption: true,
            ..
        }) => Code::Cmk,
        AcrError::Refused(refusal) if is_early && refusal.status == 403 => Code::Forbidden,
        AcrError::Refused(refusal) if is_early && refusal.status == 404 => Code::LoginServer,
        AcrError::ServiceError(ServiceError::NoAnswer(error)) => {
            error.failure().barrier().map_or(code_of_step(step), Code::from)
        }
        AcrError::ServiceError(_)
        | AcrError::Refused(_)
        | AcrError::NoChallenge
        | AcrError::WrongRealm { .. }
        | AcrError::Token(_)
        | AcrError::TooLong
        | AcrError::NoAccess { .. } => code_of_step(step),
    }
}

fn refused(subject: &Subject, step: CheckStep, error: &AcrError) -> StepOutcome {
    let code = code_of(step, error);
    let host = subject.host_of(step);
    let cause = match (step, error) {
        (CheckStep::Challenge | CheckStep::Endpoint, AcrError::Refused(refusal))
            if code == Code::Forbidden =>
        {
            format!(
                "{host} keeps this machine out ({refusal}): its firewall does not know the address, or public access \
                 is off"
            )
        }
        (_, AcrError::Refused(refusal)) if code == Code::Cmk => format!(
            "{host} can't read its content ({refusal}): its customer-managed key, or the identity that may \
             use the key, no longer exists"
        ),
        (_, AcrError::Refused(refusal)) if code == Code::LoginServer => {
            format!("there is no registry at {host} ({refusal})")
        }
        (CheckStep::Exchange, AcrError::Refused(refusal)) if matches!(refusal.status, 400 | 401) => format!(
            "{host} does not accept the identity ({refusal}): the identity has no role there, or the role \
             does not act yet"
        ),
        (CheckStep::Exchange, AcrError::Refused(refusal)) if refusal.status == 413 => {
            format!("the identity's Entra token is too large for {host} ({refusal})")
        }
        (CheckStep::AccessToken, AcrError::Refused(refusal)) => {
            format!("{host} gives the identity no access ({refusal})")
        }
        (_, AcrError::NoAccess { repository }) => {
            format!("the identity has no right to pull from {repository}")
        }
        (_, AcrError::ServiceError(ServiceError::NoAnswer(error))) => error.to_string(),
        (
            _,
            AcrError::Refused(_)
            | AcrError::ServiceError(_)
            | AcrError::NoChallenge
            | AcrError::WrongRealm { .. }
            | AcrError::Token(_)
            | AcrError::TooLong,
        ) => format!("{host}: {error}"),
    };
    failed(code, cause, advice::registry(subject, step, error))
}

fn minted(subject: &Subject, step: CheckStep, error: &MintError) -> StepOutcome {
    match error.cause() {
        MintCause::Registry { error, .. } => refused(subject, step, error),
        cause @ MintCause::Entra(error) => {
            failed(Code::AadLogin, cause.to_string(), advice::entra(subject, error))
        }
        cause @ MintCause::TooLarge { .. } => failed(
            Code::AccessToken,
            cause.to_string(),
            advice::too_many_repositories(),
        ),
        cause @ MintCause::Password => failed(Code::AadLogin, cause.to_string(), advice::unusable_password()),
    }
}

fn manifest(subject: &Subject, target: &Target, error: &AcrError) -> StepOutcome {
    let host = &subject.login_server;
    match error {
        AcrError::Refused(refusal) if refusal.status == 404 => {
            let is_repository = refusal.code.as_deref() == Some("NAME_UNKNOWN");
            let cause = if is_repository {
                format!("{host} has no repository {}", target.repository)
            } else {
                format!("{host} has no {target}")
            };
            failed(
                Code::Manifest,
                cause,
                advice::missing(subject, target, is_repository),
            )
        }
        AcrError::Refused(refusal) if matches!(refusal.status, 401 | 403) && !refusal.is_about_encryption => {
            let cause = format!("{host} does not let the identity pull {target} ({refusal})");
            failed(Code::AccessToken, cause, advice::repository(subject, target))
        }
        AcrError::Refused(_)
        | AcrError::ServiceError(_)
        | AcrError::NoChallenge
        | AcrError::WrongRealm { .. }
        | AcrError::Token(_)
        | AcrError::TooLong
        | AcrError::NoAccess { .. } => refused(subject, CheckStep::Manifest, error),
    }
}

fn clock(reading: ClockReading) -> StepOutcome {
    let behind_token = reading
        .token_issued_at
        .map(|issued_at| issued_at.duration_since(reading.local))
        .filter(|ahead| *ahead > MAX_SKEW);
    let Some(skew) = reading
        .date
        .map(|date| date.duration_since(reading.local))
        .or(behind_token)
    else {
        return StepOutcome::Skipped {
            why: "no answer had a Date header".to_owned(),
        };
    };
    let skew = if skew.abs() > MAX_SKEW {
        skew
    } else {
        behind_token.unwrap_or(skew)
    };
    if skew.abs() <= SAME_TIME {
        return passed("agrees with the registry's".to_owned());
    }
    // A registry that is ahead means that we are behind.
    let direction = if skew.is_positive() { "behind" } else { "ahead of" };
    let text = format!(
        "this machine's clock is {} {direction} the registry's",
        span(skew.abs())
    );
    if skew.abs() <= MAX_SKEW {
        return passed(text);
    }
    failed(Code::ClockSkew, text, advice::clock())
}

/// A time span in its two largest units.
pub(super) fn span(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(date: Option<i64>, token: Option<i64>) -> String {
        let reading = ClockReading {
            local: at(100_000),
            date: date.map(at),
            token_issued_at: token.map(at),
        };
        match clock(reading) {
            StepOutcome::Passed { detail } => format!("ok: {detail}"),
            StepOutcome::Failed(failure) => format!("{}: {}", failure.code.as_str(), failure.cause),
            StepOutcome::Skipped { why } => format!("skipped: {why}"),
        }
    }

    #[test]
    fn clocks_are_compared_by_dates_and_by_future_tokens() {
        let behind = "CLOCK_SKEW_ERROR: this machine's clock is 10 min 0 s behind the registry's".to_owned();
        for (date, token, expected) in [
            (None, None, "skipped: no answer had a Date header".to_owned()),
            // Entra ID and proxies set tokens back.
            (
                None,
                Some(50_000),
                "skipped: no answer had a Date header".to_owned(),
            ),
            (
                Some(100_001),
                Some(99_000),
                "ok: agrees with the registry's".to_owned(),
            ),
            (
                Some(99_880),
                None,
                "ok: this machine's clock is 2 min 0 s ahead of the registry's".to_owned(),
            ),
            (Some(100_600), Some(100_600), behind.clone()),
            (None, Some(100_600), behind.clone()),
            // A cache in between that dates its answers itself.
            (Some(100_000), Some(100_600), behind),
            (
                Some(92_000),
                None,
                "CLOCK_SKEW_ERROR: this machine's clock is 2 h 13 min ahead of the registry's".to_owned(),
            ),
        ] {
            assert_eq!(told(date, token), expected, "{date:?} {token:?}");
        }
    }
}
