//! What was counted, as a table, and whether it is what was aimed at.

use super::Setting;
use super::events::Event;
use super::pods::{Counts, Texts};
use crate::support::table;
use serde_json::{Value, json};

/// What was counted in a row.
pub struct Row {
    pub setting: Setting,
    /// How many Pods there were to be.
    pub planned: usize,
    /// How many events there was no time for.
    pub left_out: usize,
    pub counts: Counts,
    /// What happened, and how many were lost and refused meanwhile.
    pub seen: Vec<(Event, usize, usize)>,
    pub texts: Texts,
}

impl Row {
    /// What is not as it should be. With the policy nothing is lost, and by `Fail` neither; nothing is refused where the policy
    /// makes `Fail` needless.
    pub fn missed(&self) -> Vec<String> {
        let Setting {
            failure_policy,
            with_policy,
        } = self.setting;
        let mut missed = Vec::new();
        if self.counts.lost > 0 && (with_policy || failure_policy == "Fail") {
            missed.push(format!("{}: {} lost", self.setting.name(), self.counts.lost));
        }
        if self.counts.refused > 0 && with_policy && failure_policy == "Ignore" {
            missed.push(format!(
                "{}: {} refused",
                self.setting.name(),
                self.counts.refused
            ));
        }
        if self.left_out > 0 {
            missed.push(format!(
                "{}: {} events left out",
                self.setting.name(),
                self.left_out
            ));
        }
        if self.counts.admitted < self.planned {
            missed.push(format!(
                "{}: {} Pods of {}",
                self.setting.name(),
                self.counts.admitted,
                self.planned
            ));
        }
        missed
    }

    fn aim(&self) -> &'static str {
        match (self.setting.failure_policy, self.setting.with_policy) {
            ("Ignore", false) => "none",
            ("Ignore", true) => "0 lost, 0 refused",
            _ => "0 lost",
        }
    }
}

/// The rows, and below them what was lost and refused in each event.
pub fn render(rows: &[Row]) -> String {
    let mut lines = vec![
        [
            "failurePolicy",
            "admission-policy",
            "admitted",
            "injected",
            "refused",
            "lost",
            "no answer",
            "aim",
            "",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let Counts {
            admitted,
            injected,
            lost,
            refused,
            unanswered,
        } = row.counts;
        lines.push([
            row.setting.failure_policy.to_owned(),
            if row.setting.with_policy { "yes" } else { "no" }.to_owned(),
            admitted.to_string(),
            injected.to_string(),
            refused.to_string(),
            lost.to_string(),
            unanswered.to_string(),
            row.aim().to_owned(),
            if row.missed().is_empty() { "" } else { "missed" }.to_owned(),
        ]);
    }
    let mut events = vec![[
        "lost/refused while".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ]];
    for (cell, setting) in events
        .iter_mut()
        .flat_map(|line| line.iter_mut().skip(1))
        .zip(Setting::ALL)
    {
        let with = if setting.with_policy { " with" } else { "" };
        *cell = format!("{}{with}", setting.failure_policy);
    }
    for event in Event::ALL {
        let cell = |setting: Setting| {
            let row = rows.iter().find(|row| row.setting == setting);
            let mut seen = row.into_iter().flat_map(|row| &row.seen);
            seen.find(|(one, ..)| *one == event)
                .map_or("-".to_owned(), |(_, lost, refused)| format!("{lost}/{refused}"))
        };
        let [a, b, c, d] = Setting::ALL.map(cell);
        events.push([event.name().to_owned(), a, b, c, d]);
    }
    format!("{}\n{}", table(&lines), table(&events))
}

/// The same for scripts.
pub fn json(rows: &[Row]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let events = row.seen.iter();
            let events: Vec<_> = events
                .map(
                    |(event, lost, refused)| json!({"event": event.name(), "lost": lost, "refused": refused}),
                )
                .collect();
            json!({
                "failurePolicy": row.setting.failure_policy,
                "admissionPolicy": row.setting.with_policy,
                "counts": row.counts,
                "aim": row.aim(),
                "missed": row.missed(),
                "events": events,
                "failures": row.texts,
            })
        })
        .collect();
    json!({"rows": rows})
}
