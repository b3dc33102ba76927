//! An HTTP client that shows every byte and can misbehave.

use crate::http::HttpListener;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where to connect.
pub(super) enum Client {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A response, taken apart.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The words behind the status.
    pub(super) reason: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Client {
    pub(super) fn of(listener: &HttpListener) -> Self {
        match listener {
            HttpListener::Tcp(listener) => Self::Tcp(listener.local_addr().unwrap()),
            HttpListener::Unix(_, path) => Self::Unix(path.clone()),
        }
    }

    pub(super) fn connect(&self) -> Box<dyn Stream> {
        let patience = Some(Duration::from_secs(20));
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(patience).unwrap();
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(patience).unwrap();
                Box::new(stream)
            }
        }
    }

    /// One request on a connection of its own.
    pub(super) fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.raw(&[
            format!("{method} {target} HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\n").as_bytes(),
            format!("Content-Length: {length}\r\n\r\n").as_bytes(),
            body,
        ])
    }

    /// One request whose body comes in chunks, so that its length is not known beforehand.
    pub(super) fn send_chunked(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        for chunk in body.chunks(1000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        self.raw(&[&bytes])
    }

    /// Sends bytes as they are and takes the answer apart.
    pub(super) fn raw(&self, parts: &[&[u8]]) -> Answer {
        let mut stream = self.connect();
        for part in parts {
            stream.write_all(part).unwrap();
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::of(&bytes)
    }
}

impl Answer {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        let (status, reason) = status_line.split_once(' ').unwrap();
        let (status, reason) = (status.parse().unwrap(), reason.to_owned());
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { status, reason, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("Content-Type"), Some("application/json; charset=utf-8"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks for success with this text.
    #[track_caller]
    pub(super) fn is(&self, text: &str) {
        assert_eq!((self.status, self.text()), (200, text));
        assert_eq!(self.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
        let content_type = (!text.is_empty()).then_some("text/plain; charset=utf-8");
        assert_eq!(self.header("Content-Type"), content_type);
        assert_eq!(self.header("Content-Length"), Some(text.len().to_string().as_str()));
    }

    /// Checks for NSQ's error answer.
    #[track_caller]
    pub(super) fn fails(&self, status: u16, message: &str) {
        let expected = format!("{{\"message\":\"{message}\"}}");
        assert_eq!((self.status, self.text()), (status, expected.as_str()));
        assert_eq!(self.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert_eq!(self.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
    }
}
