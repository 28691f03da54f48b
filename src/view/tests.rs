use super::*;
use crate::policy::scope::tests::labels;

/// A binding of a registry in the namespace `shop`.
pub(crate) fn binding(name: &str) -> Arc<AttachedRegistry> {
    let object = serde_json::json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": name, "namespace": "shop", "uid": "u"},
        "spec": {"loginServer": "shared1.azurecr.io", "serviceAccountName": "puller"},
    });
    let object = serde_json::from_value(object).unwrap();
    Arc::new(AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap())
}

#[test]
fn reviews_of_a_namespace_share_what_is_attached_there() {
    let view = View::default();
    let mut all = Bindings::new();
    let attached = |view: &View| {
        let (one, other) = (view.registries_in("shop"), view.registries_in("shop"));
        assert!(Arc::ptr_eq(&one, &other), "nothing is put together twice");
        let mut names: Vec<_> = one.names().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(attached(&view), [""; 0]);
    for (name, expected) in [("a", vec!["shop/a"]), ("b", vec!["shop/a", "shop/b"])] {
        let binding = binding(name);
        let here = all.entry("shop".to_owned()).or_default();
        here.insert(binding.name().to_owned(), binding);
        view.set_bindings(all.clone());
        assert_eq!(attached(&view), expected);
    }
    let before = view.registries_in("shop");
    view.set_registries(AttachedRegistries::default());
    assert!(!Arc::ptr_eq(&before, &view.registries_in("shop")));
    view.set_bindings(Bindings::new());
    assert_eq!(attached(&view), [""; 0]);
}

#[test]
fn a_frozen_view_stays_as_it_was() {
    let view = View::default();
    let (old, new) = (labels(&[("team", "a")]), labels(&[("team", "b")]));
    view.set_namespace("shop", &old);
    let mut here = BindingsHere::new();
    here.insert("shop/a".to_owned(), binding("a"));
    view.set_bindings_of("shop", Some(&here));
    view.strict_accounts()
        .take("shop", "strict", Some(Mountable::unknown()));
    view.change_known_accounts(|known| known.insert("shop", "strict"));
    let (frozen, same) = (view.frozen(), view.frozen());
    assert!(
        Arc::ptr_eq(&frozen.read(), &same.read()),
        "labels are shared until they change"
    );

    let attached = serde_json::json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "new"},
        "spec": {"loginServer": "shared2.azurecr.io", "identity": {"managedIdentity": {}}},
    });
    let registry = AttachedRegistry::parse(&serde_json::from_value(attached).unwrap()).unwrap();
    view.set_registries(std::iter::once(registry).collect());
    view.set_bindings_of("shop", None);
    view.set_namespace("shop", &new);
    view.set_namespace("later", &new);
    view.strict_accounts().remove("shop", "strict");
    view.change_known_accounts(|known| known.remove("shop", "strict"));
    assert_eq!(view.labels("shop"), Some(new));
    assert_eq!(view.registries_in("shop").names().collect::<Vec<_>>(), ["new"]);
    assert_eq!(view.mountable("shop", Some("strict")), None);

    assert_eq!((frozen.labels("shop"), frozen.knows("later")), (Some(old), false));
    assert_eq!(
        frozen.registries_in("shop").names().collect::<Vec<_>>(),
        ["shop/a"]
    );
    assert!(frozen.mountable("shop", Some("strict")).is_some());
    assert!(frozen.knows_account("shop", Some("strict")) && !view.knows_account("shop", Some("strict")));
}

#[test]
fn a_list_changes_what_differs_alone() {
    let view = View::default();
    let (old, new) = (labels(&[("team", "a")]), labels(&[("team", "b")]));
    let list = |other: &Labels| [("apps", &old), ("other", other)].into_iter().collect();
    assert_eq!(view.set_namespaces(list(&old)).0.len(), 2);
    assert_eq!(view.set_namespaces(list(&old)), (vec![], vec![]));
    let change = NamespaceChange {
        name: "other".to_owned(),
        before: Some(old.clone()),
    };
    assert_eq!(view.set_namespaces(list(&new)), (vec![change], vec![]));
    let fewer = [("apps", &old)].into_iter().collect();
    assert_eq!(view.set_namespaces(fewer), (vec![], vec!["other".to_owned()]));
}

