//! Answers, by operation and decision.

use std::array;
use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Word;
use crate::policy::decision::Outcome;
use crate::policy::request::Operation;

const OUTCOMES: usize = Outcome::ALL.len();
// One that is not among them would be counted as the first of the next operation.
const _: () = assert!(Outcome::Denied as usize + 1 == OUTCOMES);
const OPERATIONS: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    operation: Word,
    decision: Word,
}

/// Counts answers. Every answer is counted, so each counter is looked up in the family only once. A series still
/// begins with its first answer.
#[derive(Debug)]
pub(super) struct RequestCounters {
    family: Family<RequestLabels, Counter>,
    counters: [OnceLock<Counter>; OPERATIONS * OUTCOMES],
}

impl RequestCounters {
    pub(super) fn new(family: Family<RequestLabels, Counter>) -> Self {
        Self {
            family,
            counters: array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(super) fn count(&self, operation: Operation, outcome: Outcome) {
        let in_family = || {
            self.family.get_or_create_owned(&RequestLabels {
                operation: Word(operation.as_str()),
                decision: Word(outcome.as_str()),
            })
        };
        match self
            .counters
            .get(operation as usize * OUTCOMES + outcome as usize)
        {
            Some(counter) => counter.get_or_init(in_family).inc(),
            None => in_family().inc(),
        };
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn each_operation_and_decision_has_its_own_counter() {
        let (mut registry, family) = (Registry::default(), Family::default());
        registry.register("answers", "Answers", Family::clone(&family));
        let counters = RequestCounters::new(family);
        let operations = [
            Operation::Create,
            Operation::Update,
            Operation::Delete,
            Operation::Connect,
        ];
        let mut expected = Vec::new();
        for operation in operations {
            for outcome in Outcome::ALL {
                let count = expected.len() + 1;
                for _ in 0..count {
                    counters.count(operation, outcome);
                }
                let (operation, decision) = (operation.as_str(), outcome.as_str());
                expected.push(format!(
                    "answers_total{{operation=\"{operation}\",decision=\"{decision}\"}} {count}"
                ));
                let mut text = String::new();
                encode(&mut text, &registry).unwrap();
                let series = text.lines().filter(|line| !line.starts_with('#'));
                let mut series: Vec<_> = series.map(str::to_owned).collect();
                series.sort();
                let mut expected = expected.clone();
                expected.sort();
                assert_eq!(series, expected);
            }
        }
        assert!(counters.counters.iter().all(|counter| counter.get().is_some()));
    }
}
