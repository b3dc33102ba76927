//! Decides where the log ends, and writes that down: the cut is sealed, and what lies after it is
//! no part of the log any more. Whoever looks next finds the same, whatever is appended by then.

use super::{Candidate, Recovery, RecoveryError, TornTail};
use crate::buffer::{align_down, align_up};
use crate::control::SegmentEnd;
use crate::log::FIRST_SEQUENCE;
use crate::record::{Kind, Stamp, record_bytes, stamp_record};
use crate::request::{Disk, FileName, Operation};
use crate::scan::Damage;
use crate::segment::{DATA_START, SegmentId};
use std::collections::BTreeMap;

/// Where segments end, as far as it is known without looking.
pub(super) type Ends = BTreeMap<SegmentId, SegmentEnd>;

impl<D: Disk> Recovery<'_, D> {
    pub(super) fn settle(&mut self, ends: &mut Ends) -> Result<(), RecoveryError> {
        self.note_sequences(ends);
        self.cut(ends);
        let last = self.last_with_records(ends);
        self.retire_later(last, ends)?;
        if let Some(id) = last
            && !ends.contains_key(&id)
        {
            self.seal(id, ends)?;
        }
        Ok(())
    }

    /// Finds the highest sequence known to be durable, and the first that was never given.
    fn note_sequences(&mut self, ends: &Ends) {
        let picture = self.picture.as_ref().map(|(_, picture)| picture);
        let mut durable_up_to = picture.map_or(FIRST_SEQUENCE, |picture| picture.durable_up_to);
        let mut next_sequence = picture.map_or(FIRST_SEQUENCE, |picture| picture.next_sequence);
        for (id, candidate) in &self.segments {
            // A segment begins only after the one before it was synced.
            let begin = candidate.begin.as_ref().map_or(0, |(sequence, _)| *sequence);
            let scan = candidate.scan.as_ref();
            let end = ends.get(id).map_or(0, |end| end.sequence);
            let said = scan.map_or(0, |scan| scan.durable_up_to);
            durable_up_to = durable_up_to.max(begin).max(end).max(said);
            let seen = scan.map_or(0, |scan| scan.sequence_max);
            next_sequence = next_sequence.max(begin).max(end).max(seen);
        }
        self.durable_up_to = durable_up_to;
        self.next_sequence = next_sequence.max(durable_up_to);
    }

    /// Ends the log before its first bad record that was not durable.
    fn cut(&mut self, ends: &Ends) {
        let durable_up_to = self.durable_up_to;
        let is_torn = |damage: &Damage| {
            damage.sequences.start >= durable_up_to || damage.sequences.end > durable_up_to
        };
        let open = self.segments.iter_mut().filter(|(id, _)| !ends.contains_key(id));
        let scans = open.filter_map(|(id, candidate)| Some((*id, candidate.scan.as_mut()?)));
        for (segment, scan) in scans {
            let Some(index) = scan.damages.iter().position(&is_torn) else { continue };
            let Some(damage) = scan.damages.drain(index..).next() else { continue };
            let (offset, sequence) = (damage.offsets.start, damage.sequences.start);
            scan.controls.retain(|(control, _)| *control < offset);
            scan.end = Some(SegmentEnd { segment, offset, sequence });
            scan.is_cut = true;
            let sequences = sequence..self.next_sequence.max(sequence);
            self.report.torn_tail = Some(TornTail { segment, offset, sequences });
            return;
        }
    }

    /// The last segment that belongs to the log.
    fn last_with_records(&self, ends: &Ends) -> Option<SegmentId> {
        let is_cut = |c: &Candidate| c.scan.as_ref().is_some_and(|scan| scan.is_cut);
        let cut = self.segments.iter().find(|(_, candidate)| is_cut(candidate));
        let has_records = |(id, candidate): &(&SegmentId, &Candidate)| {
            let scan = candidate.scan.as_ref();
            let end = scan.and_then(|scan| scan.end).map_or(DATA_START, |end| end.offset);
            let is_before_cut = cut.is_none_or(|(cut, _)| *id <= cut);
            is_before_cut && (ends.contains_key(id) || end > DATA_START)
        };
        let with_records = self.segments.iter().rev().find(has_records);
        with_records.filter(|(_, c)| has_any(c) || !is_cut(c)).map(|(id, _)| *id)
    }

    /// Segments made in advance and never written to become spares again; those after a cut hold
    /// nothing that counts, and are kept aside.
    fn retire_later(&mut self, last: Option<SegmentId>, ends: &Ends) -> Result<(), RecoveryError> {
        let scanned = |id| self.segments.get(&id).and_then(|c| c.scan.as_ref()?.end);
        let end = last.and_then(|id| ends.get(&id).copied().or_else(|| scanned(id)));
        let told = self.picture.as_ref().and_then(|(_, picture)| picture.ended);
        let reached = end.into_iter().chain(told).map(|end| end.sequence).max();
        let is_whole = reached.unwrap_or(FIRST_SEQUENCE) >= self.durable_up_to;
        let is_later = |id: &SegmentId| last.is_none_or(|last| last < *id);
        let later: Vec<SegmentId> = self.segments.keys().copied().filter(is_later).collect();
        for id in &later {
            let Some(candidate) = self.segments.remove(id) else { continue };
            let from = FileName::Segment(*id);
            let to = if has_any(&candidate) {
                FileName::Damaged(*id)
            } else if is_whole {
                self.spares.push((*id, candidate.identity.bytes));
                FileName::Spare(*id)
            } else {
                // Durable records are missing, and may have been here: touch nothing.
                self.report.unreadable.push(from);
                continue;
            };
            self.files.close(from);
            self.files.run(Some(from), Operation::Rename { from, to })?;
        }
        if !later.is_empty() {
            self.files.run(None, Operation::SyncDirectory)?;
        }
        Ok(())
    }

    /// Writes a last record where the log ends. It also takes the sequences that were given and
    /// are lost, so that they are never given again.
    fn seal(&mut self, id: SegmentId, ends: &mut Ends) -> Result<(), RecoveryError> {
        let Some(candidate) = self.segments.get(&id) else { return Ok(()) };
        let Some(scan) = candidate.scan.as_ref().filter(|scan| scan.sealed_at.is_none()) else {
            return Ok(());
        };
        let Some(SegmentEnd { offset, sequence, .. }) = scan.end else { return Ok(()) };
        let seeds = candidate.identity.seeds();
        let lost = self.next_sequence.saturating_sub(sequence);
        let stamp = Stamp {
            kind: Kind::Seal,
            sequence,
            count: u32::try_from(lost).unwrap_or(u32::MAX),
            durable_up_to: sequence,
            offset,
        };
        let end = offset + record_bytes(0) as u64;
        let (origin, file) = (align_down(offset), FileName::Segment(id));
        let is_written = self.files.rewrite(file, origin..align_up(end), |bytes| {
            let start = crate::buffer::to_usize(offset - origin);
            let (_, rest) = bytes.split_at_mut(start);
            stamp_record(rest.split_at_mut(record_bytes(0)).0, 0, stamp, seeds);
        })?;
        let offset = if is_written { end } else { offset };
        ends.insert(id, SegmentEnd { segment: id, offset, sequence });
        Ok(())
    }
}

/// Whether a good record was seen in it.
fn has_any(candidate: &Candidate) -> bool {
    let scan = candidate.scan.as_ref();
    candidate.begin.is_some() || scan.is_some_and(|scan| scan.first_sequence.is_some())
}
