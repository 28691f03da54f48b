//! Access to Pods, read as far as pullpass needs them.

use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

use crate::policy::pod::Pod;

/// The Pods of one namespace, or of all.
pub fn api(client: Client, namespace: Option<&str>) -> Api<Pod> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}
