//! pullpass: image pull credentials for Azure Container Registry, given to Pods at admission.

pub mod acr_registry;
pub mod decision;
pub mod image;
pub mod json;
pub mod login_server;
pub mod names;
pub mod policy;
pub mod registry;
pub mod resource_id;
pub mod review;
pub mod scope;
