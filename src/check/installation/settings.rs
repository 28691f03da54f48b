//! Which namespaces pullpass injects by its flags, beside those that the webhook's selectors pick.

use super::{Facts, StepOutcome, fault, judged, skipped, well};
use crate::api::names::INDEX;
use crate::check::advice::compare_settings;
use crate::check::finding::Code;

impl Facts {
    pub(super) fn settings(&self) -> StepOutcome {
        judged(&self.disagreements, |disagreements| {
            match disagreements.as_deref() {
                None => skipped(format!(
                    "there is no AcrIndex {INDEX}, which the first leader writes"
                )),
                Some([]) => well("pullpass' flags and the webhook's selectors name the same namespaces"),
                Some(told) => fault(Code::SettingsDiffer, told.join("; "), compare_settings().into()),
            }
        })
    }
}
