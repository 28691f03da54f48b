//! The plan, step by step, and what it makes of a spoilt Secret.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::*;

pub(super) const HOST: &str = "pullpass.pullpass-system.svc";
pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);
pub(super) const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn begin() -> Timestamp {
    "2026-11-22T18:00:00Z".parse().unwrap()
}

pub(super) fn new(now: Timestamp) -> CertificateState {
    CertificateState::create(HOST, now).unwrap()
}

pub(super) fn live(bundle: &str) -> Live {
    let webhook = |name: &str| LiveWebhook {
        name: name.to_owned(),
        bundle: bundle.as_bytes().to_vec(),
    };
    Live {
        uid: "uid".to_owned(),
        version: None,
        webhooks: vec![webhook("pods.pullpass.dev"), webhook("always.pullpass.dev")],
    }
}

pub(super) fn next_step(state: &CertificateState, live: Option<&Live>, now: Timestamp) -> RotationPlan {
    let held = Held::of(Some(&state.secret("own")), HOST, now);
    assert_eq!(
        held,
        Held::Whole(Box::new(state.clone())),
        "what is written is read back"
    );
    plan(&held, live, None, HOST, OVERLAP, now)
}

pub(super) fn change_of(plan: &RotationPlan) -> Option<CertificateChange> {
    match plan.action {
        CertificateAction::Change(_, change) => Some(change),
        _ => None,
    }
}

pub(super) fn written(plan: RotationPlan, now: Timestamp) -> CertificateState {
    plan.action.state(HOST, now).unwrap().unwrap()
}

#[test]
fn from_nothing_to_published() {
    let now = begin();
    let first = plan(&Held::Absent, None, None, HOST, OVERLAP, now);
    assert_eq!(first.action, CertificateAction::Create);
    let state = written(first, now);
    state.leaf.verify(state.trusted(), HOST, now).unwrap();
    assert_eq!(next_step(&state, None, now).action, CertificateAction::Nothing);
    assert_eq!(
        next_step(&state, Some(&live("")), now).action,
        CertificateAction::Publish(state.bundle())
    );
    let done = next_step(&state, Some(&live(&state.bundle())), now);
    assert_eq!(done.action, CertificateAction::Nothing);
    assert_eq!(done.again, state.leaf.validity().renew_at());
}

#[test]
fn a_serving_certificate_is_renewed_after_two_thirds() {
    let state = new(begin());
    let due = begin() + DAY * 60;
    let published = live(&state.bundle());
    assert_eq!(change_of(&next_step(&state, Some(&published), due - DAY)), None);
    let step = next_step(&state, Some(&published), due);
    assert_eq!(change_of(&step), Some(CertificateChange::RenewLeaf));
    let renewed = written(step, due);
    assert_eq!(renewed.authority, state.authority);
    assert_eq!(renewed.leaf.validity().until, due + LEAF_LIFETIME);
    renewed.leaf.verify(state.trusted(), HOST, due).unwrap();
    // Nothing that happens to the configuration keeps it from being renewed.
    assert_eq!(
        change_of(&next_step(&state, Some(&live("")), due)),
        Some(CertificateChange::RenewLeaf)
    );
    assert_eq!(
        change_of(&next_step(&state, None, due)),
        Some(CertificateChange::RenewLeaf)
    );
}

#[test]
fn an_authority_is_replaced_in_phases() {
    let old = new(begin());
    let mut now = old.authority.certificate().validity().renew_at();
    let state = CertificateState::of(old.authority.clone(), HOST, now).unwrap();
    let step = next_step(&state, Some(&live(&state.bundle())), now);
    assert_eq!(change_of(&step), Some(CertificateChange::AddNext));
    let added = written(step, now);
    assert_eq!(added.leaf, state.leaf);
    let next = added.next.clone().unwrap().authority;
    assert_eq!(
        added.bundle(),
        format!(
            "{}{}",
            next.certificate().pem(),
            state.authority.certificate().pem()
        ),
        "the new one and the old one"
    );

    let step = next_step(&added, Some(&live(&state.bundle())), now);
    assert_eq!(step.action, CertificateAction::Publish(added.bundle()));
    let both = live(&added.bundle());
    let step = next_step(&added, Some(&both), now);
    assert_eq!(change_of(&step), Some(CertificateChange::Trust));
    let trusted = written(step, now);
    let waiting = next_step(&trusted, Some(&both), now + OVERLAP / 2);
    assert_eq!(
        (waiting.action, waiting.again),
        (CertificateAction::Nothing, now + OVERLAP)
    );

    now += OVERLAP;
    assert_eq!(
        next_step(&trusted, None, now).action,
        CertificateAction::Nothing,
        "not while nobody knows what is published"
    );
    let step = next_step(&trusted, Some(&both), now);
    assert_eq!(change_of(&step), Some(CertificateChange::Promote));
    let promoted = written(step, now);
    assert_eq!((&promoted.authority, &promoted.next), (&next, &None));
    assert_eq!(promoted.bundle(), added.bundle(), "nothing needs to be published");
    promoted.leaf.verify([next.certificate()], HOST, now).unwrap();

    let waiting = next_step(&promoted, Some(&both), now);
    assert_eq!(
        (waiting.action, waiting.again),
        (CertificateAction::Nothing, now + OVERLAP)
    );
    now += OVERLAP;
    let step = next_step(&promoted, Some(&both), now);
    assert_eq!(change_of(&step), Some(CertificateChange::DropPrevious));
    let done = written(step, now);
    assert_eq!(done.bundle(), next.certificate().pem());
    assert_eq!(
        next_step(&done, Some(&both), now).action,
        CertificateAction::Publish(done.bundle())
    );
}

