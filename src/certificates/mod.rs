//! pullpass' own certificate authority and serving certificate: the stored state, the next step, and when it is due.
//!
//! One Secret is the single source of truth. An authority is replaced in phases, so that the API server trusts every
//! certificate that is served: the next authority is published beside the current one; when the live configuration has
//! had it for a while, it signs; and the previous one stays published for some more time. [`plan`] decides from the
//! content of the Secret, the published authorities and the time. Nothing here knows a cluster, a clock or a log.

mod authority;
mod flaw;
#[cfg(target_os = "linux")]
pub mod keeper;
mod leaf;
mod live;
mod plan;
mod state;
mod stored;
#[cfg(test)]
mod tests;
mod trust;
mod validity;

pub use authority::{Authority, AuthorityCertificate};
pub use flaw::Flaw;
pub use leaf::Leaf;
pub use live::{Live, LiveWebhook};
pub use plan::{CertificateAction, CertificateChange, RotationPlan, plan};
pub use state::{CertificateState, Next, Previous};
pub use stored::Held;
pub use trust::accept_pem;
pub use validity::Validity;

use jiff::SignedDuration;

/// How long an authority lives.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long a serving certificate lives. An authority that is due to be replaced still lives longer than this, so that
/// no certificate expires with its authority.
pub const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// By default, how long the next authority is published before it signs, and the previous one after it has signed: API
/// servers take seconds to act on a configuration, and a replica that is cut off takes longer to get a certificate.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
/// How long before they are made certificates begin, for clocks that are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// The host that the API server asks for: the name of a Service in a namespace.
pub fn host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}
