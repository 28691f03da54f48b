//! What is measured: a cluster of some size, and a step in it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pullpass::admission::demand::channel;
use pullpass::admission::{Admission, ReviewStep};
use pullpass::api::acr_pull_binding::AcrPullBinding;
use pullpass::api::acr_registry::AcrRegistry;
use pullpass::audit::{AuditLog, Destination};
use pullpass::metrics::Metrics;
use pullpass::policy::attached::{AttachedRegistries, AttachedRegistry};
use pullpass::policy::coverage::findings_of;
use pullpass::policy::decision::Settings;
use pullpass::policy::index::bindings::indexed_bindings;
use pullpass::policy::index::index;
use pullpass::policy::pod::PodNames;
use pullpass::policy::scope::{Labels, Picked, Scope};
use pullpass::registry::other_cloud::OtherCloud;
use pullpass::view::{BindingsHere, View};
use serde_json::{Value, json};

use crate::support::Result;

/// What is repeated.
pub(crate) type Step = Box<dyn FnMut() -> Result<()>>;

/// A step, and what there is more and more of.
pub(crate) struct Case {
    pub(crate) step: &'static str,
    pub(crate) grows_with: &'static str,
    /// The step is done for all of them, and the time of one counts.
    pub(crate) is_for_all: bool,
    pub(crate) prepare: fn(usize) -> Result<Step>,
}

/// How many `AcrRegistries` share a host, where that is what is measured.
const SHARING: usize = 100;

/// All of them.
pub(crate) const CASES: &[Case] = &[
    Case {
        step: "a review of a Pod with one image",
        grows_with: "AcrRegistries",
        is_for_all: false,
        prepare: |size| review(size, 1),
    },
    Case {
        step: "a review of a Pod with one image",
        grows_with: "namespaces",
        is_for_all: false,
        prepare: review_among_namespaces,
    },
    Case {
        step: "a review in a namespace with a binding",
        grows_with: "namespaces with bindings",
        is_for_all: false,
        prepare: review_among_bindings,
    },
    Case {
        step: "one more image in a review",
        grows_with: "images on one host",
        is_for_all: true,
        prepare: |size| per_image(size, 1),
    },
    Case {
        step: "one more image in a review",
        grows_with: "images, each on its own host",
        is_for_all: true,
        prepare: |size| per_image(size, size),
    },
    Case {
        step: "one more image in a review",
        grows_with: "images on a host of 100 AcrRegistries",
        is_for_all: true,
        prepare: images_on_a_shared_host,
    },
    Case {
        step: "an evaluation of a running Pod",
        grows_with: "AcrRegistries",
        is_for_all: false,
        prepare: look,
    },
    Case {
        step: "one more image and pull secret in an evaluation",
        grows_with: "images and pull secrets",
        is_for_all: true,
        prepare: look_per_image,
    },
    Case {
        step: "an edit of an AcrRegistry",
        grows_with: "AcrRegistries",
        is_for_all: false,
        prepare: edit_of_a_registry,
    },
    Case {
        step: "an edit of an AcrRegistry",
        grows_with: "AcrRegistries on one host",
        is_for_all: false,
        prepare: edit_on_a_shared_host,
    },
    Case {
        step: "an edit of an AcrRegistry",
        grows_with: "namespaces with bindings",
        is_for_all: false,
        prepare: edit_beside_bindings,
    },
    Case {
        step: "an edit of an AcrPullBinding",
        grows_with: "namespaces with bindings",
        is_for_all: false,
        prepare: edit_of_a_binding,
    },
    Case {
        step: "an edit of a namespace's labels",
        grows_with: "namespaces",
        is_for_all: false,
        prepare: edit_of_a_namespace,
    },
    Case {
        step: "a demand, and an event of its namespace",
        grows_with: "demanded pull secrets",
        is_for_all: false,
        prepare: |size| Ok(event_among_demands(size)),
    },
    Case {
        step: "one more namespace in a list",
        grows_with: "namespaces",
        is_for_all: true,
        prepare: per_listed_namespace,
    },
    Case {
        step: "one more AcrRegistry in the AcrIndex",
        grows_with: "AcrRegistries",
        is_for_all: true,
        prepare: per_indexed_registry,
    },
    Case {
        step: "one more AcrPullBinding in the AcrIndex",
        grows_with: "namespaces with bindings",
        is_for_all: true,
        prepare: per_indexed_binding,
    },
];

fn host(number: usize) -> String {
    format!("registry{number}.azurecr.io")
}

