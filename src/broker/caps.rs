//! Caps: how many messages a queue may hold, how many bytes, and how old its first may be.
//!
//! With `reject` a publish that would be too much for any queue it goes to is refused whole. With
//! `drop-oldest` it is taken, and the queue lets go of what it would deliver next until it is
//! within its cap again: what is ready, then what is behind in the log, then what is deferred. What
//! is in flight counts, and is never dropped.

use super::mail::Refusal;
use super::policy::{Cap, Terms, WhenFull};
use super::publish::Put;
use super::shard::Shard;
use super::time::Now;

/// What a queue holds, with a publish on top.
struct Load {
    count: u64,
    bytes: u64,
    /// Age of what it would deliver next.
    age_ns: Option<i64>,
}

impl Load {
    /// Whatever its age.
    fn of(count: u64, bytes: u64) -> Self {
        Self { count, bytes, age_ns: None }
    }

    /// What of the terms it goes beyond.
    fn beyond(&self, terms: &Terms) -> Option<Cap> {
        if self.count > terms.max_messages {
            Some(Cap::Messages(terms.max_messages))
        } else if self.bytes > terms.max_bytes {
            Some(Cap::Bytes(terms.max_bytes))
        } else if self.age_ns.is_some_and(|age_ns| age_ns > terms.max_age_ns) {
            Some(Cap::Age(terms.max_age_ns.unsigned_abs() / 1_000_000))
        } else {
            None
        }
    }
}

impl Shard {
    /// Why a publish to a topic that has caps is too much, if it is.
    pub(super) fn cap_reached(&self, now: Now, index: u32, put: &Put<'_>) -> Option<Refusal> {
        let topic = self.topics[index as usize].as_ref()?;
        let log = topic.log.as_deref();
        // What is on its way through the log has been taken, and is not in the queues yet.
        let (mut count, mut bytes) =
            log.map_or((0, 0), |log| (log.pending_count, log.pending_bytes));
        count += u64::from(put.count);
        bytes += put.body_bytes();
        let timestamp_ns = |slot| self.store.message(slot).timestamp_ns;
        if !topic.flows() {
            count += topic.depth();
            bytes += topic.waiting_bytes();
            if let Some(governed) = topic.governed.as_deref() {
                let age_ns = topic.first_age_ns(now.wall, timestamp_ns);
                let cap = Load { count, bytes, age_ns }.beyond(&governed.terms);
                let cap = cap.filter(|_| governed.terms.when_full == WhenFull::Reject);
                if let Some(cap) = cap {
                    return Some(Refusal::CapReached(cap));
                }
            }
        }
        for slot in &topic.channels {
            let channel = &self.channels[*slot as usize];
            let Some(governed) = channel.governed.as_deref() else { continue };
            let first = channel.ready.front().map(|entry| timestamp_ns(entry.message));
            let load = Load {
                count: count + channel.held_count(),
                bytes: bytes + channel.held_bytes(),
                age_ns: first.map(|timestamp_ns| now.wall.0.saturating_sub(timestamp_ns)),
            };
            // What is deferred beyond all that is known of by itself cannot be found to be dropped.
            let is_final = governed.terms.when_full == WhenFull::Reject
                || put.delay_ms > 0 && channel.later.is_beyond_its_index();
            if let Some(cap) = load.beyond(&governed.terms).filter(|_| is_final) {
                return Some(Refusal::CapReached(cap));
            }
        }
        None
    }

    /// Lets go of the oldest messages of a topic and its channels as far as their caps ask for it.
    pub(super) fn make_way(&mut self, index: u32) {
        let Some(topic) = self.topics[index as usize].as_ref() else { return };
        let mut channels = topic.channels.len();
        while let Some(topic) = self.topics[index as usize].as_mut()
            && let Some(governed) = topic.governed.as_deref().filter(|g| g.terms.drops_oldest())
            && Load::of(topic.depth(), topic.waiting_bytes()).beyond(&governed.terms).is_some()
        {
            if !self.drop_first_of_topic(index) {
                break;
            }
            let topic = self.topics[index as usize].as_mut();
            if let Some(governed) = topic.and_then(|topic| topic.governed.as_deref_mut()) {
                governed.dropped_count += 1;
            }
        }
        while channels > 0 {
            channels -= 1;
            let topic = self.topics[index as usize].as_ref();
            let Some(slot) = topic.and_then(|topic| topic.channels.get(channels).copied()) else {
                continue;
            };
            self.make_way_in_channel(slot);
        }
    }

    fn make_way_in_channel(&mut self, slot: u32) {
        loop {
            let channel = &self.channels[slot as usize];
            let Some(governed) = channel.governed.as_deref() else { return };
            let (count, bytes) = (channel.held_count(), channel.held_bytes());
            let load = Load::of(count, bytes);
            if !governed.terms.drops_oldest() || load.beyond(&governed.terms).is_none() {
                return;
            }
            if !self.drop_first(slot) {
                return;
            }
            self.channels[slot as usize].counts.dropped += 1;
        }
    }

    /// Lets go of what a channel would deliver next. Returns whether there was anything.
    fn drop_first(&mut self, slot: u32) -> bool {
        let channel = &mut self.channels[slot as usize];
        if let Some(entry) = channel.ready.pop_front() {
            self.end_entry(slot, entry);
            return true;
        }
        if self.drop_first_behind(slot) {
            return true;
        }
        let channel = &mut self.channels[slot as usize];
        if let Some(deferred) = channel.deferred.pop() {
            self.end_entry(slot, deferred.0.entry);
            let channel = &self.channels[slot as usize];
            self.deadlines.arm(channel.timer, channel.first_due());
            return true;
        }
        let Some(sequence) = channel.later.pop_first() else { return false };
        self.end_in_log(slot, sequence);
        true
    }

    /// The same of what it has yet to read of the log.
    fn drop_first_behind(&mut self, slot: u32) -> bool {
        let channel = &mut self.channels[slot as usize];
        let Some(behind) = channel.behind.as_mut() else { return false };
        let topic = self.topics[channel.topic as usize].as_mut();
        let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) else { return false };
        let cursor = channel.cursor.and_then(|id| tl.log.cursors().cursor(id));
        let Some(cursor) = cursor else { return false };
        let sequence = cursor.next_unfinished(behind.reader.sequence());
        if behind.count == 0 || sequence >= tl.settled {
            return false;
        }
        behind.reader.seek(sequence + 1);
        behind.count -= 1;
        if behind.count == 0 {
            channel.behind = None;
        }
        self.end_in_log(slot, sequence);
        true
    }

    /// A channel needs a message no more that it knows by its sequence alone.
    fn end_in_log(&mut self, slot: u32, sequence: u64) {
        let channel = &mut self.channels[slot as usize];
        let left = channel.held_count() + 1;
        if let Some(governed) = channel.governed.as_deref_mut() {
            // Its share of what all of them take: nobody has read how long it is.
            governed.bytes -= governed.bytes / left;
        }
        super::consume::finish_in_log(&mut self.topics, &mut self.marked_logs, channel, sequence);
    }
}
