//! Certificates that were made under a clock that was wrong.

use jiff::{SignedDuration, Timestamp};

use super::{DAY, HOST, HOUR, begin, change_of, live, new, next_step, written};
use crate::certificates::*;

/// Does what is due until nothing is for a while, and says what it was.
fn settle(mut state: CertificateState, mut now: Timestamp) -> (CertificateState, Timestamp, Vec<CertificateChange>) {
    let mut published = live("");
    let mut changes = Vec::new();
    for _ in 0..100 {
        let step = next_step(&state, Some(&published), now);
        match &step.action {
            CertificateAction::Publish(bundle) => published = live(bundle),
            CertificateAction::Nothing if step.again > now + DAY => return (state, now, changes),
            CertificateAction::Nothing => now = step.again,
            _ => {
                changes.extend(change_of(&step));
                state = written(step, now);
            }
        }
    }
    panic!("it does not come to rest: {changes:?}");
}

#[test]
fn a_certificate_of_a_fast_clock_is_replaced_once_it_is_set() {
    for ahead in [HOUR * 2, DAY * 30, DAY * 400] {
        let now = begin();
        let (state, done, changes) = settle(new(now + ahead), now);
        assert_eq!(
            changes,
            [
                CertificateChange::AddNext,
                CertificateChange::Trust,
                CertificateChange::Promote,
                CertificateChange::DropPrevious,
            ],
            "{ahead:#}"
        );
        for validity in [state.leaf.validity(), state.authority.certificate().validity()] {
            assert!(validity.from <= now + OVERLAP, "{ahead:#}");
        }
        // Another replica's clock is still ahead: it takes that for what it is, an older certificate.
        let others = settle(state, done + ahead.min(DAY * 30)).2;
        assert!(others.is_empty(), "{ahead:#}: {others:?}");
    }
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_renewed_once() {
    for ahead in [HOUR * 2, DAY * 30, DAY * 200] {
        let now = begin();
        let state = CertificateState::of(new(now).authority, HOST, now + ahead).unwrap();
        let step = next_step(&state, None, now);
        assert_eq!(change_of(&step), Some(CertificateChange::RenewLeaf), "{ahead:#}");
        let (renewed, _, changes) = settle(state, now);
        assert_eq!(changes, [CertificateChange::RenewLeaf], "{ahead:#}");
        assert!(renewed.leaf.validity().from <= now, "{ahead:#}");
    }
}

#[test]
fn an_authority_that_is_still_to_begin_signs_nothing_anew() {
    let now = begin();
    let state = new(now + DAY * 400);
    let mut secret = state.secret("own");
    secret.data.as_mut().unwrap().remove("tls.key");
    let held = Held::of(Some(&secret), HOST, now);
    assert!(
        matches!(
            &held,
            Held::Broken {
                authority: Some(_),
                ..
            }
        ),
        "{held:?}"
    );
    assert_eq!(plan(&held, None, None, HOST, OVERLAP, now).action, CertificateAction::Create);
}

#[test]
fn slightly_different_clocks_keep_each_others_certificates() {
    let ahead = BACKDATED - SignedDuration::from_secs(1);
    for made in [begin(), begin() + ahead] {
        for now in [begin(), begin() + ahead] {
            let changes = settle(new(made), now).2;
            assert!(changes.is_empty(), "{changes:?}");
        }
    }
}

#[test]
fn a_next_authority_that_is_still_to_begin_never_signs() {
    let now = begin();
    let mut state = new(now);
    let ahead = now + HOUR * 2;
    let to_come = new(ahead).authority;
    state.next = Some(Next {
        authority: to_come.clone(),
        trusted_since: Some(now - HOUR * 2),
    });
    let step = next_step(&state, Some(&live(&state.bundle())), now);
    assert_eq!(change_of(&step), Some(CertificateChange::AddNext));
    let next = written(step, now).next.unwrap();
    assert_ne!(next.authority, to_come);
    assert_eq!(next.trusted_since, None);
}
