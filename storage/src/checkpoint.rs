//! The durable picture of a log's cursors: its bytes, and how it gets to disk.
//!
//! Two files are written in turn, each whole and synced before the other is touched again, so that
//! one good picture always exists. They are preallocated and rewritten in place: once both exist,
//! a full disk does not keep consumers' progress from becoming durable.
//!
//! ```text
//!  0  8 bytes  magic "RINGMCUR"        48  u64  last segment that had ended, zero for none
//!  8  u32      version                 56  u64  offset where it ended
//! 12  u32      zero                    64  u64  sequence it ended before
//! 16  u64      log                     72  u64  bytes of cursors that follow
//! 24  u64      generation              80  u32  next cursor number
//! 32  u64      next sequence           84  u32  CRC32C of the cursors' bytes
//! 40  u64      durable up to           88  u32  zero
//!                                      92  u32  CRC32C of the 92 bytes before
//! ```

use crate::codec::{Input, put, put_bytes};
use crate::control::SegmentEnd;
use crate::cursors::{Cursor, CursorId, Cursors, Retry};
use crate::segment::{FORMAT_VERSION, SegmentId};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"RINGMCUR";

/// Bytes of the header that its checksum covers.
const CHECKED_BYTES: usize = 92;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) log_id: u64,
    /// Grows by one with each checkpoint; the larger one counts.
    pub(crate) generation: u64,
    /// No sequence at or above this had been given.
    pub(crate) next_sequence: u64,
    /// All sequences below this were durable.
    pub(crate) durable_up_to: u64,
    /// Where the last segment that takes no more records ends: it was sealed and synced, or
    /// recovery found that it ends there.
    pub(crate) ended: Option<SegmentEnd>,
    pub(crate) cursors: Cursors,
}

/// What the bytes of a slot turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PictureRead {
    Valid(Picture),
    /// Written by a version this code does not know; not damage.
    Version(u32),
    /// Nothing, or something damaged.
    Invalid,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    version: U32,
    zero: U32,
    log_id: U64,
    generation: U64,
    next_sequence: U64,
    durable_up_to: U64,
    end_segment: U64,
    end_offset: U64,
    end_sequence: U64,
    cursors_bytes: U64,
    next_cursor: U32,
    cursors_crc: U32,
    zero_too: U32,
    crc: U32,
}

const _: () = assert!(size_of::<Layout>() == CHECKED_BYTES + 4);

impl Picture {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let cursors = encode_cursors(&self.cursors);
        let none = SegmentEnd { segment: SegmentId(0), offset: 0, sequence: 0 };
        let end = self.ended.unwrap_or(none);
        let mut layout = Layout {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            zero: U32::ZERO,
            log_id: U64::new(self.log_id),
            generation: U64::new(self.generation),
            next_sequence: U64::new(self.next_sequence),
            durable_up_to: U64::new(self.durable_up_to),
            end_segment: U64::new(end.segment.0),
            end_offset: U64::new(end.offset),
            end_sequence: U64::new(end.sequence),
            cursors_bytes: U64::new(cursors.len() as u64),
            next_cursor: U32::new(self.cursors.next_id()),
            cursors_crc: U32::new(crc32c::crc32c(&cursors)),
            zero_too: U32::ZERO,
            crc: U32::ZERO,
        };
        let (checked, _) = layout.as_bytes().split_at(CHECKED_BYTES);
        layout.crc = U32::new(crc32c::crc32c(checked));
        let mut bytes = layout.as_bytes().to_vec();
        bytes.extend(cursors);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> PictureRead {
        let (Ok((layout, rest)), Some(checked)) =
            (Layout::ref_from_prefix(bytes), bytes.get(..CHECKED_BYTES))
        else {
            return PictureRead::Invalid;
        };
        if layout.magic != MAGIC || crc32c::crc32c(checked) != layout.crc.get() {
            return PictureRead::Invalid;
        }
        if layout.version.get() != FORMAT_VERSION {
            return PictureRead::Version(layout.version.get());
        }
        let length = usize::try_from(layout.cursors_bytes.get()).unwrap_or(usize::MAX);
        let confirmed =
            rest.get(..length).filter(|body| crc32c::crc32c(body) == layout.cursors_crc.get());
        let Some(mut cursors) = confirmed.and_then(decode_cursors) else {
            return PictureRead::Invalid;
        };
        cursors.reserve_ids(layout.next_cursor.get());
        let end = SegmentEnd {
            segment: SegmentId(layout.end_segment.get()),
            offset: layout.end_offset.get(),
            sequence: layout.end_sequence.get(),
        };
        PictureRead::Valid(Self {
            log_id: layout.log_id.get(),
            generation: layout.generation.get(),
            next_sequence: layout.next_sequence.get(),
            durable_up_to: layout.durable_up_to.get(),
            ended: (end.segment.0 != 0).then_some(end),
            cursors,
        })
    }
}

