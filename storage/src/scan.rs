//! Walks the bytes of a segment from record to record, and over damage to the next good one.
//!
//! Reading back and recovery see a segment through the same eyes. A walk sees one stretch of bytes;
//! when it reaches the end of the stretch it says where to go on and how many bytes to bring.

use crate::record::{Header, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, Seeds};
use crate::segment::SegmentId;
use std::ops::Range;

/// A place where a record begins, or where the search for one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: SegmentId,
    /// Where in its file, in bytes; a multiple of eight.
    pub offset: u64,
    /// The sequence expected there.
    pub sequence: u64,
    /// Where unreadable bytes began, when they reach up to `offset`.
    pub lost_since: Option<u64>,
}

impl Place {
    /// Where nothing was lost just before.
    pub fn new(segment: SegmentId, offset: u64, sequence: u64) -> Self {
        Self { segment, offset, sequence, lost_since: None }
    }
}

/// Bytes that were records once, and are no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment they lie in.
    pub segment: SegmentId,
    /// Where in its file.
    pub offsets: Range<u64>,
    /// The sequences that are lost with them; may be empty (a record without entries).
    pub sequences: Range<u64>,
}

/// What a walk meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A good record: its header, where it begins in the file, and its payload in the stretch.
    Record(Header, u64, Range<usize>),
    /// Damage up to the next good record, or up to the end of the records.
    Damaged(Damage),
}

/// A walk over one stretch.
#[derive(Debug)]
pub struct Walk<'a> {
    /// The stretch.
    pub bytes: &'a [u8],
    /// Where in the file it begins.
    pub origin: u64,
    /// Where in the file the records end, at the latest.
    pub end: u64,
    /// The segment's.
    pub seeds: Seeds,
    /// Where the walk is; after its end, where to go on.
    pub place: Place,
    /// After its end: how many bytes from `place` it takes to go on.
    pub need_bytes: u64,
}

