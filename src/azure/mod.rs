//! Azure, as far as pull credentials need it: Entra ID, the managed identity endpoint, and ACR's token service.

pub mod acr;
pub mod endpoint;
pub mod entra;
pub mod identity;
pub mod jwt;
pub mod mint;
pub(crate) mod remedy;
pub mod service_error;
