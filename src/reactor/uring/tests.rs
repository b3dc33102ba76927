//! The driver against real sockets. Nothing here waits for a time to pass: turns are taken until
//! what is expected has happened, or too many were silent.

mod closing;
mod disk_full;
mod files;
mod flow;
mod listening;
mod moving;
mod waking;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;

use super::*;
use crate::reactor::{Errno, ReceiveEnd};

/// How long one turn waits, and how many silent turns a test takes before it gives up.
const TURN: Duration = Duration::from_millis(100);
const SILENT_TURNS_MAX: usize = 200;

const MODES: [BufferMode; 2] = [BufferMode::Incremental, BufferMode::Whole];

/// A reactor and everything it has reported.
struct World {
    reactor: Uring,
    bytes: HashMap<Token, Vec<u8>>,
    ended: HashMap<Token, ReceiveEnd>,
    sent: Vec<(Token, SendBuffer, Result<(), Errno>)>,
    accepted: Vec<OwnedFd>,
    refused: Vec<Errno>,
    woken: usize,
    files: Vec<ringmain_storage::request::Completion>,
    buffered: Vec<ringmain_storage::request::LogKey>,
    /// Chunks are kept instead of recycled.
    hoards: bool,
    hoard: Vec<Chunk>,
}

impl World {
    /// Sizes at which every queue and buffer runs out at once.
    fn tiny(buffer_mode: BufferMode) -> Self {
        Self::new(ReactorOptions {
            submission_entries: 4,
            completion_entries: 8,
            buffer_mode,
            buffer_count: 2,
            buffer_bytes: 64,
        })
    }

    fn modest(buffer_mode: BufferMode) -> Self {
        Self::new(ReactorOptions {
            submission_entries: 64,
            completion_entries: 256,
            buffer_mode,
            buffer_count: 16,
            buffer_bytes: 4096,
        })
    }

    fn new(options: ReactorOptions) -> Self {
        Self {
            reactor: Uring::new(options).unwrap(),
            bytes: HashMap::new(),
            ended: HashMap::new(),
            sent: Vec::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
            woken: 0,
            files: Vec::new(),
            buffered: Vec::new(),
            hoards: false,
            hoard: Vec::new(),
        }
    }

    /// A socket of the reactor that receives, and its other end.
    fn connected(&mut self) -> (Token, UnixStream) {
        let (near, far) = pair();
        let token = self.reactor.add_socket(near);
        self.reactor.start_receive(token);
        (token, far)
    }

    /// Takes turns until `done`.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let mut silent = 0;
        while !done(self) {
            silent = if self.turn(TURN) == 0 { silent + 1 } else { 0 };
            assert!(silent < SILENT_TURNS_MAX, "nothing happens any more");
        }
    }

    /// One turn; returns how many completions there were.
    fn turn(&mut self, timeout: Duration) -> usize {
        self.reactor.enter(Some(timeout)).unwrap();
        let mut count = 0;
        while let Some(completion) = self.reactor.next() {
            self.note(completion);
            count += 1;
        }
        self.audit();
        count
    }

    fn note(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, chunk } => {
                assert!(!chunk.is_empty());
                assert!(!self.ended.contains_key(&token), "bytes after the end of {token:?}");
                let bytes = self.bytes.entry(token).or_default();
                bytes.extend_from_slice(self.reactor.bytes(&chunk));
                if self.hoards {
                    self.hoard.push(chunk);
                } else {
                    self.reactor.recycle(chunk);
                }
            }
            Completion::ReceiveEnded { token, cause } => {
                assert_eq!(self.ended.insert(token, cause), None, "{token:?} ended twice");
            }
            Completion::Sent { token, buffer, result } => self.sent.push((token, buffer, result)),
            Completion::Accepted { socket, .. } => self.accepted.push(socket),
            Completion::AcceptFailed { error, .. } => self.refused.push(error),
            Completion::Woken => self.woken += 1,
            Completion::File { completion, .. } => self.files.push(completion),
            Completion::FilesBuffered { log } => self.buffered.push(log),
        }
    }

    fn received(&self, token: Token) -> &[u8] {
        self.bytes.get(&token).map_or(&[], Vec::as_slice)
    }

    fn recycle_hoard(&mut self) {
        for chunk in self.hoard.drain(..) {
            self.reactor.recycle(chunk);
        }
    }

    /// Hazard 5, the watchdog: between turns every socket without an armed receive has a reason,
    /// and the kernel owes a completion for everything that is armed.
    fn audit(&mut self) {
        let mut owed = 0;
        for token in self.reactor.sockets.tokens() {
            let socket = self.reactor.sockets.find(token).unwrap();
            owed += u64::from(matches!(socket.receive, Receive::Armed | Receive::Stopping));
            owed += u64::from(socket.sending.is_some());
            assert!(socket.closing == Closing::No || socket.is_outstanding());
            if socket.receive == Receive::Starved {
                assert!(self.reactor.starved.contains(&token), "nobody feeds {token:?}");
            }
        }
        let in_flight = self.reactor.queue.in_flight();
        assert!(owed <= in_flight, "{owed} operations are awaited, {in_flight} in flight");
    }

    /// Takes turns until no socket is left and all buffers are with the kernel again.
    fn settles(&mut self) {
        self.until(|world| world.reactor.sockets() == 0);
        let buffers = self.reactor.buffers.available();
        assert_eq!(buffers, self.reactor.buffers.count(), "a buffer was lost");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.recycle_hoard();
    }
}

/// Two connected sockets; the second gives up after 20 s.
fn pair() -> (OwnedFd, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    far.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    (near.into(), far)
}

/// A part of one endless sequence in which no two places look alike.
fn sequence(start: usize, length: usize) -> Vec<u8> {
    (start..start + length)
        .map(|at| ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()[0])
        .collect()
}

fn buffer_of(bytes: Vec<u8>) -> SendBuffer {
    let mut buffer = SendBuffer::new();
    buffer.output.bytes = bytes;
    buffer
}
