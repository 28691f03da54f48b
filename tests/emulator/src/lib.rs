//! Entra ID's token endpoint, Azure's managed identity endpoint and Azure Container Registry's token service,
//! imitated for tests: they behave, and fail, as the real ones do.
//!
//! [`Emulator::start`] runs one inside a test; the binary `pullpass-emulator` runs one beside it.

mod acr;
mod assertion;
mod backend;
mod certificates;
mod clock;
mod cloud;
mod config;
mod connect_proxy;
mod content;
mod control;
mod counts;
mod directory;
mod dispatch;
mod emulator;
mod entra;
mod error;
mod failure;
mod fault;
mod imds;
mod jwt;
mod reply;
mod rsa_signer;
mod serve;
mod shared;
mod step;
mod storage;

pub use cloud::{Cloud, REGISTRY_AUDIENCE};
pub use config::{
    AdminUser, Config, ConfigPatch, DeniedScope, FederatedCredential, Jwk, Jwks, Lifetimes, Listen,
    ManagedIdentity, Principal, Registry, RepositoryScope, Role, RoleAssignment, ScopedToken, Secret, Tenant,
    TenantField,
};
pub use counts::{Count, Counts};
pub use emulator::Emulator;
pub use error::EmulatorError;
pub use failure::{Failure, Fault};
pub use rsa_signer::RsaSigner;
pub use step::Step;
