//! A watcher of `/live`, which reads server-sent events.

use crate::support::stream::{Address, Stream};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};

pub(super) struct Events(BufReader<Stream>);

impl Events {
    pub(super) fn open(address: &Address, target: &str) -> Self {
        let mut stream = address.connect().expect("it accepts connections");
        let request = format!("GET {target} HTTP/1.1\r\nHost: nsqadmin\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut events = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            events.line(&mut head);
        }
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
        events
    }

    /// The next event's document.
    pub(super) fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.line(&mut line);
            if let Some(document) = line.strip_prefix("data: ") {
                return serde_json::from_str(document).unwrap_or_else(|e| panic!("{e}: {line}"));
            }
        }
    }

    fn line(&mut self, text: &mut String) {
        let bytes = self.0.read_line(text).expect("it goes on");
        assert!(bytes > 0, "the stream has ended");
    }
}
