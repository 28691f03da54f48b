//! What a note is worked out from: as long as nothing of that is another, the note is the same.

use std::sync::{Arc, Weak};

use crate::policy::attached::AttachedRegistries;

/// Which state of everything a note was worked out from. It depends on nothing else, and on no time.
#[derive(Debug)]
pub(in crate::sync::secrets) struct NoteBasis {
    work: u64,
    versions: u64,
    /// Compared as a piece of memory, which no other set of registries gets while this is here.
    registries: Weak<AttachedRegistries>,
}

impl NoteBasis {
    /// The one of these revisions of what there is to do and of the versions, and of these registries.
    pub(super) fn new(work: u64, versions: u64, registries: &Arc<AttachedRegistries>) -> Self {
        Self {
            work,
            versions,
            registries: Arc::downgrade(registries),
        }
    }
}

impl PartialEq for NoteBasis {
    fn eq(&self, other: &Self) -> bool {
        let is_same = Weak::ptr_eq(&self.registries, &other.registries);
        is_same && self.work == other.work && self.versions == other.versions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_is_another_where_any_part_is() {
        let (one, other) = (Arc::default(), Arc::default());
        let basis = NoteBasis::new(1, 2, &one);
        assert_eq!(basis, NoteBasis::new(1, 2, &one));
        assert_ne!(basis, NoteBasis::new(3, 2, &one));
        assert_ne!(basis, NoteBasis::new(1, 3, &one));
        assert_ne!(basis, NoteBasis::new(1, 2, &other));
    }
}
