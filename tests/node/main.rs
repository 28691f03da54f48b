//! What a real kubelet and containerd pull with the Secrets that pullpass writes.
//!
//! All tests share one cluster with one node, one Azure and one pullpass; each has a registry and namespaces of its
//! own. An outage of pullpass and the tutorial have clusters of their own. They fail where a node can't be started.
//! Where there is no root, and with `PULLPASS_E2E=off`, they fail too, and say why.

mod availability;
mod broken_secrets;
mod deleted_secrets;
mod outage;
mod pods;
mod refused;
mod spellings;
mod static_pods;
mod teams;
mod tutorial;
mod whole_life;
mod workloads;
mod world;
