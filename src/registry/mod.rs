//! Registries as values that can't be bad: references, hosts, resource IDs and docker configs.

pub mod cloud;
pub mod custom_domain;
pub mod docker_config;
mod endpoint;
pub mod image;
pub mod login_server;
pub mod other_cloud;
pub mod resource_id;
