//! An nsqlookupd of our own: keeps what daemons register, and lets a test misbehave on purpose.

use super::wait::eventually;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A running fake. Its threads end with the process.
pub(crate) struct FakeLookupd {
    /// What daemons connect to.
    pub(crate) address: String,
    asks: Sender<Ask>,
}

/// What a test wants of the fake's one owner, and what its sockets report.
enum Ask {
    Connected(TcpStream),
    Line(String),
    Closed,
    Channels(String, Sender<Option<String>>),
    Look(Sender<Seen>),
    HangUp,
    Answer(Option<Vec<String>>),
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// What IDENTIFY said, once per connection.
    pub(crate) identities: Vec<String>,
    /// `topic` and `topic channel` of the connection that is open.
    pub(crate) registered: BTreeSet<String>,
    /// Heartbeats.
    pub(crate) pings: usize,
    /// Topics whose channels were asked for.
    pub(crate) questions: Vec<String>,
    /// Connections that are open.
    pub(crate) open: usize,
}

#[derive(Default)]
struct Owner {
    seen: Seen,
    connection: Option<TcpStream>,
    /// Answered to `/channels`; nobody is answered while it is `None`.
    channels: Option<Vec<String>>,
    waiting: Vec<Sender<Option<String>>>,
}

impl FakeLookupd {
    /// Starts one that knows these channels of every topic.
    pub(crate) fn start(channels: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", channels)
    }

    /// As [`Self::start`], at an address where another one has been, for instance.
    pub(crate) fn start_at(address: &str, channels: &[&str]) -> Self {
        let tcp = TcpListener::bind(address).expect("a free port");
        let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let http_port = http.local_addr().expect("bound").port();
        let address = tcp.local_addr().expect("bound").to_string();
        let (asks, inbox) = channel();
        let channels = Some(channels.iter().map(|name| (*name).to_owned()).collect());
        thread::spawn(move || Owner { channels, ..Owner::default() }.run(&inbox));
        let events = asks.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let events = events.clone();
                thread::spawn(move || speak(stream, http_port, &events));
            }
        });
        let events = asks.clone();
        thread::spawn(move || {
            for stream in http.incoming().flatten() {
                let events = events.clone();
                thread::spawn(move || serve(stream, &events));
            }
        });
        Self { address, asks }
    }

    pub(crate) fn seen(&self) -> Seen {
        let (asker, answer) = channel();
        self.tell(Ask::Look(asker));
        answer.recv().expect("the fake runs")
    }

    /// Waits until exactly this is registered.
    pub(crate) fn wait_registered(&self, expected: &[&str]) {
        let expected: BTreeSet<_> = expected.iter().map(|name| (*name).to_owned()).collect();
        self.wait(|seen| seen.registered == expected);
    }

    pub(crate) fn wait(&self, condition: impl Fn(&Seen) -> bool) {
        eventually(|| {
            let seen = self.seen();
            if condition(&seen) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// Ends the open connection.
    pub(crate) fn hang_up(&self) {
        self.tell(Ask::HangUp);
    }

    /// From now on these are the channels of every topic; with `None` nobody is answered.
    pub(crate) fn answer(&self, channels: Option<&[&str]>) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.tell(Ask::Answer(channels.map(names)));
    }

    fn tell(&self, ask: Ask) {
        self.asks.send(ask).unwrap_or_else(|_| panic!("the fake has ended"));
    }
}

impl Owner {
    fn run(mut self, inbox: &Receiver<Ask>) {
        for ask in inbox {
            match ask {
                Ask::Connected(stream) => {
                    self.seen.registered.clear();
                    self.seen.open += 1;
                    self.connection = Some(stream);
                }
                Ask::Closed => self.seen.open -= 1,
                Ask::Line(line) => self.obey(&line),
                Ask::Channels(topic, asker) => {
                    self.seen.questions.push(topic);
                    self.waiting.push(asker);
                    self.answer();
                }
                // The test may have given up.
                Ask::Look(asker) => asker.send(self.seen.clone()).unwrap_or_default(),
                Ask::HangUp => {
                    if let Some(stream) = self.connection.take() {
                        stream.shutdown(Shutdown::Both).unwrap_or_default();
                    }
                }
                Ask::Answer(channels) => {
                    self.channels = channels;
                    self.answer();
                }
            }
        }
    }

    fn answer(&mut self) {
        if let Some(channels) = &self.channels {
            let names: Vec<_> = channels.iter().map(|name| format!("\"{name}\"")).collect();
            let body = format!("{{\"channels\":[{}]}}", names.join(","));
            for asker in self.waiting.drain(..) {
                asker.send(Some(body.clone())).unwrap_or_default();
            }
        }
    }

    fn obey(&mut self, line: &str) {
        let registered = &mut self.seen.registered;
        match line.split_once(' ') {
            None if line == "PING" => self.seen.pings += 1,
            Some(("IDENTIFY", document)) => self.seen.identities.push(document.to_owned()),
            Some(("REGISTER", names)) => {
                let topic = names.split(' ').next().unwrap_or_default();
                registered.insert(topic.to_owned());
                registered.insert(names.to_owned());
            }
            Some(("UNREGISTER", names)) => {
                registered.remove(names);
            }
            _ => panic!("a daemon said {line:?}"),
        }
    }
}

/// The protocol of daemons: magic, then commands, each with one answer.
fn speak(stream: TcpStream, http_port: u16, events: &Sender<Ask>) {
    let report = |event| events.send(event).unwrap_or_default();
    let mut output = stream.try_clone().expect("a socket");
    report(Ask::Connected(stream.try_clone().expect("a socket")));
    let mut input = BufReader::new(stream);
    let mut magic = [0; 4];
    if input.read_exact(&mut magic).is_ok() {
        assert_eq!(&magic, b"  V1");
    }
    let mut line = String::new();
    while input.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let mut answer = b"OK".to_vec();
        let mut command = line.trim_end().to_owned();
        if command == "IDENTIFY" {
            let mut size = [0; 4];
            input.read_exact(&mut size).expect("a size");
            let mut document = vec![0; u32::from_be_bytes(size) as usize];
            input.read_exact(&mut document).expect("a body");
            command = format!("IDENTIFY {}", String::from_utf8(document).expect("JSON"));
            let rest = "\"tcp_port\":1,\"version\":\"1.3.0\"";
            let host = "\"broadcast_address\":\"127.0.0.1\",\"hostname\":\"fake\"";
            answer = format!("{{{host},\"http_port\":{http_port},{rest}}}").into_bytes();
        }
        report(Ask::Line(command));
        let size = u32::try_from(answer.len()).expect("a short answer").to_be_bytes();
        if output.write_all(&[&size, answer.as_slice()].concat()).is_err() {
            break;
        }
        line.clear();
    }
    report(Ask::Closed);
}

/// One HTTP request per connection, answered when the test lets it be.
fn serve(mut stream: TcpStream, events: &Sender<Ask>) {
    let mut input = BufReader::new(stream.try_clone().expect("a socket"));
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if input.read_line(&mut request).unwrap_or_default() == 0 {
            return;
        }
    }
    let target = request.split(' ').nth(1).expect("a target");
    let topic = target.strip_prefix("/channels?topic=").expect("the only question");
    assert!(request.contains("application/vnd.nsq; version=1.0"), "{request}");
    let (asker, answer) = channel();
    events.send(Ask::Channels(topic.to_owned(), asker)).unwrap_or_default();
    if let Ok(Some(body)) = answer.recv() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        let answer = format!("{head}Connection: close\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).unwrap_or_default();
    }
}
