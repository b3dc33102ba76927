//! One log: records in, requests out; completions in, records out.
//!
//! The log decides and never acts. Every method that may need something done is given an [`Io`],
//! where requests are put for an executor, and every answer comes back through
//! [`Log::complete`], each exactly once, in any order.
//!
//! Invariant, of sequences: durable up to ≤ written up to ≤ appended up to. What a crash leaves is
//! the records up to some sequence at or above *durable up to*; nothing else, nothing out of order.

mod complete;
mod reading;
mod tend;

use crate::append::{Appender, NoMemory, Shape};
use crate::buffer::BufferPool;
use crate::commit::Commit;
use crate::control::{Control, SegmentEnd, Table};
use crate::cursors::{Cursor, CursorId, Cursors};
use crate::prepare::Preparation;
use crate::read::Reader;
use crate::record::{BATCH_LENGTH_BYTES, Kind, record_bytes};
use crate::request::{FileName, IoError, LogKey, Operation, Purpose, Request, Ticket};
use crate::save::{Saver, SlotFile};
use crate::scan::Damage;
use crate::segment::{
    DATA_START, Identity, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SegmentId, mix, salt,
};
pub use crate::segments::Outline;
use crate::segments::Segments;
use std::collections::VecDeque;
use std::fmt;

/// Sizes and counts of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Size of the first segment, in bytes; each next one is twice as large. Small logs stay small.
    pub segment_bytes_first: u64,
    /// Size that segments grow to, in bytes.
    pub segment_bytes_max: u64,
    /// Bytes of records that may wait for a commit; also the largest commit, unless one record is
    /// larger.
    pub commit_bytes_max: usize,
    /// Size of a read, in bytes.
    pub read_bytes: u64,
    /// Blocks kept for reading, beside those that readers hold.
    pub read_blocks_max: usize,
    /// Ended segments kept open for reading.
    pub open_segments_max: usize,
    /// Files kept for the next segments.
    pub spares_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_first: 16 << 20,
            segment_bytes_max: 64 << 20,
            // Measured: direct writes of 1 MiB cost 113 µs of processor time per MB, of 64 KiB 265.
            commit_bytes_max: 1 << 20,
            // A backlog is drained by as much per wait for the disk.
            read_bytes: 512 << 10,
            read_blocks_max: 4,
            open_segments_max: 8,
            spares_max: 2,
        }
    }
}

impl LogOptions {
    /// The largest payload of a record: half of what the smallest segment holds.
    pub fn payload_bytes_max(&self) -> usize {
        let data = self.segment_bytes_first - 2 * DATA_START;
        usize::try_from(data / 2).unwrap_or(usize::MAX) - record_bytes(0)
    }

    fn assert_valid(&self) {
        let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        let (first, max) = (self.segment_bytes_first, self.segment_bytes_max);
        assert!(sizes.contains(&first) && sizes.contains(&max) && first <= max);
        assert!(first % DATA_START == 0 && max % DATA_START == 0, "files are made of whole blocks");
    }
}

/// Where a shard's logs put their requests, and where they get memory from.
#[derive(Debug)]
pub struct Io {
    /// To be executed, in any order.
    pub requests: Vec<Request>,
    /// The shard's buffers.
    pub buffers: BufferPool,
}

impl Io {
    /// Without requests, and with that much memory.
    pub fn new(buffer_bytes_max: usize) -> Self {
        Self { requests: Vec::new(), buffers: BufferPool::new(buffer_bytes_max) }
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// Enough is waiting for the disk: try again after a completion.
    Busy,
    /// There is no space for it, or no right to any; heals by itself, see [`Log::probe`].
    Blocked(IoError),
    /// The log takes nothing any more, until the program starts anew.
    Failed(IoError),
    /// It is larger than this many bytes.
    TooLarge(usize),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the log is busy"),
            Self::Blocked(error) => write!(f, "the log cannot grow: {error}"),
            Self::Failed(error) => write!(f, "the log has failed and needs a restart: {error}"),
            Self::TooLarge(max) => write!(f, "a record of the log has at most {max} bytes"),
        }
    }
}

impl std::error::Error for AppendError {}

/// How a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes records.
    Healthy,
    /// It takes no more for now, for want of space; reading and finishing go on.
    Blocked(IoError),
    /// A sync or a write failed: it takes no more for good. Reading and finishing go on.
    Failed(IoError),
}

/// What is worth telling someone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Records could not be read.
    Damaged(Damage),
    /// A checkpoint could not be written; the one before stands.
    CheckpointFailed(IoError),
    /// A file of the log could not be renamed, removed or opened.
    FileFailed(FileName, IoError),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => write!(f, "damaged records, they are kept - {damage:?}"),
            Self::CheckpointFailed(error) => {
                write!(f, "a checkpoint could not be written - {error}")
            }
            Self::FileFailed(file, error) => write!(f, "{file} - {error}"),
        }
    }
}

