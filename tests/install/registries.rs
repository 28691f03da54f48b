//! Registries as a Helm release of their own: attached with the first installation, changed by upgrades, detached when they are
//! taken away. And why they are no part of pullpass' own release.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::process::Output;

use pullpass_test_support::{ControlPlane, Scratch, end_to_end_wanted};
use serde_json::{Value, json};

use crate::documents::{block, commands, run};
use crate::render::{CHART, ROOT, Test, checkout, helm, objects, succeeded};

const REGISTRIES_CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/registries-chart");
const HEADING: &str = "Registries in Helm";

fn documented() -> Result<Value, Box<dyn Error>> {
    let text = block("docs/install.md", HEADING, "yaml", 0)?;
    Ok(serde_saphyr::from_str(&text)?)
}

fn cluster() -> Result<ControlPlane, Box<dyn Error>> {
    end_to_end_wanted()?;
    Ok(ControlPlane::builder().controller_manager(false).start()?)
}

/// Runs Helm with these values in a cluster.
fn helm_in(cluster: &ControlPlane, arguments: &[&str], values: &Value) -> Result<Output, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("values.json");
    fs::write(&file, values.to_string())?;
    let mut command = helm(&scratch)?;
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    command.args(["--namespace", "pullpass-system"]).args(arguments);
    Ok(command.arg("--values").arg(file).output()?)
}

fn attached(cluster: &ControlPlane) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let list = cluster.run(&["get", "acrregistries", "--output=name"])?.stdout;
    Ok(list
        .lines()
        .filter_map(|line| Some(line.split_once('/')?.1.to_owned()))
        .collect())
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn registries_come_change_and_go_with_a_release() -> Test {
    let cluster = cluster()?;
    let checkout = checkout()?;
    run(&cluster, &checkout, &commands("Helm", 0)?)?;
    fs::write(
        checkout.path().join("registries.yaml"),
        block("docs/install.md", HEADING, "yaml", 0)?,
    )?;
    run(&cluster, &checkout, &commands(HEADING, 0)?)?;
    assert_eq!(attached(&cluster)?, named(&["mycontainerregistry"]));

    let mut values = documented()?;
    let first = values["registries"][0].clone();
    let mut second = first.clone();
    second["name"] = json!("other");
    second["spec"]["loginServer"] = json!("other.azurecr.io");
    values["registries"] = json!([first, second]);
    values["registries"][0]["spec"]["provision"] = json!("Eager");
    let upgrade = ["upgrade", "pullpass-registries", REGISTRIES_CHART];
    succeeded("helm upgrade", &helm_in(&cluster, &upgrade, &values)?)?;
    assert_eq!(attached(&cluster)?, named(&["mycontainerregistry", "other"]));
    let uid = |name: &str| -> Result<Value, Box<dyn Error>> {
        let object = cluster.get_json(&["acrregistry", name])?;
        Ok(json!([object["metadata"]["uid"], object["spec"]["provision"]]))
    };
    let before = uid("mycontainerregistry")?;
    assert_eq!(before[1], json!("Eager"));

    // Taken out of the list, a registry is detached; the other one is not recreated.
    values["registries"] = json!([values["registries"][0]]);
    succeeded("helm upgrade", &helm_in(&cluster, &upgrade, &values)?)?;
    assert_eq!(attached(&cluster)?, named(&["mycontainerregistry"]));
    assert_eq!(uid("mycontainerregistry")?, before);

    // An upgrade of pullpass' own release leaves them alone.
    run(&cluster, &checkout, &commands("Helm", 0)?)?;
    assert_eq!(uid("mycontainerregistry")?, before);

    run(
        &cluster,
        &checkout,
        "helm uninstall pullpass-registries --namespace pullpass-system",
    )?;
    assert_eq!(attached(&cluster)?, named(&[]));
    Ok(())
}

/// Why there is a second chart. Should Helm ever take it, one would do.
#[test]
fn a_registry_beside_its_definition_fails_the_installation() -> Test {
    let cluster = cluster()?;
    let values = documented()?;
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": "mycontainerregistry"},
        "spec": values["registries"][0]["spec"],
    });
    let install = ["install", "pullpass", CHART, "--create-namespace"];
    let output = helm_in(&cluster, &install, &json!({"extraObjects": [object]}))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("no matches for kind \"AcrRegistry\""), "{said}");
    Ok(())
}

/// And why a hook would not do: it is deleted before each upgrade, and nobody deletes it when it is no longer there.
#[test]
fn a_registry_in_a_hook_is_detached_by_each_upgrade() -> Test {
    let cluster = cluster()?;
    succeeded(
        "helm install",
        &helm_in(
            &cluster,
            &["install", "pullpass", CHART, "--create-namespace"],
            &json!({}),
        )?,
    )?;
    cluster.wait_until_established()?;
    let values = documented()?;
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {
            "name": "mycontainerregistry",
            "annotations": {"helm.sh/hook": "post-install,post-upgrade"},
        },
        "spec": values["registries"][0]["spec"],
    });
    let upgrade = ["upgrade", "pullpass", CHART];
    let with_hook = json!({"extraObjects": [object]});
    let uid = || -> Result<Value, Box<dyn Error>> {
        Ok(cluster.get_json(&["acrregistry", "mycontainerregistry"])?["metadata"]["uid"].clone())
    };
    succeeded("helm upgrade", &helm_in(&cluster, &upgrade, &with_hook)?)?;
    let before = uid()?;
    succeeded("helm upgrade", &helm_in(&cluster, &upgrade, &with_hook)?)?;
    assert_ne!(uid()?, before);
    succeeded("helm upgrade", &helm_in(&cluster, &upgrade, &json!({}))?)?;
    assert_eq!(attached(&cluster)?, named(&["mycontainerregistry"]));
    Ok(())
}

