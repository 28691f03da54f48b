//! What a change of a registry, a namespace or a credential leads to: which pairs are looked at, and which are swept once more.

use std::sync::Arc;

use super::work::Work;
use super::{SecretsController, SharedPair, Step, now};
use crate::api::names::binding_of_key;
use crate::policy::attached::AttachedRegistries;
use crate::sync::watches::Change;
use crate::view::NamespaceChange;

impl SecretsController {
    /// Has a pair that lost its right swept once more later. Where nothing is stored, no replica has anything to write.
    pub(super) fn lose(&self, work: &mut Work, pair: &SharedPair) {
        if self.watches.credentials.stored(&pair.1).is_some() {
            work.lose(Arc::clone(pair), now());
        }
    }

    /// The same for a pair that a Pod names, or named until now, and that must not have what it names: a replica that is behind,
    /// or that runs under other rules, writes it for such a Pod, and may do so after it was deleted.
    pub(super) fn lose_unless_given(
        &self,
        work: &mut Work,
        registries: &AttachedRegistries,
        pair: &SharedPair,
    ) {
        let is_attached = registries.is_attached(&pair.1);
        if is_attached && self.step_of(registries, pair, work.is_wanted(pair)) == Step::Delete {
            self.lose(work, pair);
        }
    }

    /// The same for a pair that may have lost its right before this process knew of all changes.
    pub(super) fn may_have_lost(&self, work: &mut Work, pair: &SharedPair) {
        if self.watches.credentials.stored(&pair.1).is_some() {
            work.may_have_lost(Arc::clone(pair), now(), self.emptied_interval);
        }
    }

    /// Pairs that lost their right are swept once more when no replica can be behind any more, which may have written
    /// what the first deletion was to delete.
    pub(super) fn sweep_again(&self, work: &mut Work) {
        let registries = self.watches.view.registries();
        for pair in work.take_lost(now(), self.emptied_interval) {
            if self.step_of(&registries, &pair, work.is_wanted(&pair)) == Step::Delete {
                work.sweep(pair);
            }
        }
    }

    pub(super) fn on_change(&self, work: &mut Work, change: &Change) {
        let registries = match change {
            Change::Registry(name) => {
                // Nothing is told while this is locked.
                let mut versions = self.watches.versions();
                versions.look_at(name);
                self.watches.view.registries()
            }
            // Their controller writes their pull secrets.
            Change::Binding(_) | Change::Bindings | Change::ServiceAccounts(_) => return,
            Change::Credential(name) | Change::Noted(name) if binding_of_key(name).is_some() => return,
            Change::Everything
            | Change::Namespace(_)
            | Change::NamespaceGone(_)
            | Change::Credential(_)
            | Change::Noted(_) => self.watches.view.registries(),
        };
        match change {
            Change::Everything => work.look_afresh(),
            Change::Registry(name) => self.registry_changed(work, &registries, name),
            Change::Namespace(change) => self.namespace_changed(work, &registries, change),
            // The next look at everything forgets the rest.
            Change::NamespaceGone(namespace) => work.written.forget_written_in(namespace),
            Change::Binding(_) | Change::Bindings | Change::ServiceAccounts(_) => {}
            Change::Credential(name) => {
                // What must not be there was taken away when that came about; another credential is no reason to ask
                // for it again.
                for namespace in self.watches.view.namespaces() {
                    let pair = work.pair(namespace, name.clone());
                    // What failed is tried again by itself, with what is held then.
                    if !work.waits(&pair)
                        && self.step_of(&registries, &pair, work.is_due(&pair)) == Step::Write
                    {
                        work.enqueue(pair);
                    }
                }
            }
            Change::Noted(name) => {
                for namespace in self.watches.view.namespaces() {
                    let pair = work.pair(namespace, name.clone());
                    // What is under way takes the credential as it is, or is looked at a second time when it ends.
                    let is_done = work.is_under_way(&pair)
                        || self.is_current(work, &pair) && !work.is_to_be_rewritten(&pair);
                    if !is_done && self.step_of(&registries, &pair, work.is_due(&pair)) == Step::Write {
                        work.enqueue(pair);
                    }
                }
            }
        }
    }

