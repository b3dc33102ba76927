//! The checker: every message is a number, and has a fate.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

const ACKNOWLEDGED: u8 = 1;
const REFUSED: u8 = 2;
/// It was published with the one before, in one batch.
const JOINED: u8 = 4;

/// Shared by all who publish and consume in a test.
pub(super) struct Ledger {
    next: AtomicUsize,
    fates: Vec<AtomicU8>,
    /// Per channel and number: whether it came.
    delivered: Vec<Vec<AtomicBool>>,
    again: AtomicU64,
}

/// The sums of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) sent: usize,
    pub(super) acknowledged: usize,
    pub(super) refused: usize,
    /// Deliveries of what had been delivered before, in all channels.
    pub(super) again: u64,
}

impl Ledger {
    /// Room for so many messages to so many channels.
    pub(super) fn new(messages: usize, channels: usize) -> Self {
        let flags = || std::iter::repeat_with(AtomicBool::default).take(messages).collect();
        Self {
            next: AtomicUsize::new(0),
            fates: std::iter::repeat_with(AtomicU8::default).take(messages).collect(),
            delivered: (0..channels).map(|_| flags()).collect(),
            again: AtomicU64::new(0),
        }
    }

    /// Numbers for a publish; `None` when all are used up.
    pub(super) fn take(&self, count: usize) -> Option<Range<usize>> {
        let start = self.next.fetch_add(count, Ordering::AcqRel);
        let end = start + count;
        if end > self.fates.len() {
            self.next.fetch_min(self.fates.len(), Ordering::AcqRel);
            return None;
        }
        for number in start + 1..end {
            self.fates[number].fetch_or(JOINED, Ordering::Relaxed);
        }
        Some(start..end)
    }

    /// Numbers used so far.
    pub(super) fn sent(&self) -> usize {
        self.next.load(Ordering::Acquire).min(self.fates.len())
    }

    /// The daemon has answered `OK` for these.
    pub(super) fn acknowledge(&self, numbers: Range<usize>) {
        numbers.for_each(|number| _ = self.fates[number].fetch_or(ACKNOWLEDGED, Ordering::Relaxed));
    }

    /// The daemon has said that it did not take these.
    pub(super) fn refuse(&self, numbers: Range<usize>) {
        numbers.for_each(|number| _ = self.fates[number].fetch_or(REFUSED, Ordering::Relaxed));
    }

    pub(super) fn is_acknowledged(&self, number: usize) -> bool {
        self.fates[number].load(Ordering::Relaxed) & ACKNOWLEDGED != 0
    }

    /// A channel was given a message.
    pub(super) fn deliver(&self, channel: usize, number: usize) {
        assert!(number < self.sent(), "message {number} was never published");
        if self.delivered[channel][number].swap(true, Ordering::Relaxed) {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn is_delivered(&self, channel: usize, number: usize) -> bool {
        self.delivered[channel][number].load(Ordering::Relaxed)
    }

    /// What of a range was acknowledged and never came to a channel.
    pub(super) fn lost(&self, channel: usize, numbers: Range<usize>) -> Vec<usize> {
        let is_lost = |n: &usize| self.is_acknowledged(*n) && !self.is_delivered(channel, *n);
        numbers.filter(is_lost).collect()
    }

    /// Nothing that was acknowledged is lost, in any channel.
    pub(super) fn check_nothing_lost(&self) {
        for channel in 0..self.delivered.len() {
            let lost = self.lost(channel, 0..self.sent());
            let first = &lost[..lost.len().min(20)];
            assert!(lost.is_empty(), "channel {channel} lost {}, first {first:?}", lost.len());
        }
    }

    /// What was refused came to nobody.
    pub(super) fn check_refused(&self) {
        for number in 0..self.sent() {
            let is_refused = self.fates[number].load(Ordering::Relaxed) & REFUSED != 0;
            let came = (0..self.delivered.len()).any(|channel| self.is_delivered(channel, number));
            assert!(!(is_refused && came), "message {number} was refused, and delivered");
        }
    }

    /// Every batch came whole or not at all, to every channel.
    pub(super) fn check_batches(&self) {
        for number in 1..self.sent() {
            if self.fates[number].load(Ordering::Relaxed) & JOINED == 0 {
                continue;
            }
            for channel in 0..self.delivered.len() {
                let came = [number - 1, number].map(|number| self.is_delivered(channel, number));
                assert_eq!(came[0], came[1], "channel {channel} has half of the batch of {number}");
            }
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let count = |flag| {
            let fates = self.fates[..self.sent()].iter();
            fates.filter(|fate| fate.load(Ordering::Relaxed) & flag != 0).count()
        };
        Sums {
            sent: self.sent(),
            acknowledged: count(ACKNOWLEDGED),
            refused: count(REFUSED),
            again: self.again.load(Ordering::Relaxed),
        }
    }
}
