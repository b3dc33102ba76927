//! What policies hold for the queues of this shard, and what a queue needs for that.
//!
//! A queue without policies has none of it: the data path asks for a pointer that is not there.

use super::channel::{Channel, Entry};
use super::dead_letters::DeadLetters;
use super::deadlines::{Deadlines, Owner, TimerId};
use super::policy::{Policy, Terms};
use super::shard::Shard;
use super::store::Message;
use super::time::{Now, Span, Time, WallClock};
use super::topic::Topic;
use super::topic_log::TopicLog;
use ringmain_storage::read::ReadCursor;

/// A channel that policies hold for.
#[derive(Debug)]
pub struct Governed {
    /// What was asked for of this channel.
    pub own: Policy,
    /// All that was said.
    pub policy: Policy,
    /// What comes of it.
    pub terms: Terms,
    /// When it is next looked through for messages that have lived their time.
    pub sweep_at: Time,
    /// Bytes of the bodies it holds. Those of messages that were in the log at the start count as
    /// the mean of the log, until it is empty once.
    pub bytes: u64,
    /// Messages that are to go to the dead-letter topic.
    pub dead: DeadLetters,
}

/// A topic that policies hold for.
#[derive(Debug)]
pub struct GovernedTopic {
    /// What was asked for of this topic.
    pub own: Policy,
    /// All that was said.
    pub policy: Policy,
    /// What comes of it for its own queue.
    pub terms: Terms,
    /// Armed for `sweep_at`.
    pub timer: TimerId,
    /// As of a channel.
    pub sweep_at: Time,
    /// As of a channel.
    pub bytes: u64,
    /// Looks for the age of what is only in the log.
    pub reader: Option<ReadCursor>,
    /// When the first message that is only in the log was published, if that is known.
    pub oldest_ns: Option<i64>,
    /// Messages that lived their time.
    pub expired_count: u64,
    /// Messages that made way for newer ones.
    pub dropped_count: u64,
}

/// What a publish to a topic has to look at, for itself or for one of its channels.
#[derive(Debug, Default, Clone, Copy)]
pub struct Watch {
    /// Bytes are counted.
    pub counts_bytes: bool,
    /// It may be refused.
    pub has_caps: bool,
    /// Something older may have to go.
    pub drops_oldest: bool,
}

impl Governed {
    /// How long the messages of a queue may lie before it is looked through.
    fn lifetime(&self) -> Option<Span> {
        lifetime(&self.terms)
    }
}

/// How long the messages of a queue may lie before it is looked through; `None` for ever.
pub(super) fn lifetime(terms: &Terms) -> Option<Span> {
    let lifetime_ns = terms.lifetime_ns();
    // One more than its age may be.
    (lifetime_ns < i64::MAX).then(|| Span(lifetime_ns.unsigned_abs() + 1))
}

impl Shard {
    /// Works out anew what holds for a topic and its channels, with what is asked for now.
    pub(super) fn govern_topic(&mut self, now: Now, index: u32, asked: Policy) {
        let Some(topic) = self.topics[index as usize].as_mut() else { return };
        let own = asked.over(topic.own_policy());
        let policy = own.over(self.config.policies.of(&topic.name, None));
        let terms = policy.terms(&topic.name, None);
        let bytes = bytes_waiting(topic, |slot| self.store.message(slot).body_bytes());
        let timer = topic.governed.as_ref().map(|governed| governed.timer);
        if policy.is_empty() {
            if let Some(timer) = timer {
                self.deadlines.remove(timer);
            }
            topic.governed = None;
        } else if let Some(governed) = topic.governed.as_deref_mut() {
            (governed.own, governed.policy, governed.terms) = (own, policy, terms);
        } else {
            topic.governed = Some(Box::new(GovernedTopic {
                own,
                policy,
                terms,
                timer: self.deadlines.add(Owner::Topic(index)),
                sweep_at: Time::NEVER,
                bytes,
                reader: None,
                oldest_ns: None,
                expired_count: 0,
                dropped_count: 0,
            }));
        }
        if topic.governed.is_some() {
            self.sweep_topic_at(index, now.time);
        }
        let topic = self.topics[index as usize].as_ref().expect("looked at above");
        for slot in topic.channels.clone() {
            self.govern_channel(now, slot, Policy::default());
        }
        self.watch(index);
    }

