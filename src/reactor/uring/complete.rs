//! From the kernel's completions to the reactor's.

use io_uring::cqueue;

use super::super::buffers::Chunk;
use super::super::sockets::{Closing, Receive};
use super::super::{Completion, Errno, ReceiveEnd, Token};
use super::Uring;
use super::user_data::{Operation, UserData};

impl Uring {
    /// What a completion of the kernel means to the caller, if anything.
    pub(super) fn translate(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let user_data = UserData::unpack(entry.user_data());
        let Some(user_data) = user_data else {
            debug_assert!(false, "a completion nobody asked for");
            return None;
        };
        match user_data.operation {
            Operation::Receive => self.received(user_data.token(), entry),
            Operation::Send => self.sent(user_data.token(), entry.result()),
            Operation::Accept => self.accepted(user_data.index, entry),
            Operation::BackOff => {
                self.back_off_ended(user_data.index);
                None
            }
            Operation::Linger => {
                self.linger_ended(user_data.token());
                None
            }
            Operation::Eventfd => {
                self.note_eventfd();
                Some(Completion::Woken)
            }
            Operation::Woken => Some(Completion::Woken),
            Operation::Wake => {
                self.wake_otherwise(user_data.index);
                None
            }
            Operation::Cancel => None,
            Operation::File => {
                self.file_step_ended(user_data.index, entry.result());
                None
            }
        }
    }

    /// Tells of a receive that was stopped without a completion of its own.
    pub(super) fn next_stopped(&mut self) -> Option<Completion> {
        let token = self.stopped.pop()?;
        Some(Completion::ReceiveEnded { token, cause: ReceiveEnd::Stopped })
    }

    fn received(&mut self, token: Token, entry: &cqueue::Entry) -> Option<Completion> {
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        // Hazard 2: whatever has become of the socket, a buffer that comes with the completion is
        // ours again.
        let chunk = cqueue::buffer_select(entry.flags()).map(|buffer| {
            let length = u32::try_from(result).unwrap_or(0);
            self.buffers.take(buffer, length, cqueue::buffer_more(entry.flags()))
        });
        let Some(chunk) = chunk else { return self.receive_ended(token, result, more) };
        if chunk.is_empty() {
            self.buffers.recycle(chunk);
            return self.receive_ended(token, result, more);
        }
        self.received_chunk(token, chunk, more)
    }

    fn received_chunk(&mut self, token: Token, chunk: Chunk, more: bool) -> Option<Completion> {
        let state = self.sockets.find(token).map(|socket| (socket.closing, socket.receive));
        let Some((Closing::No, receive)) = state else {
            // Hazard 2: data for a socket that its caller has closed.
            self.buffers.recycle(chunk);
            if !more {
                self.receive_is_over(token);
            }
            return None;
        };
        self.counters.receives += 1;
        self.counters.received_bytes += chunk.len() as u64;
        if !more {
            // Hazard 5: a multishot receive may end with its last bytes, without an error.
            self.receive_is_over(token);
            if receive == Receive::Stopping {
                self.stopped.push(token);
            } else {
                self.arm_receive(token);
            }
        }
        Some(Completion::Received { token, chunk })
    }

    /// A receive completed without bytes: it is over, one way or another.
    fn receive_ended(&mut self, token: Token, result: i32, more: bool) -> Option<Completion> {
        debug_assert!(!more, "a receive goes on after result {result}");
        let socket = self.sockets.find(token)?;
        let (closing, receive) = (socket.closing, socket.receive);
        self.receive_is_over(token);
        if closing != Closing::No {
            return None;
        }
        let stopping = receive == Receive::Stopping;
        let cause = match -result {
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR if stopping => ReceiveEnd::Stopped,
            libc::ENOBUFS => {
                self.counters.buffers_exhausted += 1;
                self.starve(token);
                return None;
            }
            libc::EINTR => {
                self.arm_receive(token);
                return None;
            }
            0 => ReceiveEnd::PeerClosed,
            errno => ReceiveEnd::Error(Errno(errno)),
        };
        Some(Completion::ReceiveEnded { token, cause })
    }

    /// The kernel owes the socket no further receive.
    fn receive_is_over(&mut self, token: Token) {
        if let Some(socket) = self.sockets.find(token) {
            socket.receive = Receive::Idle;
            self.finish_close(token);
        }
    }

    fn starve(&mut self, token: Token) {
        if let Some(socket) = self.sockets.find(token) {
            socket.receive = Receive::Starved;
            self.starved.push_back(token);
        }
    }

    fn sent(&mut self, token: Token, result: i32) -> Option<Completion> {
        let socket = self.sockets.find(token)?;
        let length = socket.sending.as_ref()?.len();
        let outcome = match result {
            1.. => {
                let bytes = result.unsigned_abs() as usize;
                socket.sent += bytes;
                self.counters.sent_bytes += bytes as u64;
                Ok(())
            }
            // Nothing of something was taken: going on would never end.
            0 => Err(Errno(libc::EPIPE)),
            _ if -result == libc::EINTR => Ok(()),
            _ => Err(Errno(-result)),
        };
        if outcome.is_ok() && socket.sent < length && socket.closing != Closing::Aborted {
            self.counters.short_sends += 1;
            self.submit_send(token);
            return None;
        }
        let open = socket.closing == Closing::No;
        let buffer = socket.sending.take()?;
        if open {
            return Some(Completion::Sent { token, buffer, result: outcome });
        }
        self.finish_close(token);
        None
    }

    pub(super) fn linger_ended(&mut self, token: Token) {
        let Some(socket) = self.sockets.find(token) else { return };
        if socket.closing == Closing::Lingering && socket.sending.is_some() {
            self.counters.lingers_cut += 1;
            self.abort(token);
        }
    }
}
