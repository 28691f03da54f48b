//! What a pull secret is of.

use std::sync::Arc;

/// A namespace and the name of an AcrRegistry.
pub(super) type Pair = (String, String);

/// The same; shared, since there are as many as a cluster has namespaces, and each is in several places.
pub type SharedPair = Arc<Pair>;
