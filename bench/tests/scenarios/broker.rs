//! A scripted daemon that speaks just enough of the protocol, and can misbehave.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How the scripted daemon departs from a good one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Good,
    /// Answers every publish with an error.
    Refusing,
    /// Never answers a publish.
    Silent,
    /// Sends heartbeats before every OK.
    Beating,
    /// Throws away every tenth message.
    Forgetful,
    /// Delivers every tenth message twice.
    Doubling,
    /// Changes a byte of every tenth message.
    Corrupting,
    /// Delivers far fewer messages than it takes.
    Slow,
    /// Takes a millisecond for each publish.
    Limited,
}

/// A message: when it may be delivered, deliveries before, body.
type Queued = (Instant, u16, Vec<u8>);
/// A channel's name and messages.
type Channel = (String, VecDeque<Queued>);
/// The messages of a connection that are not finished.
type InFlight = Arc<Mutex<HashMap<String, (u16, Vec<u8>)>>>;

/// The channels of every topic.
#[derive(Default)]
struct Queues {
    channels: Mutex<HashMap<String, Vec<Channel>>>,
    grown: Condvar,
    ids: AtomicU64,
}

impl Queues {
    fn publish(&self, topic: &str, body: &[u8], delay: Duration) {
        let mut topics = self.channels.lock().unwrap();
        for (_, queue) in topics.entry(topic.to_owned()).or_default() {
            queue.push_back((now() + delay, 0, body.to_vec()));
        }
        self.grown.notify_all();
    }

    fn requeue(&self, topic: &str, channel: &str, (attempts, body): (u16, Vec<u8>)) {
        let mut topics = self.channels.lock().unwrap();
        let channels = topics.get_mut(topic).unwrap();
        let queue = channels.iter_mut().find(|(name, _)| name == channel).unwrap();
        queue.1.push_back((now(), attempts, body));
        self.grown.notify_all();
    }

    fn subscribe(&self, topic: &str, channel: &str) {
        let mut topics = self.channels.lock().unwrap();
        let channels = topics.entry(topic.to_owned()).or_default();
        if !channels.iter().any(|(name, _)| name == channel) {
            channels.push((channel.to_owned(), VecDeque::new()));
        }
    }

    fn take(&self, topic: &str, channel: &str) -> Option<(u16, Vec<u8>)> {
        let pop = |topics: &mut HashMap<String, Vec<Channel>>| {
            let channels = topics.get_mut(topic)?;
            let queue = &mut channels.iter_mut().find(|(name, _)| name == channel)?.1;
            let ready = queue.iter().position(|(ready, ..)| *ready <= now())?;
            queue.remove(ready).map(|(_, attempts, body)| (attempts, body))
        };
        let mut topics = self.channels.lock().unwrap();
        if let Some(message) = pop(&mut topics) {
            return Some(message);
        }
        let wait = Duration::from_millis(20);
        pop(&mut self.grown.wait_timeout(topics, wait).unwrap().0)
    }
}

#[expect(clippy::disallowed_methods, reason = "a scripted daemon has a clock of its own")]
fn now() -> Instant {
    Instant::now()
}

/// Starts a scripted daemon on a port of its own; it ends with the test's process.
pub(crate) fn start(manner: Manner) -> SocketAddr {
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

/// Starts a good one on a unix socket.
pub(crate) fn start_on_path(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let queues = Arc::new(Queues::default());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let queues = Arc::clone(&queues);
            let stream = TcpStream::from(OwnedFd::from(stream.unwrap()));
            std::thread::spawn(move || serve(&stream, &queues, Manner::Good));
        }
    });
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
    if &magic == b"POST" {
        return serve_http(stream, input, queues);
    }
    assert_eq!(&magic, b"  V2");
    let mut subscription = None;
    let in_flight = InFlight::default();
    let mut published = 0u32;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let mut delay = Duration::ZERO;
        let mut answer = frame(0, b"OK");
        let bodies = match words[0] {
            "IDENTIFY" => {
                let json: Value = serde_json::from_slice(&sized(&mut input)?).unwrap();
                assert!(json["client_id"] == "nsq_bench");
                if json["feature_negotiation"] == true {
                    answer = frame(0, br#"{"version":"1","tls_v1":false,"snappy":false}"#);
                }
                Vec::new()
            }
            "PUB" => vec![sized(&mut input)?],
            "DPUB" => {
                delay = Duration::from_millis(words[2].parse().unwrap());
                vec![sized(&mut input)?]
            }
            "MPUB" => split(&sized(&mut input)?),
            "SUB" => {
                queues.subscribe(words[1], words[2]);
                subscription = Some((words[1].to_owned(), words[2].to_owned()));
                Vec::new()
            }
            "RDY" => {
                let (topic, channel) = subscription.clone().unwrap();
                let (ours, queues) = (stream.try_clone().unwrap(), Arc::clone(queues));
                let held = Arc::clone(&in_flight);
                std::thread::spawn(move || {
                    deliver(&ours, &queues, manner, &held, (&topic, &channel))
                });
                continue;
            }
            "FIN" => {
                assert!(in_flight.lock().unwrap().remove(words[1]).is_some(), "FIN twice");
                continue;
            }
            "REQ" => {
                let message = in_flight.lock().unwrap().remove(words[1]).unwrap();
                let (topic, channel) = subscription.as_ref().unwrap();
                queues.requeue(topic, channel, message);
                continue;
            }
            "NOP" => continue,
            other => panic!("unexpected command {other:?}"),
        };
        if !bodies.is_empty() {
            let Some(given) = manner.answer(answer) else { continue };
            answer = given;
        }
        for body in bodies {
            published += 1;
            take(queues, words[1], body, delay, (manner, published));
        }
        (&*stream).write_all(&answer).ok()?;
    }
}

