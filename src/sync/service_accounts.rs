//! Follows the `ServiceAccounts`: which there are, and what those that enforce mountable secrets let Pods name. Of all others
//! nothing but a hash is kept.

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::policy::mountable::Mountable;
use crate::view::{KnownAccounts, StrictAccounts, Taken, View};

/// What a list has brought so far.
#[derive(Default)]
struct Listed {
    strict: StrictAccounts,
    known: KnownAccounts,
}

/// Keeps what the view knows of `ServiceAccounts`, and tells in which namespaces a list or an event has changed what Pods may
/// name.
pub(super) async fn follow(
    view: &View,
    events: impl Stream<Item = Event<ServiceAccount>>,
    mut tell: impl FnMut(Vec<String>),
) {
    let mut listed = Listed::default();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed = Listed::default(),
            Event::InitApply(account) => {
                take(&mut listed.strict, &account);
                know(&mut listed.known, &account);
            }
            Event::InitDone => {
                let Listed { strict, known } = std::mem::take(&mut listed);
                let changed = {
                    let mut in_view = view.strict_accounts();
                    let before = std::mem::replace(&mut *in_view, strict);
                    in_view.changed_since(&before)
                };
                view.change_known_accounts(|in_view| *in_view = known);
                tell(changed);
            }
            Event::Apply(account) => {
                let changed = take(&mut view.strict_accounts(), &account);
                view.change_known_accounts(|known| know(known, &account));
                if !changed.is_empty() {
                    tell(changed);
                }
            }
            Event::Delete(account) => {
                let (namespace, name) = (account.namespace().unwrap_or_default(), account.name_any());
                view.change_known_accounts(|known| known.remove(&namespace, &name));
                let was_there = view.strict_accounts().remove(&namespace, &name);
                if was_there {
                    tell(vec![namespace]);
                }
            }
        }
    }
}

/// Remembers that there is a ServiceAccount.
fn know(known: &mut KnownAccounts, account: &ServiceAccount) {
    if known.insert(&account.namespace().unwrap_or_default(), &account.name_any()) {
        tracing::warn!(
            "there are too many ServiceAccounts to remember which there are: the API server refuses a Pod that gets a pull secret \
             and is created in the moment in which its ServiceAccount is, if that enforces mountable secrets"
        );
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
        for (name, is_known) in [("default", true), ("strict", true), ("other", false)] {
            assert_eq!(view.knows_account("apps", Some(name)), is_known, "{name}");
        }
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
    #[tokio::test]
    async fn an_account_is_known_with_what_it_enforces() {
        let view = View::default();
        let follow = async |events: Vec<Event<ServiceAccount>>| {
            follow(&view, futures::stream::iter(events), |_| ()).await;
        };
        let mut told = std::pin::pin!(view.account_told("apps", "strict"));
        assert!(futures::poll!(&mut told).is_pending());
        follow(vec![Event::Apply(account("other", true, &[]))]).await;
        assert!(futures::poll!(&mut told).is_pending());
        follow(vec![Event::Apply(account("strict", true, &["pullpass-a"]))]).await;
        assert!(told.await.unwrap().allows("pullpass-a"));
        assert!(view.account_told("apps", "other").await.is_some());
        follow(vec![Event::Delete(account("strict", true, &[]))]).await;
        assert!(!view.knows_account("apps", Some("strict")) && view.knows_account("apps", Some("other")));
        // Another list says which there are.
        let list = [
            Event::Init,
            Event::InitApply(account("default", false, &[])),
            Event::InitDone,
        ];
        follow(list.to_vec()).await;
        assert!(!view.knows_account("apps", Some("other")) && view.knows_account("apps", None));
        assert!(view.account_told("apps", "default").await.is_none());
    }
}
