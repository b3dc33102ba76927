//! The segments of a log, in order: which sequences each holds, where they end, which are open,
//! which nobody needs any more.

use crate::cursors::Cursors;
use crate::record::Seeds;
use crate::request::FileName;
use crate::scan::{Damage, Place};
use crate::segment::{DATA_START, Identity, SegmentId};
use std::collections::BTreeMap;
use std::ops::Range;

/// How far apart the places are that are remembered of a segment, in bytes, so that reading need
/// not begin at its front: 16 bytes of memory for as many on disk.
pub(crate) const MARKS_APART_BYTES: u64 = 32 << 10;

/// As [`MARKS_APART_BYTES`], for a segment of that size: small ones have some, too.
pub(crate) fn marks_apart(segment_bytes: u64) -> u64 {
    MARKS_APART_BYTES.min(segment_bytes / 8)
}

/// Damaged stretches of one segment that are told apart; more are reported again when read again.
const DAMAGES_MAX: usize = 256;

/// Whether a segment's file can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    Closed,
    Opening,
    Open,
    Closing,
}

/// One segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) identity: Identity,
    pub(crate) seeds: Seeds,
    /// The sequences whose records were written to it.
    pub(crate) sequences: Range<u64>,
    /// Where those records end.
    pub(crate) end_offset: u64,
    /// No record will be added.
    pub(crate) is_ended: bool,
    pub(crate) handle: Handle,
    /// Reads that are with the executor.
    pub(crate) reads: u32,
    /// Goes up with each use; the smallest is closed first.
    pub(crate) used_at: u64,
    /// Part of it could not be read: it is kept when it is no longer needed.
    pub(crate) is_damaged: bool,
    damages: Vec<Range<u64>>,
    /// Sequence and offset of some records, in order.
    marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(identity: Identity, sequence: u64, handle: Handle) -> Self {
        Self {
            identity,
            seeds: identity.seeds(),
            sequences: sequence..sequence,
            end_offset: DATA_START,
            is_ended: false,
            handle,
            reads: 0,
            used_at: 0,
            is_damaged: false,
            damages: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Where to begin reading to come upon a sequence.
    pub(crate) fn place_of(&self, sequence: u64) -> Place {
        let index = self.marks.partition_point(|(mark, _)| *mark <= sequence);
        let mark = index.checked_sub(1).and_then(|index| self.marks.get(index));
        let (sequence, offset) = mark.copied().unwrap_or((self.sequences.start, DATA_START));
        Place::new(self.identity.id, offset, sequence)
    }

    /// Remembers that a record of that sequence begins there, unless one close by is remembered.
    pub(crate) fn mark(&mut self, sequence: u64, offset: u64) {
        let apart = marks_apart(self.identity.bytes);
        let index = self.marks.partition_point(|(_, mark)| *mark <= offset);
        let before = index.checked_sub(1).and_then(|index| self.marks.get(index));
        let is_far_before = before.map_or(DATA_START, |mark| mark.1) + apart <= offset;
        let is_far_after = self.marks.get(index).is_none_or(|mark| offset + apart <= mark.1);
        if is_far_before && is_far_after {
            self.marks.insert(index, (sequence, offset));
        }
    }

    /// Notes damage; whether it was not known.
    pub(crate) fn note_damage(&mut self, damage: &Damage) -> bool {
        self.is_damaged = true;
        let is_new = !self.damages.contains(&damage.offsets);
        if is_new && self.damages.len() < DAMAGES_MAX {
            self.damages.push(damage.offsets.clone());
        }
        is_new
    }
}

/// What a tool needs to know of a segment to read it by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Which segment, and where its checksums start.
    pub identity: Identity,
    /// The sequences of its records.
    pub sequences: Range<u64>,
    /// Where in its file the records end.
    pub end_offset: u64,
}

/// All segments that records were written to, or are about to be.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: BTreeMap<SegmentId, Segment>,
    clock: u64,
}

impl Segments {
    pub(crate) fn add(&mut self, segment: Segment) {
        self.list.insert(segment.identity.id, segment);
    }

    pub(crate) fn remove(&mut self, id: SegmentId) -> Option<Segment> {
        self.list.remove(&id)
    }

    pub(crate) fn outlines(&self) -> impl Iterator<Item = Outline> {
        self.list.values().map(|segment| Outline {
            identity: segment.identity,
            sequences: segment.sequences.clone(),
            end_offset: segment.end_offset,
        })
    }

