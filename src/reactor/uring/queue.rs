//! The ring itself: submissions kept until the kernel takes them, the one system call, and
//! completions taken out in order.
#![expect(unsafe_code, reason = "the submission queue and the system calls of the ring")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, squeue};

use super::super::{Counters, SetupError};
use super::user_data::{Operation, UserData};

/// `IORING_REGISTER_RING_FDS` and `IORING_UNREGISTER_RING_FDS` of Linux.
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// How often `cancel_all` asks, and how long it waits for answers each time.
const CANCEL_ROUNDS: usize = 20;
const CANCEL_WAIT: Duration = Duration::from_millis(50);

/// A ring whose submissions never fail to be queued and whose completions are counted.
pub(super) struct Queue {
    ring: IoUring,
    /// The ring's place among the thread's registered rings, which saves the kernel a look-up per
    /// call. The `io-uring` crate remembers it only within one `Submitter`, which borrows the
    /// ring; hence our own system call.
    registered: Option<u32>,
    no_iowait: bool,
    /// Submissions that found the queue full, oldest first.
    backlog: VecDeque<squeue::Entry>,
    reaped: Vec<cqueue::Entry>,
    taken: usize,
    /// Operations whose final completion has not been popped.
    in_flight: u64,
}

/// `struct io_uring_getevents_arg` of Linux.
#[repr(C)]
struct GetEventsArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// `struct io_uring_rsrc_update` of Linux.
#[repr(C)]
struct ResourceUpdate {
    offset: u32,
    reserved: u32,
    descriptor: u64,
}

