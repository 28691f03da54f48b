//! The soak in short: each event in one of its rows, but that the leader is killed, which `kills` has under load.

use std::sync::{Mutex, PoisonError};

use crate::soak::events::Event;
use crate::soak::report::{Progress, Row, render};
use crate::soak::{Pace, Plan, Setting, run};
use crate::world::Test;

const PODS: usize = 5_000;
const PACE: Pace = Pace {
    streams: 16,
    lag: 50,
    shutdown_delay: 2,
};

#[test]
fn a_short_soak_reaches_its_aims() -> Test {
    let [ignore, ignore_with, fail, fail_with, enforce, both] = Setting::ALL;
    let plans = [
        (ignore, vec![Event::Outage]),
        (
            ignore_with,
            vec![
                Event::ChangeLabels,
                Event::KillReplica,
                Event::RestartApiServer,
                Event::Outage,
            ],
        ),
        (
            fail,
            vec![
                Event::ChangeRegistries,
                Event::Roll,
                Event::RotateCertificate,
                Event::CutOff,
                Event::Outage,
            ],
        ),
        (fail_with, vec![Event::FreezeLeader, Event::Outage]),
        (enforce, vec![Event::Outage]),
        (both, vec![Event::Outage]),
    ]
    .map(|(setting, events)| Plan {
        setting,
        pods: PODS.div_ceil(Setting::ALL.len()),
        replicas: 2,
        events,
    });
    let progress = Mutex::<Progress>::default();
    run(plans.into(), PACE, None, &progress)?;
    let rows = progress.into_inner().unwrap_or_else(PoisonError::into_inner).rows;
    print!("{}", render(&rows));
    let missed: Vec<_> = rows.iter().flat_map(Row::missed).collect();
    let texts: Vec<_> = rows.iter().map(|row| &row.texts).collect();
    assert_eq!(missed, [""; 0], "{texts:#?}");
    let admitted: usize = rows.iter().map(|row| row.counts.admitted).sum();
    assert!(admitted >= PODS, "{admitted}");
    Ok(())
}
