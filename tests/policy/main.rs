//! Who may use what, on a real control plane: every row of the tables of modes, labels and policies, the Events about what
//! was refused, and `pullpass audit`.

mod audit_command;
mod denial_events;
mod every_row;
mod rows;
mod world;
