//! What a soak reports, however it ends. Without a control plane. A benchmark that has this file has no tests, and so nothing that
//! would be imported up here.

/// Where the webhook's `failurePolicy` refuses Pods, a rule refuses none all the same.
#[test]
fn a_refusal_by_a_rule_is_missed_in_each_row() {
    use super::Setting;
    use super::pods::{Counts, Texts};
    use super::report::Row;
    for setting in Setting::ALL {
        let row = |refused_by_a_rule| Row {
            setting,
            planned: 1,
            left_out: 0,
            counts: Counts {
                admitted: 1,
                injected: 1,
                refused: refused_by_a_rule,
                refused_by_a_rule,
                ..Counts::default()
            },
            seen: Vec::new(),
            texts: Texts::default(),
        };
        assert_eq!(row(0).missed(), [""; 0]);
        let missed = row(1).missed();
        assert!(
            missed.iter().any(|text| text.contains("1 refused by a rule")),
            "{missed:?}"
        );
    }
}

#[test]
fn rows_that_ended_are_there_while_another_runs() {
    use super::Setting;
    use super::pods::{Counts, Texts};
    use super::report::{Progress, Row, render};
    let [first, second, ..] = Setting::ALL;
    let mut progress = Progress::default();
    assert_eq!(progress.interrupted(), "interrupted; rows that have ended: 0");
    progress.begin(first);
    progress.end(Row {
        setting: first,
        planned: 1,
        left_out: 0,
        counts: Counts {
            admitted: 4711,
            ..Counts::default()
        },
        seen: Vec::new(),
        texts: Texts::default(),
    });
    progress.begin(second);
    assert_eq!(
        progress.interrupted(),
        "interrupted in the row Ignore, components: admission-policy; rows that have ended: 1"
    );
    assert!(render(&progress.rows).contains("4711"));
}

#[test]
fn work_that_takes_too_long_is_left() {
    use super::within;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    let (end, ends) = channel::<()>();
    let wait = move || ends.recv().map_err(|error| error.to_string());
    assert_eq!(
        within(Duration::from_millis(1), wait),
        Err("ended after 1ms".to_owned())
    );
    drop(end);
    assert_eq!(within(Duration::from_mins(1), || Ok(())), Ok(()));
}

#[test]
fn counts_are_there_though_no_pod_can_be_deleted() -> crate::world::Test {
    use super::pods::Pods;
    use crate::world::SOON;
    use pullpass_test_support::{Login, Scratch, free_port, wait_for};
    let scratch = Scratch::new()?;
    let kubeconfig = scratch.path().join("kubeconfig");
    let server = format!("http://127.0.0.1:{}", free_port()?);
    let content = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&kubeconfig, content.to_string())?;
    let pods = Pods::begin(&kubeconfig, &Login::new("myregistry", 1), 1)?;
    wait_for("an attempt without an answer", SOON, || {
        pods.counts().unanswered > 0
    })?;
    // Deleting would take minutes.
    let (counts, texts, _) = pods.stop()?;
    assert!(counts.unanswered > 0 && !texts.is_empty(), "{counts:?} {texts:?}");
    Ok(())
}
