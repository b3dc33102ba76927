//! One record: 32 bytes of header, the payload, zeros up to a multiple of eight.
//!
//! ```text
//!  0  u16  magic "RM"              16  u32  count of sequences it holds
//!  2  u8   kind                    20  u32  how far it was ahead of the durable end
//!  3  u8   zero                    24  u32  CRC32C of the payload
//!  4  u32  bytes of the payload    28  u32  CRC32C of the 28 bytes before
//!  8  u64  first sequence
//! ```
//!
//! All little-endian. The header has a checksum of its own, so that a damaged payload costs one
//! record: where the next begins is still known. Both checksums start from [`Seeds`] that differ
//! for every life of a file, and the header's also from its place in the file: what an earlier
//! life left behind, or what lies in the wrong place, is never taken for a record.

use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 32;

/// Records begin at multiples of this.
pub(crate) const RECORD_ALIGNMENT: usize = 8;

/// "RM" in the order of the file.
const MAGIC: u16 = u16::from_le_bytes(*b"RM");

/// Bytes of the header that its own checksum covers.
const CHECKED_BYTES: usize = RECORD_HEADER_BYTES - 4;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One entry; the payload is its bytes.
    Message,
    /// Several entries, all there or none; each is a u32 length and its bytes.
    Batch,
    /// A cursor began to exist.
    CursorCreated,
    /// A cursor no longer exists.
    CursorDeleted,
    /// The first record of a segment: what came before it and which cursors exist.
    Begin,
    /// The last record of a segment that was ended in good order.
    Seal,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Batch => 2,
            Self::CursorCreated => 3,
            Self::CursorDeleted => 4,
            Self::Begin => 5,
            Self::Seal => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let kinds = [
            Self::Message,
            Self::Batch,
            Self::CursorCreated,
            Self::CursorDeleted,
            Self::Begin,
            Self::Seal,
        ];
        kinds.into_iter().find(|kind| kind.code() == code)
    }
}

/// Where the checksums of one life of a file start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    header: u32,
    payload: u32,
}

impl Seeds {
    /// Of a segment's salt. For equal bytes at an equal place, different seeds never give equal
    /// checksums (a CRC is a bijection of its start), so only equal salts can be confused.
    pub fn new(salt: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = salt.to_le_bytes();
        Self { header: u32::from_le_bytes([a, b, c, d]), payload: u32::from_le_bytes([e, f, g, h]) }
    }

    fn header_crc(self, offset: u64, checked: &[u8]) -> u32 {
        let [a, b, c, d, ..] = (offset / RECORD_ALIGNMENT as u64).to_le_bytes();
        crc32c::crc32c_append(self.header ^ u32::from_le_bytes([a, b, c, d]), checked)
    }

    fn payload_crc(self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(self.payload, payload)
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: U16,
    kind: u8,
    zero: u8,
    payload_bytes: U32,
    sequence: U64,
    count: U32,
    ahead: U32,
    payload_crc: U32,
    header_crc: U32,
}

const _: () = assert!(size_of::<Layout>() == RECORD_HEADER_BYTES);

/// What a record's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// The first sequence it holds; the next one to be given when it holds none.
    pub sequence: u64,
    /// How many sequences it holds: one per entry.
    pub count: u32,
    /// All sequences below this were known to be durable when the record was made.
    pub durable_up_to: u64,
    payload_crc: u32,
}

impl Header {
    /// Reads the header at the front of `bytes`, which lie at `offset` of their file. `None` when
    /// there is none that its checksum confirms.
    pub fn read(bytes: &[u8], offset: u64, seeds: Seeds) -> Option<Self> {
        let (layout, _) = Layout::ref_from_prefix(bytes).ok()?;
        if layout.magic.get() != MAGIC {
            return None;
        }
        let checked = bytes.get(..CHECKED_BYTES)?;
        if seeds.header_crc(offset, checked) != layout.header_crc.get() {
            return None;
        }
        let sequence = layout.sequence.get();
        Some(Self {
            kind: Kind::from_code(layout.kind)?,
            payload_bytes: layout.payload_bytes.get(),
            sequence,
            count: layout.count.get(),
            durable_up_to: sequence.saturating_sub(u64::from(layout.ahead.get())),
            payload_crc: layout.payload_crc.get(),
        })
    }

    /// Whether that is the payload the record was made with.
    pub fn confirms(&self, payload: &[u8], seeds: Seeds) -> bool {
        seeds.payload_crc(payload) == self.payload_crc
    }

    /// The sequences it holds.
    pub fn sequences(&self) -> Range<u64> {
        self.sequence..self.sequence.saturating_add(u64::from(self.count))
    }

    /// Bytes from the start of the record to the start of the next.
    pub fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes as usize)
    }
}

/// Bytes a record with that payload takes in a segment.
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGNMENT)
}

/// What [`stamp_record`] needs to know beside the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) count: u32,
    pub(crate) durable_up_to: u64,
    /// Where in its file the record begins.
    pub(crate) offset: u64,
}