    pub(crate) fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.list.get(&id)
    }

    pub(crate) fn segment_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        self.list.get_mut(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.list.values().map(|segment| segment.identity.bytes).sum()
    }

    /// The first sequence there is a record of.
    pub(crate) fn first_sequence(&self) -> Option<u64> {
        self.list.values().map(|segment| segment.sequences.start).next()
    }

    /// The segment that holds a sequence, or else the first that holds later ones.
    pub(crate) fn at_or_after(&self, sequence: u64) -> Option<&Segment> {
        let holds_later =
            |segment: &&Segment| sequence < segment.sequences.end && !segment.sequences.is_empty();
        self.list.values().find(holds_later)
    }

    /// Marks a segment as used just now.
    pub(crate) fn touch(&mut self, id: SegmentId) {
        self.clock += 1;
        if let Some(segment) = self.list.get_mut(&id) {
            segment.used_at = self.clock;
        }
    }

    /// The ended segment to close when more than `open_max` are open; not the one being synced.
    pub(crate) fn to_close(
        &self,
        open_max: usize,
        syncing: Option<SegmentId>,
    ) -> Option<SegmentId> {
        let open = self.list.values().filter(|s| s.is_ended && s.handle == Handle::Open);
        if open.clone().count() <= open_max {
            return None;
        }
        let is_idle =
            |s: &&Segment| s.reads == 0 && syncing.is_none_or(|syncing| syncing != s.identity.id);
        let idle = open.filter(is_idle);
        idle.min_by_key(|segment| segment.used_at).map(|segment| segment.identity.id)
    }

    /// Ended segments in which no cursor needs anything.
    pub(crate) fn reclaimable(&self, cursors: &Cursors) -> Vec<SegmentId> {
        let is_done =
            |segment: &&Segment| segment.is_ended && cursors.have_finished(&segment.sequences);
        self.list.values().filter(is_done).map(|segment| segment.identity.id).collect()
    }
}

/// What becomes of the file of a segment nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    /// It becomes another segment later.
    Recycle,
    /// It is kept as it is: part of it could not be read, and someone may want to try.
    Keep,
    Remove,
}

impl Disposal {
    /// The name the file gets.
    pub(crate) fn new_name(self, id: SegmentId) -> Option<FileName> {
        match self {
            Self::Recycle => Some(FileName::Spare(id)),
            Self::Keep => Some(FileName::Damaged(id)),
            Self::Remove => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: u64, sequences: Range<u64>) -> Segment {
        let identity = Identity { log_id: 1, id: SegmentId(id), salt: 2, bytes: 64 * 4096 };
        let mut segment = Segment::new(identity, sequences.start, Handle::Open);
        segment.sequences = sequences;
        segment.is_ended = true;
        segment
    }

    #[test]
    fn sequences_are_found() {
        let mut segments = Segments::default();
        segments.add(segment(1, 10..20));
        segments.add(segment(2, 25..25));
        segments.add(segment(4, 30..40));
        let found = |sequence| segments.at_or_after(sequence).map(|s| s.identity.id.0);
        let sequences = [5, 10, 19, 20, 29, 39, 40];
        let expected = [Some(1), Some(1), Some(1), Some(4), Some(4), Some(4), None];
        assert_eq!(sequences.map(found), expected);
        assert_eq!(segments.first_sequence(), Some(10));
    }

    #[test]
    fn marks_are_apart_and_in_order() {
        let mut segment = segment(1, 10..90);
        for (sequence, offset) in [(30, 80_000), (31, 81_000), (20, 40_000), (12, 4200)] {
            segment.mark(sequence, offset);
        }
        let place = |sequence| segment.place_of(sequence).offset;
        assert_eq!(
            [10, 19, 20, 29, 30, 89].map(place),
            [4096, 4096, 40_000, 40_000, 80_000, 80_000]
        );
    }

    #[test]
    fn what_every_cursor_finished_is_reclaimed() {
        let mut segments = Segments::default();
        for (id, sequences) in [(1, 0..10), (2, 10..20), (3, 20..30)] {
            segments.add(segment(id, sequences));
        }
        segments.segment_mut(SegmentId(3)).unwrap().is_ended = false;
        let mut cursors = Cursors::default();
        assert!(segments.reclaimable(&cursors).is_empty());
        let first = cursors.create(b"a", 30);
        let second = cursors.create(b"b", 0);
        cursors.cursor_mut(second).unwrap().finish_range(9..30);
        assert_eq!(segments.reclaimable(&cursors), [SegmentId(2)]);
        cursors.delete(second);
        assert_eq!(segments.reclaimable(&cursors), [SegmentId(1), SegmentId(2)]);
        cursors.delete(first);
        assert!(segments.reclaimable(&cursors).is_empty());
    }

    #[test]
    fn the_least_used_is_closed() {
        let mut segments = Segments::default();
        for id in 1..=3 {
            segments.add(segment(id, 0..1));
        }
        segments.touch(SegmentId(2));
        segments.touch(SegmentId(1));
        segments.segment_mut(SegmentId(3)).unwrap().reads = 1;
        assert_eq!(segments.to_close(3, None), None);
        assert_eq!(segments.to_close(2, None), Some(SegmentId(2)));
        let syncing = Some(SegmentId(2));
        assert!(segments.to_close(2, syncing).is_some_and(|id| id != SegmentId(2)));
    }
}