/// Version, count, then for each cursor: number, name, low watermark, finished ranges as distance
/// and length, retries as distance, attempts and time. Distances count from where the one before
/// ended.
fn encode_cursors(cursors: &Cursors) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, cursors.version());
    put(&mut bytes, cursors.len() as u64);
    for (id, cursor) in cursors.iter() {
        put(&mut bytes, u64::from(id.0));
        put_bytes(&mut bytes, cursor.name());
        put(&mut bytes, cursor.low());
        put(&mut bytes, cursor.finished_ranges().len() as u64);
        let mut at = cursor.low();
        for range in cursor.finished_ranges() {
            put(&mut bytes, range.start - at);
            put(&mut bytes, range.end - range.start);
            at = range.end;
        }
        put(&mut bytes, cursor.retries().len() as u64);
        at = cursor.low();
        for (sequence, retry) in cursor.retries() {
            put(&mut bytes, sequence - at);
            put(&mut bytes, u64::from(retry.attempts));
            put(&mut bytes, retry.deliver_at_ns);
            at = sequence;
        }
    }
    bytes
}

fn decode_cursors(bytes: &[u8]) -> Option<Cursors> {
    let mut input = Input(bytes);
    let mut cursors = Cursors::default();
    cursors.set_version(input.take()?);
    for _ in 0..input.take()? {
        let id = CursorId(input.take_u32()?);
        let name = input.take_bytes()?;
        let low = input.take()?;
        let mut cursor = Cursor::new(name, low);
        let mut at = low;
        for _ in 0..input.take()? {
            let start = at.checked_add(input.take()?)?;
            at = start.checked_add(input.take()?)?;
            cursor.finish_range(start..at);
        }
        at = low;
        for _ in 0..input.take()? {
            at = at.checked_add(input.take()?)?;
            let attempts = u16::try_from(input.take()?).ok()?;
            let deliver_at_ns = input.take()?;
            cursor.set_retry(at, Retry { attempts, deliver_at_ns });
        }
        cursors.restore(id, cursor);
    }
    Some(cursors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let mut cursors = Cursors::default();
        let id = cursors.create(b"ab", 3);
        let cursor = cursors.cursor_mut(id).unwrap();
        cursor.finish_range(5..9);
        cursor.finish(300);
        cursor.set_retry(4, Retry { attempts: 2, deliver_at_ns: 0 });
        cursor.set_retry(10, Retry { attempts: 1, deliver_at_ns: 128 });
        let gone = cursors.create(b"gone", 0);
        cursors.delete(gone);
        Picture {
            log_id: 0x0102_0304_0506_0708,
            generation: 6,
            next_sequence: 301,
            durable_up_to: 290,
            ended: Some(SegmentEnd { segment: SegmentId(2), offset: 4136, sequence: 301 }),
            cursors,
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = picture().encode();
        let cursors = b"\x03\x01\0\x02ab\x03\x02\x02\x04\xa3\x02\x01\x02\x01\x02\0\x06\x01\x80\x01";
        assert_eq!(bytes[96..], *cursors);
        let mut expected = b"RINGMCUR\x01\0\0\0\0\0\0\0".to_vec();
        for value in [0x0102_0304_0506_0708_u64, 6, 301, 290, 2, 4136, 301, cursors.len() as u64] {
            expected.extend(value.to_le_bytes());
        }
        expected.extend(2_u32.to_le_bytes());
        assert_eq!(bytes[..84], expected);
        assert_eq!(Picture::decode(&bytes), PictureRead::Valid(picture()));
        assert_eq!(picture().cursors.next_id(), 2, "numbers of deleted cursors stay taken");
    }

    #[test]
    fn damage_is_seen() {
        let bytes = picture().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Picture::decode(&bytes), PictureRead::Invalid, "{bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Picture::decode(&bytes[..length]), PictureRead::Invalid, "{length}");
        }
    }

    #[test]
    fn a_newer_version_is_not_damage() {
        let mut bytes = picture().encode();
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..92]);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Picture::decode(&bytes), PictureRead::Version(9));
    }
}
