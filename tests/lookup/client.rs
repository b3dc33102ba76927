//! A scripted client of the lookup protocol, as nsqd is one.

use crate::support::stream::{Address, Stream};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::Shutdown;

/// A connection that has sent its magic.
pub(super) struct Client {
    pub(super) stream: Stream,
}

/// What the clients of the cases call themselves.
pub(super) fn identity() -> Value {
    json!({
        "broadcast_address": "ip.address",
        "hostname": "host",
        "http_port": 5555,
        "tcp_port": 5000,
        "topology_region": "region",
        "topology_zone": "zone",
        "version": "fake-version",
    })
}

impl Client {
    pub(super) fn connect(address: &Address) -> Self {
        let mut client = Self { stream: address.connect().expect("nsqlookupd accepts") };
        client.send(b"  V1");
        client
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("nsqlookupd reads");
    }

    /// The next answer; `None` at the end of the connection.
    pub(super) fn answer(&mut self) -> Option<String> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut text).expect("a whole answer");
        Some(String::from_utf8(text).expect("a text"))
    }

    #[track_caller]
    pub(super) fn expect(&mut self, text: &str) {
        assert_eq!(self.answer().as_deref(), Some(text));
    }

    /// The answer is the last one.
    #[track_caller]
    pub(super) fn expect_last(&mut self, text: &str) {
        self.expect(text);
        assert_eq!(self.answer(), None);
    }

    /// Sends a command and expects `OK`.
    #[track_caller]
    pub(super) fn order(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
        self.expect("OK");
    }

    /// Introduces itself and returns what the daemon says of itself.
    #[track_caller]
    pub(super) fn identify(&mut self) -> Value {
        self.identify_as(&identity())
    }

    #[track_caller]
    pub(super) fn identify_as(&mut self, identity: &Value) -> Value {
        self.send(&identify_command(identity.to_string().as_bytes()));
        let answer = self.answer().expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// Sends no more.
    pub(super) fn end_input(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection");
    }
}

/// IDENTIFY with a body.
pub(super) fn identify_command(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len()).expect("a short body");
    [b"IDENTIFY\n", &length.to_be_bytes()[..], body].concat()
}
