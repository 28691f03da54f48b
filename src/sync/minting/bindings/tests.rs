use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::runtime::controller::Action;
use serde_json::{Value, json};

use super::*;
use crate::api::names::INJECT_LABEL;
use crate::policy::attached::bindings::MAX_SERVED;
use crate::policy::scope::Labels;
use crate::registry::other_cloud::OtherCloud;
use crate::sync::credentials::Seen;
use crate::sync::held_credential::tests::held;
use crate::sync::minting::pull_right::tests::registry;
use crate::sync::minting::tests::controller_of;
use crate::view::{BindingsHere, View};

fn binding(name: &str, spec: &Value) -> AcrPullBinding {
    serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": name, "namespace": "shop", "uid": "u"}, "spec": spec,
    }))
    .unwrap()
}

fn sound(name: &str) -> AcrPullBinding {
    binding(
        name,
        &json!({"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"}),
    )
}

/// The namespace shop, which is injected or not, with these bindings.
fn shop(view: &View, is_injected: bool, names: impl IntoIterator<Item = String>) {
    let inject = if is_injected { "enabled" } else { "disabled" };
    let labels: Labels = [(INJECT_LABEL.to_owned(), inject.to_owned())].into();
    view.set_namespace("shop", &labels);
    let read = |name: String| {
        let parsed = AttachedRegistry::parse_binding(&sound(&name), &OtherCloud::default()).unwrap();
        (parsed.name().to_owned(), Arc::new(parsed))
    };
    let all: BindingsHere = names.into_iter().map(read).collect();
    view.set_bindings_of("shop", Some(&all));
}

#[tokio::test]
async fn refused_bindings_wait_longer_for_a_turn_than_others() {
    let mints = controller_of(&registry("mine"), |request| panic!("{request:?}"));
    let resync = Duration::from_hours(1);
    let controller = BindingController::new(Arc::new(mints), Scope::default(), Arc::default(), resync);
    let held: Vec<_> = std::iter::from_fn(|| controller.mints.shares.enter("shop")).collect();
    assert!(!held.is_empty());
    // The schema takes it, and this pullpass knows of no such cloud.
    let elsewhere =
        json!({"loginServer": "registry.contoso.com", "cloud": "Other", "serviceAccountName": "puller"});
    let slow = Jitter::of(&"shop/app".to_owned()).spread(REFUSAL_INTERVAL);
    for (object, is_injected, expected) in [
        (sound("app"), true, MIN_REQUEUE_INTERVAL),
        (binding("app", &elsewhere), true, slow),
        (sound("app"), false, slow),
    ] {
        let view = &controller.mints.parts.watches.view;
        shop(view, is_injected, ["app".to_owned()]);
        let next = controller.reconcile(&object).await;
        assert_eq!(next, Action::requeue(expected), "{:?} {is_injected}", object.spec);
    }
}

/// Its deletion may have failed, and a replica that is behind may have written the pull secret since.
#[tokio::test]
async fn a_binding_that_was_served_is_withdrawn_until_that_succeeds() {
    let deletions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&deletions);
    let mints = controller_of(&registry("mine"), move |request| {
        if request.method() == "DELETE" {
            assert_eq!(
                request.uri().path(),
                "/api/v1/namespaces/shop/secrets/pullpass-binding-z"
            );
            counted.fetch_add(1, Ordering::Relaxed);
        }
        (404, Value::Null.to_string())
    });
    let resync = Duration::from_hours(1);
    let controller = BindingController::new(Arc::new(mints), Scope::default(), Arc::default(), resync);
    let watches = &controller.mints.parts.watches;
    shop(
        &watches.view,
        true,
        (0..MAX_SERVED).map(|number| format!("b{number:02}")),
    );
    let mut told = sound("z");
    told.metadata.generation = Some(1);
    told.status = serde_json::from_value(json!({"conditions": [{
        "type": "Ready", "status": "False", "reason": "TooManyBindings", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-11-28T00:00:00Z",
    }]}))
    .unwrap();
    let slow = Jitter::of(&"shop/z".to_owned()).spread(resync);
    assert_eq!(controller.reconcile(&told).await, Action::requeue(slow));
    assert_eq!(deletions.load(Ordering::Relaxed), 0, "it never had any");
    watches.learn("shop/z", held(), None, Seen::new());
    controller.reconcile(&told).await;
    controller.reconcile(&told).await;
    assert_eq!(deletions.load(Ordering::Relaxed), 2);
}

#[test]
fn bindings_are_bounded_where_a_namespace_is_not_injected() {
    let view = View::default();
    for is_injected in [true, false] {
        shop(
            &view,
            is_injected,
            (0..MAX_SERVED).map(|number| format!("b{number:02}")),
        );
        let reason = |name: &str| {
            let object = sound(name);
            let parsed = AttachedRegistry::parse_binding(&object, &OtherCloud::default());
            obstacle(&view, &Scope::default(), &object, &parsed).map(|failure| failure.reason)
        };
        let of_served = (!is_injected).then_some(Reason::NamespaceNotInjected);
        assert_eq!(reason("b07"), of_served);
        assert_eq!(reason("z"), Some(Reason::TooManyBindings), "{is_injected}");
    }
}
