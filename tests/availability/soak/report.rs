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
    /// What happened, and what was counted meanwhile.
    pub seen: Vec<(Event, Counts)>,
    pub texts: Texts,
}

/// The rows that came to their end, and the one that runs.
#[derive(Default)]
pub struct Progress {
    pub rows: Vec<Row>,
    runs: Option<Setting>,
}

impl Progress {
    /// A row begins.
    pub fn begin(&mut self, setting: Setting) {
        self.runs = Some(setting);
    }

    /// The row that ran has ended.
    pub fn end(&mut self, row: Row) {
        self.rows.push(row);
        self.runs = None;
    }

    /// Which row is interrupted if nothing more happens, and how many have ended.
    pub fn interrupted(&self) -> String {
        let row = self.runs.map(|setting| format!(" in the row {}", setting.name()));
        format!(
            "interrupted{}; rows that have ended: {}",
            row.unwrap_or_default(),
            self.rows.len()
        )
    }
}

impl Row {
    /// What was missed.
    pub fn missed(&self) -> Vec<String> {
        let Counts {
            admitted,
            lost,
            refused,
            refused_by_a_rule,
            strangers,
            ..
        } = &self.counts;
        let aims = Aims::of(self.setting);
        let mut missed = Vec::new();
        let mut miss = |is_missed: bool, text: String| {
            if is_missed {
                missed.push(format!("{}: {text}", self.setting.name()));
            }
        };
        miss(aims.none_lost && *lost > 0, format!("{lost} lost"));
        miss(aims.none_refused && *refused > 0, format!("{refused} refused"));
        miss(
            *refused_by_a_rule > 0,
            format!("{refused_by_a_rule} refused by a rule"),
        );
        let strange = strangers.admitted;
        miss(
            aims.no_stranger && strange > 0,
            format!("{strange} strangers admitted"),
        );
        miss(self.left_out > 0, format!("{} events left out", self.left_out));
        miss(
            *admitted < self.planned,
            format!("{admitted} Pods of {}", self.planned),
        );
        for (event, counts) in &self.seen {
            for text in unseen(self.setting, *event, counts) {
                miss(true, format!("{}: {text}", event.name()));
            }
        }
        missed
    }
}

/// What was aimed at in a row.
struct Aims {
    none_lost: bool,
    none_refused: bool,
    no_stranger: bool,
}

impl Aims {
    /// With `admission-policy` nothing is lost, and by `Fail` neither; by `Ignore` nothing is refused, and by a rule nothing in any
    /// row. A stranger's image is admitted where neither `enforce` nor `Fail` refuses it.
    fn of(setting: Setting) -> Self {
        let fails = setting.failure_policy == "Fail";
        Self {
            none_lost: setting.with_policy || fails,
            none_refused: !fails,
            no_stranger: setting.with_enforce || fails,
        }
    }

    fn text(&self) -> String {
        let aims = [
            (self.none_lost, "0 lost"),
            (self.none_refused, "0 refused"),
            (!self.none_refused, "0 refused by a rule"),
            (self.no_stranger, "0 strangers"),
        ];
        let aims = aims.into_iter().filter(|(is_aim, _)| *is_aim);
        aims.map(|(_, text)| text).collect::<Vec<_>>().join(", ")
    }
}

/// What an event is to show in a row and does not. Without it the event would prove nothing: an outage that stops nothing is
/// none, and no Pod raced a change that was over before it.
fn unseen(setting: Setting, event: Event, counts: &Counts) -> Vec<&'static str> {
    let fails = setting.failure_policy == "Fail";
    let strangers = &counts.strangers;
    let wanted: &[(bool, &str)] = match event {
        Event::Outage => &[
            (
                fails || setting.with_policy || counts.lost > 0,
                "no Pod was lost without admission-policy",
            ),
            (!fails || counts.refused > 0, "no Pod was refused by Fail"),
            (
                fails || setting.with_enforce || strangers.admitted > 0,
                "no stranger was admitted without enforce",
            ),
            (
                !setting.with_enforce || strangers.refused_by_enforce > 0,
                "enforce refused no stranger",
            ),
        ],
        Event::ChangeRegistries | Event::ChangeLabels => {
            &[(counts.raced > 0, "no Pod was created while it changed")]
        }
        _ => &[],
    };
    let unseen = wanted.iter().filter(|(is_seen, _)| !is_seen);
    unseen.map(|(_, text)| *text).collect()
}

/// The rows, and below them what was lost and refused in each event.
pub fn render(rows: &[Row]) -> String {
    let mut lines = vec![
        [
            "failurePolicy",
            "components",
            "admitted",
            "injected",
            "refused (by a rule)",
            "lost",
            "raced",
            "no answer",
            "strangers refused (by enforce)",
            "admitted",
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
            refused_by_a_rule,
            unanswered,
            raced,
            strangers,
        } = &row.counts;
        let by_enforce = strangers.refused_by_enforce;
        lines.push([
            row.setting.failure_policy.to_owned(),
            row.setting.components().to_owned(),
            admitted.to_string(),
            injected.to_string(),
            format!("{refused} ({refused_by_a_rule})"),
            lost.to_string(),
            raced.to_string(),
            unanswered.to_string(),
            format!("{} ({by_enforce})", strangers.refused_by_webhook + by_enforce),
            strangers.admitted.to_string(),
            Aims::of(row.setting).text(),
            if row.missed().is_empty() { "" } else { "missed" }.to_owned(),
        ]);
    }
    format!("{}\n{}", table(&lines), table(&events(rows)))
}

/// A line for each event, with a column for each setting.
fn events(rows: &[Row]) -> Vec<[String; Setting::ALL.len() + 1]> {
    let line = |first: &str, cells: [String; Setting::ALL.len()]| {
        let mut line = [const { String::new() }; Setting::ALL.len() + 1];
        for (to, from) in line.iter_mut().zip([first.to_owned()].into_iter().chain(cells)) {
            *to = from;
        }
        line
    };
    let names = Setting::ALL.map(|setting| setting.failure_policy.to_owned());
    let components = Setting::ALL.map(|setting| match setting.components() {
        "none" => String::new(),
        components => components.to_owned(),
    });
    let mut events = vec![line("lost/refused/strangers while", names), line("", components)];
    for event in Event::ALL {
        let cell = |setting: Setting| {
            let row = rows.iter().find(|row| row.setting == setting);
            let mut seen = row.into_iter().flat_map(|row| &row.seen);
            seen.find(|(one, _)| *one == event)
                .map_or("-".to_owned(), |(_, counts)| {
                    format!("{}/{}/{}", counts.lost, counts.refused, counts.strangers.admitted)
                })
        };
        events.push(line(event.name(), Setting::ALL.map(cell)));
    }
    events
}

/// The same for scripts.
pub fn json(rows: &[Row]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let events = row.seen.iter();
            let events: Vec<_> = events
                .map(|(event, counts)| json!({"event": event.name(), "counts": counts}))
                .collect();
            json!({
                "failurePolicy": row.setting.failure_policy,
                "admissionPolicy": row.setting.with_policy,
                "enforce": row.setting.with_enforce,
                "counts": row.counts,
                "aim": Aims::of(row.setting).text(),
                "missed": row.missed(),
                "events": events,
                "failures": row.texts,
            })
        })
        .collect();
    json!({"rows": rows})
}
