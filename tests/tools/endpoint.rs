//! HTTP servers that answer on cue, for `nsq_to_http`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A server; requests can be taken from it in the order in which they came.
pub(super) struct Endpoint {
    pub(super) address: String,
    requests: Receiver<Request>,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Method and target.
    pub(super) line: String,
    head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn has_header(&self, header: &str) -> bool {
        self.head.to_lowercase().lines().any(|line| line == header.to_lowercase())
    }
}

/// What an answer begins with, and how long its body is; `None` for no answer at all.
type Answers = dyn Fn(&Request) -> Option<(String, usize)> + Send + Sync;

impl Endpoint {
    pub(super) fn start(
        answer: impl Fn(&Request) -> Option<(String, usize)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let (told, requests) = channel();
        let answer: Arc<Answers> = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, answer) = (told.clone(), Arc::clone(&answer));
                thread::spawn(move || serve(stream.expect("a client"), &told, &*answer));
            }
        });
        Self { address, requests }
    }

    /// Answers all requests with this status.
    pub(super) fn with_status(status: u16) -> Self {
        Self::start(move |_| Some((format!("{status} x"), 0)))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next so many requests.
    pub(super) fn requests(&self, count: usize) -> Vec<Request> {
        let next = || self.requests.recv_timeout(crate::support::wait::PATIENCE);
        (0..count).map(|_| next().expect("a request")).collect()
    }

    /// Bodies of the next so many requests, sorted.
    pub(super) fn bodies(&self, count: usize) -> Vec<String> {
        let mut bodies: Vec<_> = self.requests(count).into_iter().map(|r| r.body).collect();
        bodies.sort();
        bodies
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

/// Until the client closes the connection.
fn serve(stream: TcpStream, told: &Sender<Request>, answer: &Answers) {
    let mut input = BufReader::new(stream.try_clone().expect("an open socket"));
    let mut output = stream;
    while let Some(request) = read(&mut input) {
        let answer = answer(&request);
        told.send(request).unwrap_or_default();
        let Some((status, length)) = answer else {
            // It stays silent as long as somebody waits.
            input.read_to_end(&mut Vec::new()).unwrap_or_default();
            return;
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        let written = output.write_all(head.as_bytes());
        if written.and_then(|()| output.write_all(&vec![b'x'; length])).is_err() {
            return;
        }
    }
}

fn read(input: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).unwrap_or_default() == 0 {
            return None;
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>())
    });
    let mut body = vec![0; length.map_or(0, |length| length.expect("a number"))];
    input.read_exact(&mut body).ok()?;
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, head, body: String::from_utf8(body).expect("text") })
}
