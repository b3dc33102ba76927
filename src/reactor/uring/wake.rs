//! Waking a shard that waits in the kernel: by a message to its ring from another shard, by an
//! eventfd from any other thread.
#![expect(unsafe_code, reason = "operations are given to the kernel here")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::super::{PeerIndex, SetupError};
use super::Uring;
use super::user_data::{Operation, UserData};

/// Where the kernel puts the count it reads from an eventfd. Nobody looks at it, and it is never
/// freed, so any number of reads may be in flight.
static DISCARDED_COUNT: AtomicU64 = AtomicU64::new(0);

/// Wakes one shard from a thread that has no ring. Cheap to clone; works for as long as it exists,
/// also when the shard has ended.
#[derive(Clone)]
pub struct ControlWaker {
    shared: Arc<Shared>,
}

struct Shared {
    eventfd: OwnedFd,
    /// Set from a wake-up until the shard notices it: further ones in between need no system call.
    pending: AtomicBool,
}

impl ControlWaker {
    /// Makes the shard's `enter` return soon with [`Completion::Woken`]. Put the mail where the
    /// shard will look before calling this.
    ///
    /// [`Completion::Woken`]: super::super::Completion::Woken
    pub fn wake(&self) {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        // It could fail only if the count overflowed, which `pending` rules out.
        let _ = rustix::io::write(&self.shared.eventfd, &1_u64.to_ne_bytes());
    }
}

/// How one shard wakes another, see [`Uring::add_peer`].
#[derive(Clone)]
pub struct WakeHandle {
    /// A duplicate, so that the number cannot become somebody else's while a handle exists.
    ring: Arc<OwnedFd>,
    waker: ControlWaker,
}

#[cfg(test)]
impl WakeHandle {
    /// One that cannot post to the ring.
    pub(super) fn with_broken_ring(mut self) -> Self {
        let no_ring = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        self.ring = Arc::new(no_ring);
        self
    }
}

/// The waking side of a reactor.
pub(super) struct Wake {
    own: WakeHandle,
    peers: Vec<WakeHandle>,
}

impl Wake {
    pub(super) fn new(ring: BorrowedFd<'_>) -> Result<Self, SetupError> {
        // Blocking: the ring answers EAGAIN at once for a non-blocking one, where it should wait.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| SetupError::at("create an eventfd")(errno.into()))?;
        let ring = ring.try_clone_to_owned().map_err(SetupError::at("duplicate the descriptor"))?;
        let waker =
            ControlWaker { shared: Arc::new(Shared { eventfd, pending: AtomicBool::new(false) }) };
        Ok(Self { own: WakeHandle { ring: Arc::new(ring), waker }, peers: Vec::new() })
    }
}

impl Uring {
    /// For the control thread to wake this shard.
    pub fn control_waker(&self) -> ControlWaker {
        self.wake.own.waker.clone()
    }

    /// For peer shards to wake this one.
    pub fn wake_handle(&self) -> WakeHandle {
        self.wake.own.clone()
    }

    /// Names a peer shard, to be woken with [`wake`](Self::wake).
    pub fn add_peer(&mut self, handle: WakeHandle) -> PeerIndex {
        let index = u32::try_from(self.wake.peers.len()).expect("peers are as few as shards");
        self.wake.peers.push(handle);
        PeerIndex(index)
    }

    /// Wakes a peer shard with the next [`enter`](Self::enter): its own then returns with
    /// [`Completion::Woken`](super::super::Completion::Woken).
    ///
    /// # Panics
    ///
    /// When `peer` is of another reactor.
    pub fn wake(&mut self, peer: PeerIndex) {
        let ring = Fd(self.wake.peers[peer.0 as usize].ring.as_fd().as_raw_fd());
        let message = UserData::of_reactor(Operation::Woken, 0).pack();
        let entry = opcode::MsgRingData::new(ring, 0, message, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(UserData::of_reactor(Operation::Wake, peer.0).pack());
        self.counters.wakes += 1;
        // SAFETY: it refers to no memory.
        unsafe { self.queue.push(entry) };
    }

    /// A message to a peer's ring failed, usually because that ring was full or has ended: goes the
    /// other way, so that no wake-up is lost.
    pub(super) fn wake_otherwise(&self, peer: u32) {
        if let Some(handle) = self.wake.peers.get(peer as usize) {
            handle.waker.wake();
        }
    }

    /// Notes that the eventfd was read, and reads it again.
    pub(super) fn note_eventfd(&mut self) {
        // A read-modify-write, so that it sees what the thread that set the flag wrote before.
        self.wake.own.waker.shared.pending.swap(false, Ordering::AcqRel);
        self.arm_eventfd();
    }

    pub(super) fn arm_eventfd(&mut self) {
        let descriptor = Fd(self.wake.own.waker.shared.eventfd.as_raw_fd());
        let entry = opcode::Read::new(descriptor, DISCARDED_COUNT.as_ptr().cast(), 8)
            .build()
            .user_data(UserData::of_reactor(Operation::Eventfd, 0).pack());
        // SAFETY: it writes 8 bytes into a static that is never read.
        unsafe { self.queue.push(entry) };
    }
}
