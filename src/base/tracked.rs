//! A value that counts when it may have changed, so that what is worked out from it is not worked out again in vain.

use std::ops::{Deref, DerefMut};

/// A value, and how often it was taken to be changed.
#[derive(Debug, Default)]
pub struct Tracked<T> {
    value: T,
    revision: u64,
}

impl<T> Tracked<T> {
    /// Another number whenever the value may have changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.revision = self.revision.wrapping_add(1);
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_may_have_changed_has_another_revision() {
        let mut tracked = Tracked::<Vec<u8>>::default();
        let first = tracked.revision();
        assert!(tracked.is_empty());
        assert_eq!(tracked.revision(), first, "it was read");
        tracked.push(1);
        let second = tracked.revision();
        assert_ne!(second, first);
        tracked.clear();
        assert!(tracked.revision() != second && tracked.revision() != first);
    }
}
