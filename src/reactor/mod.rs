//! The driver under a shard: sockets, timers of the wait, wake-ups. It owns every system call on a
//! shard's thread and all `unsafe` of the project.
//!
//! The seam is *completion-shaped*: a shard asks for operations on [`Token`]s, calls
//! [`Uring::enter`] once per turn, and takes [`Completion`]s one at a time until there are none.
//! Nothing here calls back. A driver on another interface, or a simulator, offers the same calls
//! and the same contract:
//!
//! * The reactor owns every byte the kernel may read or write until the kernel is done with it:
//!   received bytes live in its buffers and are lent through a [`Chunk`]; a [`SendBuffer`] is
//!   given to it by value and comes back with [`Completion::Sent`].
//! * For one token, [`Completion::Received`] arrive in stream order, and after
//!   [`Completion::ReceiveEnded`] there is none until `start_receive` is called again. Every
//!   started receive ends with exactly one `ReceiveEnded`, unless the token is closed first.
//! * At most one send is outstanding per token, and it ends with exactly one `Sent`, unless the
//!   token is closed first.
//! * Every request for a file ends with exactly one [`Completion::File`], with the buffer that it
//!   brought. Requests outstanding at the same time are executed in any order.
//! * After `close`, `abort` or `detach` no completion for that token surfaces.
//! * Every chunk is given back with `recycle`, at the latest in the turn after it was received:
//!   they are few, and shared by all sockets of the shard.

pub mod affinity;
mod buffers;
mod files;
pub mod listen;
pub mod mailbox;
pub mod memory;
pub mod probe;
mod send_buffer;
mod sockets;
mod uring;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use crate::limits;
use ringmain_storage::request::{self as storage, LogKey};

pub use buffers::Chunk;
pub use send_buffer::SendBuffer;
pub use uring::{ControlWaker, Uring, WakeHandle};

/// A socket of one reactor, until it is closed or detached. A token that outlives its socket is
/// harmless: calls with it do nothing, even when the place has been given to another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// A small number, unique among the open sockets of this reactor and used again later: fit to
    /// index the table of connections beside the reactor.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A listening socket of one reactor, in the order they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerIndex(u32);

impl ListenerIndex {
    /// 0 for the listener that was added first, and so on.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A peer shard that this reactor can wake, see [`Uring::add_peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerIndex(u32);

/// Something that has happened, in the order the kernel said so.
#[derive(Debug)]
pub enum Completion {
    /// A peer connected.
    Accepted {
        /// Where it connected to.
        listener: ListenerIndex,
        /// The new socket, close-on-exec and blocking, not yet known to the reactor.
        socket: OwnedFd,
    },
    /// The kernel refused a connection (usually: too many open files). The listener rests for
    /// [`limits::ACCEPT_BACK_OFF_NS`] and goes on by itself.
    AcceptFailed {
        /// The listener that rests.
        listener: ListenerIndex,
        /// Why.
        error: Errno,
    },
    /// Bytes arrived: at least one. Give the chunk back with `recycle`.
    Received {
        /// The socket.
        token: Token,
        /// Where its bytes are.
        chunk: Chunk,
    },
    /// Nothing more will be received from the socket, unless `start_receive` is called again.
    ReceiveEnded {
        /// The socket; it is still open for sending.
        token: Token,
        /// Why.
        cause: ReceiveEnd,
    },
    /// A send has ended.
    Sent {
        /// The socket.
        token: Token,
        /// What was sent, to be cleared and used again.
        buffer: SendBuffer,
        /// Whether all of it went to the kernel; on an error any part of it may have.
        result: Result<(), Errno>,
    },
    /// A peer shard or the control thread has put something into a mailbox. Wake-ups coalesce.
    Woken,
    /// A request for a file of a log has ended; in no order among the requests outstanding.
    File {
        /// Whose request it was.
        log: LogKey,
        /// The answer.
        completion: storage::Completion,
    },
    /// The files of this log, and perhaps of others, lie on a filesystem that has no direct I/O and
    /// are read and written through the page cache, which costs more. Said once.
    FilesBuffered {
        /// The first log it was noticed of.
        log: LogKey,
    },
}

/// Why a receive has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer closed its sending side.
    PeerClosed,
    /// The connection failed.
    Error(Errno),
    /// `stop_receive` took effect: bytes that arrive later stay in the socket.
    Stopped,
}