impl Manner {
    /// What a publish is answered with, if at all, that would be answered `OK` in good manners.
    fn answer(self, ok: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Refusing => Some(frame(1, b"E_PUB_FAILED PUB failed for the test")),
            Self::Silent => None,
            Self::Limited => {
                std::thread::sleep(Duration::from_millis(1));
                Some(ok)
            }
            Self::Beating => Some([frame(0, b"_heartbeat_"), ok].concat()),
            _ => Some(ok),
        }
    }
}

/// Keeps a published message in this broker's manner: every tenth is treated specially.
fn take(
    queues: &Queues,
    topic: &str,
    mut body: Vec<u8>,
    delay: Duration,
    (manner, number): (Manner, u32),
) {
    let tenth = number.is_multiple_of(10);
    let copies = match manner {
        Manner::Forgetful if tenth => 0,
        Manner::Doubling if tenth => 2,
        _ => 1,
    };
    if manner == Manner::Corrupting && tenth {
        *body.last_mut().unwrap() ^= 1;
    }
    (0..copies).for_each(|_| queues.publish(topic, &body, delay));
}

/// Serves publishes on a connection that is kept alive; `POST` has been read.
fn serve_http(
    mut stream: &TcpStream,
    mut input: BufReader<&TcpStream>,
    queues: &Queues,
) -> Option<()> {
    loop {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "\r\n") {
            let mut line = String::new();
            input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
            lines.push(line);
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
        input.read_exact(&mut body).ok()?;
        let topic = lines[0].split("topic=").nth(1).unwrap();
        let topic = topic.split([' ', '&']).next().unwrap();
        let bodies = if lines[0].contains("/mpub") { split(&body) } else { vec![body] };
        bodies.iter().for_each(|body| queues.publish(topic, body, Duration::ZERO));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").ok()?;
        if lines.iter().any(|line| line == "Connection: close\r\n") {
            return None;
        }
    }
}

/// Pushes messages until the connection breaks.
fn deliver(
    mut stream: &TcpStream,
    queues: &Queues,
    manner: Manner,
    in_flight: &InFlight,
    (topic, channel): (&str, &str),
) -> Option<()> {
    loop {
        if manner == Manner::Slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A closed connection is only seen by writing.
        let Some((attempts, body)) = queues.take(topic, channel) else {
            stream.write_all(&frame(0, b"_heartbeat_")).ok()?;
            continue;
        };
        let id = format!("{:016x}", queues.ids.fetch_add(1, Relaxed));
        let attempts = attempts + 1;
        let header = [&[0; 8], &attempts.to_be_bytes()[..], id.as_bytes()].concat();
        let message = frame(2, &[&header[..], &body].concat());
        in_flight.lock().unwrap().insert(id, (attempts, body));
        stream.write_all(&message).ok()?;
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

/// Runs the generator against `address`.
pub(crate) fn bench(address: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nsq_bench"))
        .args(arguments)
        .args(["--address", address])
        .output()
        .unwrap()
}

/// Runs a scenario against the daemon at `address` and returns its JSON report and whether it
/// succeeded. An open loop that was late on a busy machine has.
pub(crate) fn report_of(address: &str, arguments: &[&str]) -> (Value, bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let pid = std::process::id().to_string();
    let more = ["--json", path.to_str().unwrap(), "--pid", &pid];
    let output = bench(address, &[arguments, &more].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{arguments:?}: {errors}"));
    let report: Value = serde_json::from_str(&text).unwrap();
    (report, [Some(0), Some(3)].contains(&output.status.code()), errors)
}

/// The report of a scenario that succeeds against a new daemon.
pub(crate) fn report(manner: Manner, arguments: &[&str]) -> Value {
    let (report, succeeded, errors) = report_of(&start(manner).to_string(), arguments);
    assert!(succeeded, "{arguments:?}: {errors}");
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["scenario"], arguments[0]);
    report
}

/// A count of a run.
pub(crate) fn number(run: &Value, field: &str) -> u64 {
    run[field].as_u64().unwrap_or_else(|| panic!("no {field} in {run}"))
}

/// Flags of a short run.
pub(crate) const SHORT: [&str; 4] = ["--duration", "200ms", "--warm-up", "50ms"];