/// Completes a record whose payload already lies in `record`, which is header, payload and
/// padding: writes the header and the padding.
pub(crate) fn stamp_record(record: &mut [u8], payload_bytes: usize, stamp: Stamp, seeds: Seeds) {
    let Stamp { kind, sequence, count, durable_up_to, offset } = stamp;
    let (head, body) = record.split_at_mut(RECORD_HEADER_BYTES);
    let (payload, padding) = body.split_at_mut(payload_bytes);
    padding.fill(0);
    let ahead = sequence.saturating_sub(durable_up_to);
    let mut layout = Layout {
        magic: U16::new(MAGIC),
        kind: kind.code(),
        zero: 0,
        payload_bytes: U32::new(to_u32(payload_bytes)),
        sequence: U64::new(sequence),
        count: U32::new(count),
        // Further ahead than 32 bits tell only makes recovery more careful than it need be.
        ahead: U32::new(u32::try_from(ahead).unwrap_or(u32::MAX)),
        payload_crc: U32::new(seeds.payload_crc(payload)),
        header_crc: U32::ZERO,
    };
    let (checked, _) = layout.as_bytes().split_at(CHECKED_BYTES);
    layout.header_crc = U32::new(seeds.header_crc(offset, checked));
    head.copy_from_slice(layout.as_bytes());
}

/// The entries of a batch: the range of each within the payload. Ends early where lengths do not
/// add up, which a confirmed payload never does.
pub fn batch_entries(payload: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (length, rest) = U32::read_from_prefix(payload.get(at..)?).ok()?;
        let length = length.get() as usize;
        rest.get(..length)?;
        let start = at + BATCH_LENGTH_BYTES;
        at = start + length;
        Some(start..at)
    })
}

/// Bytes before each entry of a batch.
pub(crate) const BATCH_LENGTH_BYTES: usize = 4;

/// Lengths within a record; segments are far smaller than 4 GiB.
pub(crate) fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("records are smaller than segments, segments than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn stamp() -> Stamp {
        let (kind, sequence, count) = (Kind::Message, 0x0102_0304_0506_0708, 1);
        Stamp { kind, sequence, count, durable_up_to: sequence - 9, offset: 4096 }
    }

    fn record(payload: &[u8], stamp: Stamp) -> Vec<u8> {
        let mut record = vec![0xee; record_bytes(payload.len())];
        record[RECORD_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        stamp_record(&mut record, payload.len(), stamp, Seeds::new(SALT));
        record
    }

    /// CRC32C bit by bit, from its polynomial; the start is a register, as the salt is.
    fn crc32c_naive(start: u32, bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
        !bytes.iter().fold(!start, byte)
    }

    #[test]
    fn golden_bytes() {
        let bytes = record(b"hello", stamp());
        let expected = [
            0x52, 0x4d, 1, 0, // magic, kind, zero
            5, 0, 0, 0, // bytes of the payload
            8, 7, 6, 5, 4, 3, 2, 1, // sequence
            1, 0, 0, 0, // count
            9, 0, 0, 0, // ahead of the durable end
        ];
        assert_eq!(bytes[..24], expected);
        assert_eq!(bytes[24..28], crc32c_naive(0x0123_4567, b"hello").to_le_bytes());
        let header_crc = crc32c_naive(0x89ab_cdef ^ 512, &bytes[..28]);
        assert_eq!(bytes[28..32], header_crc.to_le_bytes());
        assert_eq!(bytes[32..], *b"hello\0\0\0");
        // As they are printed in docs/STORAGE_FORMAT.md.
        assert_eq!(hex(&bytes[24..32]), GOLDEN_CHECKSUMS);
    }

    const GOLDEN_CHECKSUMS: &str = "4d0df70b38481388";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn kinds_go_there_and_back() {
        for code in 0..=255 {
            let kind = Kind::from_code(code);
            assert_eq!(kind.is_some(), (1..=6).contains(&code));
            assert_eq!(kind.map_or(code, Kind::code), code);
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = record(b"hello", stamp());
        let header = Header::read(&bytes, 4096, Seeds::new(SALT)).unwrap();
        assert_eq!((header.kind, header.payload_bytes, header.count), (Kind::Message, 5, 1));
        assert_eq!(header.durable_up_to, stamp().sequence - 9);
        assert_eq!(header.record_bytes(), bytes.len());
        assert!(header.confirms(b"hello", Seeds::new(SALT)));
        assert!(!header.confirms(b"hellp", Seeds::new(SALT)));
    }

    #[test]
    fn another_salt_place_or_bit_is_refused() {
        let bytes = record(b"hello", stamp());
        assert!(Header::read(&bytes, 4104, Seeds::new(SALT)).is_none());
        assert!(Header::read(&bytes[..31], 4096, Seeds::new(SALT)).is_none());
        for bit in 0..64 {
            let seeds = Seeds::new(SALT ^ 1 << bit);
            let header = Header::read(&bytes, 4096, seeds);
            assert!(header.is_none_or(|header| !header.confirms(b"hello", seeds)), "{bit}");
        }
        for bit in 0..RECORD_HEADER_BYTES * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&bytes, 4096, Seeds::new(SALT)).is_none(), "{bit}");
        }
    }

    #[test]
    fn entries_of_a_batch() {
        let entries = |payload: &[u8]| batch_entries(payload).collect::<Vec<_>>();
        assert_eq!(entries(b"\x01\0\0\0a\0\0\0\0\x02\0\0\0bc"), [4..5, 9..9, 13..15]);
        assert_eq!(entries(b""), []);
        assert_eq!(entries(b"\x01\0\0\0a\x02\0\0\0b").len(), 1);
        assert_eq!(entries(b"\xff\xff\xff\xffa"), []);
    }
}