fn render(values: &Value) -> Result<Output, Box<dyn Error>> {
    render_with(values, &[])
}

/// The same with these other arguments.
fn render_with(values: &Value, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("values.json");
    fs::write(&file, values.to_string())?;
    let mut command = helm(&scratch)?;
    command.args(["template", "registries", REGISTRIES_CHART, "--values"]);
    Ok(command.arg(file).args(arguments).output()?)
}

#[test]
fn a_list_that_is_empty_by_accident_detaches_nothing() -> Test {
    for arguments in [&[][..], &["--is-upgrade"]] {
        for values in [
            json!({}),
            json!({"commonLabels": {"a": "b"}}),
            json!({"registries": []}),
            json!({"registries": null}),
            json!({"registries": [], "allowEmpty": false}),
        ] {
            let output = render_with(&values, arguments)?;
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success()
                    && error.contains("detach every registry")
                    && error.contains("allowEmpty"),
                "{values}: {error}"
            );
        }
        for values in [
            json!({"allowEmpty": true}),
            json!({"allowEmpty": true, "registries": null}),
        ] {
            let output = render_with(&values, arguments)?;
            let rendered = objects(&succeeded("helm template", &output)?)?;
            assert_eq!(rendered, Vec::<Value>::new());
        }
    }
    Ok(())
}

#[test]
fn fields_that_do_not_exist_are_refused_by_name() -> Test {
    let with = |pointer: &str, key: &str, value: Value| -> Result<Value, Box<dyn Error>> {
        let mut values = documented()?;
        let map = values.pointer_mut(pointer).and_then(Value::as_object_mut);
        map.ok_or_else(|| format!("there is no {pointer}"))?
            .insert(key.to_owned(), value);
        Ok(values)
    };
    let first = documented()?["registries"][0].clone();
    for (values, said) in [
        (with("", "registry", json!([]))?, "registry"),
        (with("/registries/0", "kind", json!("a"))?, "kind"),
        (with("/registries/0", "name", json!("A"))?, "name"),
        (with("/registries/0", "name", json!("a..b"))?, "name"),
        (with("/registries/0", "name", json!("a.-b"))?, "name"),
        (with("/registries/0", "name", json!("a".repeat(64)))?, "name"),
        (
            with("/registries/0/spec", "provison", json!("Eager"))?,
            "mycontainerregistry: spec.provison: there is no such field",
        ),
        (
            with(
                "/registries/0/spec/identity/servicePrincipal",
                "tenant",
                json!("a"),
            )?,
            "spec.identity.servicePrincipal.tenant: there is no such field",
        ),
        (
            with("", "registries", json!([first, first]))?,
            "two named mycontainerregistry",
        ),
    ] {
        let output = render(&values)?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(said),
            "{values}: {error}"
        );
    }
    Ok(())
}

#[test]
fn labels_and_annotations_of_registries_are_the_users() -> Test {
    let mut values = documented()?;
    values["commonLabels"] = json!({"team": "a", "cost": "1"});
    values["registries"][0]["name"] = json!("my-registry.v1");
    values["registries"][0]["labels"] = json!({"team": "b"});
    values["registries"][0]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    let rendered = objects(&succeeded("helm template", &render(&values)?)?)?;
    let [registry] = rendered.as_slice() else {
        return Err(format!("{rendered:?}").into());
    };
    assert_eq!(registry["metadata"]["labels"]["team"], json!("b"));
    assert_eq!(registry["metadata"]["labels"]["cost"], json!("1"));
    assert_eq!(
        registry["metadata"]["annotations"],
        json!({"helm.sh/resource-policy": "keep"})
    );
    assert_eq!(registry["spec"], values["registries"][0]["spec"]);
    Ok(())
}

#[test]
fn helm_has_nothing_to_say_against_the_second_chart() -> Test {
    let output = helm(&Scratch::new()?)?
        .args(["lint", "--strict", REGISTRIES_CHART])
        .output()?;
    succeeded("helm lint", &output)?;
    let version = |chart: &str| -> Result<Value, Box<dyn Error>> {
        let text = fs::read_to_string(format!("{ROOT}/manifests/{chart}/Chart.yaml"))?;
        let metadata: Value = serde_saphyr::from_str(&text)?;
        Ok(json!([
            metadata["version"],
            metadata["appVersion"],
            metadata["kubeVersion"]
        ]))
    };
    assert_eq!(version("chart")?, version("registries-chart")?);
    Ok(())
}
