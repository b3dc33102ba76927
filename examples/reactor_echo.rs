//! The reactor alone: takes bytes in and answers ten bytes for each complete request of a fixed
//! size. What it costs is what a shard pays for its sockets before it does any work; compare it
//! with the daemon to see what the rest costs.
//!
//! ```text
//! cargo run --release --example reactor_echo -- [port] [request bytes] [options]
//!   whole                 one receive per buffer, as on kernels before 6.12
//!   buffers=N bytes=N     other receive buffers than the measured ones
//!   copy                  copy every request once into a 64 MiB arena, as a broker would
//!   cpu=N                 pin to a CPU (default 0)
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use ringmain::reactor::{
    BufferMode, Chunk, Completion, ReactorOptions, SendBuffer, Token, Uring, affinity, listen,
};

const ANSWER: &[u8; 10] = b"\0\0\0\x06\0\0\0\0OK";
const MAGIC_BYTES: usize = 4;
const ARENA_BYTES: usize = 64 << 20;

/// One connection: what it owes in answers, and what it may send.
struct Connection {
    token: Token,
    /// Bytes until the current request is complete.
    missing: usize,
    answers: SendBuffer,
    /// The buffer to use next, while the other is being sent.
    spare: Option<SendBuffer>,
    dirty: bool,
}

struct Server {
    reactor: Uring,
    connections: Vec<Option<Connection>>,
    dirty: VecDeque<Token>,
    request_bytes: usize,
    arena: Vec<u8>,
    arena_end: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(name));
        value.and_then(|value| value.parse::<u32>().ok())
    };
    let position = |at: usize, default: usize| {
        arguments.get(at).and_then(|argument| argument.parse().ok()).unwrap_or(default)
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let mode = if has("whole") { BufferMode::Whole } else { BufferMode::Incremental };
    let mut options = ReactorOptions::for_mode(mode);
    if let Some(count) = number("buffers=") {
        options.buffer_count = u16::try_from(count)?;
    }
    if let Some(bytes) = number("bytes=") {
        options.buffer_bytes = bytes;
    }
    affinity::pin_to(number("cpu=").unwrap_or(0) as usize)?;
    let port = u16::try_from(position(0, 4150))?;
    let mut reactor = Uring::new(options)?;
    for listener in listen::bind_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 1)? {
        reactor.add_listener(listener);
    }
    let mut server = Server {
        reactor,
        connections: Vec::new(),
        dirty: VecDeque::new(),
        request_bytes: position(1, 214),
        arena: if has("copy") { vec![1; ARENA_BYTES] } else { Vec::new() },
        arena_end: 0,
    };
    loop {
        server.reactor.enter(None)?;
        server.turn();
    }
}

impl Server {
    fn turn(&mut self) {
        while let Some(completion) = self.reactor.next() {
            match completion {
                Completion::Accepted { socket, .. } => {
                    let token = self.reactor.add_socket(socket);
                    self.reactor.start_receive(token);
                    self.connect(token);
                }
                Completion::Received { token, chunk } => self.received(token, chunk),
                Completion::Sent { token, buffer, .. } => {
                    self.sent(token, buffer);
                }
                Completion::ReceiveEnded { token, .. } => {
                    self.connections[token.index()] = None;
                    self.reactor.close(token);
                }
                Completion::AcceptFailed { error, .. } => eprintln!("accept: {error}"),
                Completion::Woken | Completion::File { .. } | Completion::FilesBuffered { .. } => {}
            }
        }
        while let Some(token) = self.dirty.pop_front() {
            self.flush(token);
        }
    }

    fn connect(&mut self, token: Token) {
        let index = token.index();
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection {
            token,
            missing: MAGIC_BYTES + self.request_bytes,
            answers: SendBuffer::new(),
            spare: Some(SendBuffer::new()),
            dirty: false,
        });
    }

    fn received(&mut self, token: Token, chunk: Chunk) {
        let bytes = self.reactor.bytes(&chunk);
        if !self.arena.is_empty() {
            if self.arena_end + bytes.len() > self.arena.len() {
                self.arena_end = 0;
            }
            let end = self.arena_end + bytes.len();
            self.arena[self.arena_end..end].copy_from_slice(bytes);
            self.arena_end = end;
        }
        let mut left = bytes.len();
        self.reactor.recycle(chunk);
        let Some(connection) = &mut self.connections[token.index()] else { return };
        while left >= connection.missing {
            left -= connection.missing;
            connection.missing = self.request_bytes;
            connection.answers.output.bytes.extend_from_slice(ANSWER);
        }
        connection.missing -= left;
        if !connection.dirty && !connection.answers.is_empty() {
            connection.dirty = true;
            self.dirty.push_back(token);
        }
    }

    fn flush(&mut self, token: Token) {
        let Some(connection) = &mut self.connections[token.index()] else { return };
        connection.dirty = false;
        if connection.token != token || connection.answers.is_empty() {
            return;
        }
        // Without a spare a send is outstanding; its end comes back here.
        let Some(spare) = connection.spare.take() else { return };
        let answers = std::mem::replace(&mut connection.answers, spare);
        if let Err(buffer) = self.reactor.send(token, answers) {
            connection.spare = Some(buffer);
        }
    }

    fn sent(&mut self, token: Token, mut buffer: SendBuffer) {
        buffer.clear();
        let Some(connection) = &mut self.connections[token.index()] else { return };
        connection.spare = Some(buffer);
        if !connection.dirty && !connection.answers.is_empty() {
            connection.dirty = true;
            self.dirty.push_back(token);
        }
    }
}
