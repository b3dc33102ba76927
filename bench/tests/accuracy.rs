//! The figures against the truth: a scripted daemon answers and delivers with known delays and
//! stalls, and logs when it did. What the generator reports must be what the log says, though the
//! daemon's delays are hundreds of milliseconds so that a busy machine does not matter.

#![expect(
    clippy::disallowed_types,
    reason = "the scripted daemon is a few threads with a shared log"
)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * SECOND + now.tv_nsec.unsigned_abs()
}

fn sleep_until(time_ns: u64) {
    std::thread::sleep(Duration::from_nanos(time_ns.saturating_sub(now_ns())));
}

/// What the daemon knows of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    due_ns: u64,
    received_ns: u64,
    answered_ns: u64,
    /// 0 until then.
    delivered_ns: u64,
}

/// When, the number of the entry, the body.
type Work = (u64, usize, Vec<u8>);

/// How it behaves.
#[derive(Clone, Copy)]
struct Manner {
    /// Time from a publish to its answer, by the number of the message on its connection.
    answer_delay_ns: fn(u64) -> u64,
    /// From the answer to the delivery.
    delivery_delay_ns: u64,
    /// Nothing is read or answered for this long, from 1 s after the first publish on.
    stall_ns: u64,
}

const PROMPT: Manner = Manner { answer_delay_ns: |_| 0, delivery_delay_ns: 0, stall_ns: 0 };

struct Daemon {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Manner,
    log: Mutex<Vec<Entry>>,
    stall_begin_ns: Mutex<Option<u64>>,
    deliveries: Mutex<Sender<Work>>,
    /// Taken by the one consumer.
    to_deliver: Mutex<Option<Receiver<Work>>>,
}

impl Shared {
    /// Waits while the daemon is stalled.
    fn stall(&self) {
        let begin_ns = *self.stall_begin_ns.lock().unwrap();
        if let Some(begin_ns) = begin_ns
            && (begin_ns..begin_ns + self.manner.stall_ns).contains(&now_ns())
        {
            sleep_until(begin_ns + self.manner.stall_ns);
        }
    }
}

fn start(manner: Manner) -> Daemon {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (deliveries, to_deliver) = channel();
    let shared = Arc::new(Shared {
        manner,
        log: Mutex::new(Vec::new()),
        stall_begin_ns: Mutex::new(None),
        deliveries: Mutex::new(deliveries),
        to_deliver: Mutex::new(Some(to_deliver)),
    });
    let ours = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&ours);
            std::thread::spawn(move || serve(&stream.unwrap(), &shared));
        }
    });
    Daemon { address, shared }
}

fn frame(kind: u32, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 4).unwrap();
    [&size.to_be_bytes(), &kind.to_be_bytes(), content].concat()
}

fn sized(input: &mut impl std::io::Read) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    input.read_exact(&mut size).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads one connection; publishes are answered by a thread of their own.
fn serve(stream: &TcpStream, shared: &Arc<Shared>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut input = BufReader::with_capacity(512, stream);
    input.read_exact(&mut [0; 4]).ok()?;
    let (answers, to_answer) = channel();
    let (ours, theirs) = (Arc::clone(shared), stream.try_clone().unwrap());
    std::thread::spawn(move || answer(&theirs, &ours, &to_answer));
    let mut number = 0;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        match words[0] {
            "IDENTIFY" => drop(sized(&mut input)?),
            "PUB" => {
                let body = sized(&mut input)?;
                shared.stall_begin_ns.lock().unwrap().get_or_insert(now_ns() + SECOND);
                shared.stall();
                let received_ns = now_ns();
                let due_ns = u64::from_be_bytes(*body.first_chunk().unwrap());
                let index = {
                    let mut log = shared.log.lock().unwrap();
                    log.push(Entry { due_ns, received_ns, ..Entry::default() });
                    log.len() - 1
                };
                let answer_ns = received_ns + (shared.manner.answer_delay_ns)(number);
                number += 1;
                answers.send((answer_ns, index, body)).ok()?;
                continue;
            }
            "SUB" => {}
            "RDY" => {
                let queue = shared.to_deliver.lock().unwrap().take().unwrap();
                let (ours, theirs) = (Arc::clone(shared), stream.try_clone().unwrap());
                std::thread::spawn(move || deliver(&theirs, &ours, &queue));
                continue;
            }
            "FIN" | "NOP" => continue,
            other => panic!("unexpected command {other:?}"),
        }
        (&*stream).write_all(&frame(0, b"OK")).ok()?;
    }
}

