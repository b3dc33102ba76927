//! Deferred messages that are only in the log: a channel knows when each is due and where it lies,
//! and reads it back when its time has come and somebody takes it.
//!
//! The index has the earliest; what does not fit is *beyond* it: due no earlier than a horizon,
//! somewhere from a sequence on. When the index is used up, the log is read through once from there
//! to fill it again. So ten million deferred messages cost a channel as much memory as half a
//! million, and each is read a bounded number of times.

use super::channel::Entry;
use super::shard::Shard;
use super::time::{Now, Span, Time};
use crate::limits::{DEFERRED_INDEX_MAX, REFILL_MESSAGES_MAX};
use crate::protocol::message::MessageId;
use ringmain_storage::message::Entry as LogEntry;
use ringmain_storage::read::{Read, ReadCursor};
use std::collections::{BTreeSet, HashSet, VecDeque};

/// See the module's text. Invariant: everything in `index` is due before the horizon of `beyond`.
#[derive(Debug)]
pub struct Later {
    /// When it is due (UNIX nanoseconds) and its sequence, earliest first.
    index: BTreeSet<(i64, u64)>,
    beyond: Option<Beyond>,
    /// Reading through the log to fill the index again.
    search: Option<Search>,
    /// Due, to be read back, in order of sequence.
    fetching: VecDeque<u64>,
    reader: Option<ReadCursor>,
    /// When the first is due; [`Time::NEVER`] when none is waited for.
    pub first_due: Time,
    /// Something is due and has not been read back.
    pub is_due: bool,
    /// It is among the readers that wait for the log.
    pub waits: bool,
}

/// From how many other messages on, for each that is due, those that are due are read one by one.
const SPARSE_APART: u64 = 100;

#[derive(Debug, Clone, Copy)]
struct Beyond {
    from: u64,
    horizon_ns: i64,
    count: u64,
}

#[derive(Debug)]
struct Search {
    reader: ReadCursor,
    end: u64,
    /// What of the log the channel held in memory when the search began.
    held: HashSet<u64>,
    /// How many messages have yet to be found.
    expected: u64,
}

impl Default for Later {
    fn default() -> Self {
        Self {
            index: BTreeSet::new(),
            beyond: None,
            search: None,
            fetching: VecDeque::new(),
            reader: None,
            first_due: Time::NEVER,
            is_due: false,
            waits: false,
        }
    }
}

impl Later {
    /// How many messages there are.
    pub fn count(&self) -> u64 {
        let beyond = self.beyond.map_or(0, |beyond| beyond.count);
        let searched = self.search.as_ref().map_or(0, |search| search.expected);
        (self.index.len() + self.fetching.len()) as u64 + beyond + searched
    }

    /// Takes out the first that is known by itself: the one that is due first.
    pub(super) fn pop_first(&mut self) -> Option<u64> {
        let indexed = |index: &mut BTreeSet<_>| index.pop_first().map(|(_, sequence)| sequence);
        self.fetching.pop_front().or_else(|| indexed(&mut self.index))
    }

    /// Whether there are more than it knows of by themselves.
    pub(super) fn is_beyond_its_index(&self) -> bool {
        self.beyond.is_some() || self.is_searching()
    }

    /// Whether it knows of a message by itself.
    pub fn contains(&self, due_ns: i64, sequence: u64) -> bool {
        self.index.contains(&(due_ns, sequence))
    }

    /// Adds a message. Where it is known already, nothing happens.
    pub fn insert(&mut self, due_ns: i64, sequence: u64) {
        if let Some(beyond) = self.beyond.as_mut().filter(|beyond| due_ns >= beyond.horizon_ns) {
            beyond.from = beyond.from.min(sequence);
            beyond.count += 1;
            return;
        }
        self.index.insert((due_ns, sequence));
        if self.index.len() > DEFERRED_INDEX_MAX
            && let Some((horizon_ns, from)) = self.index.pop_last()
        {
            let beyond = self.beyond.get_or_insert(Beyond { from, horizon_ns, count: 0 });
            beyond.from = beyond.from.min(from);
            beyond.horizon_ns = horizon_ns;
            beyond.count += 1;
        }
    }

    /// When the next thing has to happen, UNIX nanoseconds.
    fn next_ns(&self) -> Option<i64> {
        let beyond = || self.beyond.map(|beyond| beyond.horizon_ns);
        self.index.first().map(|(due_ns, _)| *due_ns).or_else(beyond)
    }

    fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Takes what is due into `fetching`, some at a time: what becomes due meanwhile waits for the
    /// next round, or the reader would be sent back to the start of the log again and again.
    fn take_due(&mut self, now_ns: i64) {
        if !self.fetching.is_empty() {
            return;
        }
        while self.fetching.len() < REFILL_MESSAGES_MAX
            && let Some((due_ns, sequence)) = self.index.first().copied()
            && due_ns <= now_ns
        {
            self.index.pop_first();
            self.fetching.push_back(sequence);
        }
        // Neighbours in the log are read together.
        self.fetching.make_contiguous().sort_unstable();
        let (first, last) = (self.fetching.front().copied(), self.fetching.back().copied());
        self.reader = first.zip(last).map(|(first, last)| {
            let is_sparse = last - first > SPARSE_APART * self.fetching.len() as u64;
            if is_sparse { ReadCursor::sparse(first) } else { ReadCursor::new(first) }
        });
    }
}

/// What stopped the reading.
enum Stop {
    Done,
    Waits,
}

impl Shard {
    /// Arms a channel's timer for what is due first, in memory or in the log.
    pub(super) fn arm_channel(&mut self, now: Now, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        let later = &mut channel.later;
        later.first_due = match later.next_ns() {
            Some(due_ns) if !later.is_due => {
                let left = due_ns.saturating_sub(now.wall.0).max(0);
                now.time + Span(left.unsigned_abs())
            }
            _ => Time::NEVER,
        };
        self.deadlines.arm(channel.timer, channel.first_due());
    }

    /// A deferred message of the log waits for its time without a place in memory.
    pub(super) fn defer_in_log(&mut self, now: Now, slot: u32, due_ns: i64, sequence: u64) {
        self.channels[slot as usize].later.insert(due_ns, sequence);
        self.arm_channel(now, slot);
    }

    /// The channel's timer fired: what is due in the log is read back once somebody takes it.
    pub(super) fn later_due(&mut self, now: Now, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        if channel.later.next_ns().is_some_and(|due_ns| due_ns <= now.wall.0) {
            channel.later.is_due = true;
            super::publish::mark_ready(&mut self.dirty_channels, slot, channel);
            self.sweep_channel_at(slot, now.time);
        }
    }

