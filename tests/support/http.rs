//! An HTTP/1.1 client of one request per connection, over TCP or a unix socket.
//!
//! Ours, because the cases need unix sockets, redirects and error statuses left alone, and exact
//! request lines; no client crate gives all three without more code than this.

use super::certificates::{CERTIFICATES, Shown};
use super::layers::Layered;
use super::stream::Address;
use serde_json::Value;
use std::io::{self, Read, Write};

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a text body")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The status and the exact body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, body: &str) -> &Self {
        assert_eq!((self.status, self.text().as_str()), (status, body));
        self
    }

    /// An error in NSQ's form: `{"message":"TEXT"}`.
    #[track_caller]
    pub(crate) fn expect_message(&self, status: u16, text: &str) -> &Self {
        self.expect(status, &format!("{{\"message\":\"{text}\"}}"))
    }
}

/// Sends one request and reads the whole answer.
pub(crate) fn request(address: &Address, method: &str, target: &str, body: &[u8]) -> Reply {
    let mut stream = address.connect().expect("the daemon accepts HTTP connections");
    ask(&mut stream, method, target, body).unwrap_or_else(|e| panic!("{method} {target}: {e}"))
}

/// The same over TLS, of a client that shows a certificate.
pub(crate) fn request_over_tls(
    address: &Address,
    shown: Shown,
    method: &str,
    target: &str,
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = Layered::new(address.connect()?);
    stream.start_tls(CERTIFICATES.client(shown))?;
    ask(&mut stream, method, target, body)
}

fn ask(
    stream: &mut (impl Read + Write),
    method: &str,
    target: &str,
    body: &[u8],
) -> io::Result<Reply> {
    // Names may end in `#ephemeral`.
    let target = target.replace('#', "%23");
    let line = format!("{method} {target} HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\n");
    let head = format!("{line}Content-Length: {}\r\n\r\n", body.len());
    // A daemon may answer and close before it has read a body it refuses.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    // The end of a stream of TLS need not be announced.
    match stream.read_to_end(&mut bytes) {
        Err(error) if bytes.is_empty() => {
            Err(io::Error::new(error.kind(), format!("{error} (sent: {sent:?})")))
        }
        _ => parse(&bytes).map_err(io::Error::other),
    }
}

/// Sends raw bytes and reads the answer until the daemon closes.
pub(crate) fn exchange(address: &Address, bytes: &[u8]) -> io::Result<Reply> {
    let mut stream = address.connect()?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).map_err(io::Error::other)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Reply, String> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or("no end of the head")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| format!("status line {status_line:?}"))?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned())).collect();
    let mut reply = Reply { status, headers, body: bytes[end + 4..].to_vec() };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = dechunk(&reply.body).ok_or("broken chunks")?;
    }
    Ok(reply)
}

fn dechunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = bytes.get(end + 2..end + 2 + size)?;
        body.extend(chunk);
        bytes = bytes.get(end + 2 + size + 2..)?;
    }
}
