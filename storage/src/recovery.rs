//! From files to a log: what was durable is there again, what was torn is cut off, what is damaged
//! is stepped over and told.
//!
//! Rules, in the order they apply:
//! 1. Everything is synced before it is read: nothing is decided on what may yet vanish.
//! 2. A segment ends where its successor says it ended, however often recovery runs.
//! 3. The last segment is searched to its end. Unreadable records at or above the highest sequence
//!    known to be durable are a torn tail: the log ends before the first of them. Below it they
//!    are damage, and cost themselves only.
//! 4. No sequence is given twice: the log goes on above everything seen, or said to have been
//!    given. Nothing is appended to an old segment.
//! 5. Nothing is removed but spares, which hold nothing by construction. What cannot be parsed
//!    stays where it is.
//!
//! All but rule 1 is a function of the bytes, so that recovery after a crash in recovery finds
//! the same.

mod files;
mod settle;

use crate::buffer::BLOCK;
use crate::checkpoint::{Picture, PictureRead};
use crate::control::{Control, SegmentEnd};
use crate::cursors::Cursors;
use crate::log::{FIRST_SEQUENCE, Found, Log, LogOptions};
use crate::record::{Header, Kind, record_bytes};
use crate::request::{Disk, FileName, IoError, LogKey, Operation, Slot};
use crate::save::{Saver, SlotFile};
use crate::scan::{Damage, Item, Place, Walk};
use crate::segment::{
    DATA_START, HeaderRead, Identity, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SegmentId, mix,
};
use crate::segments::{Handle, Segment, Segments};
use files::Files;
use settle::Ends;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What recovery met that someone should know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records that could not be read, and how many sequences they held.
    pub damages: Vec<Damage>,
    /// The tail that was cut off, when there were good records in it or durable ones are missing.
    pub torn_tail: Option<TornTail>,
    /// Sequences some cursor needs whose segments are not there.
    pub missing: Vec<Range<u64>>,
    /// Files that have a log's names and make no sense; left as they are.
    pub unreadable: Vec<FileName>,
    /// Files with other names; left as they are.
    pub strange: Vec<String>,
    /// Checkpoint files that hold something and no good checkpoint; one can be what a crash left.
    pub bad_checkpoints: Vec<Slot>,
    /// There were checkpoint files and none was good: the cursors come from the log itself, and
    /// what they finished since is delivered again.
    pub has_lost_checkpoint: bool,
}

impl RecoveryReport {
    /// Whether all was as it should be, after a crash at the worst: one of two checkpoints may be
    /// torn.
    pub fn is_clean(&self) -> bool {
        let bad_checkpoints = self.bad_checkpoints.clone();
        *self == Self { bad_checkpoints, ..Self::default() }
    }
}

/// Where a log was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The last segment.
    pub segment: SegmentId,
    /// Where its records end now.
    pub offset: u64,
    /// The sequences cut off, as far as they are known; good records among them are still in the
    /// file, which is kept.
    pub sequences: Range<u64>,
}

/// Why a log could not be recovered; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryError {
    /// A file is of a newer format.
    Version {
        /// Which file.
        file: FileName,
        /// Its version.
        version: u32,
    },
    /// The directory or a file could not be opened, read or synced.
    Io {
        /// Which file; the directory when none.
        file: Option<FileName>,
        /// Why.
        error: IoError,
    },
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { file, version } => {
                write!(f, "{file} has format version {version}, newer than this program knows")
            }
            Self::Io { file: Some(file), error } => write!(f, "{file}: {error}"),
            Self::Io { file: None, error } => write!(f, "the log's directory: {error}"),
        }
    }
}

impl std::error::Error for RecoveryError {}

