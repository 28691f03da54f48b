//! Credentials, end to end: pullpass in a real cluster with the rights that are shipped, Azure's token services as the
//! emulator imitates them, a real registry, a real client.
//!
//! Most tests share one cluster and one pullpass; each has a registry, a tenant and namespaces of its own. What would
//! disturb the others has a cluster of its own. They fail where no control plane can be had. With `PULLPASS_E2E=off`
//! they fail without starting one.

mod bindings;
mod bindings_filled;
mod bindings_leadership;
mod bindings_limits;
mod bound_rights;
mod bound_team;
mod bound_world;
mod caches_behind;
mod changed_specs;
mod chosen_metadata;
mod client;
mod credential_secrets;
mod custom_domains;
mod detaching;
mod dry_run;
mod evolution;
mod failed_pulls;
mod failures;
mod flood;
mod handover;
mod health;
mod identities;
mod ipv6_only;
mod keys;
mod leadership;
mod leaks;
mod metrics;
mod other_cloud;
mod pods;
mod pull;
mod pull_rights;
mod refresh_times;
mod refused_writes;
mod rewrites;
mod rights;
mod scanners;
mod scope;
mod service_accounts;
mod shipped_resync;
mod short_lives;
mod slow_watch;
mod static_credentials;
mod teams;
mod trials;
mod upheavals;
mod upkeep;
mod world;