impl Queue {
    pub(super) fn new(submissions: u32, completions: u32) -> Result<Self, SetupError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions)
            // Hazard 7: a forked child must not see the rings.
            .dontfork()
            .build(submissions)
            .map_err(SetupError::at(
                "set up a ring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1)",
            ))?;
        let parameters = ring.params();
        // Hazard 4: without NODROP a full completion queue loses completions.
        if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
            let error = io::ErrorKind::Unsupported.into();
            return Err(SetupError { step: "find NODROP and EXT_ARG (Linux 5.11)", error });
        }
        let no_iowait = parameters.is_feature_no_iowait();
        let capacity = parameters.cq_entries() as usize;
        let mut queue = Self {
            ring,
            registered: None,
            no_iowait,
            backlog: VecDeque::new(),
            reaped: Vec::with_capacity(capacity),
            taken: 0,
            in_flight: 0,
        };
        queue.register_descriptor();
        Ok(queue)
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Operations whose final completion has not been popped.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Queues an operation for the next [`enter`](Self::enter).
    ///
    /// # Safety
    ///
    /// Memory that the operation refers to stays valid, and is neither read (where the kernel
    /// writes) nor written, until its final completion has been popped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        let user_data = UserData::unpack(entry.get_user_data());
        if user_data.is_some_and(|user_data| user_data.operation.always_completes()) {
            self.in_flight += 1;
        }
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        // Full: hand over what is there without waiting. What the kernel refuses now is offered
        // again by the next `enter`, in order.
        let _ = self.call(0, EnterFlags::empty(), ptr::null());
        self.backlog.push_back(entry);
        self.refill();
    }

    /// Gives the kernel what is queued, waits for a completion up to `timeout`, and takes out the
    /// completions there are. Does not wait while earlier ones have not been popped.
    pub(super) fn enter(
        &mut self,
        timeout: Option<Duration>,
        counters: &mut Counters,
    ) -> io::Result<()> {
        self.refill();
        let waits = timeout != Some(Duration::ZERO) && self.taken == self.reaped.len();
        let timespec = timeout.unwrap_or_default();
        let timespec = Timespec::new().sec(timespec.as_secs()).nsec(timespec.subsec_nanos());
        let argument = GetEventsArgument {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: 0,
            timespec: (&raw const timespec) as u64,
        };
        // GETEVENTS also when there is nothing to wait for: it runs the deferred work of the ring
        // and (hazard 4) flushes completions that had overflowed.
        let mut flags = EnterFlags::GETEVENTS;
        let mut pointer = ptr::null();
        if waits && timeout.is_some() {
            flags |= EnterFlags::EXT_ARG;
            pointer = &raw const argument;
        }
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        counters.enters += 1;
        let result = self.call(u32::from(waits), flags, pointer);
        self.reap(counters);
        // Hazard 6: what may go wrong in the ordinary course of things is no error.
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR), _)) => Ok(()),
            Err((Some(libc::EAGAIN | libc::EBUSY), _)) => {
                counters.submissions_refused += 1;
                Ok(())
            }
            Err((Some(libc::EBADR), _)) => Err(io::Error::other(
                "io_uring: the kernel ran out of memory and lost completions (EBADR)",
            )),
            Err((_, error)) => Err(error),
        }
    }

    /// Whether there is a completion to pop.
    #[cfg(test)]
    pub(super) fn has_completions(&self) -> bool {
        self.taken < self.reaped.len()
    }

    /// The next completion that was taken out of the ring.
    pub(super) fn pop(&mut self) -> Option<cqueue::Entry> {
        let entry = self.reaped.get(self.taken)?.clone();
        self.taken += 1;
        let user_data = UserData::unpack(entry.user_data());
        if user_data.is_some_and(|user_data| user_data.operation.always_completes())
            && !cqueue::more(entry.flags())
        {
            self.in_flight -= 1;
        }
        Some(entry)
    }

    /// Cancels everything and hands the completions to `discard`, until nothing is in flight or
    /// the kernel has had a second to comply.
    pub(super) fn cancel_all(&mut self, mut discard: impl FnMut(cqueue::Entry)) {
        let mut counters = Counters::default();
        for _ in 0..CANCEL_ROUNDS {
            while let Some(entry) = self.pop() {
                discard(entry);
            }
            if self.in_flight == 0 {
                return;
            }
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any())
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(UserData::of_reactor(Operation::Cancel, 0).pack());
            // SAFETY: it refers to no memory.
            unsafe { self.push(entry) };
            if self.enter(Some(CANCEL_WAIT), &mut counters).is_err() {
                return;
            }
        }
    }

    /// Whether the entry found room. Only called by `push` and `refill`, with entries for which the
    /// caller of `push` has made its promise.
    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the promise of `push`.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    fn refill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn reap(&mut self, counters: &mut Counters) {
        if self.taken == self.reaped.len() {
            self.reaped.clear();
            self.taken = 0;
        }
        if self.ring.submission().cq_overflow() {
            counters.completion_overflows += 1;
        }
        self.reaped.extend(self.ring.completion());
    }

    /// `io_uring_enter` with everything that is queued.
    fn call(
        &mut self,
        wanted: u32,
        flags: EnterFlags,
        argument: *const GetEventsArgument,
    ) -> io::Result<()> {
        let queued = self.ring.submission().len();
        let (descriptor, flags) = match self.registered {
            Some(index) => (index.cast_signed(), flags | EnterFlags::REGISTERED_RING),
            None => (self.ring.as_raw_fd(), flags),
        };
        let bytes = if argument.is_null() { 0 } else { size_of::<GetEventsArgument>() };
        // SAFETY: the argument is null with a size of 0, or points to a live structure of the type
        // that EXT_ARG announces, whose time is live too. What the queued operations refer to is
        // valid by the promise of `push`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                descriptor,
                queued,
                wanted,
                flags.bits(),
                argument,
                bytes,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Registers the ring's descriptor with the thread. It only saves time, so a refusal (a thread
    /// has room for 16) is no error.
    fn register_descriptor(&mut self) {
        let descriptor = self.ring.as_raw_fd();
        let mut update = ResourceUpdate {
            offset: u32::MAX,
            reserved: 0,
            descriptor: u64::from(descriptor.cast_unsigned()),
        };
        if self.register_call(REGISTER_RING_FDS, &mut update) {
            self.registered = Some(update.offset);
        }
    }

    fn register_call(&self, request: u32, update: &mut ResourceUpdate) -> bool {
        let update: *mut ResourceUpdate = update;
        // SAFETY: both requests take an array of such structures, here of length 1, and at most
        // write to it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.ring.as_raw_fd(),
                request,
                update,
                1_u32,
            )
        };
        result == 1
    }
}

impl Drop for Queue {
    /// Without this the thread would keep the ring alive until it ends.
    fn drop(&mut self) {
        if let Some(offset) = self.registered.take() {
            let mut update = ResourceUpdate { offset, reserved: 0, descriptor: 0 };
            self.register_call(UNREGISTER_RING_FDS, &mut update);
        }
    }
}
