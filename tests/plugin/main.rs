//! pullpass as a plugin of a real kubectl: found, completed, used against a cluster, and packed for krew.

mod cluster;
mod completion;
mod krew;
mod kubectl;
mod name;
