//! pullpass: image pull credentials for Azure Container Registry, given to Pods at admission.

pub mod acr_registry;
pub mod image;
pub mod login_server;
pub mod resource_id;