    /// Of a registry that changed, only the pairs are looked at that it changed: those that may have the secret now, and
    /// those that might before.
    pub(super) fn registry_changed(&self, work: &mut Work, registries: &AttachedRegistries, name: &str) {
        let now = registries.by_name(name);
        if now.is_none() && registries.is_attached(name) {
            return;
        }
        let before = work.looked_at.remove(name);
        let domains: Vec<_> = now.map_or_else(Vec::new, |now| registries.domains_of(now).cloned().collect());
        let domains_before = work.domains.remove(name).unwrap_or_default();
        // It may have lost one to another AcrRegistry, too.
        let gives_up_domains = domains_before.iter().any(|domain| !domains.contains(domain));
        let has_same_domains = domains_before == domains;
        let has_same_secrets = has_same_domains
            && before
                .as_ref()
                .zip(now)
                .is_some_and(|(before, now)| before.fingerprint() == now.fingerprint());
        // After an edit of its selector there is none until the leader has read the identity.
        let waits = now.is_some_and(|now| self.watches.credential(now).is_none());
        if !domains.is_empty() {
            work.domains.insert(name.to_owned(), domains);
        }
        match now {
            Some(now) => {
                work.looked_at.insert(name.to_owned(), now.clone());
            }
            None => work.forget_absent(name),
        }
        let was_minted = self.watches.credentials.stored(name).is_some();
        if now.is_some_and(|registry| !registry.is_anonymous()) {
            self.end_sweep(work, registries, name);
        } else if was_minted {
            // Both lead to the same: its credential and all its pull secrets go.
            work.forget_lost(name);
            work.forget_rewrites(name);
            work.is_detached = true;
            return;
        }
        let mut left_out = 0_usize;
        for namespace in self.watches.view.namespaces() {
            let labels = self.watches.view.labels(&namespace);
            let pair = work.pair(namespace, name.to_owned());
            let step = self
                .decide(registries, &pair, labels.as_ref(), work.is_wanted(&pair))
                .0;
            work.note_step(&pair, step);
            match step {
                // What no Pod needs now has the credential under their names still.
                Step::Nothing
                    if (gives_up_domains || waits && !has_same_domains)
                        && (work.busy.contains(&pair) || matches!(work.written.get(&pair), Some(Ok(_)))) =>
                {
                    work.rewrite(pair);
                }
                Step::Nothing => {}
                Step::Write if has_same_secrets && self.is_current(work, &pair) => {}
                Step::Write => work.enqueue(pair),
                Step::Delete => {
                    let might_before = before
                        .as_ref()
                        .is_some_and(|before| before.gives_secret_in(&self.scope, &pair.0, labels.as_ref()));
                    // Nobody knows what a registry was that was not looked at, but its pull secrets may be known.
                    let is_written = work.written.contains(&pair);
                    let is_known = before.is_none() && work.is_wanted(&pair) || is_written;
                    // Without a credential there is most likely no pull secret where none was written or asked for.
                    let is_likely = was_minted || is_written || work.is_wanted(&pair);
                    if (might_before || is_known) && is_likely {
                        work.may_be_present(&pair);
                        self.lose(work, &pair);
                        work.enqueue_deletion(pair);
                    } else if might_before || now.is_none() && before.is_none() {
                        left_out += usize::from(!work.sweep_in_doubt(pair));
                    } else if before.is_none() && was_minted && !self.is_swept(work, &pair) {
                        if work.sweep_in_doubt(Arc::clone(&pair)) {
                            self.lose(work, &pair);
                        } else {
                            work.leave_out(name);
                        }
                    }
                }
            }
        }
        if left_out > 0 {
            // Detached for ever, most of them: those count again when they are attached.
            work.left_out.retain(|name| registries.is_attached(name));
            work.left_out.insert(name.to_owned());
            tracing::warn!(
                registry = name,
                namespaces = left_out,
                "too many registries without a credential came and went; their pull secrets, if there are any, are left in some \
                 namespaces"
            );
        }
    }

    pub(super) fn namespace_changed(
        &self,
        work: &mut Work,
        registries: &AttachedRegistries,
        change: &NamespaceChange,
    ) {
        let labels = self.watches.view.labels(&change.name);
        for registry in registries.each() {
            let pair = work.pair(change.name.clone(), registry.name().to_owned());
            let step = self
                .decide(registries, &pair, labels.as_ref(), work.is_wanted(&pair))
                .0;
            work.note_step(&pair, step);
            match step {
                Step::Nothing => {}
                Step::Write => work.enqueue(pair),
                Step::Delete => {
                    // A namespace that is new has nothing; one that might not have it before has not either.
                    let before = change.before.as_ref();
                    if before.is_none() {
                        work.is_new(&pair);
                    } else if registry.gives_secret_in(&self.scope, &change.name, before) {
                        work.may_be_present(&pair);
                        self.lose(work, &pair);
                        work.enqueue_deletion(pair);
                    }
                }
            }
        }
    }
}
