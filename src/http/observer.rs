//! Who is told how requests ended, and how long they took.

use std::time::Duration;

use http::StatusCode;

use super::HttpFailure;

/// A service that requests are counted of: an extension of the request. A request without one is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Entra ID.
    Entra,
    /// The managed identity endpoint of the machine.
    ManagedIdentity,
    /// A container registry.
    Acr,
}

impl Service {
    /// The service's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::ManagedIdentity => "managed-identity",
            Self::Acr => "acr",
        }
    }
}

/// Is told about each request to a [`Service`].
pub trait RequestObserver: Send + Sync {
    /// Takes the status of the answer, or why there was none, and how long that took.
    fn ended(&self, service: Service, outcome: Result<StatusCode, &HttpFailure>, took: Duration);
}
