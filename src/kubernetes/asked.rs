//! Which hosts a `MutatingWebhookConfiguration` has the API server ask about, as far as its match conditions show.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;

use crate::api::names::PODS_WEBHOOK;

/// The hosts of these that no match condition of the webhook for Pods names: the API server does not ask about Pods
/// with images there. A webhook without conditions is asked about every Pod.
///
/// A condition can be any expression. If it reads a list, as those of the manifests do, the host has to be an element
/// of the list; otherwise this searches for the host as text, also in the form of regular expressions.
pub fn unasked<'a>(
    configuration: &MutatingWebhookConfiguration,
    hosts: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let mut webhooks = configuration.webhooks.iter().flatten();
    let webhook = webhooks.find(|webhook| webhook.name == PODS_WEBHOOK);
    let conditions = webhook.map(|webhook| webhook.match_conditions.as_deref().unwrap_or_default());
    if conditions.is_some_and(<[_]>::is_empty) {
        return Vec::new();
    }
    let conditions = conditions.unwrap_or_default();
    let is_named = |host: &str| {
        let mut expressions = conditions.iter().map(|condition| condition.expression.as_str());
        expressions.any(|text| match listed(text) {
            Some(mut elements) => elements.any(|element| element == host),
            None => {
                let text = text.to_ascii_lowercase().replace("[.]", ".").replace("\\.", ".");
                names(&text, host)
            }
        })
    };
    hosts.into_iter().filter(|host| !is_named(host)).collect()
}

/// The elements of the lists that an expression takes apart at commas, where it does.
fn listed(expression: &str) -> Option<impl Iterator<Item = &str>> {
    const APART: &str = "\".split(\",\")";
    expression.contains(APART).then(|| {
        let before = expression
            .match_indices(APART)
            .filter_map(|(end, _)| expression.get(..end));
        let literals = before.filter_map(|before| before.rsplit('"').next());
        literals.flat_map(|literal| literal.split(','))
    })
}

/// Whether a text has a host that is not a part of a longer one.
fn names(text: &str, host: &str) -> bool {
    let is_of_a_host = |character: char| character.is_ascii_alphanumeric() || "-.".contains(character);
    text.match_indices(host).any(|(start, _)| {
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let after = text
            .get(start + host.len()..)
            .and_then(|after| after.chars().next());
        !before.into_iter().chain(after).any(is_of_a_host)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unasked_of(webhook: &str, conditions: &serde_json::Value) -> Vec<String> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "pullpass"},
            "webhooks": [{
                "name": webhook, "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {},
                "matchConditions": conditions,
            }],
        });
        let configuration = serde_json::from_value(configuration).unwrap();
        let unasked = unasked(&configuration, ["a.contoso.com", "b.contoso.com"]);
        unasked.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_domain_is_asked_about_where_a_condition_names_it() {
        let of = |text: &str| {
            let conditions = json!([
                {"name": "c", "expression": "true"},
                {"name": "d", "expression": text},
            ]);
            unasked_of(PODS_WEBHOOK, &conditions)
        };
        for (text, expected) in [
            (r#"host in "a.contoso.com,b.contoso.com".split(",")"#, &[][..]),
            (r#"host in "b.contoso.com".split(",")"#, &["a.contoso.com"]),
            ("image.matches('^A[.]contoso[.]com/')", &["b.contoso.com"]),
            (
                r"image.matches('^b\\.contoso\\.com/')",
                &["a.contoso.com", "b.contoso.com"],
            ),
            (r"image.matches(r'^b\.contoso\.com/')", &["a.contoso.com"]),
            (
                r#"host in "aa.contoso.com,b.contoso.com.example""#,
                &["a.contoso.com", "b.contoso.com"],
            ),
            (r#"host in "-".split(",")"#, &["a.contoso.com", "b.contoso.com"]),
            // What is no element as it stands is never found in the list.
            (
                r#"host in "A.contoso.com, b.contoso.com".split(",") || host == "a.contoso.com""#,
                &["a.contoso.com", "b.contoso.com"],
            ),
            (
                r#"host in "a.contoso.com:443,b.contoso.com".split(",")"#,
                &["a.contoso.com"],
            ),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_webhook_without_conditions_is_asked_about_everything() {
        assert!(unasked_of(PODS_WEBHOOK, &json!([])).is_empty());
        assert!(unasked_of(PODS_WEBHOOK, &json!(null)).is_empty());
        assert_eq!(unasked_of("another.example", &json!([])).len(), 2);
    }
}
