//! Verification: what was acknowledged against what was delivered, message by message, one bit for
//! each message of each channel.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::body::Stamp;

/// Most messages of one producer to one topic: half a gigabyte of bits for each channel.
const SEQUENCES_MAX: u64 = 1 << 32;
/// Lost messages that are named.
const EXAMPLES: usize = 5;

/// What a producer published, at the end of a run. Its sequences begin at 0 in every topic, and
/// answers come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) producer: u32,
    /// Its topics, and how many messages of each were acknowledged.
    pub(crate) acknowledged: Vec<(u32, u64)>,
}

/// What a consumer was delivered.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    topic: u32,
    channel: u32,
    /// By producer.
    lanes: HashMap<u32, Lane>,
    damaged: u64,
    misrouted: u64,
}

/// The messages of one producer that one consumer has seen.
#[derive(Debug, Default)]
struct Lane {
    /// Delivered at the first attempt.
    first: Bits,
    /// Delivered at a later attempt: again, as asked for or after a timeout.
    again: Bits,
    /// One past the highest at the first attempt.
    next: u64,
    duplicates: u64,
    reordered: u64,
}

impl Delivered {
    /// Nothing yet, for a consumer of `channel` of `topic`.
    pub(crate) fn new(topic: u32, channel: u32) -> Self {
        Self { topic, channel, ..Self::default() }
    }

    /// Counts a delivery. `stamp` is `None` when the body is not what was sent. The result says
    /// whether the message is new to this consumer.
    pub(crate) fn note(&mut self, stamp: Option<Stamp>, attempts: u16) -> Result<bool> {
        let Some(stamp) = stamp else {
            self.damaged += 1;
            return Ok(false);
        };
        if stamp.topic != self.topic {
            self.misrouted += 1;
            return Ok(false);
        }
        ensure!(stamp.sequence < SEQUENCES_MAX, "--verify takes 2^32 messages of a producer");
        let lane = self.lanes.entry(stamp.producer).or_default();
        let known = lane.first.has(stamp.sequence) || lane.again.has(stamp.sequence);
        if attempts > 1 {
            lane.again.set(stamp.sequence);
            return Ok(!known);
        }
        if lane.first.set(stamp.sequence) {
            lane.reordered += u64::from(stamp.sequence < lane.next);
            lane.next = lane.next.max(stamp.sequence + 1);
        } else {
            lane.duplicates += 1;
        }
        Ok(!known)
    }
}

/// The result. A run with `lost`, `damaged` or `misrouted` messages fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verification {
    /// Acknowledged messages, times the channels of their topics.
    pub(crate) expected: u64,
    /// Of those, the ones that were delivered, however often.
    pub(crate) delivered: u64,
    /// The rest.
    pub(crate) lost: u64,
    /// Some of the lost, in words.
    pub(crate) lost_examples: Vec<String>,
    /// Deliveries of a message at its first attempt that was delivered so before.
    pub(crate) duplicates: u64,
    /// First attempts that came to a consumer after a later message of the same producer. The
    /// protocol promises no order: this is for information.
    pub(crate) reordered: u64,
    /// Deliveries whose body was not as sent.
    pub(crate) damaged: u64,
    /// Deliveries to a consumer of another topic.
    pub(crate) misrouted: u64,
}

impl Verification {
    /// Compares. Every topic has the channels 0 to `channels - 1`.
    pub(crate) fn new(published: &[Published], delivered: Vec<Delivered>, channels: u32) -> Self {
        let mut result = Self::default();
        let mut lanes: HashMap<(u32, u32, u32), Lane> = HashMap::new();
        for consumer in delivered {
            result.damaged += consumer.damaged;
            result.misrouted += consumer.misrouted;
            for (producer, lane) in consumer.lanes {
                let all = lanes.entry((consumer.topic, consumer.channel, producer)).or_default();
                result.duplicates += lane.duplicates + all.first.both(&lane.first);
                result.reordered += lane.reordered;
                all.first.add(&lane.first);
                all.again.add(&lane.again);
            }
        }
        let mut unnamed = HashSet::new();
        for Published { producer, acknowledged } in published {
            for ((topic, count), channel) in
                acknowledged.iter().flat_map(|one| (0..channels).map(move |channel| (one, channel)))
            {
                result.expected += count;
                let Some(mut lane) = lanes.remove(&(*topic, channel, *producer)) else {
                    result.lose(*count, || format!("all {count} of producer {producer}"));
                    continue;
                };
                lane.first.add(&lane.again);
                let present = lane.first.below(*count);
                result.delivered += present;
                let first = (0..*count).find(|sequence| !lane.first.has(*sequence));
                result.lose(count - present, || {
                    let sequence = first.unwrap_or_default();
                    format!(
                        "message {sequence} of producer {producer} to topic {topic}, channel \
                         {channel}, and {} more of these",
                        count - present - 1
                    )
                });
            }
            unnamed.insert(producer);
        }
        // A producer that does not exist: the bodies are ours, but not of this run.
        result.misrouted += lanes
            .iter()
            .filter(|((_, _, producer), _)| !unnamed.contains(producer))
            .map(|(_, lane)| lane.first.below(u64::MAX))
            .sum::<u64>();
        result
    }

