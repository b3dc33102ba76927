//! Reading back: large blocks, checked once, shared by all cursors that are close to each other.
//!
//! A block holds whole records of one segment, found and checked when it arrives; cursors then
//! walk its entries without touching the bytes. Entries are ranges of the block's memory, so that
//! they can be sent from there, for as long as someone holds the block.

use crate::buffer::{AlignedBuffer, BLOCK, BufferPool, align_down, align_up, to_usize};
use crate::record::{Kind, batch_entries, to_u32};
use crate::request::{FileName, IoError, Operation, Outcome};
use crate::scan::{Damage, Item, Place, Walk};
use crate::segment::SegmentId;
use crate::segments::{MARKS_APART_BYTES, Segment, marks_apart};
use std::ops::Range;
use std::rc::Rc;

/// Where one entry lies in its block, or which entries are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    sequence: u64,
    /// How many sequences are lost here; zero for an entry that is there.
    lost_count: u64,
    offset: u32,
    bytes: u32,
}

/// Records of one segment in memory.
#[derive(Debug)]
pub struct ReadBlock {
    buffer: AlignedBuffer,
    slices: Vec<Slice>,
    /// Where its first record begins.
    start: Place,
    /// Where the record after its last begins.
    end: Place,
    /// How many bytes it takes to go on from there.
    need_bytes: u64,
    /// Sequence and offset in the file of some of its records.
    marks: Vec<(u64, u64)>,
}

impl ReadBlock {
    /// An entry's bytes.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        self.buffer.as_bytes().get(entry.range()).unwrap_or_default()
    }

    /// The memory that entries are ranges of.
    pub fn memory(&self) -> &[u8] {
        self.buffer.as_bytes()
    }
}

/// One entry read back.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its sequence.
    pub sequence: u64,
    /// The block it lies in; keep it for as long as the bytes are needed, no longer.
    pub block: Rc<ReadBlock>,
    offset: u32,
    bytes: u32,
}

impl Entry {
    /// Where in the block's memory it lies.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.bytes as usize
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes(self)
    }
}

/// What came of asking for the next entry.
#[derive(Debug, Clone)]
pub enum Read {
    /// Here it is.
    Entry(Entry),
    /// These can never be read; finish them, and go on.
    Lost(Range<u64>),
    /// It is being read, or there is no memory to read it into: ask again after a completion.
    Wait,
    /// Everything written was read.
    End,
}

/// A reader's position in a log.
#[derive(Debug, Clone)]
pub struct ReadCursor {
    /// The next sequence wanted.
    sequence: u64,
    /// Where reading is, at or before that; unknown when it has to be looked up.
    pub(crate) place: Option<Place>,
    block: Option<Rc<ReadBlock>>,
    index: usize,
    /// Whether what it wants lies far apart: small blocks, and none ahead.
    is_sparse: bool,
}

impl ReadCursor {
    /// Begins at a sequence.
    pub fn new(sequence: u64) -> Self {
        Self { sequence, place: None, block: None, index: 0, is_sparse: false }
    }

    /// Begins at a sequence, for a reader that will seek from one entry to another far behind it.
    pub fn sparse(sequence: u64) -> Self {
        Self { is_sparse: true, ..Self::new(sequence) }
    }

    /// The next sequence wanted.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether it was made by [`Self::sparse`].
    pub fn is_sparse(&self) -> bool {
        self.is_sparse
    }

    /// Goes on at another sequence.
    pub fn seek(&mut self, sequence: u64) {
        if sequence < self.sequence {
            *self = Self { is_sparse: self.is_sparse, ..Self::new(sequence) };
        }
        self.sequence = sequence;
    }

    /// Gives up the block it holds, for a reader that will not read for a while.
    pub fn rest(&mut self) {
        self.block = None;
        self.place = None;
    }

