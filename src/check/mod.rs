//! What stands between an identity and an image of a registry, one step after the other (`docs/check.md`).
//!
//! Judging is pure: what was observed of a step becomes an outcome, on failure with a code, the likely cause and what to
//! do about it. [`runner`] observes from where it runs; [`in_cluster`] reads what the running pullpass has left behind;
//! [`installation`] is about pullpass itself, and no registry.

mod advice;
mod finding;
pub mod in_cluster;
pub mod installation;
mod judge;
pub mod runner;
mod subject;

pub use self::finding::{CheckStep, Code, Cure, Finding, Step, StepFailure, StepOutcome};
pub use self::judge::{ClockReading, Observation, judge};
pub use self::subject::{Subject, SubjectIdentity, Target, TargetError};