/// Reports kept until someone takes them; later ones are counted only.
const REPORTS_MAX: usize = 1024;

/// The state of one log. See the module's text.
#[derive(Debug)]
pub struct Log {
    key: LogKey,
    options: LogOptions,
    log_id: u64,
    /// New with every start of the program.
    seed: u64,
    appender: Appender,
    commit: Option<Commit>,
    written_up_to: u64,
    durable_up_to: u64,
    /// Someone waits for all below this to be durable.
    sync_up_to: u64,
    /// The segment written to last.
    written_segment: Option<SegmentId>,
    /// The last segment known to take no more records.
    ended: Option<SegmentEnd>,
    /// Where the log began to give sequences at this start, and where its records ended before.
    start: (u64, u64),
    segments: Segments,
    preparation: Option<Preparation>,
    /// Segments made or being made, and not yet written to.
    next: VecDeque<Identity>,
    next_id: u64,
    spares: Vec<(SegmentId, u64)>,
    has_directory: bool,
    cursors: Cursors,
    saver: Saver,
    /// Segments to be reclaimed, by what the last durable checkpoint says.
    reclaiming: VecDeque<SegmentId>,
    reclaim: Option<tend::Reclaim>,
    reader: Reader,
    closing: tend::Closing,
    state: State,
    reports: Vec<Report>,
    reports_dropped: u64,
}

/// What a log is made from: nothing, or what recovery found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) log_id: u64,
    pub(crate) next_sequence: u64,
    pub(crate) previous: Option<SegmentEnd>,
    pub(crate) segments: Segments,
    pub(crate) next_id: u64,
    pub(crate) spares: Vec<(SegmentId, u64)>,
    pub(crate) has_directory: bool,
    pub(crate) cursors: Cursors,
    pub(crate) saver: Saver,
}

/// The first sequence of a log.
pub(crate) const FIRST_SEQUENCE: u64 = 1;

impl Log {
    /// A new log, in a directory where there is none. The seed has to be different for every log
    /// and every start of the program; a random number is.
    ///
    /// # Panics
    /// When the options contradict each other.
    pub fn new(key: LogKey, options: LogOptions, seed: u64) -> Self {
        let found = Found {
            log_id: mix(seed),
            next_sequence: FIRST_SEQUENCE,
            previous: None,
            segments: Segments::default(),
            next_id: 1,
            spares: Vec::new(),
            has_directory: false,
            cursors: Cursors::default(),
            saver: Saver::new(SlotFile::default(), SlotFile::default(), None),
        };
        Self::from_found(key, options, seed, found)
    }

    pub(crate) fn from_found(key: LogKey, options: LogOptions, seed: u64, found: Found) -> Self {
        options.assert_valid();
        let next_sequence = found.next_sequence;
        Self {
            key,
            options,
            log_id: found.log_id,
            seed,
            appender: Appender::new(next_sequence, found.previous),
            commit: None,
            written_up_to: next_sequence,
            durable_up_to: next_sequence,
            sync_up_to: 0,
            written_segment: None,
            ended: found.previous,
            start: (next_sequence, found.previous.map_or(FIRST_SEQUENCE, |end| end.sequence)),
            segments: found.segments,
            preparation: None,
            next: VecDeque::new(),
            next_id: found.next_id,
            spares: found.spares,
            has_directory: found.has_directory,
            cursors: found.cursors,
            saver: found.saver,
            reclaiming: VecDeque::new(),
            reclaim: None,
            reader: Reader::new(options.read_bytes, options.read_blocks_max),
            closing: tend::Closing::No,
            state: State::Healthy,
            reports: Vec::new(),
            reports_dropped: 0,
        }
    }

