//! The program as it ships, against a real API server and real controllers.
//!
//! All tests share one control plane; each works in namespaces of its own. They fail where no control plane can be
//! had. With `PULLPASS_E2E=off` they fail without starting one.

mod acr_pull_binding;
mod acr_registry;
mod always_inject;
mod audit;
mod certificate;
mod cluster;
mod dry_run;
mod live_pods;
mod objects;
mod opt_out;
mod outage;
mod own_secrets;
mod policy;
mod schemas;
mod shipped;
mod try_again;
mod untouched;
mod workloads;
