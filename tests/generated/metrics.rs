//! The metrics, as a scrape has them, and the alerts that read them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;

use serde_json::Value;

use crate::sample::scrape;
use crate::table::{code, head, table};
use crate::{ROOT, Test, hold};

const RULES: &str = "manifests/components/monitoring/rules.yaml";

/// The alerts that read each metric.
fn readers() -> Result<BTreeMap<String, BTreeSet<String>>, Box<dyn Error>> {
    let rules: Value = serde_saphyr::from_str(&fs::read_to_string(format!("{ROOT}/{RULES}"))?)?;
    let rules = rules.pointer("/spec/groups/0/rules").and_then(Value::as_array);
    let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in rules.ok_or("there are no alerts")? {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in text("expr").split(|c| !is_word(c)) {
            let word = word.strip_suffix("_bucket").unwrap_or(word);
            readers
                .entry(word.to_owned())
                .or_default()
                .insert(text("alert").to_owned());
        }
    }
    Ok(readers)
}

/// The names of the labels of a metric's series, except for the one of a histogram's buckets.
fn labels(scrape: &str, name: &str) -> Option<Vec<String>> {
    let series = scrape.lines().find(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        ["{", " ", "_count{", "_count "]
            .iter()
            .any(|begin| rest.starts_with(begin))
    })?;
    let inside = series.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let inside = inside.map(|(labels, _)| labels).unwrap_or_default();
    // No value of the sample has a comma or a sign of equality.
    let names = inside.split(',').filter_map(|label| label.split_once('='));
    Some(names.map(|(name, _)| name.to_owned()).collect())
}

#[test]
fn the_reference_has_the_metrics() -> Test {
    let (scrape, readers) = (scrape()?, readers()?);
    let mut rows = BTreeMap::new();
    for line in scrape.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').ok_or("a metric has no help")?;
        let kind = scrape
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        let name = match kind.ok_or("a metric has no type")? {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let labels = labels(&scrape, &name);
        let labels =
            labels.ok_or_else(|| format!("{name} has no series: add it to tests/generated/sample.rs"))?;
        let labels: Vec<_> = labels.iter().map(|label| code(label)).collect();
        let alerts = readers.get(&name).into_iter().flatten();
        let alerts: Vec<_> = alerts
            .map(|alert| format!("[{alert}](../operations.md#{})", alert.to_lowercase()))
            .collect();
        // The encoder ends each help text with a full stop.
        let help = format!("{}.", help.trim_end_matches('.'));
        rows.insert(
            name.clone(),
            [
                code(&name),
                kind.unwrap_or_default().to_owned(),
                labels.join(", "),
                help,
                alerts.join(", "),
            ],
        );
    }
    assert!(rows.len() >= 30, "{scrape}");
    let rows: Vec<_> = rows.into_values().collect();
    let mut page = head(
        "Metrics",
        "the metrics in `src/metrics` and the alerts in `manifests/components/monitoring`",
    );
    page.push_str(
        "Every replica serves these at `/metrics` of the port for metrics.\n\
         [operations.md](../operations.md#what-to-look-at) says what to look at, what the values of labels mean, and what to do about an alert.\n\n",
    );
    page.push_str(&table(
        ["metric", "type", "labels", "what it is", "alerts that read it"],
        &rows,
    ));
    hold("docs/reference/metrics.md", &page)
}
