//! Records on their way to disk: encoded once, in the aligned block they will be written from.
//!
//! A commit takes the open block whole; records that arrive meanwhile go into the next one. The
//! last 4 KiB of a block are rarely full. They are not padded: the next block begins with a copy
//! of them and is written over them. That costs the device no more bytes than padding would, and a
//! log of small commits stays as dense as its records (padded, 200-byte messages committed one by
//! one would take 18 times their size). The bytes written again are the bytes that are there
//! already, so that a torn write cannot change them.

use crate::buffer::{AlignedBuffer, BLOCK_BYTES, BufferPool, align_down, to_usize};
use crate::control::SegmentEnd;
use crate::record::{Kind, RECORD_HEADER_BYTES, Stamp, record_bytes, stamp_record};
use crate::segment::{DATA_START, Identity};
use crate::segments::marks_apart;
use std::collections::VecDeque;

/// No buffer was to be had; try again when some have come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// Room that is always kept for a segment's last record.
const SEAL_BYTES: u64 = record_bytes(0) as u64;

/// Blocks start at this size and grow with the load.
const OPEN_BYTES_MIN: usize = 4 * BLOCK_BYTES;

/// Where the next record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tip {
    pub(crate) target: Option<Target>,
    pub(crate) next_sequence: u64,
    /// How the segment before the target ended, or the last one when there is no target.
    pub(crate) previous: Option<SegmentEnd>,
}

/// The segment that records go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) identity: Identity,
    /// Where the next record begins.
    pub(crate) offset: u64,
    /// Whether its first record, which says what came before, is there.
    pub(crate) has_begun: bool,
}

/// A stretch of one segment, to be written as a whole.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) identity: Identity,
    /// Where in the file it goes; a multiple of a block.
    pub(crate) offset: u64,
    pub(crate) buffer: AlignedBuffer,
    /// How much of the buffer is used.
    pub(crate) bytes: usize,
    /// How much at its front was written before.
    prefix: usize,
    /// Whether it ends its segment.
    pub(crate) seals: bool,
    /// Sequence and offset in the file of some of its records, in order.
    pub(crate) marks: Vec<(u64, u64)>,
    before: Tip,
    after: Tip,
}

impl Staged {
    /// Where its first record that was not written before begins in the file.
    pub(crate) fn first_offset(&self) -> u64 {
        self.offset + self.prefix as u64
    }

    /// The sequence after its last.
    pub(crate) fn end_sequence(&self) -> u64 {
        self.after.next_sequence
    }
}

/// What a record holds, beside its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) payload_bytes: usize,
}

/// Blocks not yet handed to a commit, in order.
#[derive(Debug)]
pub(crate) struct Appender {
    tip: Tip,
    /// What [`Tip`] was when the last block was handed over.
    handed: Tip,
    /// The bytes handed over that the next block of the same segment begins with.
    tail: Vec<u8>,
    sealed: VecDeque<Staged>,
    open: Option<Staged>,
    /// What the last commit took: the next will probably be alike.
    expected_bytes: usize,
}

impl Appender {
    pub(crate) fn new(next_sequence: u64, previous: Option<SegmentEnd>) -> Self {
        let tip = Tip { target: None, next_sequence, previous };
        Self {
            tip,
            handed: tip,
            tail: Vec::new(),
            sealed: VecDeque::new(),
            open: None,
            expected_bytes: OPEN_BYTES_MIN,
        }
    }

    pub(crate) fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Bytes of records that no commit has taken.
    pub(crate) fn staged_bytes(&self) -> usize {
        self.open.iter().chain(&self.sealed).map(|staged| staged.bytes - staged.prefix).sum()
    }

    /// Whether a record fits the segment, with room left for its last one.
    pub(crate) fn fits(&self, payload_bytes: usize) -> bool {
        self.tip.target.is_some_and(|target| {
            let end = target.offset + record_bytes(payload_bytes) as u64 + SEAL_BYTES;
            end <= target.identity.data_end()
        })
    }