fn registry(name: &str, host: &str) -> Result<Arc<AttachedRegistry>> {
    let object: AcrRegistry = serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
        "spec": {
            "loginServer": host, "identity": {"managedIdentity": {}},
            "namespaces": {"matchLabels": {"team": "storefront"}},
        },
    }))?;
    Ok(Arc::new(AttachedRegistry::parse(&object)?))
}

fn registries(count: usize) -> Result<Vec<Arc<AttachedRegistry>>> {
    (0..count)
        .map(|number| registry(&format!("registry-{number}"), &host(number)))
        .collect()
}

fn binding(namespace: usize, host: &str) -> Result<BindingsHere> {
    let object: AcrPullBinding = serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "app", "namespace": name_of(namespace), "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816"},
        "spec": {"loginServer": host, "serviceAccountName": "puller"},
    }))?;
    let binding = AttachedRegistry::parse_binding(&object, &OtherCloud::default())?;
    Ok([(binding.name().to_owned(), Arc::new(binding))].into())
}

fn name_of(namespace: usize) -> String {
    format!("namespace-{namespace}")
}

fn labels(namespace: usize, team: &str) -> Labels {
    let pairs = [
        ("kubernetes.io/metadata.name", &*name_of(namespace)),
        ("team", team),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn view(registries: impl IntoIterator<Item = Arc<AttachedRegistry>>, namespaces: usize) -> Arc<View> {
    let view = View::default();
    view.set_registries(registries.into_iter().collect());
    for namespace in 0..namespaces {
        view.set_namespace(&name_of(namespace), &labels(namespace, "storefront"));
    }
    Arc::new(view)
}

fn admission(view: Arc<View>) -> Result<Admission> {
    let audit = Arc::new(AuditLog::open(&Destination::File("/dev/null".into()))?);
    let metrics = Arc::new(Metrics::new(|| 0));
    Ok(Admission::new(view, Settings::default(), audit, metrics))
}

/// A review of a Pod with these images.
fn body(images: impl Iterator<Item = String>) -> Vec<u8> {
    let containers: Vec<Value> = images
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": name_of(0), "userInfo": {"username": "jane"}, "dryRun": false,
        "object": {"metadata": {"name": "web"}, "spec": {"containers": containers}},
    }})
    .to_string()
    .into_bytes()
}

fn image(registry: usize, number: usize) -> String {
    format!("{}/app-{number}:v1", host(registry))
}

fn answer(admission: &Admission, body: &[u8]) -> Result<()> {
    let review = admission.read(body, Picked::ByMode)?;
    match admission.answer(&review, "127.0.0.1", Instant::now())? {
        ReviewStep::Answered(answer) => {
            black_box(answer);
            Ok(())
        }
        ReviewStep::Behind(_) | ReviewStep::Unwritten(_) => Err("a review waits".into()),
    }
}

fn review(registry_count: usize, image_count: usize) -> Result<Step> {
    let admission = admission(view(registries(registry_count)?, 1))?;
    let body = body((0..image_count).map(|number| image(registry_count - 1, number)));
    Ok(Box::new(move || answer(&admission, &body)))
}

fn review_among_namespaces(count: usize) -> Result<Step> {
    let admission = admission(view(registries(10)?, count))?;
    let body = body(std::iter::once(image(0, 0)));
    Ok(Box::new(move || answer(&admission, &body)))
}

fn view_with_bindings(count: usize) -> Result<Arc<View>> {
    let view = view(registries(10)?, 1);
    for namespace in 0..count {
        view.set_bindings_of(
            &name_of(namespace),
            Some(&binding(namespace, "bound1.azurecr.io")?),
        );
    }
    Ok(view)
}

fn review_among_bindings(count: usize) -> Result<Step> {
    let view = view_with_bindings(count)?;
    let admission = admission(view)?;
    let body = body(std::iter::once("bound1.azurecr.io/app:v1".to_owned()));
    Ok(Box::new(move || answer(&admission, &body)))
}

fn per_image(images: usize, hosts: usize) -> Result<Step> {
    let admission = admission(view(registries(hosts)?, 1))?;
    let body = body((0..images).map(|number| image(number % hosts, number)));
    Ok(Box::new(move || answer(&admission, &body)))
}

fn images_on_a_shared_host(images: usize) -> Result<Step> {
    let sharing: Result<Vec<_>> = (0..SHARING)
        .map(|number| registry(&format!("team-{number}"), &host(0)))
        .collect();
    let admission = admission(view(sharing?, 1))?;
    let body = body((0..images).map(|number| image(0, number)));
    Ok(Box::new(move || answer(&admission, &body)))
}

