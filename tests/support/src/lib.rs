//! What pullpass' tests and demo run against: a real Kubernetes control plane, and processes that
//! are gone when the test is gone, however it ended.
//!
//! ```no_run
//! use pullpass_test_support::ControlPlane;
//!
//! # fn main() -> Result<(), pullpass_test_support::Error> {
//! let cluster = ControlPlane::start()?;
//! cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: apps}}")?;
//! let namespace = cluster.get_json(&["namespace", "apps"])?;
//! # drop(namespace);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod admissions;
mod api_client;
mod azure;
mod binaries;
mod browser;
mod cgroups;
mod chart_readme;
mod control_plane;
mod error;
mod etcd;
mod files;
mod http;
mod image;
mod installation;
mod kernel_namespace;
mod keyring;
mod kubeconfig;
mod kubectl;
mod loopback;
mod mounted_secret;
mod mounted_service_account;
mod node;
mod pki;
mod pod_network;
mod pods;
mod process;
mod resource_path;
mod schema;
mod scratch;
mod seed;
mod trust;
mod wait;
mod wanted;
mod webhook;

pub use admissions::{Admissions, kube_client};
pub use azure::{Azure, Login};
pub use binaries::{Binaries, Unavailable, tool};
pub use browser::Browser;
pub use chart_readme::chart_readme;
pub use control_plane::{Builder as ControlPlaneBuilder, ControlPlane};
pub use error::Error;
pub use installation::{Builder as InstallationBuilder, FailurePolicy, Installation, shipped};
pub use kernel_namespace::KernelNamespace;
pub use keyring::kubelet_tries;
pub use kubectl::KubectlOutput;
pub use mounted_secret::MountedSecret;
pub use mounted_service_account::MountedServiceAccount;
pub use node::Node;
pub use pki::{Authority, Identity};
pub use pod_network::PodNetwork;
pub use pods::{pod, pod_with};
pub use process::{Signal, Supervised};
pub use schema::fits_schema;
pub use scratch::Scratch;
pub use trust::{served_certificate, trusting};
pub use wait::{Outcome, TimedOut, free_port, wait_for};
pub use wanted::{end_to_end_wanted, node_wanted};
pub use webhook::Webhook;
