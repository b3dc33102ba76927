//! The receive buffers of a shard: a ring of buffers registered with the kernel, from which it
//! picks one when bytes arrive for any socket.
//!
//! In incremental mode the bytes of several receives, of several sockets, lie behind each other in
//! one buffer, so a buffer has an offset of its own, and it goes back to the kernel when the kernel
//! has finished it *and* all its chunks have been given back. Never to be combined with receive
//! bundles: kernels 6.13.11 to 6.14 put those in the wrong order.
#![expect(unsafe_code, reason = "memory shared with the kernel, and its registration")]

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::BufferMode;

/// The buffer group of the shard's ring; there is only this one.
pub(super) const BUFFER_GROUP: u16 = 0;

/// `IOU_PBUF_RING_INC` of Linux.
const FLAG_INCREMENTAL: u16 = 2;

/// Received bytes, lent by the reactor: read them with `bytes`, give them back with `recycle`.
/// Dropping one instead loses a part of the receive buffers for good; debug builds panic.
#[derive(Debug)]
pub struct Chunk {
    /// Which buffers it belongs to, so that a chunk cannot be read through another reactor.
    owner: u32,
    buffer: u16,
    offset: u32,
    length: u32,
}

impl Chunk {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Always false for a chunk that surfaced: see `Completion::Received`.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(debug_assertions)]
impl Drop for Chunk {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a chunk was dropped and not recycled");
    }
}

/// An anonymous mapping, zeroed.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory
        // that is in use.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // Hazard 7: a child must not share pages that the kernel writes for the parent. Failure
        // leaves them shared copy-on-write, which only a fork without exec would notice.
        // SAFETY: the range is exactly the mapping made above.
        let _ = unsafe {
            rustix::mm::madvise(start.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxDontFork)
        };
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping made in `new`, and the owner drops it only after
        // the kernel and all borrowers are done with it (see `Uring::drop`). An error would mean
        // the mapping stays, which is harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// What is known of one buffer.
#[derive(Clone, Copy, Default)]
struct BufferState {
    /// Where the kernel's next receive into it begins.
    offset: u32,
    /// Chunks lent from it.
    lent: u32,
    /// Whether the kernel may still write to it.
    with_kernel: bool,
}

/// The ring of buffers and the state of each.
pub(super) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    states: Vec<BufferState>,
    buffer_bytes: u32,
    owner: u32,
    tail: u16,
    published_tail: u16,
    /// Buffers the kernel can still write to.
    with_kernel: usize,
}

impl Buffers {
    /// Maps `count` buffers of `buffer_bytes` each, registers them and gives all to the kernel.
    /// The caller unregisters them, or ends all receives, before dropping this.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        mode: BufferMode,
        count: u16,
        buffer_bytes: u32,
    ) -> io::Result<Self> {
        static OWNERS: AtomicU32 = AtomicU32::new(0);
        if !count.is_power_of_two() || count > 1 << 15 || buffer_bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let flags = match mode {
            BufferMode::Incremental => FLAG_INCREMENTAL,
            BufferMode::Whole => 0,
        };
        let address = entries.start.as_ptr() as u64;
        // SAFETY: `entries` is page-aligned, zeroed, has room for `count` entries, and is not
        // unmapped while the registration lives (contract above).
        unsafe { submitter.register_buf_ring_with_flags(address, count, BUFFER_GROUP, flags) }?;
        let mut buffers = Self {
            entries,
            memory,
            states: vec![BufferState::default(); usize::from(count)],
            buffer_bytes,
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            tail: 0,
            published_tail: 0,
            with_kernel: 0,
        };
        for buffer in 0..count {
            buffers.give(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Notes that the kernel has received `length` bytes into `buffer`, and whether it will receive
    /// more into it. The chunk has to come back through [`recycle`](Self::recycle).
    pub(super) fn take(&mut self, buffer: u16, length: u32, more: bool) -> Chunk {
        let state = &mut self.states[usize::from(buffer)];
        let offset = state.offset;
        assert!(
            state.with_kernel && length <= self.buffer_bytes - offset,
            "the kernel named a buffer it did not have"
        );
        state.offset += length;
        state.lent += 1;
        if !more {
            state.with_kernel = false;
            self.with_kernel -= 1;
        }
        Chunk { owner: self.owner, buffer, offset, length }
    }

    /// The bytes of a chunk.
    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        assert_eq!(chunk.owner, self.owner, "a chunk of another reactor");
        let start = usize::from(chunk.buffer) * self.buffer_bytes as usize + chunk.offset as usize;
        // SAFETY: `take` checked that buffer, offset and length lie within `memory`.
        let first = unsafe { self.memory.start.as_ptr().add(start) };
        // SAFETY: the bytes are initialised (the mapping is zeroed), and the kernel does not write
        // to them while the chunk is lent: it writes past the chunk, or not to this buffer at all,
        // until `recycle`, which takes the chunk and, by `&mut self`, ends this borrow.
        unsafe { slice::from_raw_parts(first, chunk.length as usize) }
    }

    /// Takes a chunk back; once nobody uses its buffer, that returns to the kernel with the next
    /// [`publish`](Self::publish).
    pub(super) fn recycle(&mut self, chunk: Chunk) {
        assert_eq!(chunk.owner, self.owner, "a chunk of another reactor");
        let buffer = chunk.buffer;
        mem::forget(chunk);
        let state = &mut self.states[usize::from(buffer)];
        state.lent -= 1;
        if state.lent == 0 && !state.with_kernel {
            self.give(buffer);
        }
    }

    /// Puts a buffer that nobody uses on the ring, unseen by the kernel until `publish`.
    fn give(&mut self, buffer: u16) {
        let mask = self.states.len() - 1;
        let start = usize::from(buffer) * self.buffer_bytes as usize;
        let slot = usize::from(self.tail) & mask;
        // SAFETY: `slot` is below the number of entries the mapping has room for.
        let entry = unsafe { self.entries.start.cast::<BufRingEntry>().add(slot).as_ptr() };
        // SAFETY: `start` is the offset of one of the buffers in `memory`.
        let address = unsafe { self.memory.start.as_ptr().add(start) };
        // SAFETY: the entry is in the mapping and aligned; the kernel does not read it before the
        // tail is published, and there are never more buffers on the ring than entries. The last
        // field of entry 0 is the tail, which these three setters do not touch.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.states[usize::from(buffer)] = BufferState { offset: 0, lent: 0, with_kernel: true };
        self.with_kernel += 1;
    }

    /// Shows the kernel the buffers given since the last call.
    pub(super) fn publish(&mut self) {
        if self.tail == self.published_tail {
            return;
        }
        // SAFETY: the mapping begins with the first entry, zeroed or written by `give`.
        let tail = unsafe { BufRingEntry::tail(self.entries.start.as_ptr().cast()) };
        // SAFETY: the tail is a u16 in a writable mapping, aligned, and shared with the kernel,
        // which only reads it; on our side it is only ever accessed here.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
        self.published_tail = self.tail;
    }

    /// Buffers the kernel can still receive into.
    pub(super) fn available(&self) -> usize {
        self.with_kernel
    }

    /// How many buffers there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.states.len()
    }
}
