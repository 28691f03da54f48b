use super::*;

/// What a search for a metric's name in the source finds.
const SOURCES: [&str; 5] = [
    include_str!("audit_drops.rs"),
    include_str!("mod.rs"),
    include_str!("port.rs"),
    include_str!("process.rs"),
    include_str!("registries.rs"),
];

#[test]
fn metric_names_stand_whole_in_the_source() {
    let metrics = Metrics::new(|| 0);
    metrics.admission(Operation::Create, Outcome::Injected, Duration::ZERO);
    metrics.violation(Rule::Unattached, Action::Deny);
    metrics.dropped(Queue::Demand, DropReason::Full, 1);
    let registries = &metrics.registries;
    registries.count_refresh("mine", true);
    registries.credential_expires("mine", Some(jiff::Timestamp::UNIX_EPOCH));
    registries.credential_fails("mine", true);
    registries.namespaces("mine", 1, 1);
    registries.condition("mine", "Ready", "True");
    let text = metrics.encode().unwrap();
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = described
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    assert!(names.len() >= 20, "{text}");
    for name in names {
        let quoted = format!("\"{name}\"");
        assert!(SOURCES.iter().any(|source| source.contains(&quoted)), "{name}");
    }
}

#[test]
fn a_condition_has_one_series_that_is_1() {
    let metrics = Metrics::new(|| 0);
    let series = |kind: &str| -> Vec<String> {
        let text = metrics.encode().unwrap();
        let lines = text.lines().filter(|line| line.contains(kind));
        lines.map(str::to_owned).collect()
    };
    metrics.registries.condition("mine", "Ready", "True");
    metrics.registries.condition("mine", "Ready", "False");
    let mut told = series("pullpass_registry_condition{");
    told.sort();
    assert_eq!(
        told,
        [("False", 1), ("True", 0), ("Unknown", 0)].map(|(status, value)| format!(
            "pullpass_registry_condition{{registry=\"mine\",type=\"Ready\",status=\"{status}\"}} {value}"
        ))
    );
    metrics.registries.detached("mine");
    assert_eq!(series("mine"), Vec::<String>::new());
}