/// Opens a log as it was left, or a new one in an empty directory. The seed is as for
/// [`Log::new`]. All files are closed when this returns.
///
/// # Errors
/// When files are of a newer format, or the disk does not let itself be read.
pub fn recover(
    key: LogKey,
    options: LogOptions,
    seed: u64,
    disk: &mut impl Disk,
) -> Result<(Log, RecoveryReport), RecoveryError> {
    let mut recovery = Recovery {
        files: Files::new(key, disk),
        options,
        report: RecoveryReport::default(),
        segments: BTreeMap::new(),
        spares: Vec::new(),
        slots: [SlotFile::default(); 2],
        picture: None,
        ids_max: 0,
        durable_up_to: 0,
        next_sequence: 0,
    };
    let found = recovery.run(seed)?;
    Ok((Log::from_found(key, options, seed, found), recovery.report))
}

/// A segment file while it is looked at.
#[derive(Debug)]
struct Candidate {
    identity: Identity,
    /// Its first record, if that is good: its sequence and what it says.
    begin: Option<(u64, Control)>,
    scan: Option<Scan>,
}

/// What a search through a segment brought.
#[derive(Debug, Default)]
struct Scan {
    /// Where the records end.
    end: Option<SegmentEnd>,
    first_sequence: Option<u64>,
    /// The highest sequence that any record says was durable.
    durable_up_to: u64,
    /// Above all sequences seen.
    sequence_max: u64,
    /// Its last record is there, and has this sequence.
    sealed_at: Option<u64>,
    /// The log was found to end in it.
    is_cut: bool,
    damages: Vec<Damage>,
    /// Offsets and contents.
    controls: Vec<(u64, Control)>,
}

struct Recovery<'a, D> {
    files: Files<'a, D>,
    options: LogOptions,
    report: RecoveryReport,
    segments: BTreeMap<SegmentId, Candidate>,
    spares: Vec<(SegmentId, u64)>,
    slots: [SlotFile; 2],
    picture: Option<(Slot, Picture)>,
    ids_max: u64,
    durable_up_to: u64,
    next_sequence: u64,
}

