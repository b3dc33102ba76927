//! The io_uring driver: sockets and listeners of one shard on one ring.
//!
//! Every operation's user data names what it was for and which generation of the socket asked
//! ([`user_data`]); `complete.rs` turns the kernel's answers into completions.
#![expect(unsafe_code, reason = "operations are given to the kernel here")]

mod complete;
mod files;
mod listeners;
mod queue;
#[cfg(test)]
mod tests;
mod user_data;
mod wake;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{opcode, squeue};

use super::buffers::{BUFFER_GROUP, Buffers};
use super::files::Files;
use super::send_buffer::Remaining;
use super::sockets::{Closing, Receive, Sockets};
use super::{
    BufferMode, Chunk, Completion, Counters, ReactorOptions, SendBuffer, SetupError, Token,
};
use crate::limits;
use listeners::Listeners;
use queue::Queue;
use user_data::{Operation, UserData};
use wake::Wake;
pub use wake::{ControlWaker, WakeHandle};

static LINGER: Timespec = Timespec::new().sec(limits::LINGER_S);

/// A reactor on io_uring. It stays on the thread that built it.
///
/// Hazard 8: a ring has one owner. Nothing here is `Send`, and no other part of the process is
/// given the ring; peers reach it only through [`WakeHandle`] and [`ControlWaker`].
pub struct Uring {
    queue: Queue,
    buffers: ManuallyDrop<Buffers>,
    sockets: ManuallyDrop<Sockets>,
    files: ManuallyDrop<Files>,
    listeners: Listeners,
    wake: Wake,
    /// Sockets whose receive found no buffer, oldest first. Some may have been stopped or closed
    /// since: their state tells.
    starved: VecDeque<Token>,
    /// Sockets whose receive was stopped, and whose caller has not been told yet.
    stopped: Vec<Token>,
    counters: Counters,
}

impl Uring {
    /// Builds a reactor on the calling thread, which has to be the one that runs it.
    ///
    /// # Errors
    ///
    /// What the kernel refused; [`super::probe::check`] explains it to an operator.
    pub fn new(options: ReactorOptions) -> Result<Self, SetupError> {
        let queue = Queue::new(options.submission_entries, options.completion_entries)?;
        let buffers = Buffers::register(
            &queue.submitter(),
            options.buffer_mode,
            options.buffer_count,
            options.buffer_bytes,
        )
        .map_err(SetupError::at(match options.buffer_mode {
            BufferMode::Incremental => "register incremental receive buffers (Linux 6.12)",
            BufferMode::Whole => "register receive buffers (Linux 5.19)",
        }))?;
        let wake = Wake::new(queue.descriptor())?;
        let mut uring = Self {
            queue,
            buffers: ManuallyDrop::new(buffers),
            sockets: ManuallyDrop::new(Sockets::default()),
            files: ManuallyDrop::new(Files::default()),
            listeners: Listeners::default(),
            wake,
            starved: VecDeque::new(),
            stopped: Vec::new(),
            counters: Counters::default(),
        };
        uring.arm_eventfd();
        Ok(uring)
    }

    /// Takes over a connected socket. It is not read from until
    /// [`start_receive`](Self::start_receive).
    ///
    /// # Panics
    ///
    /// When the shard has [`limits::SOCKETS_PER_SHARD_MAX`] sockets.
    pub fn add_socket(&mut self, socket: OwnedFd) -> Token {
        self.sockets.insert(socket)
    }

    /// Starts delivering the socket's bytes. Does nothing when a receive is started already:
    /// one that is being stopped has to be reported as ended first.
    pub fn start_receive(&mut self, token: Token) {
        let Some(socket) = self.sockets.find_open(token) else { return };
        if socket.receive == Receive::Idle && !self.stopped.contains(&token) {
            self.arm_receive(token);
        }
    }

    /// Stops delivering. Bytes may still come before the `ReceiveEnded` that says it took effect;
    /// all later ones stay in the socket. Does nothing when no receive is started.
    pub fn stop_receive(&mut self, token: Token) {
        if self.is_open(token) {
            self.stop(token);
        }
    }

