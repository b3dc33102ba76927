//! What is made of measurements: the files of a report, comparisons and their exit codes, two
//! daemons in turn. The daemon is scripted and only takes publishes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const SHORT: [&str; 4] = ["--duration", "300ms", "--warm-up", "50ms"];

/// Answers every publish on every connection, until the process ends.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        std::thread::spawn(move || answer(&stream.unwrap()));
    }
}

fn answer(mut stream: &TcpStream) -> Option<()> {
    let mut input = BufReader::new(stream);
    input.read_exact(&mut [0; 4]).ok()?;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let mut size = [0; 4];
        input.read_exact(&mut size).ok()?;
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        input.read_exact(&mut body).ok()?;
        let negotiates = line.starts_with("IDENTIFY") && body.ends_with(b"true}");
        let text: &[u8] = if negotiates { br#"{"version":"9.8.7"}"# } else { b"OK" };
        let length = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &[0; 4], text].concat()).ok()?;
    }
}

/// Started by `scripted_daemon.sh`.
#[test]
#[ignore = "it is the daemon of other tests, and never ends"]
fn scripted_daemon() {
    // Names of tests to everybody else.
    let mut words = std::env::args();
    let address = words.find(|word| word == "-tcp-address").and_then(|_| words.next()).unwrap();
    serve(&TcpListener::bind(address).unwrap());
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nsq_bench"))
        .args(arguments)
        .env("SCRIPTED_DAEMON", std::env::current_exe().unwrap())
        .output()
        .unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Measures a scripted daemon in this process, and writes to `directory/NAME.json` and more files.
fn measure(directory: &Path, name: &str, more: &[&str]) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || serve(&listener));
    let json = directory.join(name).with_extension("json");
    let pid = std::process::id().to_string();
    let own = ["pub-1", "--address", &address, "--pid", &pid, "--json", json.to_str().unwrap()];
    succeed(&[&own[..], &SHORT, more].concat());
    read_json(&json)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Fails when a page would load or run anything.
fn assert_self_contained(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    // The name of the SVG namespace is not an address that is loaded.
    let text = page.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["http://", "https://", "src=", "@import", "url(", "<link", "<script"] {
        assert!(!text.contains(forbidden), "the page has {forbidden}");
    }
}

#[test]
fn every_form_of_a_report_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (html, csv, hgrm, hlog) = (path("a.html"), path("a.csv"), path("a.hgrm"), path("a.hlog"));
    let files = ["--html", &html, "--csv", &csv, "--hgrm", &hgrm, "--hlog", &hlog];
    let remark = ["--remark", "<a & b>", "--runs", "2"];
    let report = measure(directory.path(), "a", &[&files[..], &remark].concat());

    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["environment"]["daemon_version"], "9.8.7");
    assert!(report["environment"]["filesystem"].as_str().unwrap().contains('('));
    assert_eq!(report["latency"][0]["timing"], "service");
    let samples = report["latency"][0]["samples"].as_u64().unwrap();
    let runs = report["runs"].as_array().unwrap();
    let of_runs = runs.iter().map(|run| run["latency"]["service"]["samples"].as_u64().unwrap());
    assert_eq!(samples, of_runs.sum::<u64>());
    let timeline = runs[0]["timeline"].as_array().unwrap();
    let acknowledged = timeline.iter().map(|at| at["acknowledged"].as_u64().unwrap());
    assert_eq!(acknowledged.sum::<u64>(), runs[0]["acknowledged"].as_u64().unwrap());
    assert!(timeline[0]["server"]["busy"].as_f64().unwrap() > 0.0);

    let lines = std::fs::read_to_string(csv).unwrap();
    let intervals: usize = runs.iter().map(|run| run["timeline"].as_array().unwrap().len()).sum();
    assert_eq!(lines.lines().count(), 1 + intervals);
    let table = std::fs::read_to_string(path("a.service.hgrm")).unwrap();
    assert!(table.contains(&format!("Total count    = {samples:>12}]")), "{table}");
    let log = std::fs::read_to_string(hlog).unwrap();
    assert!(log.starts_with("#[Histogram log format version 1.3]\n"));
    assert!(log.lines().any(|line| line.starts_with("Tag=service,0.000,0.250,")), "{log}");
    let page = std::fs::read_to_string(html).unwrap();
    assert_self_contained(&page);
    assert!(page.contains("&lt;a &amp; b&gt;") && page.contains("<svg"), "{page}");
}

