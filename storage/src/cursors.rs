//! Named cursors: which sequences each has finished.
//!
//! Everything below `low` is finished; above it, finished sequences are kept as ranges, and
//! unfinished ones that were tried before, or wait for a time, have a [`Retry`]. The ranges above
//! `low` are separated by unfinished sequences someone holds, so there are never more of them
//! than messages in hand: a cursor's memory does not grow with the log behind it.
//!
//! Invariant, of every cursor: `low` < first range; ranges are in order and do not touch; retries
//! lie on unfinished sequences.

use std::collections::BTreeMap;
use std::ops::Range;

/// The number of a cursor within its log; given once, never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorId(pub u32);

/// What is remembered about an unfinished sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    /// How often it was delivered.
    pub attempts: u16,
    /// Not to be delivered before; UNIX nanoseconds, zero for at once.
    pub deliver_at_ns: u64,
}

/// One cursor's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    name: Box<[u8]>,
    low: u64,
    finished: BTreeMap<u64, u64>,
    retries: BTreeMap<u64, Retry>,
}

impl Cursor {
    /// A cursor that has finished all below `low`.
    pub fn new(name: &[u8], low: u64) -> Self {
        Self { name: name.into(), low, finished: BTreeMap::new(), retries: BTreeMap::new() }
    }

    /// Its name, whatever that means to its owner.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Everything below this is finished, and this is not.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// Notes that a sequence needs no delivery any more; again is the same as once.
    pub fn finish(&mut self, sequence: u64) {
        if sequence == self.low && self.finished.is_empty() {
            self.low += 1;
            self.retries.remove(&sequence);
            return;
        }
        self.finish_range(sequence..sequence.saturating_add(1));
    }

    /// Notes that sequences need no delivery any more.
    pub fn finish_range(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start.max(self.low), range.end);
        if start >= end {
            return;
        }
        // Swallow every range that overlaps or touches; the last such begins at or below `end`.
        while let Some((&other_start, &other_end)) = self.finished.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.finished.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        if start == self.low {
            self.low = end;
        } else {
            self.finished.insert(start, end);
        }
        while let Some((&sequence, _)) = self.retries.range(start..end).next() {
            self.retries.remove(&sequence);
        }
    }

    /// Whether a sequence needs no delivery.
    pub fn is_finished(&self, sequence: u64) -> bool {
        sequence < self.next_unfinished(sequence)
    }

    /// The first sequence at or after this one that is not finished.
    pub fn next_unfinished(&self, sequence: u64) -> u64 {
        if sequence < self.low {
            return self.low;
        }
        match self.finished.range(..=sequence).next_back() {
            Some((_, &end)) if sequence < end => end,
            _ => sequence,
        }
    }

    /// Whether everything in a range is finished.
    pub fn has_finished(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.next_unfinished(range.start) >= range.end
    }

    /// How many sequences below `end` are not finished.
    pub fn unfinished_count(&self, end: u64) -> u64 {
        let above: u64 = self.finished.range(..end).map(|(start, e)| e.min(&end) - start).sum();
        end.saturating_sub(self.low) - above
    }

    /// The finished ranges above the low watermark.
    pub fn finished_ranges(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.finished.iter().map(|(start, end)| *start..*end)
    }

    /// Remembers how often an unfinished sequence was tried and when it is due.
    pub fn set_retry(&mut self, sequence: u64, retry: Retry) {
        if self.is_finished(sequence) {
            return;
        }
        if retry == Retry::default() {
            self.retries.remove(&sequence);
        } else {
            self.retries.insert(sequence, retry);
        }
    }

    /// What is remembered about a sequence.
    pub fn retry(&self, sequence: u64) -> Retry {
        self.retries.get(&sequence).copied().unwrap_or_default()
    }

    /// All that is remembered, in order of sequence.
    pub fn retries(&self) -> impl ExactSizeIterator<Item = (u64, Retry)> {
        self.retries.iter().map(|(sequence, retry)| (*sequence, *retry))
    }
}

/// All cursors of a log, in order of their creation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursors {
    list: BTreeMap<CursorId, Cursor>,
    next_id: u32,
    /// Counts creations and deletions, so that none is applied twice.
    version: u64,
}

impl Cursors {
    /// Adds a cursor that has finished all below `low`.
    pub fn create(&mut self, name: &[u8], low: u64) -> CursorId {
        let id = CursorId(self.next_id);
        self.restore(id, Cursor::new(name, low));
        self.version += 1;
        id
    }

