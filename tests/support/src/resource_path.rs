//! Where the API server has what `kubectl get` names.

/// A kind that tests look at again and again.
struct Kind {
    /// What kubectl calls it: one, and several.
    names: [&'static str; 2],
    group_version: &'static str,
    namespaced: bool,
}

const KINDS: [Kind; 9] = [
    namespaced(
        ["acrpullbinding", "acrpullbindings"],
        "apis/pullpass.dev/v1alpha1",
    ),
    namespaced(["event", "events"], "api/v1"),
    namespaced(["lease", "leases"], "apis/coordination.k8s.io/v1"),
    namespaced(["pod", "pods"], "api/v1"),
    namespaced(["secret", "secrets"], "api/v1"),
    namespaced(["serviceaccount", "serviceaccounts"], "api/v1"),
    of_cluster(["acrindex", "acrindexes"], "apis/pullpass.dev/v1alpha1"),
    of_cluster(["acrregistry", "acrregistries"], "apis/pullpass.dev/v1alpha1"),
    of_cluster(["namespace", "namespaces"], "api/v1"),
];

const fn namespaced(names: [&'static str; 2], group_version: &'static str) -> Kind {
    Kind {
        names,
        group_version,
        namespaced: true,
    }
}

const fn of_cluster(names: [&'static str; 2], group_version: &'static str) -> Kind {
    Kind {
        names,
        group_version,
        namespaced: false,
    }
}

/// The path for the arguments of `kubectl get`, if they name one of [`KINDS`] and have no flags but those of scope and selection.
pub(crate) fn resource_path(arguments: &[&str]) -> Option<String> {
    let mut positional = Vec::new();
    let mut namespace = Some("default");
    let mut selections = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else {
            if word.starts_with('-') {
                return None;
            }
            positional.push(*word);
            continue;
        };
        if flag == "all-namespaces" {
            namespace = None;
            continue;
        }
        let (flag, value) = match flag.split_once('=') {
            Some(parts) => parts,
            None => (flag, *words.next()?),
        };
        match flag {
            "namespace" => namespace = Some(value),
            "selector" => selections.push(selection("labelSelector", value)?),
            "field-selector" => selections.push(selection("fieldSelector", value)?),
            _ => return None,
        }
    }
    let (kind, name) = match positional.as_slice() {
        [kind] => (kind, None),
        [kind, name] => (kind, Some(name)),
        _ => return None,
    };
    let Kind {
        names: [_, plural],
        group_version,
        namespaced,
    } = KINDS.iter().find(|known| known.names.contains(kind))?;
    let mut path = format!("/{group_version}");
    if let (true, Some(namespace)) = (namespaced, namespace) {
        path = format!("{path}/namespaces/{namespace}");
    }
    path = format!("{path}/{plural}");
    match name {
        Some(name) => path = format!("{path}/{name}"),
        None if selections.is_empty() => {}
        None => path = format!("{path}?{}", selections.join("&")),
    }
    Some(path)
}

/// A parameter of a query, if its value needs no encoding there.
fn selection(parameter: &str, selector: &str) -> Option<String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=!,".contains(character);
    selector
        .chars()
        .all(plain)
        .then(|| format!("{parameter}={selector}"))
}

#[cfg(test)]
mod tests {
    use super::resource_path;

    #[test]
    fn one_object_and_lists_have_their_paths() {
        for (arguments, path) in [
            (
                &["acrregistry", "contoso"][..],
                "/apis/pullpass.dev/v1alpha1/acrregistries/contoso",
            ),
            (
                &["pod", "--namespace", "apps", "web"],
                "/api/v1/namespaces/apps/pods/web",
            ),
            (
                &["serviceaccount", "default"],
                "/api/v1/namespaces/default/serviceaccounts/default",
            ),
            (
                &["secrets", "--all-namespaces", "--selector=a/b=c,d!=e"],
                "/api/v1/secrets?labelSelector=a/b=c,d!=e",
            ),
            (
                &[
                    "secrets",
                    "--namespace=apps",
                    "--field-selector",
                    "metadata.name=one",
                ],
                "/api/v1/namespaces/apps/secrets?fieldSelector=metadata.name=one",
            ),
        ] {
            assert_eq!(resource_path(arguments).as_deref(), Some(path));
        }
    }

    #[test]
    fn other_arguments_are_left_to_kubectl() {
        for arguments in [
            &["deployment", "web"][..],
            &["pods,secrets", "--all-namespaces"],
            &["pod/web"],
            &["pod", "one", "two"],
            &["pods", "--selector=a in (b)"],
            &["pods", "--show-managed-fields"],
            &["pods", "--namespace"],
            &["pods", "-A"],
            &[],
        ] {
            assert_eq!(resource_path(arguments), None, "{arguments:?}");
        }
    }
}