    /// Whether the daemon kept its promise.
    pub(crate) fn passed(&self) -> bool {
        self.lost == 0 && self.damaged == 0 && self.misrouted == 0
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "{} of {} acknowledged messages delivered, {} lost, {} damaged, {} misrouted, {} \
             duplicates, {} out of order",
            self.delivered,
            self.expected,
            self.lost,
            self.damaged,
            self.misrouted,
            self.duplicates,
            self.reordered
        );
        for example in &self.lost_examples {
            text.push_str("; lost: ");
            text.push_str(example);
        }
        text
    }

    fn lose(&mut self, count: u64, example: impl Fn() -> String) {
        self.lost += count;
        if count > 0 && self.lost_examples.len() < EXAMPLES {
            self.lost_examples.push(example());
        }
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds `number`; false when it was there.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// How many numbers are in both.
    fn both(&self, other: &Self) -> u64 {
        self.0.iter().zip(&other.0).map(|(one, two)| u64::from((one & two).count_ones())).sum()
    }

    /// How many numbers below `end` there are.
    fn below(&self, end: u64) -> u64 {
        let (word, bit) = Self::place(end);
        let whole: u64 = self.0.iter().take(word).map(|bits| u64::from(bits.count_ones())).sum();
        let rest = self.0.get(word).map_or(0, |bits| u64::from((bits & (bit - 1)).count_ones()));
        whole + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer: u32, sequence: u64) -> Option<Stamp> {
        Some(Stamp { due_ns: 0, producer, topic: 3, sequence })
    }

    fn consumer(channel: u32, deliveries: &[(u32, u64, u16)]) -> Delivered {
        let mut delivered = Delivered::new(3, channel);
        for (producer, sequence, attempts) in deliveries {
            delivered.note(stamp(*producer, *sequence), *attempts).unwrap();
        }
        delivered
    }

    fn published(producer: u32, count: u64) -> Published {
        Published { producer, acknowledged: vec![(3, count)] }
    }

    #[test]
    fn all_that_was_acknowledged_must_reach_every_channel() {
        let in_order: Vec<_> = (0..130).map(|sequence| (1, sequence, 1)).collect();
        let whole = || consumer(0, &in_order);
        let one = Verification::new(&[published(1, 130)], vec![whole()], 1);
        assert!(one.passed());
        assert_eq!((one.expected, one.delivered, one.reordered), (130, 130, 0));

        let two = Verification::new(&[published(1, 130)], vec![whole()], 2);
        assert_eq!((two.expected, two.lost, two.passed()), (260, 130, false));

        // One missing in the middle, though another consumer of another channel had it.
        let holed: Vec<_> = in_order.iter().copied().filter(|message| message.1 != 64).collect();
        let result = Verification::new(&[published(1, 130)], vec![whole(), consumer(1, &holed)], 2);
        assert_eq!((result.lost, result.delivered), (1, 259));
        assert!(result.lost_examples[0].starts_with("message 64 of producer 1"), "{result:?}");
        assert!(result.summary().contains("message 64"));
    }

    #[test]
    fn consumers_of_a_channel_share_and_what_was_not_acknowledged_may_come() {
        let even: Vec<_> = (0..50).map(|half| (1, 2 * half, 1)).collect();
        let odd: Vec<_> = (0..50).map(|half| (1, 2 * half + 1, 1)).collect();
        let delivered = vec![consumer(0, &even), consumer(0, &odd)];
        let result = Verification::new(&[published(1, 98)], delivered, 1);
        assert_eq!((result.expected, result.delivered, result.lost), (98, 98, 0));
        assert_eq!(result.duplicates, 0);
    }

    #[test]
    fn duplicates_and_reordering_are_told_from_later_attempts() {
        let messages = [(1, 0, 1), (1, 2, 1), (1, 1, 1), (1, 1, 1), (1, 0, 2), (1, 3, 2)];
        let delivered = vec![consumer(0, &messages), consumer(0, &[(1, 2, 1), (1, 1, 2)])];
        let result = Verification::new(&[published(1, 4)], delivered, 1);
        // 1 twice at one consumer, 2 once at each; 1 after 2. 3 came at a later attempt only.
        assert_eq!((result.duplicates, result.reordered), (2, 1));
        assert_eq!((result.delivered, result.lost), (4, 0));
        assert!(result.passed());
    }

    #[test]
    fn damage_and_wrong_places_fail_the_run() {
        let mut delivered = Delivered::new(4, 0);
        assert!(!delivered.note(None, 1).unwrap());
        assert!(!delivered.note(stamp(1, 0), 1).unwrap());
        let result = Verification::new(&[], vec![delivered, consumer(0, &[(9, 5, 1)])], 1);
        assert_eq!((result.damaged, result.misrouted, result.passed()), (1, 2, false));
    }
}