impl Walk<'_> {
    /// The next thing met; `None` at the end of the stretch or of the records.
    #[expect(clippy::should_implement_trait, reason = "its end is not the end of the records")]
    pub fn next(&mut self) -> Option<Item> {
        self.need_bytes = RECORD_HEADER_BYTES as u64;
        loop {
            let rest = self.rest();
            if rest.len() < RECORD_HEADER_BYTES {
                let ends_within = self.place.offset + RECORD_HEADER_BYTES as u64 > self.end;
                if ends_within && self.place.offset < self.end {
                    // Too little for a record: it can only be what damage left.
                    self.place.lost_since.get_or_insert(self.place.offset);
                    self.place.offset = self.end;
                }
                return None;
            }
            let header = Header::read(rest, self.place.offset, self.seeds)
                .filter(|header| header.sequence >= self.place.sequence)
                .filter(|header| self.place.offset + header.record_bytes() as u64 <= self.end);
            let Some(header) = header else {
                self.place.lost_since.get_or_insert(self.place.offset);
                self.skip_to_candidate();
                continue;
            };
            // Damage ends where a good header begins, even when its payload is yet to come.
            if self.place.lost_since.is_some() || header.sequence > self.place.sequence {
                return Some(self.damage_up_to(self.place.offset, header.sequence));
            }
            let record_bytes = header.record_bytes();
            if record_bytes > rest.len() {
                self.need_bytes = record_bytes as u64;
                return None;
            }
            return Some(self.take(header));
        }
    }

    /// What damage remains open when the records end here and the next sequence would be
    /// `sequence`.
    pub fn finish(&mut self, sequence: u64) -> Option<Item> {
        let is_open = self.place.lost_since.is_some() || self.place.sequence < sequence;
        is_open.then(|| self.damage_up_to(self.end.max(self.place.offset), sequence))
    }

    /// The bytes from the current place to the end of the stretch or of the records.
    fn rest(&self) -> &[u8] {
        let from = self.place.offset.saturating_sub(self.origin);
        let to = self.end.saturating_sub(self.origin).min(self.bytes.len() as u64);
        let index = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        self.bytes.get(index(from)..index(to)).unwrap_or_default()
    }

    /// Moves past the current place to the next that may begin a record.
    fn skip_to_candidate(&mut self) {
        let rest = self.rest();
        let step = RECORD_ALIGNMENT;
        let candidate = rest
            .chunks(step)
            .skip(1)
            .position(|chunk| chunk.starts_with(b"RM"))
            .map_or(rest.len() / step * step, |index| (index + 1) * step);
        self.place.offset += candidate.max(step) as u64;
    }

    fn take(&mut self, header: Header) -> Item {
        let offset = self.place.offset;
        let start =
            usize::try_from(offset - self.origin).unwrap_or(usize::MAX) + RECORD_HEADER_BYTES;
        let payload = start..start + header.payload_bytes as usize;
        let confirmed = self
            .bytes
            .get(payload.clone())
            .is_some_and(|payload| header.confirms(payload, self.seeds));
        self.place.offset += header.record_bytes() as u64;
        self.place.sequence = header.sequences().end;
        if confirmed {
            return Item::Record(header, offset, payload);
        }
        Item::Damaged(Damage {
            segment: self.place.segment,
            offsets: offset..self.place.offset,
            sequences: header.sequences(),
        })
    }

    fn damage_up_to(&mut self, offset: u64, sequence: u64) -> Item {
        let start = self.place.lost_since.take().unwrap_or(offset);
        let sequences = self.place.sequence..sequence.max(self.place.sequence);
        self.place.sequence = sequences.end;
        Item::Damaged(Damage { segment: self.place.segment, offsets: start..offset, sequences })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::to_usize;
    use crate::record::{Kind, Stamp, record_bytes, stamp_record};

    const SEEDS_SALT: u64 = 77;
    const ORIGIN: u64 = 4096;

    /// Three records of one entry each, the second long.
    fn records() -> (Vec<u8>, Vec<u64>) {
        let mut bytes = Vec::new();
        let mut offsets = Vec::new();
        for (index, length) in [5, 300, 8].into_iter().enumerate() {
            let start = bytes.len();
            offsets.push(ORIGIN + start as u64);
            bytes.resize(start + record_bytes(length), 0x11);
            let stamp = Stamp {
                kind: Kind::Message,
                sequence: 10 + index as u64,
                count: 1,
                durable_up_to: 0,
                offset: ORIGIN + start as u64,
            };
            stamp_record(&mut bytes[start..], length, stamp, Seeds::new(SEEDS_SALT));
        }
        offsets.push(ORIGIN + bytes.len() as u64);
        bytes.resize(1024, 0);
        (bytes, offsets)
    }

    fn walk(bytes: &[u8], end: u64) -> (Vec<String>, Place, u64) {
        let place = Place::new(SegmentId(1), ORIGIN, 10);
        let seeds = Seeds::new(SEEDS_SALT);
        let mut walk = Walk { bytes, origin: ORIGIN, end, seeds, place, need_bytes: 0 };
        let mut lines = Vec::new();
        while let Some(item) = walk.next() {
            lines.push(match item {
                Item::Record(header, offset, _) => format!("{} at {offset}", header.sequence),
                Item::Damaged(damage) => format!("{:?} {:?}", damage.sequences, damage.offsets),
            });
        }
        (lines, walk.place, walk.need_bytes)
    }

    #[test]
    fn records_follow_each_other() {
        let (bytes, offsets) = records();
        let (lines, place, _) = walk(&bytes, offsets[3]);
        assert_eq!(lines, ["10 at 4096", "11 at 4136", "12 at 4472"]);
        assert_eq!(place, Place::new(SegmentId(1), offsets[3], 13));
        // Beyond the records there is nothing, however far one looks.
        let (lines, place, _) = walk(&bytes, ORIGIN + 1024);
        assert_eq!(lines.len(), 3);
        assert_eq!((place.sequence, place.lost_since), (13, Some(offsets[3])));
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        let (bytes, offsets) = records();
        for cut in 0..offsets[3] - ORIGIN {
            let (lines, place, need) = walk(&bytes[..to_usize(cut)], offsets[3]);
            let whole = offsets[1..].iter().filter(|offset| **offset <= ORIGIN + cut).count();
            assert_eq!(lines.len(), whole, "{cut}");
            assert_eq!(place.offset, offsets[whole]);
            assert!(need > cut - (place.offset - ORIGIN));
        }
    }

    #[test]
    fn damage_costs_the_records_it_hits() {
        let (bytes, offsets) = records();
        for bit in 0..(offsets[2] - ORIGIN) * 8 {
            let mut bytes = bytes.clone();
            bytes[to_usize(bit / 8)] ^= 1 << (bit % 8);
            let at = ORIGIN + bit / 8;
            let hit = offsets.iter().filter(|offset| **offset <= at).count() - 1;
            // Three bytes of padding follow the first payload, four the second: no checksum.
            let is_padding = at >= offsets[hit] + 32 + [5, 300][hit];
            let (lines, place, _) = walk(&bytes, offsets[3]);
            assert_eq!(place.sequence, 13);
            assert_eq!(lines.len(), 3);
            let damaged = format!("{}..{} ", 10 + hit, 11 + hit);
            assert_eq!(lines[hit].starts_with(&damaged), !is_padding, "{bit} {lines:?}");
        }
    }

    #[test]
    fn what_is_lost_at_the_end_is_told() {
        let (mut bytes, offsets) = records();
        bytes[to_usize(offsets[2] - ORIGIN)] ^= 1;
        let place = Place::new(SegmentId(1), ORIGIN, 10);
        let seeds = Seeds::new(SEEDS_SALT);
        let end = offsets[3];
        let mut walk = Walk { bytes: &bytes, origin: ORIGIN, end, seeds, place, need_bytes: 0 };
        while walk.next().is_some() {}
        let Some(Item::Damaged(damage)) = walk.finish(13) else { panic!("the last is lost") };
        assert_eq!(damage.sequences, 12..13);
        assert_eq!(damage.offsets, offsets[2]..offsets[3]);
        assert_eq!(walk.finish(13), None);
    }
}