    /// The next entry of the block it holds; without one, `place` says where to go on.
    pub(crate) fn next_in_block(&mut self) -> Option<Read> {
        let block = self.block.as_ref()?;
        while let Some(slice) = block.slices.get(self.index) {
            self.index += 1;
            if slice.lost_count > 0 && self.sequence < slice.sequence + slice.lost_count {
                let start = slice.sequence.max(self.sequence);
                self.sequence = slice.sequence + slice.lost_count;
                return Some(Read::Lost(start..self.sequence));
            }
            if slice.lost_count == 0 && self.sequence <= slice.sequence {
                self.sequence = slice.sequence + 1;
                let Slice { sequence, offset, bytes, .. } = *slice;
                return Some(Read::Entry(Entry {
                    sequence,
                    block: Rc::clone(block),
                    offset,
                    bytes,
                }));
            }
        }
        self.place = Some(block.end);
        self.block = None;
        None
    }

    /// Where the block it holds ends.
    pub(crate) fn block_end(&self) -> Option<Place> {
        self.block.as_ref().map(|block| block.end)
    }

    /// Goes on with the entries of a block.
    pub(crate) fn enter(&mut self, block: Rc<ReadBlock>) {
        self.index =
            block.slices.partition_point(|s| s.sequence + s.lost_count.max(1) <= self.sequence);
        self.block = Some(block);
    }
}

/// A block being read.
#[derive(Debug)]
struct Outstanding {
    start: Place,
    /// Where in the file the read begins; a multiple of a block.
    origin: u64,
    /// How much of the buffer is filled.
    filled: usize,
    /// How much of it is asked for now: up to `bytes`, or one block that could not be read.
    asked: usize,
    bytes: usize,
    /// Where the records ended when the read began: what was written since is not all in it.
    end_offset: u64,
    end_sequence: u64,
    is_sparse: bool,
    buffer: AlignedBuffer,
    retries: u32,
}

/// How much a reader of entries that lie far apart reads at a time: as much as lies between two
/// places that are remembered, and a record.
const SPARSE_BYTES: u64 = MARKS_APART_BYTES + (8 << 10);

/// How many of those may be on their way.
const SPARSE_READS_MAX: usize = 16;

/// How much is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// What the first record takes.
    pub(crate) bytes: u64,
    /// Nothing else is wanted.
    pub(crate) is_sparse: bool,
}

/// How often a read that did not run is asked for again at once.
const RETRIES_MAX: u32 = 8;

/// What a completed read meant.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The rest is to be asked for.
    Next(Operation),
    /// More is to be asked for, under another number.
    Again(usize, Operation),
    /// It is there; here is the damage in it, and where some of its records begin.
    Done(Vec<Damage>, Vec<(u64, u64)>),
}

/// The blocks in memory and on their way there.
#[derive(Debug)]
pub(crate) struct Reader {
    /// In the order of their last use, the latest last.
    blocks: Vec<Rc<ReadBlock>>,
    /// Dropped from `blocks`, and still held by someone.
    retired: Vec<Rc<ReadBlock>>,
    outstanding: Vec<Option<Outstanding>>,
    block_bytes: u64,
    /// What the blocks kept may take, in bytes, unless it is one.
    kept_bytes_max: u64,
}

impl Reader {
    pub(crate) fn new(block_bytes: u64, blocks_max: usize) -> Self {
        let (blocks, retired, outstanding) = (Vec::new(), Vec::new(), Vec::new());
        let kept_bytes_max = block_bytes * blocks_max as u64;
        Self { blocks, retired, outstanding, block_bytes, kept_bytes_max }
    }

    /// Whether as many reads are on their way as one reader may ask for ahead.
    pub(crate) fn is_busy(&self) -> bool {
        self.outstanding.iter().flatten().count() >= SPARSE_READS_MAX
    }

    /// The block that has the record at a place, or search results for it.
    pub(crate) fn find(&mut self, place: &Place) -> Option<Rc<ReadBlock>> {
        let index = self.blocks.iter().position(|block| {
            block.start.segment == place.segment
                && (block.start == *place
                    || block.start.offset <= place.offset && place.offset < block.end.offset)
        })?;
        let block = self.blocks.remove(index);
        self.blocks.push(Rc::clone(&block));
        Some(block)
    }