    /// Sends a buffer; it comes back with [`Completion::Sent`] when all of it is with the kernel or
    /// the connection has failed. Short sends are continued.
    ///
    /// # Errors
    ///
    /// The buffer, when the token is closed, when a send is outstanding, or when it is empty.
    pub fn send(&mut self, token: Token, buffer: SendBuffer) -> Result<(), SendBuffer> {
        let Some(socket) = self.sockets.find_open(token) else { return Err(buffer) };
        if socket.sending.is_some() || buffer.is_empty() {
            return Err(buffer);
        }
        socket.sending = Some(buffer);
        socket.sent = 0;
        self.submit_send(token);
        Ok(())
    }

    /// Whether the token is open.
    pub fn is_open(&self, token: Token) -> bool {
        self.sockets.is_open(token)
    }

    /// Gives the socket away, for another thread to go on with. Only when nothing is outstanding:
    /// its receive has ended, and so has its send; otherwise, or when the token is closed, `None`.
    pub fn detach(&mut self, token: Token) -> Option<OwnedFd> {
        let socket = self.sockets.find_open(token)?;
        if socket.is_outstanding() || socket.receive != Receive::Idle {
            return None;
        }
        self.stopped.retain(|stopped| *stopped != token);
        self.sockets.remove(token).map(|socket| socket.descriptor)
    }

    /// Closes the socket. The token is dead from here on: nothing more is reported of it. A send
    /// that is outstanding may finish, within [`limits::LINGER_S`] seconds.
    pub fn close(&mut self, token: Token) {
        let Some(socket) = self.sockets.find_open(token) else { return };
        let lingers = socket.sending.is_some();
        socket.closing = if lingers { Closing::Lingering } else { Closing::Waiting };
        self.stop(token);
        self.stopped.retain(|stopped| *stopped != token);
        if lingers {
            let user_data = UserData::of_socket(Operation::Linger, token).pack();
            let entry = opcode::Timeout::new(&raw const LINGER).build().user_data(user_data);
            // SAFETY: the time lies in a static.
            unsafe { self.queue.push(entry) };
        }
        self.finish_close(token);
    }

    /// Closes the socket and cuts off an outstanding send. Also ends the patience of an earlier
    /// [`close`](Self::close).
    pub fn abort(&mut self, token: Token) {
        self.close(token);
        let Some(socket) = self.sockets.find(token) else { return };
        let lingering = socket.closing == Closing::Lingering;
        if socket.closing == Closing::Aborted {
            return;
        }
        socket.closing = Closing::Aborted;
        // Ends a send that waits for room, and a receive. The peer may be gone already, in which
        // case they have ended by themselves.
        let _ = rustix::net::shutdown(&socket.descriptor, rustix::net::Shutdown::Both);
        self.cancel(UserData::of_socket(Operation::Send, token));
        if lingering {
            self.cancel(UserData::of_socket(Operation::Linger, token));
        }
    }

