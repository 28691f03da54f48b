//! pullpass' own certificate authority and serving certificate: what is held, what comes next, and when.
//!
//! One Secret is the only truth. An authority is replaced in phases, so that at no time a certificate is served that the
//! API server does not trust: the next authority is published beside the current one, has been seen in the live
//! configuration for a while, signs; the previous one stays published for a while more. [`plan`] decides from what the
//! Secret holds, what is published and the time; nothing here knows a cluster, a clock or a log.

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
/// How long, unless told otherwise, the next authority is published before it signs, and the previous one after: API
/// servers take seconds to act on a configuration, and a replica that is cut off takes longer to get a certificate.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
/// How long before they are made certificates begin, for clocks that are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// The host that the API server asks for: the name of a Service in a namespace.
pub fn host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}
