//! Times to live: what is older is not delivered, and is let go of even if nobody takes messages.
//!
//! Deliveries look at the age of each message (`delivery.rs`), so none is too old when it leaves.
//! Beside that a queue whose messages age is looked through when its first may have lived its time,
//! by its one timer. What is behind in the log is read back for that, some at a time: it is in
//! order, so the reading ends with the first message that lives.

use super::channel::{Channel, Entry};
use super::consume::finish_in_log;
use super::governed::lifetime;
use super::policy::Fate;
use super::shard::Shard;
use super::time::{Now, Span, Time};
use crate::limits::{REFILL_MESSAGES_MAX, SWEEP_MAX_NS, SWEEP_MIN_NS, SWEEP_ROUNDS_MAX};
use ringmain_storage::message::Entry as LogEntry;
use ringmain_storage::read::{Read, ReadCursor};

impl Shard {
    /// Sees to it that none of the next so many messages of a channel ends instead of being
    /// delivered.
    pub(super) fn end_first(&mut self, now: Now, slot: u32, count: usize) {
        let mut lives = Vec::with_capacity(count);
        while lives.len() < count
            && let Some(entry) = self.channels[slot as usize].ready.pop_front()
        {
            if !self.has_ended(now, slot, entry) {
                lives.push(entry);
            }
        }
        let ready = &mut self.channels[slot as usize].ready;
        lives.into_iter().rev().for_each(|entry| ready.push_front(entry));
    }

    /// Whether a message that a channel was about to deliver ends here; then it has.
    fn has_ended(&mut self, now: Now, slot: u32, entry: Entry) -> bool {
        let channel = &mut self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref() else { return false };
        let message = self.store.message(entry.message);
        match governed.terms.judge(now.wall, message, entry.attempts) {
            None => return false,
            Some(Fate::Dead) => {
                self.bury(slot, entry);
                return true;
            }
            Some(Fate::Expired) => channel.counts.expired += 1,
            Some(Fate::Dropped) => channel.counts.dropped += 1,
        }
        self.end_entry(slot, entry);
        true
    }

    /// A channel is done with a message.
    pub(super) fn end_entry(&mut self, slot: u32, entry: Entry) {
        let channel = &mut self.channels[slot as usize];
        let message = self.store.message(entry.message);
        channel.let_go(message);
        if message.sequence > 0 {
            finish_in_log(&mut self.topics, &mut self.marked_logs, channel, message.sequence);
        }
        self.store.release(entry.message);
    }

    /// A channel's timer fired: lets go of what has lived its time, if it is time to look.
    pub(super) fn sweep(&mut self, now: Now, slot: u32) {
        let channel = &self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref() else { return };
        let Some(lifetime) = lifetime(&governed.terms) else { return };
        if governed.sweep_at > now.time {
            return;
        }
        let mut rounds = 0;
        loop {
            self.drop_old(now, slot);
            let channel = &self.channels[slot as usize];
            if !channel.ready.is_empty() || rounds == SWEEP_ROUNDS_MAX {
                break;
            }
            rounds += 1;
            if channel.later.is_due && !channel.later.waits {
                self.fetch_later(now, slot);
            } else if channel.behind.as_ref().is_some_and(|behind| !behind.waits) {
                self.refill(now, slot);
            } else {
                break;
            }
        }
        let next = if rounds == SWEEP_ROUNDS_MAX {
            now.time + Span(1)
        } else {
            self.next_sweep(now, slot, lifetime)
        };
        self.sweep_channel_at(slot, next);
    }

    /// Lets go of everything in memory, but not in flight, that has lived its time.
    fn drop_old(&mut self, now: Now, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref() else { return };
        let (terms, store) = (governed.terms, &self.store);
        let mut ended = Vec::new();
        let mut lives = |entry: &Entry| {
            let age_ns = now.wall.0.saturating_sub(store.message(entry.message).timestamp_ns);
            let fate = terms.judge_age(age_ns);
            ended.extend(fate.map(|fate| (*entry, fate)));
            fate.is_none()
        };
        channel.ready.retain(&mut lives);
        channel.deferred.retain(|deferred| lives(&deferred.0.entry));
        for (entry, fate) in ended {
            let counts = &mut self.channels[slot as usize].counts;
            match fate {
                Fate::Dropped => counts.dropped += 1,
                Fate::Expired | Fate::Dead => counts.expired += 1,
            }
            self.end_entry(slot, entry);
        }
    }

    /// When the first of what is left may have lived its time.
    fn next_sweep(&self, now: Now, slot: u32, lifetime: Span) -> Time {
        let channel = &self.channels[slot as usize];
        let rest = Span((lifetime.0 / 16).clamp(SWEEP_MIN_NS, SWEEP_MAX_NS));
        let timestamp_ns = |entry: &Entry| self.store.message(entry.message).timestamp_ns;
        let deferred = channel.deferred.iter().map(|deferred| deferred.0.entry);
        let waiting = channel.ready.iter().copied().chain(deferred);
        if let Some(oldest_ns) = waiting.map(|entry| timestamp_ns(&entry)).min() {
            let age_ns = now.wall.0.saturating_sub(oldest_ns);
            let left = lifetime.0.saturating_sub(u64::try_from(age_ns).unwrap_or(0));
            return now.time + Span(left).max(rest);
        }
        // What waits for the disk or its time is looked at when that comes; what is in flight may
        // come back at any time.
        if channel.in_flight.is_empty() { Time::NEVER } else { now.time + rest }
    }