    /// Adds a record that [`Self::fits`]; `fill` writes its payload. Gives its first sequence.
    pub(crate) fn append(
        &mut self,
        shape: Shape,
        durable_up_to: u64,
        pool: &mut BufferPool,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, NoMemory> {
        let Shape { kind, count, payload_bytes } = shape;
        let bytes = record_bytes(payload_bytes);
        self.make_room(bytes, pool)?;
        let target = self.tip.target.as_mut().expect("a record that fits has a segment");
        let staged = self.open.as_mut().expect("room was made");
        let sequence = self.tip.next_sequence;
        let (_, free) = staged.buffer.as_mut_bytes().split_at_mut(staged.bytes);
        let (record, _) = free.split_at_mut(bytes);
        let (_, body) = record.split_at_mut(RECORD_HEADER_BYTES);
        fill(body.split_at_mut(payload_bytes).0);
        let stamp = Stamp { kind, sequence, count, durable_up_to, offset: target.offset };
        stamp_record(record, payload_bytes, stamp, target.identity.seeds());
        let marked = staged.marks.last().map_or(staged.first_offset(), |(_, offset)| *offset);
        if target.offset >= marked + marks_apart(target.identity.bytes) {
            staged.marks.push((sequence, target.offset));
        }
        staged.bytes += bytes;
        target.offset += bytes as u64;
        target.has_begun = true;
        self.tip.next_sequence += u64::from(count);
        Ok(sequence)
    }

    /// Ends the segment that records go to, if there is one.
    pub(crate) fn seal(
        &mut self,
        durable_up_to: u64,
        pool: &mut BufferPool,
    ) -> Result<(), NoMemory> {
        // A segment without a first record has nothing to end; recovery makes it a spare.
        self.tip.target = self.tip.target.filter(|target| target.has_begun);
        if self.tip.target.is_none() {
            return Ok(());
        }
        let shape = Shape { kind: Kind::Seal, count: 0, payload_bytes: 0 };
        let sequence = self.append(shape, durable_up_to, pool, |_| ())?;
        let target = self.tip.target.take().expect("checked above");
        let offset = target.offset;
        self.tip.previous = Some(SegmentEnd { segment: target.identity.id, offset, sequence });
        let mut staged = self.open.take().expect("the seal is in it");
        staged.seals = true;
        self.sealed.push_back(staged);
        Ok(())
    }

    /// Lets records go to a new segment from here on; the one before is sealed.
    pub(crate) fn start(&mut self, identity: Identity) {
        debug_assert!(self.tip.target.is_none());
        self.tip.target = Some(Target { identity, offset: DATA_START, has_begun: false });
    }

    /// A segment that no record was staged for gets another size. Whether there is none.
    pub(crate) fn resize(&mut self, identity: Identity) -> bool {
        let is_it = |staged: &Staged| staged.identity.id == identity.id;
        if self.open.iter().chain(&self.sealed).any(is_it) {
            return false;
        }
        for tip in [&mut self.tip, &mut self.handed] {
            if let Some(target) = tip.target.as_mut().filter(|t| t.identity.id == identity.id) {
                target.identity = identity;
            }
        }
        true
    }

    /// The segment of the next block to be written.
    pub(crate) fn peek(&self) -> Option<&Identity> {
        let staged = self.sealed.front().or(self.open.as_ref())?;
        Some(&staged.identity)
    }

    /// Hands over the next block, ready to be written up to a whole block.
    pub(crate) fn take(&mut self) -> Option<Staged> {
        let mut staged = match self.sealed.pop_front() {
            Some(staged) => staged,
            None => self.open.take()?,
        };
        staged.after = if self.sealed.is_empty() && self.open.is_none() {
            self.tip
        } else {
            // Whatever was staged since began where this block ended.
            self.sealed.front().or(self.open.as_ref()).map_or(self.tip, |next| next.before)
        };
        self.handed = staged.after;
        let used = staged.bytes;
        let (_, rest) = staged.buffer.as_mut_bytes().split_at_mut(used);
        let (padding, _) = rest.split_at_mut(used.next_multiple_of(BLOCK_BYTES) - used);
        padding.fill(0);
        self.tail.clear();
        if !staged.seals {
            let tail = staged.buffer.as_bytes().get(used / BLOCK_BYTES * BLOCK_BYTES..used);
            self.tail.extend_from_slice(tail.unwrap_or_default());
        }
        self.expected_bytes = used.max(OPEN_BYTES_MIN);
        Some(staged)
    }

    /// Drops every record that no commit has taken, and those of a commit that could not be
    /// written. Gives the segments that were to be used and now wait for the next records.
    pub(crate) fn withdraw(
        &mut self,
        unwritten: Option<Staged>,
        pool: &mut BufferPool,
    ) -> Vec<Identity> {
        let mut unused: Vec<Identity> = Vec::new();
        for staged in self.sealed.drain(..).chain(self.open.take()) {
            unused.push(staged.identity);
            pool.give(staged.buffer);
        }
        unused.extend(self.tip.target.map(|target| target.identity));
        self.tip = self.handed;
        if let Some(staged) = unwritten {
            unused.insert(0, staged.identity);
            self.tip = staged.before;
            self.handed = staged.before;
            self.tail.clear();
            let tail = staged.buffer.as_bytes().get(..staged.prefix);
            self.tail.extend_from_slice(tail.unwrap_or_default());
            pool.give(staged.buffer);
        }
        unused.dedup();
        unused.retain(|identity| self.tip.target.is_none_or(|t| t.identity.id != identity.id));
        unused
    }

    /// Makes the open block large enough for `bytes` more.
    fn make_room(&mut self, bytes: usize, pool: &mut BufferPool) -> Result<(), NoMemory> {
        let Some(staged) = &mut self.open else {
            self.open = Some(self.open_block(bytes, pool)?);
            return Ok(());
        };
        let needed = staged.bytes + bytes;
        if needed <= staged.buffer.capacity_bytes() {
            return Ok(());
        }
        let mut larger = pool.take(needed).ok_or(NoMemory)?;
        let (front, _) = larger.as_mut_bytes().split_at_mut(staged.bytes);
        front.copy_from_slice(staged.buffer.as_bytes().split_at(staged.bytes).0);
        pool.give(std::mem::replace(&mut staged.buffer, larger));
        Ok(())
    }

    fn open_block(&self, bytes: usize, pool: &mut BufferPool) -> Result<Staged, NoMemory> {
        let target = self.tip.target.expect("a record that fits has a segment");
        let offset = align_down(target.offset);
        let prefix = to_usize(target.offset - offset);
        // A new segment begins with a whole block; the tail is then still the old one's.
        let tail = if prefix == 0 { &[] } else { self.tail.as_slice() };
        assert_eq!(prefix, tail.len(), "the tail is what lies before the next record");
        let needed = prefix + bytes;
        let mut buffer = pool
            .take(needed.max(self.expected_bytes))
            .or_else(|| pool.take(needed))
            .ok_or(NoMemory)?;
        buffer.as_mut_bytes().split_at_mut(prefix).0.copy_from_slice(tail);
        let (identity, tip) = (target.identity, self.tip);
        Ok(Staged {
            identity,
            offset,
            buffer,
            bytes: prefix,
            prefix,
            seals: false,
            marks: Vec::new(),
            before: tip,
            after: tip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Item, Place, Walk};
    use crate::segment::SegmentId;

    fn identity(id: u64) -> Identity {
        Identity { log_id: 1, id: SegmentId(id), salt: 99 + id, bytes: 16 * 4096 }
    }

    struct Bench {
        appender: Appender,
        pool: BufferPool,
        file: Vec<u8>,
    }

    impl Bench {
        fn new() -> Self {
            let mut appender = Appender::new(1, None);
            appender.start(identity(1));
            Self { appender, pool: BufferPool::new(1 << 20), file: vec![0xee; 16 * 4096] }
        }

        fn append(&mut self, length: usize) -> u64 {
            assert!(self.appender.fits(length));
            let shape = Shape { kind: Kind::Message, count: 1, payload_bytes: length };
            let fill = |payload: &mut [u8]| payload.fill(7);
            self.appender.append(shape, 0, &mut self.pool, fill).unwrap()
        }

        fn write(&mut self) -> Staged {
            let staged = self.appender.take().unwrap();
            let range = 0..staged.bytes.next_multiple_of(BLOCK_BYTES);
            let start = to_usize(staged.offset);
            let kept = staged.prefix;
            assert_eq!(self.file[start..][..kept], staged.buffer.as_bytes()[..kept]);
            self.file[start..][..range.len()].copy_from_slice(&staged.buffer.as_bytes()[range]);
            staged
        }

        /// Lengths of the records in the file.
        fn read(&self) -> Vec<usize> {
            let place = Place::new(SegmentId(1), DATA_START, 1);
            let seeds = identity(1).seeds();
            let mut walk = Walk {
                bytes: &self.file[4096..],
                origin: 4096,
                end: identity(1).data_end(),
                seeds,
                place,
                need_bytes: 0,
            };
            let mut lengths = Vec::new();
            while let Some(Item::Record(_, _, payload)) = walk.next() {
                lengths.push(payload.len());
            }
            lengths
        }
    }

    #[test]
    fn blocks_of_any_size_make_one_log() {
        let mut bench = Bench::new();
        let lengths = [200, 4000, 0, 1, 9000, 32, 4064, 100];
        for (index, length) in lengths.into_iter().enumerate() {
            assert_eq!(bench.append(length), 1 + index as u64);
            if index % 3 != 1 {
                bench.write();
            }
        }
        bench.write();
        assert_eq!(bench.read(), lengths);
        assert_eq!(bench.appender.staged_bytes(), 0);
        assert!(bench.appender.take().is_none());
    }

    #[test]
    fn a_full_segment_is_sealed() {
        let mut bench = Bench::new();
        let mut count = 0;
        while bench.appender.fits(1000) {
            bench.append(1000);
            count += 1;
        }
        bench.appender.seal(0, &mut bench.pool).unwrap();
        bench.appender.start(identity(2));
        bench.append(5);
        let staged = bench.write();
        assert!(staged.seals);
        let end = staged.after.previous.unwrap();
        assert_eq!((end.segment, end.sequence), (SegmentId(1), 1 + count));
        let after = bench.appender.take().unwrap();
        assert_eq!((after.identity.id, after.offset), (SegmentId(2), DATA_START));
        assert_eq!(bench.read().len() as u64, count + 1);
    }

    #[test]
    fn withdrawn_records_leave_no_trace() {
        let mut bench = Bench::new();
        bench.append(10);
        bench.write();
        bench.append(20);
        assert!(bench.appender.withdraw(None, &mut bench.pool).is_empty());
        assert_eq!(bench.append(30), 2);
        let lost = bench.appender.take().unwrap();
        bench.append(40);
        bench.appender.seal(0, &mut bench.pool).unwrap();
        bench.appender.start(identity(2));
        let unused = bench.appender.withdraw(Some(lost), &mut bench.pool);
        assert_eq!(unused, [identity(2)]);
        assert_eq!(bench.append(50), 2);
        bench.write();
        assert_eq!(bench.read(), [10, 50]);
    }

    #[test]
    fn without_memory_nothing_changes() {
        let mut bench = Bench::new();
        bench.pool = BufferPool::new(2 * BLOCK_BYTES);
        bench.append(3000);
        let shape = Shape { kind: Kind::Message, count: 1, payload_bytes: 9000 };
        assert_eq!(bench.appender.append(shape, 0, &mut bench.pool, |_| ()), Err(NoMemory));
        bench.write();
        assert_eq!(bench.read(), [3000]);
    }
}
