//! A scripted client: sends exactly the bytes a case asks for and says what came back.

use super::daemon::Daemon;
use super::layers::Layered;
use super::stream::Address;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// The bytes every connection starts with.
pub(crate) const MAGIC: &[u8] = b"  V2";

const HEARTBEAT: &[u8] = b"_heartbeat_";

/// A message as delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) timestamp_ns: i64,
    pub(crate) attempts: u16,
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
}

/// One frame from the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Response(Vec<u8>),
    Error(String),
    Message(Message),
}

impl Frame {
    /// The frame in a form a failed assertion can show.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Response(bytes) => format!("response {:?}", String::from_utf8_lossy(bytes)),
            Self::Error(text) => format!("error {text:?}"),
            Self::Message(message) => {
                let Message { attempts, id, body, .. } = message;
                let start = String::from_utf8_lossy(body.get(..40).unwrap_or(body));
                format!("message {id}, attempt {attempts}, {} bytes {start:?}", body.len())
            }
        }
    }

    /// Reads one; `None` at the end of the stream.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; 8];
        let mut filled = 0;
        while filled < header.len() {
            match stream.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => panic!("the connection ended within a frame header"),
                Ok(count) => filled += count,
                Err(error) if closed_by_peer(&error) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let size = u32::from_be_bytes(header[..4].try_into().expect("four bytes"));
        let kind = u32::from_be_bytes(header[4..].try_into().expect("four bytes"));
        let size = usize::try_from(size).expect("a 64-bit machine");
        let mut payload = vec![0; size.checked_sub(4).expect("a size covers the frame type")];
        stream.read_exact(&mut payload)?;
        Ok(Some(Self::parse(kind, payload)))
    }

    fn parse(kind: u32, payload: Vec<u8>) -> Self {
        match kind {
            0 => Self::Response(payload),
            1 => Self::Error(String::from_utf8(payload).expect("error texts are UTF-8")),
            2 => {
                assert!(payload.len() > 26, "a message has a header of 26 bytes and a body");
                let timestamp = payload[..8].try_into().expect("eight bytes");
                let attempts = payload[8..10].try_into().expect("two bytes");
                Self::Message(Message {
                    timestamp_ns: i64::from_be_bytes(timestamp),
                    attempts: u16::from_be_bytes(attempts),
                    id: String::from_utf8(payload[10..26].to_vec()).expect("ids are ASCII"),
                    body: payload[26..].to_vec(),
                })
            }
            _ => panic!("frame type {kind}"),
        }
    }
}

/// A connection to a daemon, driven step by step.
pub(crate) struct Client {
    pub(crate) stream: Layered,
    /// Messages that came while the answer to a publish was awaited.
    early: VecDeque<Message>,
}