    /// Appends one entry, whose bytes are the parts one after the other. Gives its sequence.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    pub fn append_message(&mut self, parts: &[&[u8]], io: &mut Io) -> Result<u64, AppendError> {
        let payload_bytes = parts.iter().map(|part| part.len()).sum();
        let shape = Shape { kind: Kind::Message, count: 1, payload_bytes };
        self.append(shape, io, |payload| fill(payload, parts.iter().copied()))
    }

    /// Appends entries, of two parts each, that recovery keeps or drops together. Gives the first
    /// one's sequence; the others' follow.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    pub fn append_batch<A, B>(
        &mut self,
        entries: impl Iterator<Item = (A, B)> + Clone,
        io: &mut Io,
    ) -> Result<u64, AppendError>
    where
        A: AsRef<[u8]>,
        B: AsRef<[u8]>,
    {
        let entry_bytes = |(a, b): (A, B)| a.as_ref().len() + b.as_ref().len();
        let mut shape = Shape { kind: Kind::Batch, count: 0, payload_bytes: 0 };
        for entry in entries.clone() {
            shape.count += 1;
            shape.payload_bytes += BATCH_LENGTH_BYTES + entry_bytes(entry);
        }
        self.append(shape, io, |mut payload| {
            for (a, b) in entries {
                let (a, b) = (a.as_ref(), b.as_ref());
                let length = crate::record::to_u32(a.len() + b.len()).to_le_bytes();
                let (entry, rest) = payload.split_at_mut(BATCH_LENGTH_BYTES + a.len() + b.len());
                fill(entry, [&length[..], a, b].into_iter());
                payload = rest;
            }
        })
    }

    /// Hands what was appended to the disk, unless a commit is on its way; the next begins by
    /// itself when that one is over.
    pub fn commit(&mut self, io: &mut Io) {
        self.pump(io);
    }

    /// Asks for everything appended so far to be made durable, and commits.
    pub fn sync(&mut self, io: &mut Io) {
        self.sync_up_to = self.appended_up_to();
        self.pump(io);
    }

    /// All sequences below this were appended.
    pub fn appended_up_to(&self) -> u64 {
        self.appender.tip().next_sequence
    }

    /// All records of sequences below this were written: they survive the end of the program, and
    /// can be read.
    pub fn written_up_to(&self) -> u64 {
        self.written_up_to
    }

    /// All records of sequences below this are on stable storage, and so are the names of their
    /// files.
    pub fn durable_up_to(&self) -> u64 {
        self.durable_up_to
    }

    /// All records below this are durable. Not [`Self::durable_up_to`] before the first record of
    /// this start, which comes after sequences that were given and lost.
    fn durable_end(&self) -> u64 {
        let (sequence, end) = self.start;
        if self.durable_up_to == sequence { end } else { self.durable_up_to }
    }

    /// How the log is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Bytes of records that wait for a commit.
    pub fn staged_bytes(&self) -> usize {
        self.appender.staged_bytes()
    }

    /// Bytes of the segments on disk, spares not counted.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The segments in order, for tools that read them by themselves.
    pub fn outlines(&self) -> impl Iterator<Item = Outline> {
        self.segments.outlines()
    }

    /// The first sequence that can be read.
    pub fn first_sequence(&self) -> u64 {
        self.segments.first_sequence().unwrap_or(self.written_up_to)
    }

    /// The cursors.
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// A cursor, to note what it finished.
    pub fn cursor_mut(&mut self, id: CursorId) -> Option<&mut Cursor> {
        self.cursors.cursor_mut(id)
    }

    /// Adds a cursor that needs everything from a sequence on. It becomes durable with the next
    /// record, if it is not refused, and else with the next checkpoint.
    pub fn create_cursor(&mut self, name: &[u8], low: u64, io: &mut Io) -> CursorId {
        let id = self.cursors.create(name, low);
        let version = self.cursors.version();
        self.note(&Control::Created { version, id, low, name: name.into() }, io);
        id
    }

    /// Removes a cursor. It stays removed as [`Self::create_cursor`] becomes durable.
    pub fn delete_cursor(&mut self, id: CursorId, io: &mut Io) {
        if self.cursors.delete(id).is_some() {
            let version = self.cursors.version();
            self.note(&Control::Deleted { version, id }, io);
        }
    }

    /// Takes what there is to report, and how many reports there was no room for.
    pub fn take_reports(&mut self) -> (Vec<Report>, u64) {
        (std::mem::take(&mut self.reports), std::mem::take(&mut self.reports_dropped))
    }

    /// Writes down a change of the cursors, if the log has records at all: without any, the set is
    /// written when the first segment begins. A checkpoint makes up for a refused one.
    fn note(&mut self, control: &Control, io: &mut Io) {
        if self.appender.tip().target.is_none() {
            return;
        }
        let payload = control.encode();
        let kind = match control {
            Control::Begin { .. } => Kind::Begin,
            Control::Created { .. } => Kind::CursorCreated,
            Control::Deleted { .. } => Kind::CursorDeleted,
        };
        let shape = Shape { kind, count: 0, payload_bytes: payload.len() };
        // The checkpoint holds the change as well, so that a refusal needs no answer.
        let _refused = self.append(shape, io, |bytes| bytes.copy_from_slice(&payload));
    }

    fn append(
        &mut self,
        shape: Shape,
        io: &mut Io,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, AppendError> {
        if let State::Failed(error) | State::Blocked(error) = self.state {
            let is_failed = matches!(self.state, State::Failed(_));
            let refusal = if is_failed { AppendError::Failed } else { AppendError::Blocked };
            return Err(refusal(error));
        }
        if shape.payload_bytes > self.options.payload_bytes_max() {
            return Err(AppendError::TooLarge(self.options.payload_bytes_max()));
        }
        let staged_bytes = self.appender.staged_bytes();
        let total = staged_bytes + record_bytes(shape.payload_bytes);
        if staged_bytes > 0 && total > self.options.commit_bytes_max {
            self.pump(io);
            if self.appender.staged_bytes() > 0 {
                return Err(AppendError::Busy);
            }
        }
        self.make_target(shape.payload_bytes, io)?;
        let busy = |NoMemory| AppendError::Busy;
        let appended = self.appender.append(shape, self.durable_end(), &mut io.buffers, fill);
        let sequence = appended.map_err(busy)?;
        self.prepare_ahead(io);
        Ok(sequence)
    }

    /// Makes sure that a record fits the segment that records go to.
    fn make_target(&mut self, payload_bytes: usize, io: &mut Io) -> Result<(), AppendError> {
        let busy = |NoMemory| AppendError::Busy;
        if !self.appender.fits(payload_bytes) {
            if self.next.is_empty() {
                self.prepare_next(io);
            }
            if let Some(error) = self.preparation.as_ref().and_then(|p| p.blocked) {
                self.state = State::Blocked(error);
                return Err(AppendError::Blocked(error));
            }
            if self.next.is_empty() {
                return Err(AppendError::Busy);
            }
            self.appender.seal(self.durable_end(), &mut io.buffers).map_err(busy)?;
            if let Some(identity) = self.next.pop_front() {
                self.appender.start(identity);
            }
        }
        let tip = self.appender.tip();
        if tip.target.is_some_and(|target| target.has_begun) {
            return Ok(());
        }
        let payload = self.begin_payload();
        let shape = Shape { kind: Kind::Begin, count: 0, payload_bytes: payload.len() };
        let durable_up_to = self.durable_end();
        let fill = |bytes: &mut [u8]| bytes.copy_from_slice(&payload);
        let begun = self.appender.append(shape, durable_up_to, &mut io.buffers, fill);
        begun.map(|_| ()).map_err(busy)
    }

    /// What the first record of a segment says. A set of cursors that would take too much of it is
    /// left out; the checkpoints have it.
    fn begin_payload(&self) -> Vec<u8> {
        let tip = self.appender.tip();
        let bytes = tip.target.map_or(0, |target| target.identity.bytes);
        let table = Some(Table::of(&self.cursors));
        let payload = Control::Begin { previous: tip.previous, table }.encode();
        if payload.len() as u64 <= (bytes - 2 * DATA_START) / 4 {
            return payload;
        }
        Control::Begin { previous: tip.previous, table: None }.encode()
    }

    /// Begins with the next segment when half of this one is full.
    fn prepare_ahead(&mut self, io: &mut Io) {
        let target = self.appender.tip().target;
        if self.next.is_empty() && target.is_some_and(|t| t.offset > t.identity.bytes / 2) {
            self.prepare_next(io);
        }
    }

    fn prepare_next(&mut self, io: &mut Io) {
        if self.preparation.is_some() {
            return;
        }
        let id = SegmentId(self.next_id);
        let spare = self.usable_spare().map(|index| self.spares.remove(index));
        let newest = self.appender.tip().target.map_or(0, |target| target.identity.bytes);
        let grown = (2 * newest).max(self.options.segment_bytes_first);
        let bytes = spare.map_or(grown.min(self.options.segment_bytes_max), |(_, bytes)| bytes);
        let identity = Identity { log_id: self.log_id, id, salt: salt(self.seed, id), bytes };
        let file = spare.map(|(id, _)| FileName::Spare(id));
        let preparation = Preparation::new(identity, file, self.has_directory, &mut io.buffers);
        let Some(mut preparation) = preparation else {
            self.spares.extend(spare);
            return;
        };
        self.next_id += 1;
        self.next.push_back(identity);
        self.request(Purpose::Prepare, preparation.operation(), io);
        self.preparation = Some(preparation);
    }

    /// Which of the spares can become a segment.
    fn usable_spare(&self) -> Option<usize> {
        let is_usable = |(_, bytes): &(SegmentId, u64)| *bytes >= self.options.segment_bytes_first;
        self.spares.iter().position(is_usable)
    }

    fn request(&self, purpose: Purpose, operation: Operation, io: &mut Io) {
        io.requests.push(Request { log: self.key, ticket: Ticket(purpose), operation });
    }

    fn report(&mut self, report: Report) {
        if self.reports.len() < REPORTS_MAX {
            self.reports.push(report);
        } else {
            self.reports_dropped += 1;
        }
    }
}

/// Copies parts one after the other.
fn fill<'a>(mut bytes: &mut [u8], parts: impl Iterator<Item = &'a [u8]>) {
    for part in parts {
        let (front, rest) = bytes.split_at_mut(part.len());
        front.copy_from_slice(part);
        bytes = rest;
    }
}