    /// Whether the record at a place is on its way.
    pub(crate) fn is_coming(&self, place: &Place) -> bool {
        self.outstanding.iter().flatten().any(|read| {
            let end = read.origin + read.bytes as u64;
            let covers = read.start.offset <= place.offset && place.offset < end;
            read.start.segment == place.segment && covers
        })
    }

    /// Begins to read from a place; `None` when there is no memory. Gives where to file the answer.
    pub(crate) fn start(
        &mut self,
        place: Place,
        segment: &Segment,
        need: Need,
        pool: &mut BufferPool,
    ) -> Option<(usize, Operation)> {
        self.free_retired(pool);
        let origin = align_down(place.offset);
        let usual =
            if need.is_sparse { self.block_bytes.min(SPARSE_BYTES) } else { self.block_bytes };
        let wanted = usual.max(place.offset - origin + need.bytes);
        let bytes = to_usize(align_up(segment.end_offset.min(origin + wanted)) - origin);
        while !self.blocks.is_empty() && self.kept_bytes() + wanted > self.kept_bytes_max {
            self.retire_oldest();
        }
        self.free_retired(pool);
        let mut buffer = pool.take_for_reading(bytes);
        while buffer.is_none() && !self.blocks.is_empty() {
            self.retire_oldest();
            self.free_retired(pool);
            buffer = pool.take_for_reading(bytes);
        }
        let mut read = Outstanding {
            start: place,
            origin,
            filled: 0,
            asked: bytes,
            bytes,
            end_offset: segment.end_offset,
            end_sequence: segment.sequences.end,
            is_sparse: need.is_sparse,
            buffer: buffer?,
            retries: 0,
        };
        let operation = read.operation();
        let free = self.outstanding.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.outstanding.len());
        if free.is_none() {
            self.outstanding.push(None);
        }
        if let Some(entry) = self.outstanding.get_mut(slot) {
            *entry = Some(read);
        }
        Some((slot, operation))
    }

    /// The segment a read is from.
    pub(crate) fn segment_of(&self, slot: usize) -> Option<SegmentId> {
        self.outstanding.get(slot)?.as_ref().map(|read| read.start.segment)
    }

    /// Takes the answer to a read.
    pub(crate) fn complete(
        &mut self,
        slot: usize,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
        segment: &Segment,
        pool: &mut BufferPool,
    ) -> Progress {
        let entry = self.outstanding.get_mut(slot).and_then(Option::take);
        let mut read = entry.expect("every answer is to a read that was asked for");
        read.buffer = buffer.unwrap_or(read.buffer);
        if let Some(operation) = read.advance(result) {
            if let Some(entry) = self.outstanding.get_mut(slot) {
                *entry = Some(read);
            }
            return Progress::Next(operation);
        }
        let is_sparse = read.is_sparse;
        let (mut block, damages) = read.into_block(segment);
        if block.end == block.start {
            // Not one whole record: bring as much as the first one needs.
            let (start, need) = (block.start, Need { bytes: block.need_bytes, is_sparse });
            pool.give(block.buffer);
            let again = |(slot, read)| Progress::Again(slot, read);
            let started = self.start(start, segment, need, pool);
            return started.map_or(Progress::Done(damages, Vec::new()), again);
        }
        let marks = std::mem::take(&mut block.marks);
        self.blocks.push(Rc::new(block));
        self.free_retired(pool);
        Progress::Done(damages, marks)
    }

    fn kept_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.buffer.capacity_bytes() as u64).sum()
    }

    /// Drops everything of a segment that no longer is.
    pub(crate) fn forget(&mut self, segment: SegmentId, pool: &mut BufferPool) {
        let (gone, kept) = self.blocks.drain(..).partition(|block| block.start.segment == segment);
        self.blocks = kept;
        let gone: Vec<_> = gone;
        self.retired.extend(gone);
        self.free_retired(pool);
    }

    /// Drops every block nobody holds.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        self.retired.append(&mut self.blocks);
        self.free_retired(pool);
    }

    fn retire_oldest(&mut self) {
        if !self.blocks.is_empty() {
            self.retired.push(self.blocks.remove(0));
        }
    }

    /// Gives back the memory of blocks that nobody holds any more.
    fn free_retired(&mut self, pool: &mut BufferPool) {
        for block in std::mem::take(&mut self.retired) {
            match Rc::try_unwrap(block) {
                Ok(block) => pool.give(block.buffer),
                Err(block) => self.retired.push(block),
            }
        }
    }
}

