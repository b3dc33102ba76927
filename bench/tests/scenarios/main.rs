//! Every scenario, for a fraction of a second, against a scripted daemon; and what the generator
//! does when the daemon misbehaves.

#![expect(
    clippy::disallowed_types,
    reason = "the scripted daemon is a thread for each connection with a shared queue"
)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod broker;
mod verification;

use std::net::TcpListener;

use broker::{Manner, SHORT, bench, number, report, report_of, start};

#[test]
fn publishing_counts_the_answers() {
    for scenario in ["pub", "pub-1", "pub-64", "pub-64x16"] {
        let report = report(Manner::Good, &[&[scenario, "--runs", "2"], &SHORT[..]].concat());
        assert_eq!(report["runs"].as_array().unwrap().len(), 2);
        let run = &report["runs"][1];
        assert!(number(run, "acknowledged") > 0, "{run}");
        assert!(run["latency"]["service"]["p50_us"].as_f64().unwrap() > 0.0);
        // The daemon's CPU is counted in ticks that a short run on a busy machine may not fill.
        assert!(run["server"]["cpu_us_per_message"].as_f64().unwrap() >= 0.0);
    }
}

#[test]
fn a_bound_of_messages_ends_batches_exactly_there() {
    let arguments = ["mpub", "--messages", "4100", "--topics", "3", "--threads", "2"];
    let report = report(Manner::Good, &arguments);
    let run = &report["runs"][0];
    // 20 whole batches of 200; what came before the window's begin is not in it.
    assert_eq!(number(run, "acknowledged_in_all"), 4000);
    assert!(number(run, "acknowledged") <= 4000);
}

#[test]
fn draining_takes_every_message_of_every_channel() {
    let arguments =
        ["drain", "--backlog", "4000", "--topics", "2", "--channels", "2", "--threads", "2"];
    let report = report(Manner::Good, &arguments);
    let run = &report["runs"][0];
    assert_eq!(number(run, "missing"), 0);
    assert_eq!(number(run, "acknowledged_in_all"), 4000);
    assert_eq!(number(run, "consumed_in_all"), 8000);
    assert!(run["server"]["resident_bytes_each"].is_number());
}

#[test]
fn going_through_publishes_and_consumes_and_stays_within_its_bound() {
    for manner in [Manner::Good, Manner::Slow] {
        let bound = ["through", "--bound", "400", "--batch", "20"];
        let report = report(manner, &[&bound[..], &SHORT[..]].concat());
        let run = &report["runs"][0];
        assert!(number(run, "consumed") > 0 && number(run, "acknowledged_in_all") > 400, "{run}");
        let ahead = number(run, "acknowledged_in_all") - number(run, "consumed_in_all");
        // Two producers may each have had a batch under way when the bound was reached.
        assert!(ahead <= 400 + 2 * 20, "{ahead} ahead");
    }
}

#[test]
fn the_open_loop_keeps_its_rate_and_times_from_when_messages_were_due() {
    for spin in [None, Some("--spin")] {
        let rate = ["latency", "--rate", "500", "--connections", "4", "--arrivals", "poisson"];
        let arguments = [&rate[..], spin.as_slice(), &SHORT[..]].concat();
        let report = report(Manner::Good, &arguments);
        let run = &report["runs"][0];
        assert_eq!(number(run, "missing"), 0);
        for timing in ["service", "response", "send_delay", "end_to_end"] {
            assert!(number(&run["latency"][timing], "samples") > 0, "{timing}: {run}");
        }
    }
}

