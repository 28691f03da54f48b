//! Policies that are changed, as an API server has them.

use super::*;
use serde_json::json;

/// The policies of a component, as an API server has them that adds defaults.
fn installed(component: &Component) -> [Found; 2] {
    let documents: Vec<Value> = serde_saphyr::from_multiple(component.manifest).unwrap();
    component.policies.each_ref().map(|part| {
        let of_kind = |kind: &str| {
            let is_it =
                |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == part.name;
            documents.iter().find(is_it).unwrap().clone()
        };
        let mut policy = of_kind(component.kind);
        let constraints = &mut policy["spec"]["matchConstraints"];
        constraints["matchPolicy"] = json!("Equivalent");
        // The user excludes another namespace by name.
        let requirements = constraints["namespaceSelector"]["matchExpressions"].as_array_mut();
        requirements.unwrap().insert(
            1,
            json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["infra"]}),
        );
        constraints["namespaceSelector"]["matchLabels"] = json!({});
        constraints["objectSelector"] = json!({"matchLabels": {}});
        constraints["excludeResourceRules"] = json!([]);
        constraints["resourceRules"][0]["resourceNames"] = json!([]);
        let mut binding = of_kind(&format!("{}Binding", component.kind));
        binding["spec"]["matchResources"] =
            json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
        Found {
            in_force: Some(true),
            policy: Some(policy),
            binding: Some(binding),
        }
    })
}

/// What pullpass excludes, as the policies do.
const EXCLUDED: [&str; 5] = [
    "infra",
    "kube-node-lease",
    "kube-public",
    "kube-system",
    "pullpass-system",
];

fn faults_of(component: &Component, found: &[Found; 2], are_needed: [bool; 2]) -> Vec<String> {
    let excluded = EXCLUDED.map(str::to_owned);
    let faults = component.faults(found, are_needed, Some(&excluded)).into_iter();
    let faults = faults.map(|Disagreement { about, text }| {
        assert_eq!(
            about == About::Version,
            text.contains("is not the one of version"),
            "{text}"
        );
        text
    });
    faults.collect()
}

#[test]
fn shipped_policies_are_told_from_others() {
    for component in [ADMISSION_POLICY, ENFORCE] {
        let faults = faults_of(&component, &installed(&component), [true, true]);
        assert_eq!(faults, [""; 0]);
        for (path, other) in [
            ("/spec/variables/0/expression", json!("'other'")),
            ("/spec/matchConditions", json!([])),
            ("/spec/failurePolicy", Value::Null),
            (
                "/spec/matchConstraints/resourceRules/0/operations",
                json!(["CREATE", "*"]),
            ),
        ] {
            let mut found = installed(&component);
            *found[1].policy.as_mut().unwrap().pointer_mut(path).unwrap() = other;
            let faults = faults_of(&component, &found, [true, true]);
            let name = component.policies[1].name;
            let [fault] = &faults[..] else {
                panic!("{path}: {faults:?}");
            };
            assert!(
                fault.contains(name) && fault.contains("is not the one of version"),
                "{fault}"
            );
            // Of one that does not act, its text is nobody's business.
            found[1].in_force = None;
            assert_eq!(faults_of(&component, &found, [true, true]), [""; 0]);
        }
    }
}

#[test]
fn selectors_by_which_pods_pass_a_policy_are_told() {
    let policy = |found: &mut Found, path: &str, value: Value| {
        *found.policy.as_mut().unwrap().pointer_mut(path).unwrap() = value;
    };
    let binding = |found: &mut Found, path: &str, value: Value| {
        *found.binding.as_mut().unwrap().pointer_mut(path).unwrap() = value;
    };
    let selector = json!({"matchLabels": {"app": "judged"}});
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let of_policy = "/spec/matchConstraints";
    for component in [ADMISSION_POLICY, ENFORCE] {
        let kind = component.kind;
        let of_binding = format!("{kind}Binding");
        for (change, path, value, field, of) in [
            (
                &policy as &dyn Fn(&mut Found, &str, Value),
                &*format!("{of_policy}/objectSelector"),
                selector.clone(),
                "objectSelector",
                kind,
            ),
            (
                &policy,
                &format!("{of_policy}/excludeResourceRules"),
                json!([rule]),
                "excludeResourceRules",
                kind,
            ),
            (
                &policy,
                &format!("{of_policy}/resourceRules/0/resourceNames"),
                json!(["web"]),
                "resourceRules",
                kind,
            ),
            (
                &binding,
                "/spec/matchResources/objectSelector",
                selector.clone(),
                "objectSelector",
                &of_binding,
            ),
            (
                &binding,
                "/spec/matchResources/namespaceSelector",
                selector.clone(),
                "namespaceSelector",
                &of_binding,
            ),
            (
                &binding,
                "/spec/matchResources",
                json!({"resourceRules": [rule]}),
                "resourceRules",
                &of_binding,
            ),
            (
                &binding,
                "/spec/paramRef",
                json!({"name": "other", "parameterNotFoundAction": "Allow"}),
                "spec.paramRef",
                &of_binding,
            ),
            (
                &binding,
                "/spec/paramRef/parameterNotFoundAction",
                json!("Deny"),
                "spec.paramRef",
                &of_binding,
            ),
        ] {
            let mut found = installed(&component);
            change(&mut found[0], path, value);
            let faults = faults_of(&component, &found, [true, true]);
            let name = component.policies[0].name;
            let [fault] = &faults[..] else {
                panic!("{path}: {faults:?}");
            };
            let expected = format!("{field} of {of} {name} is not as shipped");
            assert!(fault.contains(&expected), "{fault}");
            found[0].in_force = Some(false);
            let faults = faults_of(&component, &found, [false, false]);
            assert_eq!(faults, [""; 0], "it is nobody's business");
        }
    }
}