impl Outstanding {
    fn operation(&mut self) -> Operation {
        let file = FileName::Segment(self.start.segment);
        let offset = self.origin + self.filled as u64;
        let buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::none());
        Operation::Read { file, offset, buffer, range: self.filled..self.asked }
    }

    /// What is still to be read, if anything.
    fn advance(&mut self, result: &Result<Outcome, IoError>) -> Option<Operation> {
        let block = to_usize(BLOCK);
        match result {
            Ok(Outcome::Bytes(bytes)) if *bytes >= block => {
                self.filled += bytes / block * block;
                self.asked = self.bytes;
                self.retries = 0;
            }
            Err(error) if error.is_transient() && self.retries < RETRIES_MAX => self.retries += 1,
            // Ask for one block alone; what cannot be read of that is zeros, and damage like any
            // other. Less than was written may be chance, and is as bad as an error when it stays.
            _ if self.asked - self.filled > block => self.asked = self.filled + block,
            Ok(_) if self.retries < RETRIES_MAX => self.retries += 1,
            _ => {
                let read = if let Ok(Outcome::Bytes(bytes)) = result { *bytes } else { 0 };
                let rest = self.filled + read..self.asked;
                self.buffer.as_mut_bytes().get_mut(rest).unwrap_or_default().fill(0);
                self.filled = self.asked;
                self.asked = self.bytes;
            }
        }
        (self.filled < self.bytes).then(|| self.operation())
    }

    /// Finds and checks the records.
    fn into_block(self, segment: &Segment) -> (ReadBlock, Vec<Damage>) {
        let bytes = self.buffer.as_bytes().get(..self.filled).unwrap_or_default();
        let mut walk = Walk {
            bytes,
            origin: self.origin,
            end: self.end_offset,
            seeds: segment.seeds,
            place: self.start,
            need_bytes: 0,
        };
        let (mut slices, mut damages, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let (mut marked, apart) = (self.start.offset, marks_apart(segment.identity.bytes));
        loop {
            let place = walk.place;
            let Some(item) = walk.next() else { break };
            if matches!(item, Item::Record(..)) && place.offset >= marked + apart {
                marks.push((place.sequence, place.offset));
                marked = place.offset;
            }
            collect(item, bytes, &mut slices, &mut damages);
        }
        if walk.place.offset >= self.end_offset
            && let Some(item) = walk.finish(self.end_sequence)
        {
            collect(item, bytes, &mut slices, &mut damages);
        }
        let (end, need_bytes) = (walk.place, walk.need_bytes);
        let start = self.start;
        (ReadBlock { buffer: self.buffer, slices, start, end, need_bytes, marks }, damages)
    }
}

fn collect(item: Item, bytes: &[u8], slices: &mut Vec<Slice>, damages: &mut Vec<Damage>) {
    match item {
        Item::Record(header, _, payload) => {
            let mut sequence = header.sequence;
            let mut push = |range: Range<usize>| {
                let (offset, bytes) = (to_u32(range.start), to_u32(range.len()));
                slices.push(Slice { sequence, lost_count: 0, offset, bytes });
                sequence += 1;
            };
            match header.kind {
                Kind::Message => push(payload),
                Kind::Batch => {
                    let (start, body) = (payload.start, bytes.get(payload).unwrap_or_default());
                    for entry in batch_entries(body) {
                        push(start + entry.start..start + entry.end);
                    }
                }
                _ => {}
            }
        }
        Item::Damaged(damage) => {
            let Range { start, end } = damage.sequences;
            if start < end {
                let lost_count = end - start;
                slices.push(Slice { sequence: start, lost_count, offset: 0, bytes: 0 });
            }
            damages.push(damage);
        }
    }
}
