//! One segment file: its identity, its header, where records may lie in it.
//!
//! The first and the last block hold the same header; records lie between them. The header is
//! written, synced and given its name before the first record, and never changes, so that a
//! damaged first block costs nothing: the copy has the salt that the records' checksums need.

use crate::buffer::{AlignedBuffer, BLOCK, BLOCK_BYTES};
use crate::record::Seeds;
use std::fmt;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of the format this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Where the first record of a segment begins.
pub const DATA_START: u64 = BLOCK;

/// A segment smaller than this has no room for anything.
pub const SEGMENT_BYTES_MIN: u64 = 8 * BLOCK;

/// Largest segment: lengths within one fit 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;

const MAGIC: [u8; 8] = *b"RINGMLOG";

/// Bytes of the header that its checksum covers.
const CHECKED_BYTES: usize = 52;

/// The number of a segment within its log; given once, in increasing order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What makes a segment this one and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The log it belongs to.
    pub log_id: u64,
    /// Its number there.
    pub id: SegmentId,
    /// New for every life of a file.
    pub salt: u64,
    /// Size of the file.
    pub bytes: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    version: U32,
    zero: U32,
    log_id: U64,
    id: U64,
    salt: U64,
    bytes: U64,
    zero_too: U32,
    crc: U32,
}

const _: () = assert!(size_of::<Layout>() == CHECKED_BYTES + 4);

/// What the front of a block turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    /// A segment's header.
    Valid(Identity),
    /// A header of a version this code does not know; not damage.
    Version(u32),
    /// No header, or a damaged one.
    Invalid,
}

impl Identity {
    /// Where its records' checksums start.
    pub fn seeds(&self) -> Seeds {
        Seeds::new(self.salt)
    }

    /// Where its records have to end.
    pub fn data_end(&self) -> u64 {
        self.bytes - BLOCK
    }

    /// Where the copy of the header lies.
    pub(crate) fn copy_offset(&self) -> u64 {
        self.bytes - BLOCK
    }

    /// Writes the header into the first block of a buffer.
    pub(crate) fn write(&self, buffer: &mut AlignedBuffer) {
        let mut layout = Layout {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            zero: U32::ZERO,
            log_id: U64::new(self.log_id),
            id: U64::new(self.id.0),
            salt: U64::new(self.salt),
            bytes: U64::new(self.bytes),
            zero_too: U32::ZERO,
            crc: U32::ZERO,
        };
        let (checked, _) = layout.as_bytes().split_at(CHECKED_BYTES);
        layout.crc = U32::new(crc32c::crc32c(checked));
        let (block, _) = buffer.as_mut_bytes().split_at_mut(BLOCK_BYTES);
        let (head, rest) = block.split_at_mut(size_of::<Layout>());
        head.copy_from_slice(layout.as_bytes());
        rest.fill(0);
    }

    /// Reads a header. The places of magic, version and checksum are the same in every version,
    /// so that a newer format is told from damage.
    pub(crate) fn read(bytes: &[u8]) -> HeaderRead {
        let (Ok((layout, _)), Some(checked)) =
            (Layout::ref_from_prefix(bytes), bytes.get(..CHECKED_BYTES))
        else {
            return HeaderRead::Invalid;
        };
        if layout.magic != MAGIC || crc32c::crc32c(checked) != layout.crc.get() {
            return HeaderRead::Invalid;
        }
        if layout.version.get() != FORMAT_VERSION {
            return HeaderRead::Version(layout.version.get());
        }
        let bytes = layout.bytes.get();
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || bytes % BLOCK != 0 {
            return HeaderRead::Invalid;
        }
        HeaderRead::Valid(Self {
            log_id: layout.log_id.get(),
            id: SegmentId(layout.id.get()),
            salt: layout.salt.get(),
            bytes,
        })
    }
}

/// The salt of a segment: differs for every number, and for every start of the program, which
/// brings a new seed.
pub(crate) fn salt(seed: u64, id: SegmentId) -> u64 {
    mix(seed ^ mix(id.0))
}

/// The finisher of SplitMix64: a bijection in which every bit changes about half of all bits.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let salt = 0x1112_1314_1516_1718;
        Identity { log_id: 0x0102_0304_0506_0708, id: SegmentId(7), salt, bytes: 64 << 20 }
    }

    fn header() -> Vec<u8> {
        let mut buffer = AlignedBuffer::zeroed(BLOCK_BYTES);
        buffer.as_mut_bytes().fill(0xee);
        identity().write(&mut buffer);
        buffer.as_bytes().to_vec()
    }

    #[test]
    fn golden_bytes() {
        let bytes = header();
        let mut expected = b"RINGMLOG".to_vec();
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        expected.extend([0, 0, 0, 4, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0]);
        assert_eq!(bytes[..52], expected);
        assert_eq!(u32::from_le_bytes(bytes[52..56].try_into().unwrap()), GOLDEN_CRC);
        assert!(bytes[56..].iter().all(|byte| *byte == 0));
    }

    /// As printed in docs/STORAGE_FORMAT.md.
    const GOLDEN_CRC: u32 = 0x59f2_517a;

    #[test]
    fn what_was_written_is_read_and_damage_is_not() {
        let bytes = header();
        assert_eq!(Identity::read(&bytes), HeaderRead::Valid(identity()));
        assert_eq!(Identity::read(&bytes[..40]), HeaderRead::Invalid);
        for bit in 0..56 * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Identity::read(&bytes), HeaderRead::Invalid, "{bit}");
        }
    }

    #[test]
    fn a_newer_version_is_not_damage() {
        let mut bytes = header();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Identity::read(&bytes), HeaderRead::Version(2));
    }

    #[test]
    fn salts_differ() {
        let mut salts: Vec<u64> = (0..1000).map(|id| salt(id % 10, SegmentId(id / 10))).collect();
        salts.sort_unstable();
        salts.dedup();
        assert_eq!(salts.len(), 1000);
    }
}