    /// Works out anew what holds for a channel, with what is asked for now.
    pub(super) fn govern_channel(&mut self, now: Now, slot: u32, asked: Policy) {
        let channel = &mut self.channels[slot as usize];
        let Some(topic) = self.topics[channel.topic as usize].as_ref() else { return };
        let known = channel.governed.as_deref().map(|governed| governed.own);
        let own = asked.over(known.unwrap_or_default());
        let configured = self.config.policies.of(&topic.name, Some(&channel.name));
        let policy = own.over(topic.own_policy()).over(configured);
        let terms = policy.terms(&topic.name, Some(&channel.name));
        let topic_index = channel.topic;
        match channel.governed.as_deref_mut() {
            None if policy.is_empty() => return,
            None => {
                let in_memory = channel.entries().map(|entry| self.store.message(entry.message));
                let in_memory: u64 = in_memory.map(|message| message.body_bytes() as u64).sum();
                let in_log = channel.behind_count() + channel.later.count();
                let bytes = in_memory + in_log * topic.log.as_deref().map_or(0, mean_bytes);
                let dead = DeadLetters::default();
                let sweep_at = Time::NEVER;
                let governed = Governed { own, policy, terms, sweep_at, bytes, dead };
                channel.governed = Some(Box::new(governed));
            }
            Some(governed) => {
                (governed.own, governed.policy, governed.terms) = (own, policy, terms);
                // Dead letters may have another place now, or none.
                if !governed.dead.is_empty() {
                    governed.dead.retry_at = now.time;
                }
            }
        }
        self.sweep_channel_at(slot, now.time);
        self.watch(topic_index);
    }

    /// Has a channel looked through, if its messages age.
    pub(super) fn sweep_channel_at(&mut self, slot: u32, at: Time) {
        let channel = &mut self.channels[slot as usize];
        if let Some(governed) = channel.governed.as_deref_mut() {
            governed.sweep_at = if governed.lifetime().is_some() { at } else { Time::NEVER };
            self.deadlines.arm(channel.timer, channel.first_due());
        }
    }

    /// Has a topic's own queue looked through, if its messages age.
    pub(super) fn sweep_topic_at(&mut self, index: u32, at: Time) {
        let topic = self.topics[index as usize].as_mut();
        if let Some(governed) = topic.and_then(|topic| topic.governed.as_deref_mut()) {
            let ages = lifetime(&governed.terms).is_some();
            governed.sweep_at = if ages { at } else { Time::NEVER };
            self.deadlines.arm(governed.timer, governed.sweep_at);
        }
    }

    /// Sums up what publishes to a topic have to look at.
    fn watch(&mut self, index: u32) {
        let Some(topic) = self.topics[index as usize].as_mut() else { return };
        let channels = topic.channels.iter().filter_map(|slot| {
            let governed = self.channels[*slot as usize].governed.as_deref();
            governed.map(|governed| governed.terms)
        });
        let own = topic.governed.as_deref().map(|governed| governed.terms);
        let mut watch = Watch::default();
        for terms in own.into_iter().chain(channels) {
            watch.counts_bytes = true;
            watch.has_caps |= terms.has_caps();
            watch.drops_oldest |= terms.drops_oldest();
        }
        topic.watch = watch;
    }
}

impl Channel {
    /// Takes note of messages from its topic: so many, with so many bytes.
    #[inline]
    pub(super) fn receive(
        &mut self,
        now: Time,
        (count, bytes): (u64, u64),
        deadlines: &mut Deadlines,
    ) {
        self.counts.put += count;
        let Some(governed) = self.governed.as_deref_mut() else { return };
        governed.bytes += bytes;
        if governed.sweep_at == Time::NEVER
            && let Some(lifetime) = governed.lifetime()
        {
            governed.sweep_at = now + lifetime;
            deadlines.arm(self.timer, self.first_due());
        }
    }

