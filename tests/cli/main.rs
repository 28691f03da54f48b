//! The command line as a person and a script meet it: the built binary, a real cluster with a pullpass in it, and the
//! emulator for Azure.
//!
//! Most tests share one cluster and one pullpass; each has a registry and a tenant of its own. They fail where no control
//! plane can be had. With `PULLPASS_E2E=off` they fail without starting one.

mod attach;
mod bind;
#[path = "../sync/bound_world.rs"]
mod bound_world;
mod causes;
mod command;
mod detach;
mod dry_run;
mod from_az;
mod proxy;
mod request_timeout;
mod teams;
mod terminal;
#[path = "../sync/world.rs"]
#[allow(dead_code, reason = "the sync tests' world, of which not all is needed here")]
mod world;