#[test]
fn the_wait_restarts_when_the_bundle_was_removed_meanwhile() {
    let now = begin();
    let mut state = new(now);
    state.next = Some(Next {
        authority: new(now).authority,
        trusted_since: Some(now),
    });
    let later = now + HOUR * 2;
    let step = next_step(&state, Some(&live(state.authority.certificate().pem())), later);
    assert_eq!(change_of(&step), Some(CertificateChange::Distrust));
    let distrusted = written(step, later);
    let both = live(&state.bundle());
    let step = next_step(&distrusted, Some(&both), later);
    assert_eq!(change_of(&step), Some(CertificateChange::Trust));
    assert_eq!(
        next_step(&written(step, later), Some(&both), later + HOUR / 2).action,
        CertificateAction::Nothing
    );
    // So it does when the clock was set back.
    let early = now - HOUR / 2;
    assert_eq!(
        change_of(&next_step(&state, Some(&both), early)),
        Some(CertificateChange::Trust)
    );
}

#[test]
fn a_certificate_that_expires_with_its_ca_is_renewed_once() {
    let old = new(begin());
    let ends = old.authority.certificate().validity().until;
    let now = ends - DAY * 10;
    let state = CertificateState::of(old.authority, HOST, now).unwrap();
    assert_eq!(state.leaf.validity().until, ends);
    let step = next_step(&state, None, ends - HOUR);
    assert_ne!(change_of(&step), Some(CertificateChange::RenewLeaf));
}

/// The ways to spoil a Secret.
pub(super) fn spoilt(good: &CertificateState) -> Vec<(&'static str, Secret)> {
    let secret = good.secret("own");
    let other = new(begin()).secret("own");
    let entry = |secret: &Secret, key: &str| secret.data.as_ref().unwrap()[key].clone();
    let with = |changes: &[(&str, Option<ByteString>)]| {
        let mut secret = secret.clone();
        let data = secret.data.as_mut().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => data.insert((*key).to_owned(), value.clone()),
                None => data.remove(*key),
            };
        }
        secret
    };
    let garbage = || Some(ByteString(b"garbage".to_vec()));
    let mut empty = secret.clone();
    empty.data = None;
    vec![
        ("no data", empty),
        ("no key", with(&[("tls.key", None)])),
        ("garbage", with(&[("tls.crt", garbage())])),
        (
            "binary",
            with(&[("tls.crt", Some(ByteString(vec![0xff, 0, 0xfe])))]),
        ),
        ("a garbled key", with(&[("tls.key", garbage())])),
        (
            "another one's key",
            with(&[("tls.key", Some(entry(&other, "tls.key")))]),
        ),
        (
            "another authority's certificate",
            with(&[
                ("tls.crt", Some(entry(&other, "tls.crt"))),
                ("tls.key", Some(entry(&other, "tls.key"))),
            ]),
        ),
        ("a garbled authority", with(&[("ca.crt", garbage())])),
        ("no authority", with(&[("ca.crt", None)])),
        ("a garbled authority's key", with(&[("ca.key", garbage())])),
        (
            "another authority's key",
            with(&[("ca.key", Some(entry(&other, "ca.key")))]),
        ),
        (
            "a server's certificate as authority",
            with(&[
                ("ca.crt", Some(entry(&secret, "tls.crt"))),
                ("ca.key", Some(entry(&secret, "tls.key"))),
            ]),
        ),
        (
            "half a next authority",
            with(&[("next-ca.crt", Some(entry(&other, "ca.crt")))]),
        ),
        (
            "a previous authority without a time",
            with(&[("previous-ca.crt", Some(entry(&other, "ca.crt")))]),
        ),
    ]
}

