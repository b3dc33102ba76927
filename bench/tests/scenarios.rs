//! Every scenario, for a fraction of a second, against a scripted daemon that speaks just enough of
//! the protocol; and what the generator does when the daemon misbehaves.

#![expect(
    clippy::disallowed_types,
    reason = "the scripted daemon is a thread for each connection with a shared queue"
)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

/// How the scripted daemon departs from a good one.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// Answers every publish with an error.
    Refusing,
    /// Never answers a publish.
    Silent,
    /// Sends heartbeats before every OK.
    Beating,
    /// Throws away every tenth message.
    Forgetful,
    /// Delivers far fewer messages than it takes.
    Slow,
}

/// A channel's name and bodies.
type Channel = (String, VecDeque<Vec<u8>>);

/// The channels of every topic.
#[derive(Default)]
struct Queues {
    channels: Mutex<HashMap<String, Vec<Channel>>>,
    grown: Condvar,
}

impl Queues {
    fn publish(&self, topic: &str, body: &[u8]) {
        let mut topics = self.channels.lock().unwrap();
        for (_, queue) in topics.entry(topic.to_owned()).or_default() {
            queue.push_back(body.to_vec());
        }
        self.grown.notify_all();
    }

    fn subscribe(&self, topic: &str, channel: &str) {
        let mut topics = self.channels.lock().unwrap();
        let channels = topics.entry(topic.to_owned()).or_default();
        if !channels.iter().any(|(name, _)| name == channel) {
            channels.push((channel.to_owned(), VecDeque::new()));
        }
    }

    fn take(&self, topic: &str, channel: &str) -> Option<Vec<u8>> {
        let pop = |topics: &mut HashMap<String, Vec<Channel>>| {
            let channels = topics.get_mut(topic)?;
            channels.iter_mut().find(|(name, _)| name == channel)?.1.pop_front()
        };
        let mut topics = self.channels.lock().unwrap();
        if let Some(body) = pop(&mut topics) {
            return Some(body);
        }
        let wait = Duration::from_millis(20);
        pop(&mut self.grown.wait_timeout(topics, wait).unwrap().0)
    }
}

/// Starts a scripted daemon on a port of its own; it ends with the test's process.
fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let queues = Arc::new(Queues::default());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let queues = Arc::clone(&queues);
            std::thread::spawn(move || serve(&stream.unwrap(), &queues, manner));
        }
    });
    address
}

fn frame(kind: u32, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 4).unwrap();
    [&size.to_be_bytes(), &kind.to_be_bytes(), content].concat()
}

/// Serves one connection until it breaks.
fn serve(stream: &TcpStream, queues: &Arc<Queues>, manner: Manner) -> Option<()> {
    let mut input = BufReader::new(stream);
    let mut magic = [0; 4];
    input.read_exact(&mut magic).ok()?;
    assert_eq!(&magic, b"  V2");
    let mut subscription = None;
    let mut published = 0u32;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let bodies = match words[0] {
            "IDENTIFY" => {
                let json: Value = serde_json::from_slice(&sized(&mut input)?).unwrap();
                assert_eq!(json["client_id"], "nsq_bench");
                Vec::new()
            }
            "PUB" => vec![sized(&mut input)?],
            "MPUB" => split(&sized(&mut input)?),
            "SUB" => {
                queues.subscribe(words[1], words[2]);
                subscription = Some((words[1].to_owned(), words[2].to_owned()));
                Vec::new()
            }
            "RDY" => {
                let (topic, channel) = subscription.clone().unwrap();
                let (ours, queues) = (stream.try_clone().unwrap(), Arc::clone(queues));
                std::thread::spawn(move || deliver(&ours, &queues, manner, &topic, &channel));
                continue;
            }
            "FIN" => {
                assert_eq!(words[1].len(), 16);
                continue;
            }
            "NOP" => continue,
            other => panic!("unexpected command {other:?}"),
        };
        let mut answer = frame(0, b"OK");
        if !bodies.is_empty() {
            match manner {
                Manner::Refusing => answer = frame(1, b"E_PUB_FAILED PUB failed for the test"),
                Manner::Silent => continue,
                Manner::Beating => answer = [frame(0, b"_heartbeat_"), answer].concat(),
                Manner::Good | Manner::Forgetful | Manner::Slow => {}
            }
        }
        for body in bodies {
            published += 1;
            if manner != Manner::Forgetful || !published.is_multiple_of(10) {
                queues.publish(words[1], &body);
            }
        }
        (&*stream).write_all(&answer).ok()?;
    }
}

/// Pushes messages until the connection breaks.
fn deliver(
    mut stream: &TcpStream,
    queues: &Queues,
    manner: Manner,
    topic: &str,
    channel: &str,
) -> Option<()> {
    let mut header = [0; 26];
    header[9] = 1;
    header[10..].copy_from_slice(b"0123456789abcdef");
    loop {
        if manner == Manner::Slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        match queues.take(topic, channel) {
            Some(body) => stream.write_all(&frame(2, &[&header[..], &body].concat())).ok()?,
            // A closed connection is only seen by writing.
            None => stream.write_all(&frame(0, b"_heartbeat_")).ok()?,
        }
    }
}

fn sized(input: &mut impl std::io::Read) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    input.read_exact(&mut size).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn split(batch: &[u8]) -> Vec<Vec<u8>> {
    let (count, mut rest) = batch.split_at(4);
    let count = u32::from_be_bytes(count.try_into().unwrap());
    let bodies = (0..count).map(|_| sized(&mut rest).unwrap()).collect();
    assert!(rest.is_empty());
    bodies
}

fn bench(address: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nsq_bench"))
        .args(arguments)
        .args(["--address", &address.to_string()])
        .output()
        .unwrap()
}

/// Runs a scenario against a scripted daemon and returns its JSON report.
fn report(manner: Manner, arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let pid = std::process::id().to_string();
    let more = ["--json", path.to_str().unwrap(), "--pid", &pid];
    let output = bench(start(manner), &[arguments, &more].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.starts_with(arguments[0]), "{table}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["scenario"], arguments[0]);
    report
}

fn number(run: &Value, field: &str) -> u64 {
    run[field].as_u64().unwrap_or_else(|| panic!("no {field} in {run}"))
}

const SHORT: [&str; 4] = ["--duration", "200ms", "--warm-up", "50ms"];

#[test]
fn publishing_counts_the_answers() {
    for scenario in ["pub", "pub-1", "pub-64", "pub-64x16"] {
        let report = report(Manner::Good, &[&[scenario, "--runs", "2"], &SHORT[..]].concat());
        assert_eq!(report["runs"].as_array().unwrap().len(), 2);
        let run = &report["runs"][1];
        assert!(number(run, "acknowledged") > 0, "{run}");
        assert!(run["latency"]["service"]["p50_us"].as_f64().unwrap() > 0.0);
        assert!(run["server"]["cpu_us_per_message"].as_f64().unwrap() > 0.0);
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
    let output = bench(start(Manner::Refusing), &["pub"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("E_PUB_FAILED PUB failed for the test"), "{errors}");
}

#[test]
fn silence_ends_the_run_with_the_counts() {
    let output = bench(start(Manner::Silent), &["mpub", "--stall-timeout", "200ms"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("nothing came back") && errors.contains("400 sent"), "{errors}");
}

#[test]
fn a_daemon_that_does_not_start_is_reported_with_its_output() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bench(free, &["pub", "--daemon", "ls /nonexistent/{dir}"]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("ended at once") && errors.contains("/nonexistent/"), "{errors}");
}