    /// Reads back what is due.
    pub(super) fn fetch_later(&mut self, now: Now, slot: u32) {
        let stop = self.read_later(now, slot);
        let channel = &mut self.channels[slot as usize];
        if matches!(stop, Stop::Waits) {
            if !channel.later.waits {
                channel.later.waits = true;
                let topic = self.topics[channel.topic as usize].as_mut();
                if let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) {
                    tl.readers.push(slot);
                }
            }
        } else if channel.later.fetching.is_empty() {
            channel.later.is_due =
                channel.later.next_ns().is_some_and(|due_ns| due_ns <= now.wall.0);
            channel.later.reader = None;
            self.arm_channel(now, slot);
        }
        self.mark_log(self.channels[slot as usize].topic);
    }

    fn read_later(&mut self, now: Now, slot: u32) -> Stop {
        if self.channels[slot as usize].later.index.is_empty() {
            self.begin_search(now, slot);
        }
        if self.channels[slot as usize].later.is_searching()
            && matches!(self.go_on_searching(slot), Stop::Waits)
        {
            return Stop::Waits;
        }
        self.channels[slot as usize].later.take_due(now.wall.0);
        while let Some(&sequence) = self.channels[slot as usize].later.fetching.front() {
            let channel = &mut self.channels[slot as usize];
            let topic = self.topics[channel.topic as usize].as_mut();
            let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) else { return Stop::Done };
            let reader = channel.later.reader.get_or_insert_with(|| ReadCursor::new(sequence));
            reader.seek(sequence);
            match tl.log.read(reader, &mut self.io) {
                Read::Wait => {
                    if reader.is_sparse() {
                        let mut next = channel.later.fetching.iter().skip(1);
                        while next
                            .next()
                            .is_some_and(|s| tl.log.read_sparsely_ahead(*s, &mut self.io))
                        {
                        }
                    }
                    return Stop::Waits;
                }
                Read::Entry(entry) if entry.sequence == sequence => {
                    channel.later.fetching.pop_front();
                    self.take_due_back(slot, &entry);
                }
                Read::Entry(_) | Read::End | Read::Lost(_) => {
                    channel.later.fetching.pop_front();
                    channel.counts.discarded += 1;
                    if let Some(cursor) = channel.cursor {
                        tl.finish(cursor, sequence);
                    }
                }
            }
        }
        Stop::Done
    }

    /// A deferred message is ready.
    fn take_due_back(&mut self, slot: u32, entry: &ringmain_storage::read::Entry) {
        let channel = &mut self.channels[slot as usize];
        let topic = self.topics[channel.topic as usize].as_ref();
        let cursor = topic.and_then(|topic| topic.log.as_ref()).and_then(|tl| {
            let id = channel.cursor?;
            tl.log.cursors().cursor(id)
        });
        let attempts = cursor.map_or(0, |cursor| cursor.retry(entry.sequence).attempts);
        let split = LogEntry::split(entry.bytes()).expect("it was read before");
        let id = MessageId(split.head.id).number().expect("it was read before");
        let place = self.store.copy_body_anyway(split.body);
        let message = self.store.insert((id, split.head.timestamp_ns), place, 1);
        self.store.set_sequence(message, entry.sequence);
        // The channel is being delivered from: nobody has to be told.
        self.channels[slot as usize].ready.push_back(Entry { message, attempts });
    }

    /// The index is used up and there is more beyond it.
    fn begin_search(&mut self, now: Now, slot: u32) {
        let channel = &self.channels[slot as usize];
        let Some(beyond) = channel.later.beyond else { return };
        if channel.later.is_searching() || beyond.horizon_ns > now.wall.0 {
            return;
        }
        let Some(tl) = self.topics[channel.topic as usize].as_ref().and_then(|t| t.log.as_ref())
        else {
            return;
        };
        let end = channel.behind.as_ref().map_or(tl.handed, |behind| behind.reader.sequence());
        let held = self.holding(now, channel);
        let held = held.iter().map(|held| self.store.sequence(held.message));
        let held = held.chain(channel.later.fetching.iter().copied()).collect();
        let (reader, expected) = (ReadCursor::new(beyond.from), beyond.count);
        let search = Search { reader, end, held, expected };
        let later = &mut self.channels[slot as usize].later;
        (later.search, later.beyond) = (Some(search), None);
    }

    fn go_on_searching(&mut self, slot: u32) -> Stop {
        loop {
            let channel = &mut self.channels[slot as usize];
            let topic = self.topics[channel.topic as usize].as_mut();
            let tl = topic.and_then(|topic| topic.log.as_mut());
            let (Some(tl), Some(search)) = (tl, channel.later.search.as_mut()) else { break };
            if search.reader.sequence() >= search.end {
                break;
            }
            let Some(cursor) = channel.cursor.and_then(|id| tl.log.cursors().cursor(id)) else {
                break;
            };
            let next = cursor.next_unfinished(search.reader.sequence());
            if next >= search.end {
                break;
            }
            search.reader.seek(next);
            match tl.log.read(&mut search.reader, &mut self.io) {
                Read::Wait => return Stop::Waits,
                Read::End => break,
                Read::Lost(range) => {
                    if let Some(cursor) = channel.cursor.and_then(|id| tl.log.cursor_mut(id)) {
                        cursor.finish_range(range.start..range.end.min(search.end));
                    }
                }
                Read::Entry(entry) => {
                    let (sequence, end) = (entry.sequence, search.end);
                    let cursor = channel.cursor.and_then(|id| tl.log.cursors().cursor(id));
                    let retry = cursor.map(|cursor| cursor.retry(sequence)).unwrap_or_default();
                    let due_ns = due_ns(&retry, entry.bytes());
                    let is_held = search.held.contains(&sequence);
                    if sequence < end && due_ns > 0 && !is_held && search.expected > 0 {
                        search.expected -= 1;
                        channel.later.insert(due_ns, sequence);
                    }
                }
            }
        }
        let channel = &mut self.channels[slot as usize];
        if let Some(search) = channel.later.search.take() {
            // What was not found could not be read.
            channel.counts.discarded += search.expected;
        }
        Stop::Done
    }
}

/// When a message of the log is due, as its channel or else the message says; UNIX nanoseconds, 0
/// for at once.
pub(super) fn due_ns(retry: &ringmain_storage::cursors::Retry, entry: &[u8]) -> i64 {
    if retry.deliver_at_ns > 0 {
        return i64::try_from(retry.deliver_at_ns).unwrap_or(i64::MAX);
    }
    LogEntry::split(entry).map_or(0, |split| split.head.deliver_at_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_keeps_the_earliest_and_remembers_where_the_others_are() {
        let mut later = Later::default();
        let count = DEFERRED_INDEX_MAX as u64 + 10;
        for sequence in 1..=count {
            // Later sequences are due earlier.
            later.insert(1_000_000_000 - i64::try_from(sequence).unwrap(), sequence);
        }
        assert_eq!(later.count(), count);
        assert_eq!(later.index.len(), DEFERRED_INDEX_MAX);
        let beyond = later.beyond.unwrap();
        assert_eq!((beyond.count, beyond.from), (10, 1));
        assert!(later.index.last().unwrap().0 < beyond.horizon_ns);
        later.insert(beyond.horizon_ns, count + 1);
        assert_eq!(later.beyond.unwrap().count, 11, "no earlier than the horizon: beyond");
        later.take_due(i64::MAX);
        assert_eq!(later.fetching.len(), REFILL_MESSAGES_MAX);
        assert!(later.fetching.iter().is_sorted());
        assert_eq!(later.count(), count + 1);
    }
}
