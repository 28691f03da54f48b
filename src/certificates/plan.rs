//! What to do next.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Authority, CertificateState, Held, Live, Next};

/// A step from one good state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateChange {
    /// A new serving certificate of the same authority.
    RenewLeaf,
    /// The next authority is made, to be published; in place of one that can't sign yet, if there is one.
    AddNext,
    /// The next authority was seen to be published.
    Trust,
    /// The next authority was seen not to be published any more.
    Distrust,
    /// The next authority takes over and signs the serving certificate.
    Promote,
    /// The previous authority is not to be trusted any more.
    DropPrevious,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateAction {
    /// Create everything: there is nothing to build on.
    Create,
    /// Write what was held before, with this change if any.
    Restore(Box<CertificateState>, Option<CertificateChange>),
    /// Keep the authority and create the rest.
    Repair(Box<Authority>),
    /// Write the next state.
    Change(Box<CertificateState>, CertificateChange),
    /// Write the bundle into the configuration.
    Publish(String),
    /// Nothing.
    Nothing,
}

/// What to do, and when to look again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationPlan {
    /// What to do.
    pub action: CertificateAction,
    /// When there will be something else to do, by the wall clock.
    pub again: Timestamp,
}

/// Decides on the next step from the content of the Secret, the published authorities (none, if there is no
/// configuration or it could not be read), the last valid content of the Secret, and the time.
///
/// Every replica serves the certificate in the Secret. So a certificate of another authority is written there only
/// after that authority was published for the time of `overlap`, and its predecessor stays published for the same
/// time.
pub fn plan(
    held: &Held,
    live: Option<&Live>,
    remembered: Option<&CertificateState>,
    host: &str,
    overlap: SignedDuration,
    now: Timestamp,
) -> RotationPlan {
    let at_once = |action| RotationPlan { action, again: now };
    let remembered = remembered.filter(|state| state.is_good(host, now));
    match (held, remembered) {
        (Held::Whole(state), _) => whole(state, live, overlap, now),
        // Who deletes it wants another one: it gets there by a rotation, so that nothing is lost on the way.
        (Held::Absent, Some(state)) => {
            let change = state.next.is_none().then_some(CertificateChange::AddNext);
            at_once(CertificateAction::Restore(Box::new(state.clone()), change))
        }
        (Held::Broken { .. }, Some(state)) => {
            at_once(CertificateAction::Restore(Box::new(state.clone()), None))
        }
        (
            Held::Broken {
                authority: Some(authority),
                ..
            },
            None,
        ) if !authority.certificate().validity().is_to_come(now) => {
            at_once(CertificateAction::Repair(authority.clone()))
        }
        (Held::Absent | Held::Broken { .. }, None) => at_once(CertificateAction::Create),
    }
}

fn whole(
    state: &CertificateState,
    live: Option<&Live>,
    overlap: SignedDuration,
    now: Timestamp,
) -> RotationPlan {
    let change = |change| RotationPlan {
        action: CertificateAction::Change(Box::new(state.clone()), change),
        again: now,
    };
    let authority = state.authority.certificate().validity();
    let leaf = state.leaf.validity();
    // One that expires with its authority is not renewed again and again on the last days.
    let renewable = leaf.until < authority.until;
    // What is not yet valid was made under a clock that was ahead, and no API server takes it. Nothing that such an
    // authority signs is of use.
    if !authority.is_to_come(now) && (leaf.is_to_come(now) || (renewable && leaf.renew_at() <= now)) {
        return change(CertificateChange::RenewLeaf);
    }
    let next = state
        .next
        .as_ref()
        .map(|next| next.authority.certificate().validity());
    if next.map_or_else(|| authority.is_to_come(now), |next| next.is_to_come(now)) {
        return change(CertificateChange::AddNext);
    }
    let bundle = state.bundle();
    let published = live.is_some_and(|live| live.publishes(&bundle));
    if live.is_some() && !published {
        // Whatever was seen before does not count: the time begins again.
        return match &state.next {
            Some(Next {
                trusted_since: Some(_),
                ..
            }) => change(CertificateChange::Distrust),
            Some(Next {
                trusted_since: None, ..
            })
            | None => RotationPlan {
                action: CertificateAction::Publish(bundle),
                again: now,
            },
        };
    }
    let mut again = if renewable { leaf.renew_at() } else { leaf.until };
    match &state.next {
        Some(next) => match next.trusted_since {
            // A time that is still to come was written under another clock.
            Some(since) if since <= now => {
                let over = since.saturating_add(overlap).unwrap_or(Timestamp::MAX);
                if published && over <= now {
                    return change(CertificateChange::Promote);
                }
                if published {
                    again = again.min(over);
                }
            }
            _ if published => return change(CertificateChange::Trust),
            _ => {}
        },
        None => {
            let due = authority.renew_at();
            if due <= now {
                return change(CertificateChange::AddNext);
            }
            again = again.min(due);
        }
    }
    if let Some(previous) = &state.previous {
        let over = previous
            .retired_at
            .saturating_add(overlap)
            .unwrap_or(Timestamp::MAX)
            .min(previous.certificate.validity().until);
        if over <= now {
            return change(CertificateChange::DropPrevious);
        }
        again = again.min(over);
    }
    RotationPlan {
        action: CertificateAction::Nothing,
        again,
    }
}

impl CertificateAction {
    /// The state that is to be written, where one is. Keys are drawn here.
    pub fn state(self, host: &str, now: Timestamp) -> Result<Option<CertificateState>, rcgen::Error> {
        Ok(Some(match self {
            Self::Create => CertificateState::create(host, now)?,
            Self::Repair(authority) => CertificateState::of(*authority, host, now)?,
            Self::Restore(state, None) => *state,
            Self::Restore(state, Some(change)) | Self::Change(state, change) => {
                changed(*state, change, host, now)?
            }
            Self::Publish(_) | Self::Nothing => return Ok(None),
        }))
    }
}

fn changed(
    mut state: CertificateState,
    change: CertificateChange,
    host: &str,
    now: Timestamp,
) -> Result<CertificateState, rcgen::Error> {
    match change {
        CertificateChange::RenewLeaf => state.leaf = super::Leaf::issue(&state.authority, host, now)?,
        CertificateChange::AddNext => {
            state.next = Some(Next {
                authority: Authority::make(now)?,
                trusted_since: None,
            });
        }
        CertificateChange::Trust | CertificateChange::Distrust => {
            if let Some(next) = &mut state.next {
                next.trusted_since = (change == CertificateChange::Trust).then_some(now);
            }
        }
        CertificateChange::Promote => state = state.promoted(host, now)?,
        CertificateChange::DropPrevious => state.previous = None,
    }
    Ok(state)
}

/// What an operator reads.
impl fmt::Display for CertificateAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "created a certificate authority and a serving certificate",
            Self::Restore(_, None) => "restored the previous certificate",
            Self::Restore(_, Some(_)) => {
                "restored the previous certificate, with another certificate authority to come"
            }
            Self::Repair(_) => "created another serving certificate with the same authority",
            Self::Change(_, change) => match change {
                CertificateChange::RenewLeaf => "renewed the serving certificate",
                CertificateChange::AddNext => "created the next certificate authority",
                CertificateChange::Trust => "saw that the next certificate authority is published",
                CertificateChange::Distrust => {
                    "saw that the next certificate authority is not published any more"
                }
                CertificateChange::Promote => "the next certificate authority took over",
                CertificateChange::DropPrevious => {
                    "the previous certificate authority is not trusted any more"
                }
            },
            Self::Publish(_) => "published the certificate authorities",
            Self::Nothing => "nothing to do",
        })
    }
}
