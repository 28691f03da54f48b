//! Who may use what, on a real control plane: every row of the tables of modes, labels and policies, the Events about what
//! was refused, `pullpass audit`, and what is done about Pods that pullpass was not asked about.

mod admission_policy;
mod anonymous;
mod audit_command;
mod audit_page;
mod audit_reports;
mod audited;
mod bindings;
mod bindings_limits;
mod enforce;
mod every_row;
mod fetching_webhooks;
mod generated;
mod intruder;
mod mountable_secrets;
mod oversized;
mod owner_events;
mod policy_limits;
mod references;
mod rescue;
mod rows;
mod world;
