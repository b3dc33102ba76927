//! `--verify`, deferral and REQ against a scripted daemon that keeps its promises, and others.

use serde_json::Value;

use crate::broker::{Manner, SHORT, number, report, report_of, start};

/// Runs a scenario that must fail, and returns its verification and what it said.
fn fails(manner: Manner, arguments: &[&str]) -> (Value, String) {
    let (report, succeeded, errors) = report_of(&start(manner).to_string(), arguments);
    assert!(!succeeded, "{report}");
    (report["runs"][0]["verification"].clone(), errors)
}

#[test]
fn a_daemon_that_keeps_its_promises_passes_in_every_loop() {
    let sizes = ["--body-bytes", "28..300", "--threads", "2", "--channels", "2"];
    for load in [
        &["pub", "--topics", "3", "--messages", "500"][..],
        &["through", "--batch", "7", "--bound", "200"],
        &["latency", "--rate", "800", "--connections", "3"],
        &["drain", "--backlog", "2000", "--topics", "5", "--batch", "3"],
        &["backlog", "--backlog", "1000", "--rate", "1000", "--batch", "10"],
    ] {
        let arguments = [load, &sizes, &SHORT, &["--verify"]].concat();
        let report = report(Manner::Good, &arguments);
        let run = &report["runs"][0];
        let verification = &run["verification"];
        assert!(number(verification, "expected") > 0, "{load:?}: {run}");
        assert_eq!(verification["expected"], number(run, "acknowledged_in_all") * 2);
        assert_eq!(verification["delivered"], verification["expected"]);
        for none in ["lost", "duplicates", "damaged", "misrouted", "reordered"] {
            assert_eq!(number(verification, none), 0, "{load:?} {none}: {verification}");
        }
    }
}

#[test]
fn lost_messages_fail_the_run_and_are_named() {
    let load =
        ["latency", "--rate", "500", "--verify", "--stall-timeout", "300ms", "--connections", "1"];
    let (verification, errors) = fails(Manner::Forgetful, &[&load[..], &SHORT].concat());
    let lost = number(&verification, "lost");
    assert!(lost > 0 && number(&verification, "delivered") + lost == verification["expected"]);
    assert!(verification["lost_examples"][0].as_str().unwrap().contains("of producer"));
    assert!(errors.contains("lost or damaged"), "{errors}");
}

#[test]
fn changed_bodies_fail_the_run() {
    let load = ["mpub", "--verify", "--messages", "2000", "--stall-timeout", "300ms"];
    let (verification, _) = fails(Manner::Corrupting, &load);
    assert_eq!(number(&verification, "damaged"), 200);
    // They are of no use to whoever waits for them.
    assert_eq!(number(&verification, "lost"), 200);
}

#[test]
fn duplicates_are_counted_and_allowed() {
    let load = ["mpub", "--verify", "--messages", "2000", "--consumers", "1"];
    let report = report(Manner::Doubling, &load);
    let verification = &report["runs"][0]["verification"];
    assert_eq!(number(verification, "delivered"), 2000);
    let duplicates = number(verification, "duplicates");
    // The last may still be under way when all have arrived once.
    assert!((150..=200).contains(&duplicates), "{duplicates}");
}

#[test]
fn what_is_asked_for_again_comes_again_and_nothing_is_lost() {
    let load = ["latency", "--rate", "1000", "--requeue-percent", "20", "--verify"];
    let report = report(Manner::Good, &[&load[..], &SHORT].concat());
    let run = &report["runs"][0];
    let (requeued, consumed) = (number(run, "requeued"), number(run, "consumed_in_all"));
    assert_eq!(number(run, "redelivered"), requeued);
    // A fifth of all deliveries.
    let share = requeued as f64 / (requeued + consumed) as f64;
    assert!((0.1..0.3).contains(&share), "{share}");
    assert_eq!(consumed, number(run, "acknowledged_in_all"));
    assert_eq!(number(&run["verification"], "duplicates"), 0);
}

#[test]
fn deferred_messages_are_timed_from_when_they_were_to_come() {
    let load = ["latency", "--rate", "200", "--defer", "300ms", "--verify"];
    let report = report(Manner::Good, &[&load[..], &SHORT].concat());
    let run = &report["runs"][0];
    assert_eq!(number(run, "early"), 0);
    assert_eq!(number(run, "missing"), 0);
    let samples = number(&run["latency"]["end_to_end"], "samples");
    assert!(samples > 0 && number(run, "consumed_in_all") >= samples);
}
