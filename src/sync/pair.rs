//! What a pull secret is of.

/// A namespace and the name of an AcrRegistry.
pub(super) type Pair = (String, String);