/// An error number of Linux, always positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

/// How receive buffers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferMode {
    /// Receives fill a buffer from front to back (`IOU_PBUF_RING_INC`, Linux 6.12).
    Incremental,
    /// Each receive takes a whole buffer.
    Whole,
}

/// Sizes of one reactor.
#[derive(Debug, Clone, Copy)]
pub struct ReactorOptions {
    /// Submissions held before the kernel must be entered.
    pub submission_entries: u32,
    /// Completions held for a turn; at least `submission_entries`.
    pub completion_entries: u32,
    /// How receive buffers are used; the kernel must know it, see [`probe::check`].
    pub buffer_mode: BufferMode,
    /// Receive buffers: a power of two, at most 32 768.
    pub buffer_count: u16,
    /// Bytes of each receive buffer, at least 1.
    pub buffer_bytes: u32,
}

impl ReactorOptions {
    /// The measured sizes for `mode`.
    pub fn for_mode(mode: BufferMode) -> Self {
        let (buffer_count, buffer_bytes) = match mode {
            BufferMode::Incremental => (limits::RECEIVE_BUFFERS, limits::RECEIVE_BUFFER_BYTES),
            BufferMode::Whole => {
                (limits::WHOLE_RECEIVE_BUFFERS, limits::WHOLE_RECEIVE_BUFFER_BYTES)
            }
        };
        Self {
            submission_entries: limits::RING_SUBMISSION_ENTRIES,
            completion_entries: limits::RING_COMPLETION_ENTRIES,
            buffer_mode: mode,
            buffer_count,
            buffer_bytes,
        }
    }
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self::for_mode(BufferMode::Incremental)
    }
}

/// Why a reactor could not be built.
#[derive(Debug)]
pub struct SetupError {
    /// What was attempted, in words that follow "could not".
    pub step: &'static str,
    /// What the kernel answered.
    pub error: io::Error,
}

impl SetupError {
    fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step, error }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring: could not {}: {}", self.step, self.error)
    }
}

impl std::error::Error for SetupError {}

/// What a reactor has done since it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls that entered the ring: one per turn, and one per full submission queue.
    pub enters: u64,
    /// Turns after which completions waited in kernel memory because the queue was full. Anything
    /// but 0 says that the completion queue is too small.
    pub completion_overflows: u64,
    /// Times the kernel had no memory or room to take submissions; they were kept and tried again.
    pub submissions_refused: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts refused by the kernel.
    pub accepts_failed: u64,
    /// Receives that delivered bytes.
    pub receives: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Receives that ended because no buffer was free, and were started again.
    pub buffers_exhausted: u64,
    /// Sends given to the kernel, continuations included.
    pub sends: u64,
    /// Bytes the kernel took from sends.
    pub sent_bytes: u64,
    /// Sends the kernel took in part and that were continued.
    pub short_sends: u64,
    /// Closed sockets whose last send was cut off after [`limits::LINGER_S`].
    pub lingers_cut: u64,
    /// Wake-ups posted to peer shards.
    pub wakes: u64,
    /// Operations on files given to the kernel, repeated ones included.
    pub file_operations: u64,
    /// Bytes read from files.
    pub file_read_bytes: u64,
    /// Bytes written to files.
    pub file_written_bytes: u64,
    /// Reads and writes the kernel did in part and that were continued.
    pub file_continuations: u64,
    /// Operations on files that were interrupted or did not run, and were tried again.
    pub file_retries: u64,
}
