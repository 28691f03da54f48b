//! What `manifests` ships: that both ways of installing give the same, that the API server takes it, that the alerts fire
//! when they should, and that nothing is left when it is taken away.
//!
//! What needs an API server has one of its own. They fail where none can be had. With `PULLPASS_E2E=off` they fail
//! without starting one.

mod accepted;
mod alerts;
mod chart;
mod dashboard;
mod documents;
mod fitted;
mod monitoring;
mod network;
mod operators;
mod refusals;
mod registries;
mod release;
mod render;
mod reused_values;
mod same;
#[path = "../generated/sample.rs"]
mod sample;
mod selectors;
mod uninstall;
mod upgrade;
mod values;
mod who_may_ask;
