//! What people are told. Kept short: the API server cuts a warning at 256 bytes, and all of them at 4,096.

use std::fmt::Write;

use crate::policy::request::PodImage;
use crate::policy::verdict::Breach;
use crate::registry::image::{ImageReferenceError, RegistryHost};

/// How much of a text that a user wrote is repeated to them, in characters.
const MAX_QUOTED: usize = 100;

pub(super) fn unknown_label(on: &str, label: &str, value: &str, expected: &str) -> String {
    format!(
        "pullpass: the {on}'s label {label} has the unknown value \"{}\" and counts as not set; use {expected}",
        quoted(value)
    )
}

pub(super) fn not_a_reference(image: &PodImage<'_>, error: ImageReferenceError) -> String {
    let reference = quoted(&image.reference);
    format!(
        "pullpass: \"{reference}\" at {} is not an image reference, no kubelet will pull it: {error}",
        quoted_path(image)
    )
}

/// The kubelet compares a pull secret's host with the Pod's by case and its port as text, and not every spelling can be
/// listed in a pull secret.
pub(super) fn spelling(image: &PodImage<'_>, host: &RegistryHost<'_>) -> Option<String> {
    misspelled(host).map(|why| format!("pullpass: {} {why}", quoted_path(image)))
}

/// The same in an Event, on which nothing of the sender's is but the host.
pub(super) fn spelling_event(host: &RegistryHost<'_>) -> Option<String> {
    misspelled(host).map(|why| format!("A Pod {why}"))
}

fn misspelled(host: &RegistryHost<'_>) -> Option<String> {
    (!host.is_matched_by_kubelets()).then(|| {
        let (written, how) = match host.port() {
            Some(_) if host.is_lower_case() => (host.as_str(), "by the port's text"),
            _ => (host.host(), "by case"),
        };
        let (written, lower) = (quoted(written), host.canonical());
        format!(
            "names {written}: write {lower}, since a kubelet matches credentials {how} and finds none for it"
        )
    })
}

pub(super) fn other_repositories(image: &PodImage<'_>, registry: &str, repository: &str) -> String {
    format!(
        "pullpass: {} names the repository {}, which spec.credential.repositories of {registry} does not list: the pull will fail",
        quoted_path(image),
        quoted(repository),
    )
}

pub(super) fn uncovered(image: &PodImage<'_>, host: &str, debugging: bool) -> String {
    let hint = if debugging {
        "use an image that needs no credentials, or label the namespace pullpass.dev/always-inject=true before its Pods are created"
    } else {
        "re-create the Pod"
    };
    format!(
        "pullpass: {} is on {host}, this Pod has no pull secret for it, and a live Pod can't get one: {hint}",
        quoted_path(image)
    )
}

/// Why a ServiceAccount does not let its Pods name a pull secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strictness {
    /// It enforces mountable secrets.
    Known,
    /// It may be one of too many of its namespace that do.
    Possible,
}

pub(super) fn unlisted(
    image: &PodImage<'_>,
    host: &str,
    strictness: Strictness,
    account: &str,
    secret: &str,
) -> String {
    let (image, account) = (quoted_path(image), quoted(account));
    match strictness {
        Strictness::Known => format!(
            "pullpass: {image} is on {host}, but ServiceAccount {account} enforces mountable secrets: add {secret} to its \
             imagePullSecrets"
        ),
        Strictness::Possible => format!(
            "pullpass: {image} is on {host}, but too many ServiceAccounts here enforce mountable secrets: add {secret} to the \
             imagePullSecrets of {account}"
        ),
    }
}

/// The same in an Event.
pub(super) fn unlisted_event(host: &str, strictness: Strictness, secret: &str) -> String {
    let why = match strictness {
        Strictness::Known => "its ServiceAccount enforces mountable secrets",
        Strictness::Possible => "its namespace has too many ServiceAccounts that enforce mountable secrets",
    };
    format!(
        "A Pod has an image on {}, but {why}: add {secret} to the imagePullSecrets of the ServiceAccount",
        quoted(host)
    )
}

pub(super) fn violation(image: &PodImage<'_>, breach: Breach<'_>, host: &str, namespace: &str) -> String {
    let what = format!("{} names {}", quoted_path(image), quoted(&image.reference));
    format!("pullpass: {what}, and {}", why(breach, host, namespace))
}

/// What an Event says of a refusal. A forged review must not put words into it: it holds nothing that the sender wrote but
/// the host, which was parsed.
pub(super) fn denial_event(breach: Breach<'_>, host: &str, namespace: &str) -> String {
    format!("A Pod is refused: {}", why(breach, &quoted(host), namespace))
}

fn why(breach: Breach<'_>, host: &str, namespace: &str) -> String {
    let rule = breach.rule().as_str();
    match breach {
        Breach::Unattached => format!(
            "no AcrRegistry has {host} (rule: {rule}). An administrator of the cluster can attach it: pullpass attach \
             {host}"
        ),
        Breach::Forbidden(registry) => format!(
            "AcrRegistry {name} is not for namespace {namespace} (rule: {rule}). An administrator of the cluster can \
             change spec.namespaces of {name} or the namespace's labels",
            name = registry.name(),
        ),
    }
}

fn quoted_path(image: &PodImage<'_>) -> String {
    quoted(&image.path().to_string())
}

/// A user's text with control characters escaped, and cut where it is long.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(MAX_QUOTED) + 4);
    for (count, c) in text.chars().enumerate() {
        if count == MAX_QUOTED {
            quoted.push('…');
            break;
        }
        if c.is_control() {
            // Writing into a `String` can't fail.
            let _ = write!(quoted, "{}", c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted
}