fn answer(mut stream: &TcpStream, shared: &Shared, queue: &Receiver<Work>) -> Option<()> {
    for (answer_ns, index, body) in queue {
        sleep_until(answer_ns);
        shared.stall();
        let now = now_ns();
        shared.log.lock().unwrap()[index].answered_ns = now;
        stream.write_all(&frame(0, b"OK")).ok()?;
        let deliver_ns = now + shared.manner.delivery_delay_ns;
        shared.deliveries.lock().unwrap().send((deliver_ns, index, body)).ok()?;
    }
    None
}

fn deliver(mut stream: &TcpStream, shared: &Shared, queue: &Receiver<Work>) -> Option<()> {
    let mut header = [0; 26];
    header[9] = 1;
    for (deliver_ns, index, body) in queue {
        sleep_until(deliver_ns);
        shared.log.lock().unwrap()[index].delivered_ns = now_ns();
        stream.write_all(&frame(2, &[&header[..], &body].concat())).ok()?;
    }
    None
}

/// Runs a scenario and returns its only run.
fn measure(daemon: &Daemon, arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_nsq_bench"))
        .args(arguments)
        .args(["--address", &daemon.address.to_string(), "--json", path.to_str().unwrap()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // 3: on a busy machine the generator may be late, and says so.
    assert!([Some(0), Some(3)].contains(&output.status.code()), "{arguments:?}: {errors}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    report["runs"][0].clone()
}

const ALL: [(&str, f64); 4] = [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("max_us", 1.0)];

/// Compares what was reported of one timing with what the log says.
fn compare(run: &Value, timing: &str, quantiles: &[(&str, f64)], mut truth_ns: Vec<u64>) {
    truth_ns.sort_unstable();
    let reported = &run["latency"][timing];
    let samples = reported["samples"].as_u64().unwrap();
    // The window may begin just after the first messages were due.
    let unmeasured = truth_ns.len() as u64 - samples;
    assert!(unmeasured <= 8, "{samples} {timing} samples of {}", truth_ns.len());
    for (key, quantile) in quantiles {
        #[expect(clippy::cast_possible_truncation, reason = "an index of a short list")]
        let place = (truth_ns.len() as f64 * quantile).ceil() as usize - 1;
        let truth_us = truth_ns[place] as f64 / 1e3;
        let reported_us = reported[*key].as_f64().unwrap();
        let apart = (reported_us - truth_us).abs() / truth_us;
        assert!(apart < 0.02, "{timing} {key}: {reported_us} µs, in truth {truth_us} µs");
    }
}

fn log(daemon: &Daemon) -> Vec<Entry> {
    daemon.shared.log.lock().unwrap().clone()
}

const OPEN: [&str; 8] =
    ["--rate", "500", "--connections", "4", "--duration", "4s", "--warm-up", "0s"];

/// Delays of seconds: a fiftieth of them is more than a busy machine adds.
fn check_percentiles(arrivals: &str) {
    // From 1 to 3.5 s in waves; a connection's answers stay in order.
    let daemon = start(Manner {
        answer_delay_ns: |number| (1000 + 25 * (number % 200).min(200 - number % 200)) * MS,
        delivery_delay_ns: 500 * MS,
        ..PROMPT
    });
    let run = measure(&daemon, &[&["latency", "--arrivals", arrivals], &OPEN[..]].concat());
    let log = log(&daemon);
    let spans = |span: fn(&Entry) -> u64| log.iter().map(span).collect::<Vec<_>>();
    compare(&run, "response", &ALL, spans(|entry| entry.answered_ns - entry.due_ns));
    compare(&run, "service", &ALL, spans(|entry| entry.answered_ns - entry.received_ns));
    compare(&run, "end_to_end", &ALL, spans(|entry| entry.delivered_ns - entry.due_ns));
    assert_eq!(run["missing"], 0);
    assert_eq!(run["consumed_in_all"], log.len());
}

#[test]
fn percentiles_of_the_open_loop_are_those_of_the_daemons_own_log() {
    check_percentiles("fixed");
}

#[test]
fn so_they_are_when_messages_arrive_at_random() {
    check_percentiles("poisson");
}

#[test]
fn a_stall_is_charged_to_every_message_that_was_due_in_it() {
    let daemon = start(Manner { stall_ns: SECOND, ..PROMPT });
    let run = measure(&daemon, &[&["pub"], &OPEN[..]].concat());
    let log = log(&daemon);
    let stall_end_ns = daemon.shared.stall_begin_ns.lock().unwrap().unwrap() + SECOND;
    let late =
        log.iter().filter(|entry| (stall_end_ns - SECOND..stall_end_ns).contains(&entry.due_ns));
    // What users saw: each waited for the rest of the stall, at least.
    assert!(late.clone().all(|entry| entry.answered_ns >= stall_end_ns));
    let late = late.count() as f64;
    assert!((late - 500.0).abs() < 15.0, "{late} messages were due during the stall");
    // A tenth of all messages, 0.4 s of them, is later than p90: 1 s less 0.4 s. A loop that waits
    // for answers would have sent four messages in that second, and p99 would show none of it.
    let window_s = run["window_s"].as_f64().unwrap();
    let reported = &run["latency"]["response"];
    for (key, share) in [("p90_us", 0.1), ("p99_us", 0.01), ("max_us", 0.0)] {
        let truth_us = (1.0 - share * window_s) * 1e6;
        let reported_us = reported[key].as_f64().unwrap();
        let apart = (reported_us - truth_us).abs() / truth_us;
        assert!(apart < 0.05, "{key}: {reported_us} µs, in truth {truth_us} µs");
    }
    // The timeline has it where it was: its second shows the stall, the one before does not.
    let longest = |second: &Value| {
        let timings = second["latency"].as_array().unwrap();
        let response = timings.iter().find(|timing| timing["timing"] == "response");
        response.map_or(0.0, |response| response["max_us"].as_f64().unwrap())
    };
    let timeline = run["timeline"].as_array().unwrap();
    let stalled: Vec<_> = timeline.iter().filter(|second| longest(second) > 900_000.0).collect();
    // It may end just at the turn of a second.
    assert!((1..=2).contains(&stalled.len()), "{timeline:?}");
}

#[test]
fn messages_that_could_not_be_sent_for_a_stall_are_late_all_the_same() {
    // More than the sockets hold: the daemon's stall stops the sending too, and the time from
    // sending to the answer is short for all that were sent after it.
    let daemon = start(Manner { stall_ns: SECOND, ..PROMPT });
    let load = ["pub", "--rate", "500", "--connections", "1", "--body-bytes", "120000"];
    let run = measure(&daemon, &[&load[..], &["--duration", "4s", "--warm-up", "0s"]].concat());
    let log = log(&daemon);
    let truth = log.iter().map(|entry| entry.answered_ns - entry.due_ns).collect();
    // Half of all are not late at all, but by chance.
    compare(&run, "response", &ALL[1..], truth);
    let delays = &run["latency"]["send_delay"];
    assert!(delays["max_us"].as_f64().unwrap() > 300_000.0, "{delays}");
    assert!(run["invalid"].to_string().contains("sent late"), "{}", run["invalid"]);
    assert_eq!(run["unsent"], 0);
}

#[test]
fn the_rate_is_met_and_every_message_is_sent_once() {
    let daemon = start(PROMPT);
    let rate = ["pub", "--rate", "1000", "--connections", "8", "--duration", "3s"];
    let run = measure(&daemon, &[&rate[..], &["--warm-up", "0s"]].concat());
    let log = log(&daemon);
    let expected = 1000.0 * run["window_s"].as_f64().unwrap();
    let received = log.len() as f64;
    assert!((received - expected).abs() < expected * 0.01, "{received} of {expected}");
    assert_eq!(run["acknowledged_in_all"], log.len());
    // Due times of all connections together are 1 ms apart, none twice, none left out.
    let mut due: Vec<u64> = log.iter().map(|entry| entry.due_ns).collect();
    due.sort_unstable();
    assert!(due.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(MS) <= 1), "{due:?}");
    // And they were not sent before.
    assert!(log.iter().all(|entry| entry.received_ns >= entry.due_ns));
}

#[test]
fn closed_loops_count_exactly() {
    for (scenario, more) in [("pub", ["--in-flight", "7"]), ("pub-1", ["--in-flight", "1"])] {
        let daemon = start(PROMPT);
        let bound = ["--messages", "4321", "--threads", "2", "--duration", "60s"];
        let run = measure(&daemon, &[&[scenario], &more[..], &bound].concat());
        assert_eq!(run["acknowledged_in_all"], 4321);
        assert_eq!(log(&daemon).len(), 4321);
    }
}

/// A closed loop under the same delays: its service time is right, and it says what it is.
#[test]
fn service_times_of_a_closed_loop_are_those_of_the_log() {
    let daemon =
        start(Manner { answer_delay_ns: |number| (100 + 10 * (number % 10)) * MS, ..PROMPT });
    let load = ["pub", "--connections", "64", "--duration", "4s", "--warm-up", "0s"];
    let run = measure(&daemon, &load);
    let log = log(&daemon);
    let mut spans: Vec<u64> =
        log.iter().map(|entry| entry.answered_ns - entry.received_ns).collect();
    let reported = run["latency"]["service"]["p50_us"].as_f64().unwrap();
    spans.sort_unstable();
    let truth = spans[spans.len() / 2] as f64 / 1e3;
    // The steps of the delays are 10 ms: a few messages more or less may move it by one, and a busy
    // machine adds to what is reported.
    assert!((reported - truth).abs() < 15_000.0, "{reported} µs, in truth {truth} µs");
}