    /// A topic's timer fired: lets go of what its own queue has held for too long.
    pub(super) fn sweep_topic(&mut self, now: Now, index: u32) {
        let mut next = Time::NEVER;
        for dropped in 0.. {
            let Some(topic) = self.topics[index as usize].as_ref() else { return };
            let Some(governed) = topic.governed.as_deref() else { return };
            let Some(lifetime) = lifetime(&governed.terms) else { return };
            let rest = Span((lifetime.0 / 16).clamp(SWEEP_MIN_NS, SWEEP_MAX_NS));
            if topic.depth() == 0 {
                break;
            }
            if dropped == REFILL_MESSAGES_MAX {
                next = now.time + Span(1);
                break;
            }
            let timestamp_ns = |slot| self.store.message(slot).timestamp_ns;
            let Some(age_ns) = topic.first_age_ns(now.wall, timestamp_ns) else {
                if self.read_first_of_topic(index) {
                    continue;
                }
                next = now.time + Span(SWEEP_MIN_NS);
                break;
            };
            let Some(fate) = governed.terms.judge_age(age_ns) else {
                let left = lifetime.0.saturating_sub(u64::try_from(age_ns).unwrap_or(0));
                next = now.time + Span(left).max(rest);
                break;
            };
            if !self.drop_first_of_topic(index) {
                break;
            }
            let topic = self.topics[index as usize].as_mut();
            if let Some(governed) = topic.and_then(|topic| topic.governed.as_deref_mut()) {
                match fate {
                    Fate::Dropped => governed.dropped_count += 1,
                    Fate::Expired | Fate::Dead => governed.expired_count += 1,
                }
            }
        }
        self.sweep_topic_at(index, next);
    }

    /// Looks when the first message that a topic has only in its log was published. Returns
    /// whether anything is known by now that was not.
    fn read_first_of_topic(&mut self, index: u32) -> bool {
        let Some(topic) = self.topics[index as usize].as_mut() else { return false };
        let (Some(governed), Some(tl)) = (topic.governed.as_deref_mut(), topic.log.as_mut()) else {
            return false;
        };
        let Some(from) = tl.waiting_from else { return false };
        let own = tl.log.cursors().cursor(tl.own);
        let first = own.map_or(from, |own| own.next_unfinished(from));
        let reader = governed.reader.get_or_insert_with(|| ReadCursor::new(first));
        reader.seek(first);
        match tl.log.read(reader, &mut self.io) {
            Read::Entry(entry) => {
                let split = LogEntry::split(entry.bytes());
                // A record that makes no sense is as old as can be: nothing could be delivered.
                governed.oldest_ns = Some(split.map_or(i64::MIN, |split| split.head.timestamp_ns));
            }
            Read::Lost(_) => governed.oldest_ns = Some(i64::MIN),
            Read::Wait | Read::End => {
                self.mark_log(index);
                return false;
            }
        }
        true
    }

    /// Lets go of the first message of a topic's own queue. Returns whether there was one.
    pub(super) fn drop_first_of_topic(&mut self, index: u32) -> bool {
        let Some(topic) = self.topics[index as usize].as_mut() else { return false };
        if let Some(waiting) = topic.queue.pop_front() {
            let message = self.store.message(waiting.message);
            let (sequence, bytes) = (message.sequence, message.body_bytes() as u64);
            if let Some(governed) = topic.governed.as_deref_mut() {
                governed.bytes = governed.bytes.saturating_sub(bytes);
            }
            if sequence > 0 {
                topic.give_up_below(sequence + 1);
            }
            self.store.release(waiting.message);
            self.mark_log(index);
            return true;
        }
        let depth = topic.depth();
        let Some(tl) = topic.log.as_mut() else { return false };
        let (Some(from), Some(own)) = (tl.waiting_from, tl.log.cursors().cursor(tl.own)) else {
            return false;
        };
        let sequence = own.next_unfinished(from);
        if sequence >= tl.settled || tl.waiting_count == 0 {
            return false;
        }
        tl.waiting_count -= 1;
        tl.waiting_from = (tl.waiting_count > 0).then_some(sequence + 1);
        if let Some(governed) = topic.governed.as_deref_mut() {
            governed.bytes -= governed.bytes / depth;
            governed.oldest_ns = None;
        }
        topic.give_up_below(sequence + 1);
        self.mark_log(index);
        true
    }
}

impl Channel {
    /// Whether a message has been delivered as often as it may be.
    #[inline]
    pub(super) fn has_used_up(&self, entry: Entry) -> bool {
        let governed = self.governed.as_deref();
        governed.is_some_and(|governed| governed.terms.is_used_up(entry.attempts))
    }

    /// Whether deliveries are held up because too much waits for the dead-letter topic.
    pub(super) fn is_held_up(&self) -> bool {
        self.governed.as_deref().is_some_and(|governed| governed.dead.is_full())
    }
}
