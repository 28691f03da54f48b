//! Replicas that come, go, die, sleep and lose their network, while Pods are created.
//!
//! There is no kubelet and no kube-proxy here. What stands for what:
//!
//! * A replica is a process in a network namespace of its own, with a link to the host: a Pod on a node. It listens on the
//!   shipped ports, keeps its own certificate as shipped, and finds the API server by the link.
//! * The Service is the shipped one. Its `EndpointSlice`, which a kubelet's probes and a controller would keep, is written by
//!   the test, and always late: a Pod that goes is told so first and taken out afterwards.
//! * The API server chooses among the ready endpoints itself, at random for each connection (`--enable-aggregator-routing`), and
//!   keeps connections as it always does.
//!
//! Each test has a control plane of its own, because the names are the shipped ones. They need root, for the network
//! namespaces, and fail without it. With `PULLPASS_E2E=off` they fail without starting one.

mod ask;
mod idle;
mod kills;
mod leaders;
mod lease;
mod load;
mod network_cut;
mod rolling_update;
mod sleeping_leader;
#[expect(dead_code, reason = "benches/soak has the rest of it")]
mod soak;
mod soak_short;
#[expect(dead_code, reason = "benchmarks share the rest of it")]
#[path = "../../benches/support/mod.rs"]
mod support;
mod world;
