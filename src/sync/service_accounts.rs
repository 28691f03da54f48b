//! Follows the `ServiceAccounts` that enforce mountable secrets. Of all others nothing is kept.

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::policy::mountable::Mountable;
use crate::view::{StrictAccounts, Taken, View};

/// Keeps what the view knows of `ServiceAccounts`, and tells in which namespaces a list or an event has changed that.
pub(super) async fn follow(
    view: &View,
    events: impl Stream<Item = Event<ServiceAccount>>,
    mut tell: impl FnMut(Vec<String>),
) {
    let mut listed = StrictAccounts::default();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed = StrictAccounts::default(),
            Event::InitApply(account) => {
                take(&mut listed, &account);
            }
            Event::InitDone => {
                let changed = {
                    let mut known = view.strict_accounts();
                    let before = std::mem::replace(&mut *known, std::mem::take(&mut listed));
                    known.changed_since(&before)
                };
                tell(changed);
            }
            Event::Apply(account) => {
                let changed = take(&mut view.strict_accounts(), &account);
                if !changed.is_empty() {
                    tell(changed);
                }
            }
            Event::Delete(account) => {
                let namespace = account.namespace().unwrap_or_default();
                let was_there = view.strict_accounts().remove(&namespace, &account.name_any());
                if was_there {
                    tell(vec![namespace]);
                }
            }
        }
    }
}

/// Takes a ServiceAccount; says in which namespaces Pods may name other pull secrets than before.
fn take(accounts: &mut StrictAccounts, account: &ServiceAccount) -> Vec<String> {
    let namespace = account.namespace().unwrap_or_default();
    match accounts.take(&namespace, &account.name_any(), Mountable::of(account)) {
        Taken::Same => Vec::new(),
        Taken::Changed => vec![namespace],
        Taken::LeftOut(left_out) => {
            tracing::warn!(
                namespaces = left_out.join(", "),
                "there is no room for the ServiceAccounts that enforce mountable secrets in the namespaces that have most: Pods \
                 there get no pull secrets, until there are fewer and pullpass starts again"
            );
            let mut changed = left_out;
            if !changed.contains(&namespace) {
                changed.push(namespace);
            }
            changed
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account(name: &str, enforces: bool, secrets: &[&str]) -> ServiceAccount {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "apps",
                "annotations": {"kubernetes.io/enforce-mountable-secrets": enforces.to_string()},
            },
            "imagePullSecrets": secrets,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn strict_accounts_are_followed_and_others_are_not() {
        let view = View::default();
        let mut told = Vec::new();
        let list = [
            Event::Init,
            Event::InitApply(account("default", false, &["pullpass-a"])),
            Event::InitApply(account("strict", true, &["pullpass-a", "by-hand"])),
            Event::InitDone,
        ];
        follow(&view, futures::stream::iter(list.clone()), |changed| {
            told.push(changed);
        })
        .await;
        assert!(view.mountable("apps", None).is_none());
        let strict = view.mountable("apps", Some("strict")).unwrap();
        assert_eq!(strict.listed().collect::<Vec<_>>(), ["pullpass-a"]);
        // The same list again is no change; nor is what enforces nothing.
        let same = list
            .into_iter()
            .chain([Event::Apply(account("default", false, &[]))]);
        follow(&view, futures::stream::iter(same), |changed| {
            told.push(changed);
        })
        .await;
        assert_eq!(told, [vec!["apps".to_owned()], Vec::new()]);
        for (event, is_strict) in [
            (Event::Apply(account("default", true, &[])), true),
            (Event::Apply(account("default", false, &[])), false),
            (Event::Apply(account("default", true, &[])), true),
            (Event::Delete(account("default", true, &[])), false),
        ] {
            told.clear();
            follow(&view, futures::stream::iter([event]), |changed| {
                told.push(changed);
            })
            .await;
            assert_eq!(view.mountable("apps", None).is_some(), is_strict);
            assert_eq!(told, [["apps"]]);
        }
    }
}