#[test]
fn a_comparison_fails_only_past_its_threshold() {
    let directory = tempfile::tempdir().unwrap();
    let report = measure(directory.path(), "a", &["--runs", "2"]);
    let mut slower = report;
    for spread in slower["summary"].as_array_mut().unwrap() {
        if spread["figure"] == "messages/s" {
            for key in ["median", "min", "max"] {
                spread[key] = json!(spread[key].as_f64().unwrap() * 0.8);
            }
        }
    }
    let (a, b) = (directory.path().join("a.json"), directory.path().join("b.json"));
    std::fs::write(&b, slower.to_string()).unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());

    let table = succeed(&["compare", a, b]);
    let rate = table.lines().find(|line| line.starts_with("messages/s")).unwrap();
    assert!(rate.split_ascii_whitespace().any(|word| word == "0.800"), "{table}");
    succeed(&["compare", a, b, "--threshold", "21%"]);
    succeed(&["compare", b, a, "--threshold", "0"]);
    let output = bench(&["compare", a, b, "--threshold", "19"]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("messages/s is 20.0 % worse"), "{table}");

    let output = bench(&["compare", a, "/nonexistent.json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read /nonexistent.json"));
}

#[test]
fn two_daemons_take_turns() {
    let daemon = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripted_daemon.sh");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, html) = (path("versus.json"), path("versus.html"));
    let sides = ["versus", "--ours", daemon, "--other", daemon, "--ours-args", "--shards 1"];
    let what = ["--scenarios", "pub-1", "--runs", "2", "--duration", "200ms"];
    let files = ["--load-args", "--warm-up 20ms", "--json", &json, "--html", &html];
    let table = succeed(&[&sides[..], &what, &files].concat());
    assert!(table.contains("server CPU µs/message") && table.contains("service p50 µs"), "{table}");

    let report = read_json(Path::new(&json));
    assert!(report["ours"].as_str().unwrap().ends_with(" --shards 1"));
    let duel = &report["scenarios"][0];
    let command = |side: &str, run: usize| duel[side][run]["environment"]["daemon_command"].clone();
    assert_ne!(command("ours", 0), command("ours", 1), "every run has a directory of its own");
    let of = |side: &str, run: usize| {
        let summary = duel[side][run]["summary"].as_array().unwrap();
        summary.iter().find(|one| one["figure"] == "messages/s").unwrap()["median"]
            .as_f64()
            .unwrap()
    };
    let pairs = [of("ours", 0) / of("other", 0), of("ours", 1) / of("other", 1)];
    let rate = duel["ratios"].as_array().unwrap();
    let rate = rate.iter().find(|ratio| ratio["figure"] == "messages/s").unwrap();
    let near = |key: &str, value: f64| (rate[key].as_f64().unwrap() - value).abs() < 1e-9;
    assert!(near("min", pairs[0].min(pairs[1])) && near("max", pairs[0].max(pairs[1])), "{rate}");
    assert!(near("median", f64::midpoint(pairs[0], pairs[1])), "{rate}");
    assert_self_contained(&std::fs::read_to_string(html).unwrap());
}

#[test]
fn what_cannot_be_run_is_said_at_once() {
    let output = bench(&["versus", "--ours", "/bin/sh", "--other", "/bin/sh", "--scenarios", "x"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no scenario \"x\""));
    let output = bench(&["quick", "--daemon", "/nonexistent/nsqd"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no program /nonexistent/nsqd"), "{errors}");
    let directory = tempfile::tempdir().unwrap();
    let alone = directory.path().join("nsq_bench");
    std::fs::copy(env!("CARGO_BIN_EXE_nsq_bench"), &alone).unwrap();
    let output = loop {
        match Command::new(&alone).arg("quick").env("PATH", "").output() {
            // Another test has just started a process, which still holds the file that was open.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no nsqd at") && errors.contains("cargo build"), "{errors}");
}
