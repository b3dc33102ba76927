//! Memory that can be handed to the kernel for direct I/O, and the budget it comes from.

use std::collections::BTreeMap;
use std::fmt;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Size and alignment of the blocks that files are read and written in, in bytes. Direct I/O
/// asks for the device's logical block (512 or 4096); 4096 satisfies both.
pub const BLOCK_BYTES: usize = 4096;

/// [`BLOCK_BYTES`] for offsets in files.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// One aligned block. The alignment is the type's, so that a vector of them is aligned without
/// any unchecked code.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// Bytes whose address and length are multiples of [`BLOCK_BYTES`].
pub struct AlignedBuffer {
    blocks: Vec<Block>,
}

impl AlignedBuffer {
    /// A buffer of zeros that holds at least `bytes`.
    pub fn zeroed(bytes: usize) -> Self {
        let count = bytes.div_ceil(BLOCK_BYTES).max(1);
        let blocks = Block::new_vec_zeroed(count).expect("a buffer's size is far below isize::MAX");
        Self { blocks }
    }

    /// Stands in for a buffer that is with the kernel; costs no memory.
    pub(crate) fn none() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Everything in it.
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.as_slice().as_bytes()
    }

    /// Everything in it, to be changed.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.blocks.as_mut_slice().as_mut_bytes()
    }

    /// Its size in bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.capacity_bytes())
    }
}

/// Buffers of one shard: lent out up to a budget, kept for the next borrower when they return.
///
/// Sizes are powers of two blocks, so that a returned buffer serves the next borrower. Reading may
/// use half of the budget, so that a backlog being drained never keeps publishers from appending.
#[derive(Debug)]
pub struct BufferPool {
    spare: BTreeMap<usize, Vec<AlignedBuffer>>,
    spare_bytes: usize,
    lent_bytes: usize,
    bytes_max: usize,
}

impl BufferPool {
    /// A pool that holds, lent and spare together, at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { spare: BTreeMap::new(), spare_bytes: 0, lent_bytes: 0, bytes_max }
    }

    /// Bytes of the buffers now lent out.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Bytes of the buffers kept for later.
    pub fn spare_bytes(&self) -> usize {
        self.spare_bytes
    }

    /// A buffer of at least `bytes`, with whatever was in it before; `None` when the budget is
    /// spent.
    pub fn take(&mut self, bytes: usize) -> Option<AlignedBuffer> {
        self.take_within(bytes, self.bytes_max)
    }

    /// As [`Self::take`], within the half of the budget that reading may use.
    pub fn take_for_reading(&mut self, bytes: usize) -> Option<AlignedBuffer> {
        self.take_within(bytes, self.bytes_max / 2)
    }

    /// Takes back a buffer that was lent.
    pub fn give(&mut self, buffer: AlignedBuffer) {
        let bytes = buffer.capacity_bytes();
        self.lent_bytes = self.lent_bytes.saturating_sub(bytes);
        // A buffer outside the size classes would never be taken again.
        if class_bytes(bytes) == bytes && self.lent_bytes + self.spare_bytes < self.bytes_max {
            self.spare_bytes += bytes;
            self.spare.entry(bytes).or_default().push(buffer);
        }
    }

    fn take_within(&mut self, bytes: usize, bytes_max: usize) -> Option<AlignedBuffer> {
        let bytes = class_bytes(bytes);
        if self.lent_bytes + bytes > bytes_max {
            return None;
        }
        self.lent_bytes += bytes;
        if let Some(buffer) = self.spare.get_mut(&bytes).and_then(Vec::pop) {
            self.spare_bytes -= bytes;
            return Some(buffer);
        }
        while self.lent_bytes + self.spare_bytes > self.bytes_max {
            let Some((size, buffers)) = self.spare.iter_mut().find(|(_, list)| !list.is_empty())
            else {
                break;
            };
            buffers.pop();
            self.spare_bytes -= size;
        }
        Some(AlignedBuffer::zeroed(bytes))
    }
}

/// The size of the buffer that serves a request for `bytes`.
fn class_bytes(bytes: usize) -> usize {
    bytes.max(BLOCK_BYTES).next_power_of_two()
}

/// The multiple of a block at or below an offset.
pub(crate) fn align_down(offset: u64) -> u64 {
    offset & !(BLOCK - 1)
}

/// The multiple of a block at or above an offset.
pub(crate) fn align_up(offset: u64) -> u64 {
    align_down(offset + BLOCK - 1)
}

/// An offset within a buffer; buffers are far smaller than the address space.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("distances within a buffer fit the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_rounded_up() {
        for bytes in [0, 1, 4096, 4097, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(bytes);
            assert_eq!(buffer.as_bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.as_mut_bytes().len(), buffer.capacity_bytes());
            assert_eq!(buffer.capacity_bytes() % BLOCK_BYTES, 0);
            assert!(buffer.capacity_bytes() >= bytes.max(1));
        }
    }

    #[test]
    fn the_pool_keeps_its_budget() {
        let mut pool = BufferPool::new(8 * BLOCK_BYTES);
        let first = pool.take(3 * BLOCK_BYTES).unwrap();
        assert_eq!(first.capacity_bytes(), 4 * BLOCK_BYTES);
        assert!(pool.take_for_reading(1).is_none(), "half of the budget is lent");
        let second = pool.take(4 * BLOCK_BYTES).unwrap();
        assert!(pool.take(1).is_none());
        let address = first.as_bytes().as_ptr();
        pool.give(first);
        assert_eq!(pool.take(4 * BLOCK_BYTES).unwrap().as_bytes().as_ptr(), address);
        pool.give(second);
        assert_eq!(pool.spare_bytes(), 4 * BLOCK_BYTES);
        // A spare of another size makes way.
        let small: Vec<_> = (0..4).map(|_| pool.take(1).unwrap()).collect();
        assert_eq!((pool.spare_bytes(), pool.lent_bytes()), (0, 8 * BLOCK_BYTES));
        assert_eq!(small.len(), 4);
    }
}