    /// The bytes of a chunk.
    ///
    /// # Panics
    ///
    /// When the chunk is of another reactor.
    pub fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.buffers.bytes(chunk)
    }

    /// Takes a chunk back, so that the kernel can receive into its place again.
    ///
    /// # Panics
    ///
    /// When the chunk is of another reactor.
    pub fn recycle(&mut self, chunk: Chunk) {
        self.buffers.recycle(chunk);
    }

    /// The one system call of a turn: gives the kernel everything asked for, then waits until there
    /// is a completion or `timeout` is over (`None`: for as long as it takes). With a timeout of
    /// zero, or with completions not taken yet, it does not wait. Returns early on a signal.
    ///
    /// # Errors
    ///
    /// Only those after which the ring cannot be used, such as completions lost by the kernel.
    pub fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.buffers.publish();
        self.feed_starved();
        let has_news = !self.stopped.is_empty() || self.files.has_news();
        let waiting = if has_news { Some(Duration::ZERO) } else { timeout };
        self.queue.enter(waiting, &mut self.counters)
    }

    /// The next completion, or `None` when the turn's are all taken.
    #[expect(clippy::should_implement_trait, reason = "an iterator would borrow the reactor")]
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            let known = self.next_stopped().or_else(|| self.next_file());
            if known.is_some() {
                return known;
            }
            let entry = self.queue.pop()?;
            if let Some(completion) = self.translate(&entry) {
                return Some(completion);
            }
        }
    }

    /// What has been done since the reactor was built.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sockets the reactor holds, closing ones included.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Asks the kernel which operations it knows.
    pub(super) fn register_probe(&self, probe: &mut io_uring::Probe) -> io::Result<()> {
        self.queue.submitter().register_probe(probe)
    }

    /// Starts a multishot receive on a socket that has none.
    fn arm_receive(&mut self, token: Token) {
        let Some(socket) = self.sockets.find(token) else { return };
        socket.receive = Receive::Armed;
        let descriptor = Fd(socket.descriptor.as_raw_fd());
        let user_data = UserData::of_socket(Operation::Receive, token).pack();
        let entry = opcode::RecvMulti::new(descriptor, BUFFER_GROUP).build().user_data(user_data);
        // SAFETY: it writes only into the registered buffers, which live until every operation has
        // ended.
        unsafe { self.queue.push(entry) };
    }

    /// Ends the socket's receive, of which the caller hears through `stopped` or a completion.
    fn stop(&mut self, token: Token) {
        let Some(socket) = self.sockets.find(token) else { return };
        match socket.receive {
            Receive::Idle | Receive::Stopping => {}
            Receive::Armed => {
                socket.receive = Receive::Stopping;
                self.cancel(UserData::of_socket(Operation::Receive, token));
            }
            Receive::Starved => {
                socket.receive = Receive::Idle;
                self.stopped.push(token);
            }
        }
    }

    /// Starts receives again that had found no buffer: at most as many as there are buffers, since
    /// each may take one at once.
    fn feed_starved(&mut self) {
        let mut buffers = self.buffers.available();
        while buffers > 0 {
            let Some(token) = self.starved.pop_front() else { return };
            let socket = self.sockets.find(token);
            if socket.is_some_and(|socket| socket.receive == Receive::Starved) {
                self.arm_receive(token);
                buffers -= 1;
            }
        }
    }

    /// Gives the kernel what is left of the socket's outstanding send.
    fn submit_send(&mut self, token: Token) {
        let Some(socket) = self.sockets.find(token) else { return };
        let Some(buffer) = &mut socket.sending else { return };
        let descriptor = Fd(socket.descriptor.as_raw_fd());
        let user_data = UserData::of_socket(Operation::Send, token).pack();
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = match buffer.remaining(socket.sent) {
            Remaining::Plain(bytes, length) => {
                opcode::Send::new(descriptor, bytes, length).flags(FLAGS).build()
            }
            Remaining::Scattered(header) => {
                opcode::SendMsg::new(descriptor, header).flags(FLAGS.cast_unsigned()).build()
            }
        };
        self.counters.sends += 1;
        // SAFETY: hazard 1. The bytes are the buffer's, which stays in `sending`, unchanged, until
        // the completion of this operation takes it out.
        unsafe { self.queue.push(entry.user_data(user_data)) };
    }

    /// Asks the kernel to end an operation. It answers only if there is nothing to end, which is
    /// no news: the operation's own completion tells, and may still deliver data (hazard 2).
    fn cancel(&mut self, target: UserData) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target.pack()))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(UserData::of_reactor(Operation::Cancel, 0).pack());
        // SAFETY: it refers to no memory.
        unsafe { self.queue.push(entry) };
    }

    /// Closes the descriptor of a closing socket once nothing is outstanding. Hazard 3: no
    /// operation that names the descriptor is left anywhere by then, so its number may be used
    /// again at once.
    fn finish_close(&mut self, token: Token) {
        let Some(socket) = self.sockets.find(token) else { return };
        if socket.closing == Closing::No || socket.is_outstanding() {
            return;
        }
        if socket.closing == Closing::Lingering {
            self.cancel(UserData::of_socket(Operation::Linger, token));
        }
        drop(self.sockets.remove(token));
    }
}

impl Drop for Uring {
    /// Hazard 1: cancels everything and waits for the final completions before memory goes. If the
    /// kernel does not let go of an operation, the memory is leaked rather than freed under it.
    fn drop(&mut self) {
        self.queue.cancel_all(|entry| {
            listeners::discard(&entry);
            files::discard(&mut self.files, &entry);
        });
        if self.queue.in_flight() > 0 {
            return;
        }
        // It fails only if it has been done; the ring is closed right after this anyway.
        let _ = self.queue.submitter().unregister_buf_ring(BUFFER_GROUP);
        // SAFETY: dropped once, here, and not used afterwards; no operation refers to it.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.sockets) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.files) };
    }
}
