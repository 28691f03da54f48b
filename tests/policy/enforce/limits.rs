//! What the rules cost with many registries, in large Pods and their updates: within the budget of the API server, or counted.

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::{Value, json};

use super::{
    STRANGE, create, enforced, index, is_of_version, pod, refusal, send, set_rules, wait_for_action,
};
use crate::policy_limits::with_longest_selector;
use crate::world::{Test, namespace, text};

/// A Pod with a container for each image.
pub(super) fn containers(images: Vec<String>) -> String {
    let containers: Vec<_> = images
        .into_iter()
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    pod("none", &json!({"containers": containers}))
}

/// An index with 2,000 registries.
fn many_registries() -> Value {
    let registries = many_names();
    let hosts: BTreeMap<_, _> = registries
        .iter()
        .map(|name| (format!("{name}.azurecr.io"), vec![format!("pullpass-{name}")]))
        .collect();
    let secrets: BTreeMap<_, _> = registries
        .iter()
        .map(|name| {
            let requirement = json!({"key": "team", "operator": "NotIn", "values": ["z"]});
            (
                format!("pullpass-{name}"),
                json!({"registry": name, "namespaces": [requirement]}),
            )
        })
        .collect();
    json!({
        "mode": "cluster-wide", "unattached": "deny", "forbidden": "deny", "hosts": hosts, "pullSecrets": secrets,
    })
}

fn many_names() -> Vec<String> {
    (0..2000).map(|number| format!("registry{number:04}")).collect()
}

/// A login server with an AcrRegistry for each of 2,000 teams: only the last one is for the namespace, or none is.
#[test]
fn a_registry_of_many_teams_fits_the_budget() -> Test {
    let names: Vec<String> = (0..2000)
        .map(|number| format!("pullpass-team{number:04}"))
        .collect();
    let secrets: BTreeMap<_, _> = names
        .iter()
        .map(|name| {
            let requirement = json!({"key": "team", "operator": "In", "values": [name, "another"]});
            (name, json!({"registry": name, "namespaces": [requirement]}))
        })
        .collect();
    let mut secrets = json!(secrets);
    secrets["pullpass-all"] = json!({"registry": "all", "namespaces": []});
    let open = [names.clone(), vec!["pullpass-all".to_owned()]].concat();
    let cluster = enforced(&json!({
        "mode": "cluster-wide", "unattached": "deny", "forbidden": "deny",
        "hosts": {"open.azurecr.io": open, "closed.azurecr.io": names}, "pullSecrets": secrets,
    }))?;
    let of = |host: &str, count| {
        (0..count)
            .map(|number| format!("{host}.azurecr.io/app{number}:1"))
            .collect()
    };
    for count in [1, 10, 100, 500] {
        let said = create(&cluster, &containers(of("open", count)));
        assert!(!said.refused, "{count}: {}", said.text);
        let said = create(&cluster, &containers(of("closed", count)));
        assert!(
            refusal(&said).contains("(rule: forbidden)"),
            "{count}: {}",
            said.text
        );
    }
    Ok(())
}