#[test]
fn a_spoilt_secret_is_mended_and_no_key_is_shown() {
    let now = begin();
    let good = new(now);
    for (case, secret) in spoilt(&good) {
        let held = Held::of(Some(&secret), HOST, now);
        let Held::Broken { flaw, .. } = &held else {
            panic!("{case}: {held:?}");
        };
        for text in [flaw.to_string(), format!("{held:?}"), format!("{good:?}")] {
            assert!(!text.contains("PRIVATE"), "{case}: {text}");
        }
        let with_memory = plan(&held, None, Some(&good), HOST, OVERLAP, now);
        assert_eq!(
            with_memory.action,
            CertificateAction::Restore(Box::new(good.clone()), None),
            "{case}"
        );
        let without = plan(&held, None, None, HOST, OVERLAP, now).action;
        let state = without.state(HOST, now).unwrap().unwrap();
        assert!(
            matches!(Held::of(Some(&state.secret("own")), HOST, now), Held::Whole(_)),
            "{case}"
        );
    }
}

#[test]
fn an_authority_that_is_good_is_kept() {
    let now = begin();
    let good = new(now);
    let kept: Vec<_> = spoilt(&good)
        .into_iter()
        .filter(|(_, secret)| {
            let held = Held::of(Some(secret), HOST, now);
            let action = plan(&held, None, None, HOST, OVERLAP, now).action;
            action == CertificateAction::Repair(Box::new(good.authority.clone()))
        })
        .map(|(case, _)| case)
        .collect();
    assert_eq!(
        kept,
        [
            "no key",
            "garbage",
            "binary",
            "a garbled key",
            "another one's key",
            "another authority's certificate",
            "half a next authority",
            "a previous authority without a time",
        ]
    );
}

#[test]
fn certificates_that_expired_or_name_another_host_are_flawed() {
    let good = new(begin());
    let secret = good.secret("own");
    let flaw = |host: &str, now: Timestamp| match Held::of(Some(&secret), host, now) {
        Held::Broken { flaw, .. } => flaw,
        held => panic!("{held:?}"),
    };
    assert!(matches!(
        flaw(HOST, begin() + DAY * 90),
        Flaw::Over { entry: "tls.crt", .. }
    ));
    assert!(matches!(
        flaw(HOST, begin() + DAY * 365),
        Flaw::Over { entry: "ca.crt", .. }
    ));
    assert!(matches!(
        flaw("pullpass.elsewhere.svc", begin()),
        Flaw::NotTrusted { .. }
    ));
    // What ended is not written back.
    let now = begin() + DAY * 365;
    let held = Held::of(Some(&secret), HOST, now);
    assert_eq!(
        plan(&held, None, Some(&good), HOST, OVERLAP, now).action,
        CertificateAction::Create
    );
    // A clock that is behind spoils nothing.
    let early = begin() - DAY * 30;
    assert!(matches!(Held::of(Some(&secret), HOST, early), Held::Whole(_)));
}

#[test]
fn a_deleted_secret_is_recreated_with_another_next_ca() {
    let now = begin();
    let good = new(now);
    let step = plan(&Held::Absent, None, Some(&good), HOST, OVERLAP, now);
    let state = written(step, now);
    assert_eq!((&state.authority, &state.leaf), (&good.authority, &good.leaf));
    assert!(state.next.is_some());
    // It may be deleted again meanwhile.
    let step = plan(&Held::Absent, None, Some(&state), HOST, OVERLAP, now);
    assert_eq!(written(step, now), state);
}

#[test]
fn a_patch_removes_foreign_entries_and_names_the_version() {
    let state = new(begin());
    let mut secret = state.secret("own");
    secret.metadata.resource_version = Some("7".to_owned());
    secret
        .data
        .as_mut()
        .unwrap()
        .insert("stray".to_owned(), ByteString(b"x".to_vec()));
    let patch = state.patch(&secret);
    assert_eq!(patch.pointer("/metadata/resourceVersion").unwrap(), "7");
    assert!(patch.pointer("/data/stray").unwrap().is_null());
    let mut value = serde_json::to_value(&secret).unwrap();
    json_patch::merge(&mut value, &patch);
    let patched: Secret = serde_json::from_value(value).unwrap();
    assert_eq!(patched.data, state.secret("own").data);
    assert!(patched.annotations().is_empty());
}

#[test]
fn a_patch_of_the_webhooks_names_nothing_but_the_bundle() {
    let patch = live("").patch("pullpass", "PEM\n");
    assert_eq!(
        patch,
        serde_json::json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass", "uid": "uid"},
            "webhooks": [
                {"name": "pods.pullpass.dev", "clientConfig": {"caBundle": "UEVNCg=="}},
                {"name": "always.pullpass.dev", "clientConfig": {"caBundle": "UEVNCg=="}},
            ],
        })
    );
}