#[test]
fn an_edit_of_a_binding_costs_its_namespace() {
    let view = View::default();
    let all: Bindings = (0..100)
        .map(|number| (format!("n{number}"), BindingsHere::default()))
        .collect();
    view.set_bindings(all);
    let first: Vec<_> = (0..100)
        .map(|number| view.bindings_in(&format!("n{number}")))
        .collect();
    view.set_bindings_of("n7", Some(&BindingsHere::default()));
    view.set_bindings_of("n8", None);
    view.set_bindings_of("new", Some(&BindingsHere::default()));
    let is_same = |(number, before): (usize, &Option<Arc<BindingsHere>>)| {
        let now = view.bindings_in(&format!("n{number}"));
        before
            .as_ref()
            .zip(now.as_ref())
            .is_some_and(|(before, now)| Arc::ptr_eq(before, now))
    };
    assert_eq!(first.iter().enumerate().filter(|one| is_same(*one)).count(), 98);
    assert_eq!(view.bindings().len(), 100);
    assert!(view.bindings_in("n8").is_none() && view.bindings_in("new").is_some());
}

#[test]
fn an_edit_of_a_registry_costs_the_layers_built_since() {
    let view = View::default();
    let name = |number: usize| format!("n{number}");
    view.set_bindings(
        (0..100)
            .map(|number| (name(number), BindingsHere::default()))
            .collect(),
    );
    let ask = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            view.registries_in(&name(number));
            view.registries_in(&name(number));
        }
    };
    // What the next edit goes through, and which namespaces have a layer.
    let layered = |view: &View| {
        let has_layer = |bound: &Arc<Bound>| bound.layer.load().is_some();
        let built = view
            .read_bindings()
            .values()
            .filter(|bound| has_layer(bound))
            .count();
        (view.lock_layered().len(), built)
    };
    ask(0..10);
    assert_eq!(layered(&view), (10, 10));
    assert_eq!(layered(&view.frozen()), (10, 10));
    view.set_registries(AttachedRegistries::default());
    assert_eq!(layered(&view), (0, 0));
    ask(5..8);
    view.set_bindings_of("n5", Some(&BindingsHere::default()));
    view.set_bindings_of("n6", None);
    assert_eq!(
        layered(&view),
        (1, 1),
        "nothing is left of those that are replaced or gone"
    );
    ask(5..8);
    assert_eq!(layered(&view), (2, 2));
    // A review that began before the bindings were replaced.
    let (bound, cluster) = (view.bound("n9").unwrap(), view.registries());
    view.set_bindings_of("n9", None);
    view.build_layer("n9", &bound, &cluster);
    assert_eq!(layered(&view), (2, 2));
    view.set_bindings(Bindings::new());
    assert_eq!(layered(&view), (0, 0));
}

#[test]
fn labels_come_out_as_they_went_in() {
    let view = View::default();
    for labels in [
        labels(&[]),
        labels(&[("team", "a")]),
        labels(&[("empty", ""), ("kubernetes.io/metadata.name", "apps")]),
        labels(&[("a", ""), ("b", ""), ("c", "d")]),
    ] {
        assert!(view.set_namespace("apps", &labels).is_some());
        assert_eq!(view.set_namespace("apps", &labels), None, "nothing is new");
        assert_eq!(view.labels("apps"), Some(labels));
    }
    view.remove_namespace("apps");
    assert!(!view.knows("apps") && view.labels("apps").is_none());
}

#[test]
fn namespaces_that_come_or_go_are_another_revision() {
    type Change = fn(&View);
    let view = View::default();
    let first = view.namespaces_since(None).unwrap().0;
    assert_eq!(view.namespaces_since(Some(first)), None);
    let mut seen = vec![first];
    let changes: [(Change, Option<&[&str]>); 6] = [
        (|view| drop(view.set_namespace("a", &labels(&[]))), Some(&["a"])),
        (
            |view| drop(view.set_namespace("b", &labels(&[]))),
            Some(&["a", "b"]),
        ),
        (
            |view| drop(view.set_namespace("a", &labels(&[("team", "a")]))),
            None,
        ),
        (|view| view.remove_namespace("a"), Some(&["b"])),
        (|view| view.remove_namespace("a"), None),
        (
            |view| drop(view.set_namespaces([("c", &labels(&[]))].into_iter().collect())),
            Some(&["c"]),
        ),
    ];
    for (change, expected) in changes {
        let before = *seen.last().unwrap();
        change(&view);
        let since = view.namespaces_since(Some(before));
        let names = since.map(|(revision, mut names)| {
            assert!(!seen.contains(&revision));
            seen.push(revision);
            names.sort();
            names
        });
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names, expected);
    }
}