/// Which namespaces are left out by name is the user's, as far as pullpass excludes them, and nothing else of their selector.
#[test]
fn other_namespaces_of_a_policy_are_told() {
    let not_shipped = "spec.matchConstraints.namespaceSelector of KIND NAME is not as shipped";
    for (path, value, expected) in [
        (
            "matchLabels",
            json!({"pullpass.dev/inject": "enabled"}),
            Some(not_shipped),
        ),
        (
            "matchExpressions/0",
            json!({"key": "environment", "operator": "NotIn", "values": ["dev"]}),
            Some(not_shipped),
        ),
        ("matchExpressions", json!([]), Some(not_shipped)),
        (
            "matchExpressions/1/values",
            json!(["tests", "infra", "apps"]),
            Some(
                "KIND NAME excludes namespaces by name that --exclude-namespaces does not, so that their Pods pass it by: \
                 apps, tests",
            ),
        ),
        // The policy has the names that pullpass excludes from the AcrIndex, too.
        ("matchExpressions/1/values", json!(["kube-system"]), None),
    ] {
        let path = format!("/spec/matchConstraints/namespaceSelector/{path}");
        for component in [ADMISSION_POLICY, ENFORCE] {
            let mut found = installed(&component);
            let policy = found[1].policy.as_mut().unwrap();
            *policy.pointer_mut(&path).unwrap() = value.clone();
            let faults = faults_of(&component, &found, [true, true]);
            let expected = expected.map(|text| {
                text.replace("KIND", component.kind)
                    .replace("NAME", component.policies[1].name)
            });
            assert_eq!(faults.len(), usize::from(expected.is_some()), "{faults:?}");
            assert!(
                faults
                    .iter()
                    .zip(&expected)
                    .all(|(fault, text)| fault.contains(text)),
                "{path}: {faults:?}"
            );
            // Without an AcrIndex nobody knows what pullpass excludes.
            let unknown = component.faults(&found, [true, true], None);
            let is_by_name = path.ends_with("/values");
            assert_eq!(unknown.len(), if is_by_name { 0 } else { faults.len() });
        }
    }
}

/// Anybody can write a Pod that costs too much to evaluate.
#[test]
fn a_policy_that_admits_what_it_cannot_evaluate_is_told() {
    for (component, number, other, expected) in [
        (
            &ENFORCE,
            0,
            "Ignore",
            "pullpass-enforce has another failurePolicy than Fail",
        ),
        // These refuse nothing; they are only as nobody ships them.
        (&ENFORCE, 1, "Fail", "pullpass-warn is not the one of version"),
        (
            &ADMISSION_POLICY,
            0,
            "Fail",
            "MutatingAdmissionPolicy pullpass is not the one of version",
        ),
    ] {
        let mut found = installed(component);
        let policy = found[number].policy.as_mut().unwrap();
        *policy.pointer_mut(FAILURE_POLICY).unwrap() = json!(other);
        let faults = faults_of(component, &found, [true, true]);
        assert!(
            faults.len() == 1 && faults[0].contains(expected),
            "{expected}: {faults:?}"
        );
    }
}

#[test]
fn a_policy_without_its_sibling_is_told_where_a_rule_needs_it() {
    let of = |first, second, are_needed| {
        let mut found = installed(&ENFORCE);
        (found[0].in_force, found[1].in_force) = (first, second);
        faults_of(&ENFORCE, &found, are_needed)
    };
    let (yes, no) = (Some(true), Some(false));
    for (first, second, are_needed, missing) in [
        (
            yes,
            no,
            [true, true],
            Some("pullpass-warn is not in force, and pullpass-enforce is"),
        ),
        (yes, no, [true, false], None),
        (
            no,
            yes,
            [true, true],
            Some("pullpass-enforce is not in force, and pullpass-warn is"),
        ),
        (no, yes, [false, true], None),
        (no, no, [true, true], None),
        (yes, None, [true, true], None),
    ] {
        let faults = of(first, second, are_needed);
        assert_eq!(faults.len(), usize::from(missing.is_some()), "{faults:?}");
        assert!(
            faults.iter().all(|fault| fault.contains(missing.unwrap())),
            "{faults:?}"
        );
    }
}

#[test]
fn a_binding_acts_by_its_action_and_for_its_policy() {
    let [enforce, warn] = &ENFORCE.policies;
    let binding =
        |policy: &str, actions: Value| json!({"spec": {"policyName": policy, "validationActions": actions}});
    assert!(enforce.is_bound(&binding("pullpass-enforce", json!(["Deny", "Audit"]))));
    assert!(!enforce.is_bound(&binding("pullpass-enforce", json!(["Audit"]))));
    assert!(!enforce.is_bound(&binding("pullpass-warn", json!(["Deny"]))));
    assert!(warn.is_bound(&binding("pullpass-warn", json!(["Warn"]))));
    assert!(!warn.is_bound(&binding("pullpass-warn", json!(["Deny"]))));
    let [pullpass, _] = &ADMISSION_POLICY.policies;
    assert!(pullpass.is_bound(&json!({"spec": {"policyName": "pullpass"}})));
}
