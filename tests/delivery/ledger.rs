//! What has been published, acknowledged, delivered and finished: the test's own account.
//!
//! A message is a number; it says which producer made it, for which topic, and is never published
//! twice, so a duplicate can only be the daemon's. Every number has a byte per channel.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Topics of the workload.
pub(super) const TOPICS: usize = 4;

/// Channels of every topic.
pub(super) const CHANNELS: usize = 2;

/// Producers of the workload.
pub(super) const PRODUCERS: usize = 8;

/// Set in a channel's byte once the message is surely finished there; the rest is the highest
/// number of attempts seen, saturating, 0 for never delivered.
const FINISHED: u8 = 0x80;
const ATTEMPTS_MAX: u8 = 0x7f;

/// A topic and one of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) topic: usize,
    pub(super) channel: usize,
}

impl Pair {
    /// All pairs, in order of their index.
    pub(super) const COUNT: usize = TOPICS * CHANNELS;

    pub(super) fn at(index: usize) -> Self {
        Self { topic: index / CHANNELS, channel: index % CHANNELS }
    }

    fn index(self) -> usize {
        self.topic * CHANNELS + self.channel
    }
}

/// Shared by all producers and consumers of a run.
pub(super) struct Ledger {
    /// Numbers a producer may use for one topic.
    per_topic: usize,
    acknowledged: Vec<AtomicBool>,
    /// Per channel index, a byte per number.
    channels: [Vec<AtomicU8>; CHANNELS],
    acknowledged_counts: [AtomicU64; TOPICS],
    delivered_counts: [AtomicU64; Pair::COUNT],
    duplicates: AtomicU64,
}

impl Ledger {
    /// Room for `per_topic` messages of each producer in each topic.
    pub(super) fn new(per_topic: usize) -> Self {
        let numbers = PRODUCERS * TOPICS * per_topic;
        let bytes = || std::iter::repeat_with(AtomicU8::default).take(numbers).collect();
        Self {
            per_topic,
            acknowledged: std::iter::repeat_with(AtomicBool::default).take(numbers).collect(),
            channels: std::array::from_fn(|_| bytes()),
            acknowledged_counts: Default::default(),
            delivered_counts: Default::default(),
            duplicates: AtomicU64::new(0),
        }
    }

    /// The numbers one producer has for one topic.
    pub(super) fn numbers(&self, producer: usize, topic: usize) -> std::ops::Range<usize> {
        let start = (producer * TOPICS + topic) * self.per_topic;
        start..start + self.per_topic
    }

    fn topic_of(&self, number: usize) -> usize {
        number / self.per_topic % TOPICS
    }

    /// The daemon has answered `OK` for these.
    pub(super) fn acknowledge(&self, topic: usize, numbers: std::ops::Range<usize>) {
        let count = u64::try_from(numbers.len()).expect("a small count");
        self.acknowledged_counts[topic].fetch_add(count, Ordering::Relaxed);
        for number in numbers {
            self.acknowledged[number].store(true, Ordering::Relaxed);
        }
    }

    /// A consumer has read this delivery.
    pub(super) fn deliver(&self, pair: Pair, number: usize, attempts: u16) {
        assert!(number < self.acknowledged.len(), "{number} was never published");
        assert_eq!(self.topic_of(number), pair.topic, "message {number} is in the wrong topic");
        let attempts = u8::try_from(attempts).unwrap_or(ATTEMPTS_MAX).min(ATTEMPTS_MAX);
        let cell = &self.channels[pair.channel][number];
        let before = cell.fetch_max(attempts, Ordering::AcqRel);
        let seen = before & ATTEMPTS_MAX;
        assert!(
            before & FINISHED == 0,
            "message {number} was finished in {pair:?}, and came again"
        );
        assert!(
            attempts > seen || attempts == ATTEMPTS_MAX,
            "message {number} in {pair:?}: attempt {attempts} after attempt {seen}"
        );
        if seen == 0 {
            self.delivered_counts[pair.index()].fetch_add(1, Ordering::Relaxed);
        } else {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The daemon has carried out the FIN of this message: it answered a later command.
    pub(super) fn finish(&self, pair: Pair, number: usize) {
        self.channels[pair.channel][number].fetch_or(FINISHED, Ordering::AcqRel);
    }

    /// Acknowledged messages that this channel has not delivered yet, about.
    pub(super) fn backlog(&self, pair: Pair) -> u64 {
        let acknowledged = self.acknowledged_counts[pair.topic].load(Ordering::Relaxed);
        let delivered = self.delivered_counts[pair.index()].load(Ordering::Relaxed);
        acknowledged.saturating_sub(delivered)
    }

    /// Deliveries of messages that had been delivered before.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// The books at the end, when every channel is empty: returns how many were acknowledged.
    pub(super) fn check(&self) -> usize {
        let mut acknowledged = 0;
        for (number, flag) in self.acknowledged.iter().enumerate() {
            let delivered: [bool; CHANNELS] =
                std::array::from_fn(|c| self.channels[c][number].load(Ordering::Acquire) != 0);
            if flag.load(Ordering::Relaxed) {
                acknowledged += 1;
                assert!(
                    delivered.iter().all(|d| *d),
                    "message {number} of topic {} was acknowledged; delivered to its channels: \
                     {delivered:?}",
                    self.topic_of(number)
                );
            }
            // A publish that was cut off may have been carried out or not, but not by half.
            assert!(
                delivered.iter().all(|d| *d == delivered[0]),
                "message {number} reached some channels only: {delivered:?}"
            );
        }
        acknowledged
    }
}
