//! Who somebody is in Entra ID, in the words that specs, flags and Azure share.

/// An application in Entra ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The tenant: its GUID or one of its domains.
    pub tenant_id: String,
    /// The application's client ID.
    pub client_id: String,
}

/// Which of a machine's identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagedIdentity {
    /// The system-assigned one.
    System,
    /// A user-assigned one, by client ID.
    ClientId(String),
    /// A user-assigned one, by resource ID.
    ResourceId(String),
}