    /// Takes note that it holds a message no more.
    #[inline]
    pub(super) fn let_go(&mut self, message: &Message) {
        if let Some(governed) = self.governed.as_deref_mut() {
            governed.bytes = governed.bytes.saturating_sub(message.body_bytes() as u64);
        }
    }

    /// All it holds in memory that is not in flight.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let deferred = self.deferred.iter().map(|deferred| deferred.0.entry);
        let dead = self.governed.iter().flat_map(|governed| governed.dead.entries());
        self.ready.iter().copied().chain(deferred).chain(dead)
    }

    /// Messages it holds: everything that was put and has not gone.
    pub fn held_count(&self) -> u64 {
        let held =
            self.ready.len() + self.deferred.len() + self.in_flight.len() + self.dead_count();
        held as u64 + self.behind_count() + self.later.count()
    }

    /// Messages that are to go to the dead-letter topic.
    pub fn dead_count(&self) -> usize {
        self.governed.as_deref().map_or(0, |governed| governed.dead.len())
    }

    /// Bytes of what it holds, where they are counted.
    pub(super) fn held_bytes(&self) -> u64 {
        let bytes = self.governed.as_deref().map_or(0, |governed| governed.bytes);
        if self.held_count() == 0 { 0 } else { bytes }
    }
}

impl Topic {
    /// What was asked for of it.
    pub(super) fn own_policy(&self) -> Policy {
        self.governed.as_deref().map(|governed| governed.own).unwrap_or_default()
    }

    /// Takes note of messages that wait in its own queue.
    pub(super) fn receive(&mut self, now: Time, bytes: u64, deadlines: &mut Deadlines) {
        let Some(governed) = self.governed.as_deref_mut() else { return };
        governed.bytes += bytes;
        if governed.sweep_at == Time::NEVER
            && let Some(lifetime) = lifetime(&governed.terms)
        {
            governed.sweep_at = now + lifetime;
            deadlines.arm(governed.timer, governed.sweep_at);
        }
    }

    /// The mean of what is only in the log of its own queue, which has nothing else.
    pub(super) fn mean_bytes_in_log(&self) -> u64 {
        let Some(tl) = self.log.as_deref() else { return 0 };
        let governed = self.governed.as_deref().map(|governed| governed.bytes);
        let counted = governed.and_then(|bytes| bytes.checked_div(tl.waiting_count));
        let received = || self.message_bytes.checked_div(self.message_count);
        counted.or_else(received).unwrap_or_else(|| mean_bytes(tl))
    }

    /// Bytes of what waits in its own queue, where they are counted.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let bytes = self.governed.as_deref().map_or(0, |governed| governed.bytes);
        if self.depth() == 0 { 0 } else { bytes }
    }

    /// How old the first of its own queue is, if that is known; nanoseconds.
    pub(super) fn first_age_ns(
        &self,
        wall: WallClock,
        timestamp_ns: impl Fn(super::store::MessageSlot) -> i64,
    ) -> Option<i64> {
        let in_memory = self.queue.front().map(|waiting| timestamp_ns(waiting.message));
        let in_log = || self.governed.as_deref().and_then(|governed| governed.oldest_ns);
        Some(wall.0.saturating_sub(in_memory.or_else(in_log)?))
    }
}

fn bytes_waiting(topic: &Topic, body_bytes: impl Fn(super::store::MessageSlot) -> usize) -> u64 {
    let in_memory: usize = topic.queue.iter().map(|waiting| body_bytes(waiting.message)).sum();
    let in_log = topic.log.as_deref().map_or(0, |tl| tl.waiting_count * mean_bytes(tl));
    in_memory as u64 + in_log
}

/// What a message of the log takes there on the mean.
pub(super) fn mean_bytes(tl: &TopicLog) -> u64 {
    let (mut bytes, mut count) = (0, 0);
    for outline in tl.log.outlines() {
        bytes += outline.end_offset;
        count += outline.sequences.end.saturating_sub(outline.sequences.start);
    }
    bytes.checked_div(count).unwrap_or(0)
}
