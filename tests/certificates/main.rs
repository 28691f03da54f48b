//! The certificate that pullpass manages itself, end to end: replicas with the rights that are shipped, called by a
//! real API server through a stand-in for their Service.
//!
//! Each test has a control plane of its own, because the names are the shipped ones. They fail where no control plane can
//! be had. With `PULLPASS_E2E=off` they fail without starting one.

mod development;
mod ending;
mod files;
mod first_start;
mod load;
mod repair;
mod rotation;
mod service;
mod world;
