//! What users write, read and script against: the custom resource, labels and names, reasons and messages.

pub mod acr_index;
pub mod acr_pull_binding;
pub mod acr_registry;
pub mod advice;
pub mod condition;
pub mod identity;
pub mod label_selector;
pub mod names;
pub mod pull_secret_metadata;
pub mod reason;
mod registry_rules;
pub(crate) mod undistributed;
pub mod unread;
