//! Reading back: which block a reader needs, which file that takes.

use super::{Io, Log, Report};
use crate::buffer::AlignedBuffer;
use crate::read::{Need, Progress, Read, ReadCursor};
use crate::record::RECORD_HEADER_BYTES;
use crate::request::{FileName, IoError, Operation, Outcome, Purpose};
use crate::scan::Place;
use crate::segment::SegmentId;
use crate::segments::Handle;

impl Log {
    /// The next entry at or after a reader's sequence. Sequences that were given to nothing are
    /// passed over; what is lost is told.
    pub fn read(&mut self, cursor: &mut ReadCursor, io: &mut Io) -> Read {
        loop {
            if let Some(read) = cursor.next_in_block() {
                return read;
            }
            if cursor.sequence() >= self.written_up_to {
                return Read::End;
            }
            let Some(place) = self.place_for(cursor) else { return Read::End };
            cursor.place = Some(place);
            if let Some(block) = self.reader.find(&place) {
                cursor.enter(block);
                self.read_ahead(cursor, io);
            } else {
                self.start_read(place, cursor.is_sparse(), io);
                return Read::Wait;
            }
        }
    }

    /// Brings what a reader of entries that lie far apart will ask for next. Whether more may be
    /// asked for.
    pub fn read_sparsely_ahead(&mut self, sequence: u64, io: &mut Io) -> bool {
        if sequence < self.written_up_to
            && let Some(place) = self.segments.at_or_after(sequence).map(|s| s.place_of(sequence))
            && self.reader.find(&place).is_none()
        {
            self.start_read(place, true, io);
        }
        !self.reader.is_busy()
    }

    /// Gives back the memory of blocks that no reader holds.
    pub fn release_memory(&mut self, io: &mut Io) {
        self.reader.release(&mut io.buffers);
    }

    /// Where the record of a reader's sequence begins, or one before it in the same segment.
    fn place_for(&self, cursor: &mut ReadCursor) -> Option<Place> {
        if let Some(place) = cursor.place
            && let Some(segment) = self.segments.segment(place.segment)
        {
            if place.offset < segment.end_offset && cursor.sequence() < segment.sequences.end {
                // A reader that was sent far ahead does not read what lies between.
                let known = segment.place_of(cursor.sequence());
                return Some(if known.offset > place.offset { known } else { place });
            }
            // All of the segment was passed.
            if place.offset >= segment.end_offset {
                cursor.seek(cursor.sequence().max(segment.sequences.end));
            }
        }
        let segment = self.segments.at_or_after(cursor.sequence())?;
        Some(segment.place_of(cursor.sequence()))
    }

    /// Brings the block after the one a reader entered, so that it is there in time.
    fn read_ahead(&mut self, cursor: &ReadCursor, io: &mut Io) {
        let Some(place) = cursor.block_end().filter(|_| !cursor.is_sparse()) else { return };
        let is_there = self.reader.find(&place).is_some();
        let segment = self.segments.segment(place.segment);
        if !is_there && segment.is_some_and(|segment| place.offset < segment.end_offset) {
            self.start_read(place, false, io);
        }
    }

    fn start_read(&mut self, place: Place, is_sparse: bool, io: &mut Io) {
        if self.reader.is_coming(&place) {
            return;
        }
        self.segments.touch(place.segment);
        let Some(segment) = self.segments.segment_mut(place.segment) else { return };
        match segment.handle {
            Handle::Opening | Handle::Closing => {}
            Handle::Closed => {
                segment.handle = Handle::Opening;
                let file = FileName::Segment(place.segment);
                self.request(Purpose::Open(place.segment), Operation::Open { file }, io);
            }
            Handle::Open => {
                let need = Need { bytes: RECORD_HEADER_BYTES as u64, is_sparse };
                let started = self.reader.start(place, segment, need, &mut io.buffers);
                if let Some((slot, operation)) = started {
                    segment.reads += 1;
                    self.request(Purpose::Read(slot), operation, io);
                }
            }
        }
    }

    pub(super) fn complete_open(
        &mut self,
        id: SegmentId,
        result: &Result<Outcome, IoError>,
        io: &mut Io,
    ) {
        let Some(segment) = self.segments.segment_mut(id) else { return };
        match result {
            Ok(_) => segment.handle = Handle::Open,
            // The next reader asks again.
            Err(error) => {
                segment.handle = Handle::Closed;
                if !error.is_transient() {
                    self.report(Report::FileFailed(FileName::Segment(id), *error));
                }
            }
        }
        let syncing = self.written_segment.filter(|_| self.commit.is_some());
        if let Some(id) = self.segments.to_close(self.options.open_segments_max, syncing) {
            if let Some(segment) = self.segments.segment_mut(id) {
                segment.handle = Handle::Closing;
            }
            let file = FileName::Segment(id);
            self.request(Purpose::Close(id), Operation::Close { file }, io);
        }
    }

    pub(super) fn complete_close(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.segment_mut(id) {
            segment.handle = Handle::Closed;
        }
    }

    pub(super) fn complete_read(
        &mut self,
        slot: usize,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
        io: &mut Io,
    ) {
        let id = self.reader.segment_of(slot).expect("every answer is to a read asked for");
        let segment = self.segments.segment_mut(id).expect("a segment being read is kept");
        let progress = self.reader.complete(slot, result, buffer, segment, &mut io.buffers);
        match progress {
            Progress::Next(operation) => self.request(Purpose::Read(slot), operation, io),
            Progress::Again(slot, operation) => self.request(Purpose::Read(slot), operation, io),
            Progress::Done(damages, marks) => {
                segment.reads -= 1;
                marks.iter().for_each(|(sequence, offset)| segment.mark(*sequence, *offset));
                let new: Vec<_> =
                    damages.into_iter().filter(|damage| segment.note_damage(damage)).collect();
                for damage in new {
                    self.report(Report::Damaged(damage));
                }
            }
        }
    }
}