impl Client {
    /// Connects and sends the magic.
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        let mut client = Self::raw(&daemon.tcp);
        client.send(MAGIC);
        client
    }

    /// Connects and sends nothing.
    pub(crate) fn raw(address: &Address) -> Self {
        let stream = address.connect().expect("the daemon accepts connections");
        Self { stream: Layered::new(stream), early: VecDeque::new() }
    }

    /// A connection subscribed to a channel with a ready count.
    pub(crate) fn consumer(daemon: &Daemon, topic: &str, channel: &str, ready: u32) -> Self {
        let mut client = Self::connect(daemon);
        client.subscribe(topic, channel);
        client.ready(ready);
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the daemon reads what is sent");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a command without a body.
    pub(crate) fn command(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// Sends a command with a body.
    pub(crate) fn command_with_body(&mut self, line: &str, body: &[u8]) {
        self.send(&with_body(line, body));
    }

    /// Sends IDENTIFY and returns the JSON of the answer, or `null` when it was a plain `OK`.
    pub(crate) fn identify(&mut self, settings: &Value) -> Value {
        self.command_with_body("IDENTIFY", settings.to_string().as_bytes());
        match self.frame() {
            Frame::Response(answer) if answer == b"OK" => Value::Null,
            Frame::Response(answer) => serde_json::from_slice(&answer).expect("a JSON object"),
            other => panic!("IDENTIFY {settings} got {}", other.describe()),
        }
    }

    pub(crate) fn subscribe(&mut self, topic: &str, channel: &str) {
        self.command(&format!("SUB {topic} {channel}"));
        self.expect_ok();
    }

    pub(crate) fn ready(&mut self, count: u32) {
        self.command(&format!("RDY {count}"));
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &[u8]) {
        self.command_with_body(&format!("PUB {topic}"), body);
        self.published();
    }

    pub(crate) fn publish_batch(&mut self, topic: &str, bodies: &[&[u8]]) {
        self.command_with_body(&format!("MPUB {topic}"), &batch(bodies));
        self.published();
    }

    pub(crate) fn publish_deferred(&mut self, topic: &str, defer_ms: u64, body: &[u8]) {
        self.command_with_body(&format!("DPUB {topic} {defer_ms}"), body);
        self.published();
    }

    /// Waits for the answer to a publish; on a subscribed connection messages may come before it.
    fn published(&mut self) {
        loop {
            match self.frame() {
                Frame::Message(message) => self.early.push_back(message),
                Frame::Response(answer) if answer == b"OK" => return,
                other => panic!("a publish got {}", other.describe()),
            }
        }
    }

    pub(crate) fn finish(&mut self, message: &Message) {
        self.command(&format!("FIN {}", message.id));
    }

    pub(crate) fn requeue(&mut self, message: &Message, delay_ms: u64) {
        self.command(&format!("REQ {} {delay_ms}", message.id));
    }

    pub(crate) fn touch(&mut self, message: &Message) {
        self.command(&format!("TOUCH {}", message.id));
    }

    /// The next frame, heartbeats included; `None` when the daemon has closed the connection.
    pub(crate) fn any_frame(&mut self) -> Option<Frame> {
        Frame::read(&mut self.stream).unwrap_or_else(|error| panic!("no frame came: {error}"))
    }

    /// The next frame that is not a heartbeat; heartbeats are answered.
    pub(crate) fn frame(&mut self) -> Frame {
        loop {
            match self.any_frame() {
                None => panic!("the daemon closed the connection; a frame was expected"),
                Some(Frame::Response(bytes)) if bytes == HEARTBEAT => self.command("NOP"),
                Some(frame) => return frame,
            }
        }
    }

    pub(crate) fn message(&mut self) -> Message {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        match self.frame() {
            Frame::Message(message) => message,
            other => panic!("a message was expected, not {}", other.describe()),
        }
    }

    /// The next message, which must carry this body.
    pub(crate) fn message_with(&mut self, body: &[u8]) -> Message {
        let message = self.message();
        assert_eq!(
            String::from_utf8_lossy(&message.body),
            String::from_utf8_lossy(body),
            "body of message {}",
            message.id
        );
        message
    }

    pub(crate) fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }

    pub(crate) fn expect_response(&mut self, text: &str) {
        match self.frame() {
            Frame::Response(bytes) if bytes == text.as_bytes() => {}
            other => panic!("response {text:?} was expected, not {}", other.describe()),
        }
    }

    pub(crate) fn expect_ok(&mut self) {
        self.expect_response("OK");
    }

    pub(crate) fn expect_heartbeat(&mut self) {
        match self.any_frame() {
            Some(Frame::Response(bytes)) if bytes == HEARTBEAT => {}
            other => panic!("a heartbeat was expected, not {:?}", other.map(|f| f.describe())),
        }
    }

    /// An error after which the connection goes on.
    pub(crate) fn expect_error(&mut self, text: &str) {
        match self.frame() {
            Frame::Error(error) => assert_eq!(error, text),
            other => panic!("error {text:?} was expected, not {}", other.describe()),
        }
    }

    /// An error that starts like this, after which the connection is closed.
    pub(crate) fn expect_fatal_prefix(&mut self, prefix: &str) {
        match self.frame() {
            Frame::Error(error) if error.starts_with(prefix) => self.expect_closed(),
            other => panic!("error {prefix:?}… was expected, not {}", other.describe()),
        }
    }

    /// An error after which the connection is closed.
    pub(crate) fn expect_fatal(&mut self, text: &str) {
        self.expect_error(text);
        self.expect_closed();
    }

    /// Nothing more comes: the daemon has closed the connection.
    pub(crate) fn expect_closed(&mut self) {
        if let Some(frame) = self.any_frame() {
            panic!("the connection should be closed, but got {}", frame.describe());
        }
    }

    /// The daemon closes the connection after nothing but heartbeats; says how many there were.
    pub(crate) fn expect_heartbeats_then_closed(&mut self) -> usize {
        let mut count = 0;
        while let Some(frame) = self.any_frame() {
            assert_eq!(frame, Frame::Response(HEARTBEAT.to_vec()), "{}", frame.describe());
            count += 1;
        }
        count
    }

    /// Everything sent so far has been carried out when this returns, and no frame came of it.
    /// (A publish works in every state of a connection, and answers come in order.)
    pub(crate) fn expect_quiet(&mut self) {
        assert_eq!(self.early, [], "messages nobody asked for");
        self.command_with_body("PUB fence#ephemeral", b"x");
        self.expect_ok();
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.stream.raw.shutdown(how).expect("the socket is open");
    }

    pub(crate) fn limit_writes(&self, time: Duration) {
        self.stream.raw.limit_writes(Some(time)).expect("the socket is open");
    }
}

/// A command with its body as on the wire.
pub(crate) fn with_body(line: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line}\n").into_bytes();
    bytes.extend(length(body.len()));
    bytes.extend(body);
    bytes
}

/// The body of an MPUB: count, then every message with its size.
pub(crate) fn batch(bodies: &[&[u8]]) -> Vec<u8> {
    let mut bytes = length(bodies.len()).to_vec();
    for body in bodies {
        bytes.extend(length(body.len()));
        bytes.extend(*body);
    }
    bytes
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("a length that fits the wire").to_be_bytes()
}

/// A daemon that closes with bytes of ours unread shows as a reset.
fn closed_by_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