#[test]
fn every_other_scenario_runs() {
    let address = start(Manner::Good).to_string();
    let http = address.clone();
    let few = ["--topics", "30", "--rate", "500"];
    for (scenario, more) in [
        ("backlog", &["--backlog", "4000", "--rate", "2000"][..]),
        ("overflow-in", &["--messages", "2000"]),
        ("overflow-out", &["--backlog", "2000"]),
        ("slow-consumer", &["--rate", "500"]),
        ("fan-out", &["--channels", "20"]),
        ("hot-topic", &["--consumers", "4"]),
        ("many-topics", &few),
        ("many-connections", &["--idle", "50", "--rate", "500"]),
        ("churn", &[]),
        ("durable", &[]),
        ("http", &["--http-address", &http]),
        ("http", &["--http-address", &http, "--batch", "10", "--rate", "1000"]),
    ] {
        let arguments = [&[scenario], &SHORT[..], more].concat();
        let (report, succeeded, errors) = report_of(&address, &arguments);
        assert!(succeeded, "{arguments:?}: {errors}");
        let run = &report["runs"][0];
        // A few thousand messages may all be through before the measured window begins.
        let through = number(run, "acknowledged_in_all") + number(run, "consumed_in_all");
        assert!(through > 0, "{scenario}: {run}");
        match scenario {
            "churn" => assert!(number(&run["latency"]["connect"], "samples") > 0),
            "backlog" => assert_eq!(number(&run["fill"], "messages"), 4000),
            _ => {}
        }
    }
}

#[test]
fn a_sweep_finds_a_rate_and_reports_it() {
    let bound = ["sweep", "--rate", "100", "--p99-bound", "100ms", "--connections", "2"];
    // Two connections take less than 2000 a second: the rates past that end the search.
    let more = ["--duration", "400ms", "--warm-up", "0s", "--stall-timeout", "1s"];
    let report = report(Manner::Limited, &[&bound[..], &more].concat());
    let points = report["sweep"]["points"].as_array().unwrap();
    assert!(points.len() > 2);
    let knee = report["sweep"]["knee_per_s"].as_f64().unwrap();
    assert_eq!(report["parameters"]["rate"], knee);
    assert!(points.iter().any(|point| point["good"] == false));
}

#[test]
fn unix_sockets_are_addresses_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nsqd.sock");
    broker::start_on_path(&path);
    for scenario in ["pub-1", "churn"] {
        let (report, succeeded, errors) =
            report_of(path.to_str().unwrap(), &[&[scenario], &SHORT[..]].concat());
        assert!(succeeded, "{errors}");
        assert!(number(&report["runs"][0], "messages") > 0);
    }
}

#[test]
fn a_daemon_without_compression_is_told_so() {
    for flag in ["--snappy", "--deflate", "--tls"] {
        let output = bench(&start(Manner::Good).to_string(), &["pub-1", flag]);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&output.stderr);
        let expected = format!("does not offer {}", flag.trim_start_matches('-'));
        assert!(errors.contains(&expected), "{errors}");
    }
}

#[test]
fn idle_connections_are_held() {
    let arguments = ["idle", "--connections", "50", "--duration", "300ms"];
    let report = report(Manner::Good, &arguments);
    assert!(report["runs"][0]["server"]["resident_bytes_each"].is_number());
    assert_eq!(number(&report["runs"][0], "messages"), 0);
}

#[test]
fn heartbeats_are_answered_and_are_no_answers() {
    let report = report(Manner::Beating, &[&["pub-1"], &SHORT[..]].concat());
    assert!(number(&report["runs"][0], "acknowledged") > 0);
}

#[test]
fn messages_that_never_come_are_reported() {
    let rate = ["latency", "--rate", "200", "--connections", "1", "--stall-timeout", "300ms"];
    let report = report(Manner::Forgetful, &[&rate[..], &SHORT[..]].concat());
    let run = &report["runs"][0];
    assert!(number(run, "missing") > 0, "{run}");
    assert!(run["warnings"].to_string().contains("not delivered"), "{run}");
}

#[test]
fn an_error_frame_stops_the_run_with_its_text() {
    let output = bench(&start(Manner::Refusing).to_string(), &["pub"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("E_PUB_FAILED PUB failed for the test"), "{errors}");
}

#[test]
fn silence_ends_the_run_with_the_counts() {
    let output = bench(&start(Manner::Silent).to_string(), &["mpub", "--stall-timeout", "200ms"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("nothing came back") && errors.contains("400 sent"), "{errors}");
}

#[test]
fn a_daemon_that_does_not_start_is_reported_with_its_output() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bench(&free.to_string(), &["pub", "--daemon", "ls /nonexistent/{dir}"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("ended at once") && errors.contains("/nonexistent/"), "{errors}");
}