    /// Puts back a cursor under the number it had.
    pub(crate) fn restore(&mut self, id: CursorId, cursor: Cursor) {
        self.reserve_ids(id.0.saturating_add(1));
        self.list.insert(id, cursor);
    }

    /// Gives no number below this one any more.
    pub(crate) fn reserve_ids(&mut self, next_id: u32) {
        self.next_id = self.next_id.max(next_id);
    }

    /// The number the next cursor gets.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Removes a cursor.
    pub fn delete(&mut self, id: CursorId) -> Option<Cursor> {
        let cursor = self.remove(id)?;
        self.version += 1;
        Some(cursor)
    }

    /// Removes a cursor without that being a new change.
    pub(crate) fn remove(&mut self, id: CursorId) -> Option<Cursor> {
        self.list.remove(&id)
    }

    /// How many creations and deletions there were.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// All changes up to this one are in it.
    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// Keeps the cursors of these numbers only.
    pub(crate) fn retain(&mut self, keep: impl Fn(CursorId) -> bool) {
        self.list.retain(|id, _| keep(*id));
    }

    /// A cursor by number.
    pub fn cursor(&self, id: CursorId) -> Option<&Cursor> {
        self.list.get(&id)
    }

    /// A cursor by number, to be changed.
    pub fn cursor_mut(&mut self, id: CursorId) -> Option<&mut Cursor> {
        self.list.get_mut(&id)
    }

    /// The number of the cursor of that name.
    pub fn find(&self, name: &[u8]) -> Option<CursorId> {
        self.iter().find(|(_, cursor)| cursor.name() == name).map(|(id, _)| id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (CursorId, &Cursor)> {
        self.list.iter().map(|(id, cursor)| (*id, cursor))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether no cursor needs these sequences; with no cursor at all, a later one may.
    pub fn have_finished(&self, range: &Range<u64>) -> bool {
        !self.list.is_empty() && self.list.values().all(|c| c.has_finished(range.clone()))
    }

    /// Notes for every cursor that sequences need no delivery: they are lost, or never were.
    pub(crate) fn finish_range(&mut self, range: &Range<u64>) {
        for cursor in self.list.values_mut() {
            cursor.finish_range(range.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_cursor_is_a_set(ranges in prop::collection::vec((0..40_u64, 0..6_u64), 0..25)) {
            let mut cursor = Cursor::new(b"name", 5);
            let mut set: BTreeSet<u64> = (0..5).collect();
            for (start, length) in ranges {
                cursor.set_retry(start, Retry { attempts: 1, deliver_at_ns: 2 });
                if length == 1 {
                    cursor.finish(start);
                } else {
                    cursor.finish_range(start..start + length);
                }
                set.extend(start..start + length);
                let low = (0..).find(|sequence| !set.contains(sequence)).unwrap();
                prop_assert_eq!(cursor.low(), low);
                for sequence in 0..50 {
                    prop_assert_eq!(cursor.is_finished(sequence), set.contains(&sequence));
                    let below = (0..sequence).filter(|s| !set.contains(s)).count();
                    prop_assert_eq!(cursor.unfinished_count(sequence), below as u64);
                }
                let mut previous = low;
                for range in cursor.finished_ranges() {
                    prop_assert!(previous < range.start && range.start < range.end);
                    previous = range.end;
                }
                prop_assert!(cursor.retries().all(|(sequence, _)| !set.contains(&sequence)));
            }
        }
    }

    #[test]
    fn numbers_are_not_given_again() {
        let mut cursors = Cursors::default();
        assert!(!cursors.have_finished(&(0..1)), "a cursor to come may need it");
        let first = cursors.create(b"a", 3);
        cursors.delete(first);
        let second = cursors.create(b"a", 4);
        assert_ne!(first, second);
        assert_eq!(cursors.find(b"a"), Some(second));
        assert!(cursors.have_finished(&(0..4)) && !cursors.have_finished(&(0..5)));
    }

    #[test]
    fn nothing_remembered_is_no_retry() {
        let mut cursor = Cursor::new(b"", 0);
        cursor.set_retry(3, Retry { attempts: 2, deliver_at_ns: 0 });
        assert_eq!(cursor.retry(3).attempts, 2);
        cursor.set_retry(3, Retry::default());
        assert_eq!(cursor.retries().len(), 0);
    }
}