impl<D: Disk> Recovery<'_, D> {
    fn run(&mut self, seed: u64) -> Result<Found, RecoveryError> {
        let listing = self.files.list()?;
        let has_directory = !listing.is_empty();
        if has_directory {
            self.files.run(None, Operation::SyncDirectory)?;
        }
        let mut segment_files = Vec::new();
        for (name, bytes) in listing {
            match FileName::parse(&name) {
                Some(FileName::Checkpoint(slot)) => self.look_at_slot(slot, bytes)?,
                Some(FileName::Segment(id)) => segment_files.push((id, bytes)),
                Some(FileName::Spare(id)) => {
                    self.note_id(id);
                    self.spares.push((id, bytes));
                }
                Some(FileName::Damaged(id)) => self.note_id(id),
                None => self.report.strange.push(name),
            }
        }
        let is_there = |slot: &SlotFile| slot.bytes.is_some_and(|bytes| bytes > 0);
        self.report.has_lost_checkpoint = self.picture.is_none() && self.slots.iter().any(is_there);
        let mut log_id = self.picture.as_ref().map(|(_, picture)| picture.log_id);
        for (id, bytes) in segment_files {
            self.note_id(id);
            self.look_at_segment(id, bytes, &mut log_id)?;
        }
        let mut found = self.find_ends(log_id.unwrap_or_else(|| mix(seed)))?;
        self.keep_spares()?;
        self.files.close_all();
        found.spares.clone_from(&self.spares);
        found.has_directory = has_directory;
        Ok(found)
    }

    fn note_id(&mut self, id: SegmentId) {
        self.ids_max = self.ids_max.max(id.0);
    }

    /// Reads a checkpoint; the one with the higher generation counts.
    fn look_at_slot(&mut self, slot: Slot, bytes: u64) -> Result<(), RecoveryError> {
        let file = FileName::Checkpoint(slot);
        let [a, b] = &mut self.slots;
        let entry = if slot == Slot::A { a } else { b };
        *entry = SlotFile { bytes: Some(bytes), is_open: false };
        self.files.open_and_sync(file)?;
        let content = self.files.read(file, 0..bytes);
        match Picture::decode(content) {
            PictureRead::Version(version) => {
                return Err(RecoveryError::Version { file, version });
            }
            PictureRead::Invalid if content.iter().all(|byte| *byte == 0) => {}
            PictureRead::Invalid => self.report.bad_checkpoints.push(slot),
            PictureRead::Valid(picture) => {
                let newest = self.picture.as_ref().map_or(0, |(_, other)| other.generation);
                if picture.generation > newest {
                    self.picture = Some((slot, picture));
                }
            }
        }
        Ok(())
    }

    /// Reads a segment's header, or its copy, and its first record.
    fn look_at_segment(
        &mut self,
        id: SegmentId,
        bytes: u64,
        log_id: &mut Option<u64>,
    ) -> Result<(), RecoveryError> {
        let file = FileName::Segment(id);
        self.files.open_and_sync(file)?;
        let first = Identity::read(self.files.read(file, 0..BLOCK));
        let mut header = first;
        if first == HeaderRead::Invalid && bytes >= SEGMENT_BYTES_MIN {
            let copy = crate::buffer::align_down(bytes) - BLOCK;
            header = Identity::read(self.files.read(file, copy..copy + BLOCK));
        }
        let identity = match header {
            HeaderRead::Version(version) => return Err(RecoveryError::Version { file, version }),
            HeaderRead::Valid(identity) if identity.id == id => identity,
            HeaderRead::Valid(_) | HeaderRead::Invalid => {
                self.report.unreadable.push(file);
                return Ok(());
            }
        };
        if *log_id.get_or_insert(identity.log_id) != identity.log_id {
            self.report.unreadable.push(file);
            return Ok(());
        }
        if first == HeaderRead::Invalid {
            let damage = Damage { segment: id, offsets: 0..BLOCK, sequences: 0..0 };
            self.report.damages.push(damage);
        }
        let begin = self.read_begin(&identity);
        self.segments.insert(id, Candidate { identity, begin, scan: None });
        Ok(())
    }

    fn read_begin(&mut self, identity: &Identity) -> Option<(u64, Control)> {
        let file = FileName::Segment(identity.id);
        let seeds = identity.seeds();
        let block = self.files.read(file, DATA_START..DATA_START + BLOCK);
        let header = Header::read(block, DATA_START, seeds)?;
        let end = DATA_START + header.record_bytes() as u64;
        if header.kind != Kind::Begin || end > identity.data_end() {
            return None;
        }
        let record = self.files.read(file, DATA_START..crate::buffer::align_up(end));
        let payload = record.get(record_bytes(0)..)?.get(..header.payload_bytes as usize)?;
        let confirmed = Some(payload).filter(|payload| header.confirms(payload, seeds))?;
        Some((header.sequence, Control::decode(Kind::Begin, confirmed)?))
    }

    /// Finds out where each segment ends, where the log ends, and what the cursors are.
    fn find_ends(&mut self, log_id: u64) -> Result<Found, RecoveryError> {
        let mut ends = Ends::new();
        for candidate in self.segments.values() {
            if let Some((_, Control::Begin { previous: Some(end), .. })) = &candidate.begin {
                ends.insert(end.segment, *end);
            }
        }
        if let Some(end) = self.picture.as_ref().and_then(|(_, picture)| picture.ended) {
            ends.entry(end.segment).or_insert(end);
        }
        // A segment that is gone keeps its number.
        let numbers = ends.keys().map(|id| id.0).max();
        self.ids_max = self.ids_max.max(numbers.unwrap_or(0));
        let has_table = |candidate: &Candidate| {
            matches!(candidate.begin, Some((_, Control::Begin { table: Some(_), .. })))
        };
        let begun = self.segments.values().rev().find(|candidate| candidate.begin.is_some());
        let needs_all = self.picture.is_none() && !begun.is_some_and(has_table);
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        let mut expected = 0;
        for id in ids {
            if needs_all || !ends.contains_key(&id) {
                self.scan(id, expected);
            }
            let candidate = self.segments.get(&id);
            let scanned = candidate.and_then(|c| c.scan.as_ref()).and_then(|scan| scan.end);
            let end = ends.get(&id).copied().or(scanned);
            expected = end.map_or(expected, |end| end.sequence);
        }
        self.settle(&mut ends)?;
        Ok(self.build(&ends, log_id))
    }

    /// Searches a segment from its first record to its end.
    fn scan(&mut self, id: SegmentId, expected: u64) {
        let Some(candidate) = self.segments.get(&id) else { return };
        let (identity, begin) = (candidate.identity, candidate.begin.as_ref());
        let expected = begin.map_or(expected, |(sequence, _)| *sequence);
        let mut place = Place::new(id, DATA_START, expected);
        let (mut scan, mut need_bytes) = (Scan::default(), BLOCK);
        while place.offset < identity.data_end() && scan.sealed_at.is_none() {
            let origin = crate::buffer::align_down(place.offset);
            let wanted = files::READ_BYTES.max(place.offset - origin + need_bytes);
            let end = crate::buffer::align_up(origin + wanted).min(identity.data_end());
            let bytes = self.files.read(FileName::Segment(id), origin..end);
            let (seeds, end) = (identity.seeds(), identity.data_end());
            let mut walk = Walk { bytes, origin, end, seeds, place, need_bytes };
            while let Some(item) = walk.next() {
                scan.take(item, bytes);
                if scan.sealed_at.is_some() {
                    break;
                }
            }
            (place, need_bytes) = (walk.place, walk.need_bytes);
        }
        let offset = place.lost_since.unwrap_or(place.offset);
        let sequence = scan.sealed_at.unwrap_or(place.sequence);
        scan.end = Some(SegmentEnd { segment: id, offset, sequence });
        if let Some(candidate) = self.segments.get_mut(&id) {
            candidate.scan = Some(scan);
        }
    }

    /// Puts everything together.
    fn build(&mut self, ends: &Ends, log_id: u64) -> Found {
        let picture = self.picture.take();
        let ended = picture.as_ref().and_then(|(_, picture)| picture.ended);
        let good = picture.as_ref().map(|(slot, picture)| (*slot, picture.generation));
        let mut cursors = picture.map_or_else(Cursors::default, |(_, picture)| picture.cursors);
        let mut segments = Segments::default();
        let mut previous: Option<SegmentEnd> = None;
        let mut gaps = Vec::new();
        for (id, candidate) in std::mem::take(&mut self.segments) {
            let scan = candidate.scan.unwrap_or_default();
            let none = SegmentEnd { segment: id, offset: DATA_START, sequence: 0 };
            let end = ends.get(&id).copied().or(scan.end).unwrap_or(none);
            let told = candidate.begin.as_ref().map(|(sequence, _)| *sequence);
            let begin = told.or(scan.first_sequence).unwrap_or(end.sequence).min(end.sequence);
            let mut segment = Segment::new(candidate.identity, begin, Handle::Closed);
            segment.sequences = begin..end.sequence;
            segment.end_offset = end.offset;
            segment.is_ended = true;
            segment.is_damaged = scan.is_cut;
            for damage in scan.damages {
                if damage.offsets.start < end.offset && segment.note_damage(&damage) {
                    gaps.push((damage.sequences.clone(), true));
                    self.report.damages.push(damage);
                }
            }
            // A segment that the checkpoint knows to have ended before this one, and that is gone.
            let gone = ended.filter(|ended| {
                ended.segment < id && previous.is_none_or(|end| end.segment < ended.segment)
            });
            if let Some(gone) = gone {
                gaps.push((previous.map_or(0, |end| end.sequence)..gone.sequence, false));
                previous = Some(gone);
            }
            let is_next = match &candidate.begin {
                Some((_, Control::Begin { previous: told, .. })) => *told == previous,
                _ => false,
            };
            gaps.push((previous.map_or(0, |end| end.sequence)..begin, is_next));
            let begin = candidate.begin.map(|(_, control)| control);
            let controls = scan.controls.into_iter().map(|(_, control)| control);
            begin.into_iter().chain(controls).for_each(|control| control.apply(&mut cursors));
            segments.add(segment);
            previous = Some(end);
        }
        // The last segment may be gone as well.
        let is_later = |ended: &SegmentEnd| previous.is_none_or(|p| p.segment < ended.segment);
        if let Some(ended) = ended.filter(is_later) {
            gaps.push((previous.map_or(0, |end| end.sequence)..ended.sequence, false));
            previous = Some(ended);
        }
        gaps.push((previous.map_or(0, |end| end.sequence)..self.next_sequence, false));
        self.close_gaps(gaps, &mut cursors);
        let [a, b] = self.slots;
        Found {
            log_id,
            next_sequence: self.next_sequence,
            previous,
            segments,
            next_id: self.ids_max + 1,
            spares: Vec::new(),
            has_directory: true,
            cursors,
            saver: Saver::new(a, b, good),
        }
    }

    /// Finishes sequences that no segment has, for every cursor, and reports those that someone
    /// would have needed, unless they are known to be void.
    fn close_gaps(&mut self, gaps: Vec<(Range<u64>, bool)>, cursors: &mut Cursors) {
        for (gap, is_told) in gaps {
            // Sequences that were given and never durable are lost with the power, as promised.
            let is_void = is_told || gap.start.max(FIRST_SEQUENCE) >= self.durable_up_to;
            let is_needed = !cursors.is_empty() && !cursors.have_finished(&gap);
            if !is_void && !gap.is_empty() && is_needed {
                self.report.missing.push(gap.clone());
            }
            cursors.finish_range(&gap);
        }
    }

    /// Keeps as many spares as there is use for.
    fn keep_spares(&mut self) -> Result<(), RecoveryError> {
        let sizes = self.options.segment_bytes_first..=SEGMENT_BYTES_MAX;
        let spares_max = self.options.spares_max;
        let (mut kept, mut superfluous) = (Vec::new(), Vec::new());
        for (id, bytes) in self.spares.drain(..) {
            let is_usable = sizes.contains(&bytes) && bytes % BLOCK == 0;
            if is_usable && kept.len() < spares_max {
                kept.push((id, bytes));
            } else {
                superfluous.push(FileName::Spare(id));
            }
        }
        self.spares = kept;
        for file in superfluous {
            self.files.run(Some(file), Operation::Remove { file })?;
        }
        Ok(())
    }
}

impl Scan {
    fn take(&mut self, item: Item, bytes: &[u8]) {
        match item {
            Item::Damaged(mut damage) => {
                // Before the first good record nobody knows which sequences there were.
                if self.first_sequence.is_none() && damage.sequences.start == 0 {
                    damage.sequences.start = damage.sequences.end;
                }
                self.sequence_max = self.sequence_max.max(damage.sequences.end);
                self.damages.push(damage);
            }
            Item::Record(header, offset, payload) => {
                self.first_sequence.get_or_insert(header.sequence);
                self.durable_up_to = self.durable_up_to.max(header.durable_up_to);
                self.sequence_max = self.sequence_max.max(header.sequences().end);
                let payload = bytes.get(payload).unwrap_or_default();
                match header.kind {
                    Kind::Seal => self.sealed_at = Some(header.sequence),
                    Kind::CursorCreated | Kind::CursorDeleted => {
                        let control = Control::decode(header.kind, payload);
                        self.controls.extend(control.map(|control| (offset, control)));
                    }
                    Kind::Message | Kind::Batch | Kind::Begin => {}
                }
            }
        }
    }
}
