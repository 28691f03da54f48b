//! What runs in a cluster: the parts put together, and taken apart again in order. `docs/availability.md` is its page.

pub mod leader;