/// 2,000 registries that are attached, and as many that are not.
#[test]
fn large_pods_fit_the_budget() -> Test {
    let registries = many_names();
    let cluster = enforced(&many_registries())?;
    let attached = |count| {
        let images = registries.iter().cycle().take(count);
        images
            .map(|name| format!("{name}.azurecr.io/team/app:1"))
            .collect::<Vec<_>>()
    };
    for (what, images) in [
        ("1,000 attached registries", attached(1_000)),
        ("one long text", vec!["x".repeat(900_000)]),
        ("many long texts", vec!["x".repeat(1024); 900]),
        (
            "many long texts with a host",
            vec![format!("registry0001.azurecr.io/{}", "x".repeat(1000)); 900],
        ),
        (
            "one long port",
            vec![format!("registry0001.azurecr.io:{}443/a", "0".repeat(900_000))],
        ),
        (
            "many long ports",
            vec![format!("registry0001.azurecr.io:{}443/a", "0".repeat(1_000)); 900],
        ),
        ("many short ones", vec!["x".to_owned(); 5_000]),
    ] {
        let said = create(&cluster, &containers(images.clone()));
        assert!(!said.refused, "{what}: {}", said.text);
        let said = create(&cluster, &containers([images, vec![STRANGE.to_owned()]].concat()));
        assert!(
            refusal(&said).contains("(rule: unattached)"),
            "{what}: {}",
            said.text
        );
    }
    // What costs more than the budget all the same is refused, and counted.
    let huge =
        (0..1_000).map(|number| format!("stranger{number}.azurecr.io/{}", "team/".repeat(160) + "app"));
    let said = create(&cluster, &containers(huge.collect()));
    assert!(
        said.refused && said.text.contains("cost limit exceeded"),
        "{}",
        said.text
    );
    let metrics = cluster.run(&["get", "--raw", "/metrics"])?.stdout;
    let of_policy = |line: &&str| {
        line.starts_with("apiserver_validating_admission_policy_check_total{")
            && line.contains(r#"policy="pullpass-enforce""#)
    };
    let counted: Vec<_> = metrics.lines().filter(of_policy).collect();
    // What docs/operations.md says of it.
    let is_refusal = |line: &&&str| line.contains(r#"enforcement_action="deny""#);
    let is_error = |line: &&str| line.contains(r#"error_type="invalid_error""#);
    if is_of_version(&cluster, 31, "errors that are counted apart from refusals")? {
        assert!(counted.iter().filter(is_refusal).any(is_error), "{counted:?}");
    }
    let strangers = (0..1_000).map(|number| format!("stranger{number}.azurecr.io/team/app:1"));
    let said = create(&cluster, &containers(strangers.collect()));
    assert!(refusal(&said).contains("(rule: unattached)"), "{}", said.text);
    Ok(())
}

/// Beside 2,000 registries and as many images as a Pod can have.
#[test]
fn the_longest_namespace_selector_fits_the_budget() -> Test {
    let cluster = enforced(&with_longest_selector(many_registries()))?;
    namespace(&cluster, "unselected", &json!({"team": "1"}))?;
    let registries = many_names();
    let images = registries.iter().take(1_000);
    let images: Vec<_> = images
        .map(|name| format!("{name}.azurecr.io/team/app:1"))
        .collect();
    let strange = containers([images.clone(), vec![STRANGE.to_owned()]].concat());
    let unselected = strange.replace(r#""namespace":"none""#, r#""namespace":"unselected""#);
    assert_ne!(unselected, strange);
    for (pod, rule) in [
        (containers(images), ""),
        (strange, "unattached"),
        (unselected, ""),
    ] {
        let said = create(&cluster, &pod);
        let is_by_rule = refusal(&said).contains(&format!("(rule: {rule})"));
        assert_eq!(
            (said.refused, is_by_rule),
            (!rule.is_empty(), !rule.is_empty()),
            "{}",
            said.text
        );
    }
    Ok(())
}

/// What an update of as many images costs, with 2,000 registries: what was there before is compared, and not judged.
#[test]
fn updates_of_large_pods_fit_the_budget() -> Test {
    let cluster = enforced(&many_registries())?;
    set_rules(&cluster, "allow", "allow")?;
    wait_for_action(&cluster, "none", "allow")?;
    let strangers = (0..1_000).map(|number| format!("stranger{number}.azurecr.io/team/app:1"));
    let path = "team/".repeat(120);
    for (name, images) in [
        ("strangers", strangers.collect::<Vec<_>>()),
        (
            "long",
            vec![format!("registry0001.azurecr.io/{}", "x".repeat(800)); 1_000],
        ),
        ("unpulled", vec!["x".repeat(900); 1_000]),
        (
            "long-strangers",
            vec![format!("stranger.azurecr.io/{path}app:1"); 1_000],
        ),
    ] {
        let named: Value = serde_json::from_str(&containers(images))?;
        let mut named = named;
        named["metadata"]["name"] = json!(name);
        cluster.create(&named.to_string())?;
    }
    set_rules(&cluster, "deny", "deny")?;
    wait_for_action(&cluster, "none", "deny")?;
    for name in ["strangers", "long", "unpulled", "long-strangers"] {
        let live = cluster.get_json(&["pod", name, "--namespace=none"])?;
        let update = |path: &str, pod: &Value| {
            let path = format!("/api/v1/namespaces/none/pods/{name}{path}?dryRun=All");
            send(
                &cluster,
                &["replace", "--raw", &path, "--filename", "-"],
                &pod.to_string(),
            )
        };
        let with = |place: usize, image: &str| {
            let mut pod = live.clone();
            pod["spec"]["containers"][place]["image"] = json!(image);
            update("", &pod)
        };
        let debugged = |image: &str| {
            let mut pod = live.clone();
            pod["spec"]["ephemeralContainers"] = json!([{"name": "debugger", "image": image}]);
            update("/ephemeralcontainers", &pod)
        };
        for place in [0, 500, 999] {
            for (image, refused) in [("registry0001.azurecr.io/other:2", false), (STRANGE, true)] {
                let said = with(place, image);
                assert_eq!(said.refused, refused, "{name} {place} {image}: {}", said.text);
                let path = format!("pullpass: spec.containers[c{place}] names {STRANGE}, and no AcrRegistry");
                assert_eq!(said.text.contains(&path), refused, "{name}: {}", said.text);
            }
        }
        let said = debugged("registry0001.azurecr.io/debug:1");
        assert!(!said.refused, "{name}: {}", said.text);
        let said = debugged(STRANGE);
        let path =
            format!("pullpass: spec.ephemeralContainers[debugger] names {STRANGE}, and no AcrRegistry");
        assert!(said.text.contains(&path), "{name}: {}", said.text);
        // All of them: what another container had before is not looked for among so many.
        let mut changed = live.clone();
        for place in 0..1_000 {
            let image = format!("other{place}.azurecr.io/app:2");
            changed["spec"]["containers"][place]["image"] = json!(image);
        }
        let said = update("", &changed);
        let first = "pullpass: spec.containers[c0] names other0.azurecr.io/app:2, and no AcrRegistry";
        assert!(refusal(&said).starts_with(first), "{name}: {}", said.text);
    }
    Ok(())
}

/// What docs/policy.md says of updates that are too large to be compared.
#[test]
fn updates_of_more_images_judge_what_was_there() -> Test {
    let cluster = enforced(&index())?;
    set_rules(&cluster, "allow", "allow")?;
    wait_for_action(&cluster, "none", "allow")?;
    let live = |count: usize| -> Result<Value, Box<dyn Error>> {
        let images = [vec![STRANGE.to_owned()], vec!["nginx".to_owned(); count - 1]].concat();
        let mut pod: Value = serde_json::from_str(&containers(images))?;
        pod["metadata"]["name"] = json!(format!("of-{count}"));
        cluster.create(&pod.to_string())?;
        Ok(cluster.get_json(&["pod", &format!("of-{count}"), "--namespace=none"])?)
    };
    // The API server adds a volume with a token.
    let (most, more) = (live(4_095)?, live(4_096)?);
    set_rules(&cluster, "deny", "deny")?;
    wait_for_action(&cluster, "none", "deny")?;
    let update = |pod: &Value| {
        let name = text(pod, "/metadata/name");
        let path = format!("/api/v1/namespaces/none/pods/{name}?dryRun=All");
        let arguments = ["replace", "--raw", &path, "--filename", "-"];
        send(&cluster, &arguments, &pod.to_string())
    };
    // One image changes, and the first one becomes another one's, too.
    for (pod, changes, refused) in [(&most, 1, false), (&most, 62, true), (&more, 1, true)] {
        let mut changed = pod.clone();
        for place in 1..=changes {
            changed["spec"]["containers"][place]["image"] = json!("nginx:2");
        }
        changed["spec"]["containers"][changes]["image"] = json!(STRANGE);
        let said = update(&changed);
        assert_eq!(said.refused, refused, "{changes}: {}", said.text);
        assert_eq!(said.text.contains("(rule: unattached)"), refused, "{}", said.text);
    }
    Ok(())
}
