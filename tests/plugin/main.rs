//! pullpass as a plugin of a real kubectl: found, completed, and used against a cluster.

mod cluster;
mod completion;
mod kubectl;
mod name;