fn look(count: usize) -> Result<Step> {
    look_at(count, vec![image(count - 1, 0)], Vec::new())
}

fn look_per_image(count: usize) -> Result<Step> {
    let images = (0..count).map(|number| image(0, number));
    let secrets = (0..count).map(|number| format!("secret-{number}"));
    look_at(10, images.collect(), secrets.collect())
}

/// Looks at a running Pod in a cluster with so many registries.
fn look_at(registry_count: usize, images: Vec<String>, pull_secrets: Vec<String>) -> Result<Step> {
    let registries: AttachedRegistries = registries(registry_count)?.into_iter().collect();
    let labels = labels(0, "storefront");
    Ok(Box::new(move || {
        let names = PodNames {
            namespace: "namespace-0",
            images: images.iter().map(String::as_str).collect(),
            pull_secrets: pull_secrets.iter().map(String::as_str).collect(),
            service_account: None,
            inject_label: None,
            is_mirror: false,
        };
        black_box(findings_of(
            &names,
            &registries,
            Some(&labels),
            &Scope::default(),
            None,
        ));
        Ok(())
    }))
}

fn edit_of_a_registry(count: usize) -> Result<Step> {
    edit_in(view(registries(count)?, 1))
}

fn edit_on_a_shared_host(count: usize) -> Result<Step> {
    let all: Result<Vec<_>> = (0..count)
        .map(|number| registry(&format!("registry-{number}"), &host(0)))
        .collect();
    edit_in(view(all?, 1))
}

fn edit_beside_bindings(count: usize) -> Result<Step> {
    edit_in(view_with_bindings(count)?)
}

/// Changes the login server of one of a view's registries and changes it back, each time as the watch does for an event.
fn edit_in(view: Arc<View>) -> Result<Step> {
    let mut all = AttachedRegistries::clone(&view.registries());
    let edits = [
        registry("registry-0", "other1.azurecr.io")?,
        registry("registry-0", &host(0))?,
    ];
    let mut edits = edits.into_iter().cycle();
    Ok(Box::new(move || {
        if let Some(edit) = edits.next() {
            black_box(all.set(&edit));
        }
        view.set_registries(all.clone());
        Ok(())
    }))
}

fn edit_of_a_binding(count: usize) -> Result<Step> {
    let view = view_with_bindings(count)?;
    let edit = binding(0, "bound2.azurecr.io")?;
    Ok(Box::new(move || {
        view.set_bindings_of("namespace-0", Some(&edit));
        Ok(())
    }))
}

fn edit_of_a_namespace(count: usize) -> Result<Step> {
    let view = view(registries(10)?, count);
    let mut edits = [labels(0, "checkout"), labels(0, "storefront")]
        .into_iter()
        .cycle();
    Ok(Box::new(move || {
        if let Some(labels) = edits.next() {
            black_box(view.set_namespace("namespace-0", &labels));
        }
        Ok(())
    }))
}

fn event_among_demands(count: usize) -> Step {
    let (sender, receiver) = channel(Arc::new(Metrics::new(|| 0)));
    for namespace in 0..count {
        black_box(sender.send(&name_of(namespace), &["registry-0"]));
    }
    Box::new(move || {
        black_box(sender.send("namespace-0", &["registry-0"]));
        receiver.forget_namespace("namespace-0");
        Ok(())
    })
}

fn per_listed_namespace(count: usize) -> Result<Step> {
    let view = view(registries(1)?, count);
    let listed: Vec<_> = (0..count)
        .map(|namespace| (name_of(namespace), labels(namespace, "storefront")))
        .collect();
    Ok(Box::new(move || {
        let listed = listed.iter().map(|(name, labels)| (name.as_str(), labels));
        black_box(view.set_namespaces(listed.collect()));
        Ok(())
    }))
}

fn per_indexed_registry(count: usize) -> Result<Step> {
    let registries: AttachedRegistries = registries(count)?.into_iter().collect();
    Ok(Box::new(move || {
        black_box(index(&registries, &Settings::default()));
        Ok(())
    }))
}

fn per_indexed_binding(count: usize) -> Result<Step> {
    let registries: AttachedRegistries = registries(10)?.into_iter().collect();
    let bindings: Result<Vec<_>> = (0..count)
        .map(|namespace| binding(namespace, "bound1.azurecr.io"))
        .collect();
    let (bindings, index) = (bindings?, index(&registries, &Settings::default()));
    Ok(Box::new(move || {
        let all = bindings.iter().flat_map(|here| here.values());
        let all = all.map(Arc::as_ref);
        black_box(indexed_bindings(&registries, all, &index.spec));
        Ok(())
    }))
}
