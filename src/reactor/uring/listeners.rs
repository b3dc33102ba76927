//! Listening sockets of a shard: one multishot accept each, and a rest when the kernel refuses.
#![expect(unsafe_code, reason = "operations are given to the kernel and descriptors taken here")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::types::{Fd, Timespec};
use io_uring::{cqueue, opcode};

use super::super::{Completion, Errno, ListenerIndex};
use super::Uring;
use super::user_data::{Operation, UserData};
use crate::limits;

static BACK_OFF: Timespec = Timespec::new().nsec(limits::ACCEPT_BACK_OFF_NS);

/// A listener; its accept is armed, or it rests, until it is removed.
pub(super) struct Listener {
    socket: OwnedFd,
    pub(super) armed: bool,
    removed: bool,
}

/// By index; `None` once removed and done with.
pub(super) type Listeners = Vec<Option<Listener>>;

/// Closes the connection of an accept that nobody waits for any more.
pub(super) fn discard(entry: &cqueue::Entry) {
    let user_data = UserData::unpack(entry.user_data());
    if user_data.is_some_and(|user_data| user_data.operation == Operation::Accept) {
        drop(accepted_socket(entry));
    }
}

/// The socket of an accept's completion, unless it failed. To be called once per completion.
fn accepted_socket(entry: &cqueue::Entry) -> Option<OwnedFd> {
    // SAFETY: the kernel has made this descriptor for us and told nobody else; a completion is
    // popped once.
    (entry.result() >= 0).then(|| unsafe { OwnedFd::from_raw_fd(entry.result()) })
}

impl Uring {
    /// Takes over a listening socket and accepts from it.
    pub fn add_listener(&mut self, socket: OwnedFd) -> ListenerIndex {
        let index = u32::try_from(self.listeners.len()).expect("listeners are few");
        self.listeners.push(Some(Listener { socket, armed: false, removed: false }));
        self.arm_accept(index);
        ListenerIndex(index)
    }

    /// Stops accepting. Connections accepted but not taken yet are closed; the listening sockets
    /// close as soon as the kernel is done with them.
    pub fn remove_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            let Some(listener) = &mut self.listeners[index] else { continue };
            listener.removed = true;
            if listener.armed {
                let index = u32::try_from(index).expect("listeners are few");
                self.cancel(UserData::of_reactor(Operation::Accept, index));
            } else {
                self.listeners[index] = None;
            }
        }
    }

    /// What an accept's completion means.
    pub(super) fn accepted(&mut self, index: u32, entry: &cqueue::Entry) -> Option<Completion> {
        let more = cqueue::more(entry.flags());
        let socket = accepted_socket(entry);
        let listener = self.listeners.get_mut(index as usize)?.as_mut()?;
        listener.armed = more;
        if listener.removed {
            if !more {
                self.listeners[index as usize] = None;
            }
            return None;
        }
        let listener = ListenerIndex(index);
        let Some(socket) = socket else { return self.accept_failed(listener, -entry.result()) };
        // Hazard 5: it may end although it went well.
        if !more {
            self.arm_accept(index);
        }
        self.counters.accepted += 1;
        Some(Completion::Accepted { listener, socket })
    }

    /// The rest of a listener is over.
    pub(super) fn back_off_ended(&mut self, index: u32) {
        if self.listeners.get(index as usize).is_some_and(Option::is_some) {
            self.arm_accept(index);
        }
    }

    fn accept_failed(&mut self, listener: ListenerIndex, errno: i32) -> Option<Completion> {
        // The connection was gone before it was accepted, or the call was disturbed.
        if matches!(errno, libc::ECONNABORTED | libc::EPROTO | libc::EINTR) {
            self.arm_accept(listener.0);
            return None;
        }
        let user_data = UserData::of_reactor(Operation::BackOff, listener.0).pack();
        let entry = opcode::Timeout::new(&raw const BACK_OFF).build().user_data(user_data);
        // SAFETY: the time lies in a static.
        unsafe { self.queue.push(entry) };
        self.counters.accepts_failed += 1;
        Some(Completion::AcceptFailed { listener, error: Errno(errno) })
    }

    fn arm_accept(&mut self, index: u32) {
        let Some(Some(listener)) = self.listeners.get_mut(index as usize) else { return };
        listener.armed = true;
        let entry = opcode::AcceptMulti::new(Fd(listener.socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(UserData::of_reactor(Operation::Accept, index).pack());
        // SAFETY: it refers to no memory, since it asks for no address.
        unsafe { self.queue.push(entry) };
    }
}
