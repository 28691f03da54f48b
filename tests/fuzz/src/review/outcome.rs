//! The result of a review that has its shape: worked out again from the tables of the world, and the answer's patch
//! applied to the object that it is for.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass::policy::request::{Operation, ReviewRequest};
use pullpass::policy::rules::Action;
use pullpass::policy::scope::Mode;
use pullpass::registry::image::ImageReference;
use pullpass::registry::login_server::LoginServer;
use serde_json::{Value, json};

use super::world::{NAMESPACES, REGISTRIES, World};

/// Checks the answer to a review.
pub(super) fn check(body: &[u8], request: &ReviewRequest<'_>, world: &World, answer: &Value) {
    let response = &answer["response"];
    assert_eq!(response["uid"], *request.uid);
    let expected = Expected::of(request, world);
    let allowed = response["allowed"].as_bool().expect("allowed or not");
    let patch = response.get("patch").map(|patch| {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch.as_str().expect("text")).expect("base64");
        serde_json::from_slice::<json_patch::Patch>(&patch).expect("a JSON Patch")
    });
    assert_eq!(!allowed, expected.is_denied, "{response}");
    if !allowed {
        assert_eq!(response["status"]["code"], 403);
        assert!(patch.is_none(), "a Pod that is denied is not patched");
        return;
    }
    // What has more levels than `Value` takes can be judged, and not be patched here.
    let Ok(review) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let object = &review["request"]["object"];
    if !object["spec"].is_object() {
        return;
    }
    assert_eq!(patch.is_some(), !expected.missing.is_empty(), "{response}");
    let Some(patch) = patch else { return };
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).expect("the patch can be applied");
    let mut wanted = object.clone();
    let list = &mut wanted["spec"]["imagePullSecrets"];
    if list.is_null() {
        *list = json!([]);
    }
    let added = expected.missing.iter().map(|name| json!({"name": name}));
    list.as_array_mut().expect("a list").extend(added);
    assert_eq!(patched, wanted);
}

/// What the tables say of a request.
struct Expected {
    /// The names of the pull secrets that are added, in order.
    missing: BTreeSet<String>,
    /// A rule denies an image that the Pod did not have before, and neither the Pod nor its namespace is exempt. A
    /// Pod's label exempts it only from injection.
    is_denied: bool,
}

impl Expected {
    fn of(request: &ReviewRequest<'_>, world: &World) -> Self {
        let known = NAMESPACES.iter().find(|(name, _)| *name == request.namespace);
        let labels = known.map(|(_, labels)| *labels);
        let label = |key: &str| {
            labels?
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, value)| *value)
        };
        let is_open = |team: Option<&str>| team.is_none() || labels.is_none() || label("team") == team;
        let inject = label("pullpass.dev/inject");
        let scope = &world.settings().scope;
        let excluded = [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "pullpass-system",
            "legacy",
        ];
        let is_injected = !excluded.contains(&request.namespace.as_ref())
            && inject != Some("disabled")
            && (labels.is_none() || scope.mode() == Mode::ClusterWide || inject == Some("enabled"));
        let sub_resource = request.sub_resource.as_deref().unwrap_or_default();
        let is_create = request.operation == Operation::Create && sub_resource.is_empty();
        let is_update =
            request.operation == Operation::Update && ["", "ephemeralcontainers"].contains(&sub_resource);
        // What is sent with an ephemeral container is no annotation of the Pod.
        let is_mirror = request.pod.is_mirror && sub_resource.is_empty();
        let is_kubelets = is_mirror && request.is_by_node;
        let is_judged = request.is_pod && (is_create || is_update) && is_injected && !is_kubelets;
        let declines = is_mirror || request.pod.inject_label.as_deref() == Some("disabled");
        let gets_secrets = is_judged && is_create && !declines;
        let old = request.old_images.iter().filter(|_| is_update);
        let old: BTreeSet<&str> = old.map(|image| image.reference.as_ref()).collect();

        let mut needed = BTreeSet::new();
        let (mut unattached, mut forbidden) = (false, false);
        for image in &request.pod.images {
            if old.contains(image.reference.as_ref()) {
                continue;
            }
            let Ok(reference) = ImageReference::parse(&image.reference) else {
                continue;
            };
            let Some(host) = reference.registry() else {
                continue;
            };
            let named = LoginServer::known_host(&host);
            let sharing: Vec<_> = REGISTRIES.iter().filter(|(_, host, _)| *host == named).collect();
            let usable: Vec<_> = sharing.iter().filter(|(_, _, team)| is_open(*team)).collect();
            unattached |= sharing.is_empty() && LoginServer::is_named_by(&host);
            forbidden |= !sharing.is_empty() && usable.is_empty();
            needed.extend(usable.iter().map(|(name, _, _)| format!("pullpass-{name}")));
        }
        if label("pullpass.dev/always-inject") == Some("true") {
            let open = REGISTRIES.iter().filter(|(_, _, team)| is_open(*team));
            needed.extend(open.map(|(name, _, _)| format!("pullpass-{name}")));
        }
        for held in request.pod.pull_secrets.iter().flatten() {
            needed.remove(held.as_ref());
        }
        if !gets_secrets {
            needed.clear();
        }
        let policy = &world.settings().policy;
        let denies = (unattached && policy.unattached == Action::Deny)
            || (forbidden && policy.forbidden == Action::Deny);
        Self {
            missing: needed,
            is_denied: denies && is_judged,
        }
    }
}
