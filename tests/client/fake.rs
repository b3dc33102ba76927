//! A scripted nsqd: says exactly what a case asks for and sees every command. And a scripted
//! lookup service.

use crate::support::wait::PATIENCE;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Runs the client under test beside the script, which blocks.
pub(super) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Runs a case that is a future, with a limit on its time.
pub(super) fn run<T>(case: impl Future<Output = T>) -> T {
    let case = async { tokio::time::timeout(PATIENCE, case).await };
    runtime().block_on(case).expect("the case comes to an end")
}

/// Listens for clients.
pub(super) struct Fake {
    listener: TcpListener,
    pub(super) address: String,
}

/// One client's connection.
pub(super) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Fake {
    pub(super) fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket").to_string();
        Self { listener, address }
    }

    /// The next connection, nothing said yet.
    pub(super) fn accept_raw(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        stream.set_nodelay(true).expect("an open socket");
        Peer { stream: BufReader::new(stream) }
    }

    /// The next connection, after its IDENTIFY.
    pub(super) fn accept(&self) -> Peer {
        let mut peer = self.accept_raw();
        let mut magic = [0; 4];
        peer.stream.read_exact(&mut magic).expect("the magic");
        assert_eq!(&magic, b"  V2");
        peer.expect("IDENTIFY");
        peer.body();
        peer.respond(r#"{"max_rdy_count":2500}"#);
        peer
    }

    /// The next connection, subscribed to `t` and `c`.
    pub(super) fn accept_consumer(&self) -> Peer {
        let mut peer = self.accept();
        peer.expect("SUB t c");
        peer.respond("OK");
        peer
    }
}

impl Peer {
    /// The next command line; `None` when the client has closed.
    pub(super) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches('\n').to_owned()),
            Err(error) => panic!("no command came: {error}"),
        }
    }

    #[track_caller]
    pub(super) fn expect(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    #[track_caller]
    pub(super) fn expect_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.expect(line);
        }
    }

    /// The sized body that follows a command.
    pub(super) fn body(&mut self) -> Vec<u8> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("a size");
        let size = usize::try_from(u32::from_be_bytes(size)).expect("64 bits");
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body).expect("a body");
        body
    }

    /// The body of the next publish, whatever its topic.
    pub(super) fn publish(&mut self) -> Vec<u8> {
        let line = self.line().expect("a publish");
        assert!(line.starts_with("PUB "), "{line}");
        self.body()
    }

    pub(super) fn respond(&mut self, text: &str) {
        self.frame(0, text.as_bytes());
    }

    pub(super) fn error(&mut self, text: &str) {
        self.frame(1, text.as_bytes());
    }

    /// A message whose id begins with `name` and whose body is `name`.
    pub(super) fn message(&mut self, name: &str, attempts: u16) {
        let mut content = 1_i64.to_be_bytes().to_vec();
        content.extend(attempts.to_be_bytes());
        content.extend(id(name).as_bytes());
        content.extend(name.as_bytes());
        self.frame(2, &content);
    }

    fn frame(&mut self, kind: u32, content: &[u8]) {
        let size = u32::try_from(content.len() + 4).expect("a short frame");
        let mut frame = size.to_be_bytes().to_vec();
        frame.extend(kind.to_be_bytes());
        frame.extend(content);
        self.raw(&frame);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the client reads");
    }

    /// Closes so that the client sees a reset: with its bytes unread.
    pub(super) fn reset(self) {
        let stream = self.stream.into_inner();
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO))
            .expect("an open socket");
    }
}

/// The id of a message with this name.
pub(super) fn id(name: &str) -> String {
    format!("{name:_<16}")
}

/// Answers requests of lookups, one connection at a time, until `count` have been answered; says
/// what they were.
pub(super) fn serve_http(listener: &TcpListener, answers: &[&str]) -> Vec<String> {
    let mut seen = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("an open socket"));
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a request") > 0, "{head}");
        }
        seen.push(head);
        let length = answer.len();
        let reply = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{answer}"
        );
        stream.write_all(reply.as_bytes()).expect("the client reads");
    }
    seen
}
