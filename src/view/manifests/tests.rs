use super::*;

fn read(files: &[(&str, &str)]) -> Result<Manifests, String> {
    read_for(files, &OtherCloud::default())
}

fn read_for(files: &[(&str, &str)], other_cloud: &OtherCloud) -> Result<Manifests, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Manifests::read(directory.path(), other_cloud).map_err(|error| {
        error
            .to_string()
            .replace(directory.path().to_str().unwrap(), "DIR")
    })
}

const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec:\n  loginServer: myregistry.azurecr.io\n  identity: {managedIdentity: {}}\n";

#[test]
fn documents_lists_and_json_are_read_and_other_kinds_skipped() {
    let manifests = read(&[
        ("a.yaml", &format!("---\n{REGISTRY}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: apps, labels: {{team: a}}}}\n---\n")),
        ("b.json", r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"web"}}]}"#),
        ("d.json", r#"{"apiVersion":"v1","kind":"NamespaceList","items":[{"metadata":{"name":"raw","labels":{"team":"b"}}}]}"#),
        ("c.yml", "\u{feff}apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\n"),
        ("notes.txt", "no yaml: at: all"),
    ])
    .unwrap();
    assert_eq!(
        manifests.registries().by_name("mine").unwrap().pull_secret(),
        "pullpass-mine"
    );
    assert_eq!(manifests.labels("apps").unwrap()["team"], "a");
    assert_eq!(manifests.labels("raw").unwrap()["team"], "b");
    assert_eq!(manifests.labels("web").unwrap()[NAMESPACE_NAME_LABEL], "web");
    assert!(manifests.labels("other").is_none());
    assert_eq!(manifests.effective_labels("other")[NAMESPACE_NAME_LABEL], "other");
}

#[test]
fn settings_of_another_cloud_hold_where_they_are_known() {
    let other = REGISTRY.replace(
        "loginServer: myregistry.azurecr.io",
        "cloud: Other\n  loginServer: myregistry.azurecr.contoso.com",
    );
    let files = [("a.yaml", other.as_str())];
    let settings = |suffix: &str, has_authority| OtherCloud {
        suffix: Some(suffix.parse().unwrap()),
        has_authority,
    };
    for known in [OtherCloud::default(), settings("azurecr.contoso.com", true)] {
        assert_eq!(read_for(&files, &known).unwrap().in_other_cloud(), ["mine"]);
    }
    for (known, message) in [
        (
            settings("contoso.example", true),
            "does not end in .contoso.example",
        ),
        (settings("azurecr.contoso.com", false), "--other-cloud-authority"),
    ] {
        let error = read_for(&files, &known).unwrap_err();
        assert!(
            error.starts_with("DIR/a.yaml: AcrRegistry mine: spec."),
            "{error}"
        );
        assert!(error.contains(message), "{error}");
    }
    let manifests = read_for(&[("a.yaml", REGISTRY)], &settings("contoso.example", false)).unwrap();
    assert!(manifests.in_other_cloud().is_empty());
}

const BINDING: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrPullBinding\nmetadata: {name: app, namespace: shop}\nspec:\n  loginServer: otherregistry.azurecr.io\n  serviceAccountName: puller\n";

#[test]
fn a_binding_is_attached_where_it_is() {
    let mut manifests = read(&[("a.yaml", &format!("{REGISTRY}---\n{BINDING}"))]).unwrap();
    let names = |manifests: &Manifests, namespace: &str| {
        let registries = manifests.registries_in(namespace);
        let mut names: Vec<_> = registries.names().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&manifests, "shop"), ["mine", "shop/app"]);
    assert_eq!(names(&manifests, "blog"), ["mine"]);
    let beside = BINDING.replace(", namespace: shop", "");
    let path = Path::new("-");
    let beside = objects(path, &beside).unwrap();
    manifests.apply(path, &beside, "blog").unwrap();
    assert_eq!(names(&manifests, "blog"), ["blog/app", "mine"]);
    let view = View::default();
    manifests.publish(&view);
    assert!(view.is_attached("shop/app") && view.is_attached("blog/app"));
}

#[test]
fn mistakes_are_said_with_their_place() {
    for (text, message) in [
        (
            BINDING.replace("serviceAccountName", "serviceAccount"),
            "DIR/a.yaml: AcrPullBinding app: missing field `serviceAccountName`",
        ),
        (
            format!("{BINDING}---\n{BINDING}"),
            "DIR/a.yaml: AcrPullBinding app is there already",
        ),
        (
            REGISTRY.replace("identity", "namespace: {matchLabels: {}}\n  identity"),
            "DIR/a.yaml: AcrRegistry mine: there is no field spec.namespace",
        ),
        (
            REGISTRY.replace("azurecr.io", "example"),
            "DIR/a.yaml: AcrRegistry mine: spec.loginServer: a login server ends in",
        ),
        (
            format!("{REGISTRY}---\n{REGISTRY}"),
            "DIR/a.yaml: AcrRegistry mine is there already",
        ),
        ("a: [".to_owned(), "DIR/a.yaml is not YAML"),
    ] {
        let error = read(&[("a.yaml", &text)]).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn namespaces_and_accounts_are_applied_over_known_ones() {
    let strict = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: strict, namespace: shop, annotations: {kubernetes.io/enforce-mountable-secrets: 'true'}}\nimagePullSecrets: [{name: pullpass-a}]\n";
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a, tier: web}}\n";
    let mut manifests = read(&[("a.yaml", &format!("{strict}---\n{shop}"))]).unwrap();
    let may_name = |manifests: &Manifests| {
        let mountable = manifests.mountable("shop", "strict")?;
        Some(mountable.listed().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(may_name(&manifests).unwrap(), ["pullpass-a"]);
    assert!(manifests.mountable("shop", "default").is_none());
    let mut apply = |text: &str| {
        let path = Path::new("-");
        let objects = objects(path, text).unwrap();
        manifests.apply(path, &objects, "shop").unwrap();
        (may_name(&manifests), manifests.labels("shop").unwrap().clone())
    };
    let (listed, labels) = apply(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: db}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: strict}\nimagePullSecrets: [{name: pullpass-b}]\n",
    );
    assert_eq!(listed.unwrap(), ["pullpass-a", "pullpass-b"]);
    assert_eq!((labels["team"].as_str(), labels["tier"].as_str()), ("a", "db"));
    let (listed, _) = apply(&strict.replace("'true'", "'false'"));
    assert!(listed.is_none());
    let view = View::default();
    let manifests = read(&[("a.yaml", strict)]).unwrap();
    manifests.publish(&view);
    assert!(view.mountable("shop", Some("strict")).is_some());
}
