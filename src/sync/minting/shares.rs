//! How much of the work on bindings is for one namespace at a time: one namespace with many that fail, or hang, keeps no other
//! one waiting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many bindings of a namespace are worked on concurrently: an eighth of all.
const MAX_OF_NAMESPACE: usize = 4;

/// How many are worked on, by namespace.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<String, usize>>);

/// The work on one binding, until it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    shares: &'a Shares,
    namespace: String,
}

impl Shares {
    /// Begins the work on a binding of a namespace; none if enough of it are worked on.
    pub(super) fn enter(&self, namespace: &str) -> Option<Share<'_>> {
        let mut all = self.lock();
        let count = all.get(namespace).copied().unwrap_or_default();
        if count >= MAX_OF_NAMESPACE {
            return None;
        }
        all.insert(namespace.to_owned(), count + 1);
        Some(Share {
            shares: self,
            namespace: namespace.to_owned(),
        })
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut all = self.shares.lock();
        let left = all.get(&self.namespace).copied().unwrap_or_default();
        if left > 1 {
            all.insert(std::mem::take(&mut self.namespace), left - 1);
        } else {
            all.remove(&self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_share_and_no_more() {
        let shares = Shares::default();
        let mut held: Vec<_> = std::iter::from_fn(|| shares.enter("shop")).collect();
        assert_eq!(held.len(), MAX_OF_NAMESPACE);
        assert!(shares.enter("blog").is_some(), "it is not another's");
        held.pop();
        assert!(shares.enter("shop").is_some());
        drop(held);
        assert!(shares.lock().is_empty(), "nothing is left of it");
    }
}
