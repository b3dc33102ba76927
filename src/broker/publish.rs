//! PUB, DPUB and MPUB: from a decoded command to messages in channels, or to mail for the shard
//! that owns the topic.

use super::action::Action;
use super::admin::{ShardIndex, TopicId};
use super::channel::{Channel, Deferred, Entry};
use super::mail::{Mail, PublishBatch, Refusal, RemoteBody, RemotePublish};
use super::overflow::{self, Admission};
use super::session::{Input, OwnedPublish, Parked};
use super::shard::Shard;
use super::store::MessageSlot;
use super::time::{Now, Span};
use super::topic::Waiting;
use super::topic_log::{ReplyTo, Stalled};
use crate::limits::{MOVE_AFTER_PUBLISHES, MOVES_MAX, OUTBOX_MAX, SCRATCH_KEPT_MAX};
use crate::protocol::command::{BatchIter, Body, Publish, PublishKind};
use crate::protocol::name::TopicName;
use crate::protocol::slab::OverBudget;
use std::cmp::Reverse;
use std::collections::VecDeque;

/// The messages of one publish, apart from who sent them and where they go.
pub(super) struct Put<'a> {
    pub(super) kind: PublishKind,
    pub(super) delay_ms: u64,
    pub(super) count: u32,
    pub(super) body: Body<'a>,
}

impl Put<'_> {
    /// The deferral as it is kept: a longer one than 49 days is cut short.
    pub(super) fn delay_ms(&self) -> u32 {
        u32::try_from(self.delay_ms).unwrap_or(u32::MAX)
    }
}

/// A publish that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It may be answered.
    Now,
    /// It is answered when the log covers it.
    Later,
}

/// A publish that was not taken.
pub(super) enum NotTaken<'a> {
    /// For good.
    Refused(Refusal),
    /// The log is busy: it is to be tried again when that has got on.
    Busy(Put<'a>),
}

impl From<OverBudget> for Refusal {
    fn from(_: OverBudget) -> Self {
        Self::OverBudget
    }
}

impl Shard {
    /// A publish of a session, answered now or when its home has answered.
    pub(super) fn publish(&mut self, now: Now, index: u32, publish: Publish<'_>) {
        if self.refuse_while_draining(index, publish.kind) {
            let Publish { kind, delay_ms, count, body, .. } = publish;
            self.refuse_put(Put { kind, delay_ms, count, body }, Refusal::Draining);
            return;
        }
        let Some((id, home)) = self.publish_place(index, publish.topic) else {
            let parked = Parked::Publish(self.own(publish));
            let Parked::Publish(owned) = &parked else { return };
            let topic = owned.topic;
            return self.await_place(now, index, topic, parked);
        };
        if home != self.config.index {
            return self.publish_remote(index, id, home, publish);
        }
        let Publish { topic, kind, delay_ms, count, body } = publish;
        let put = Put { kind, delay_ms, count, body };
        let taken = self.put(now, id, put, |shard| shard.await_own_answer(index, kind));
        match taken {
            Ok(taken) => {
                let session = &mut self.sessions[index as usize];
                session.remote_run.length = 0;
                session.count_published(u64::from(count));
                if taken == Taken::Now {
                    session.answer_ok();
                    self.mark_dirty(index);
                }
            }
            Err(NotTaken::Refused(refusal)) => self.fail(index, refusal.publish_error(kind)),
            Err(NotTaken::Busy(Put { kind, delay_ms, count, body })) => {
                let parked = self.own(Publish { topic, kind, delay_ms, count, body });
                let key = self.park(index, Parked::Publish(parked), Input::Waiting);
                self.stall(id, Stalled::Session(key));
            }
        }
    }

    /// A publish that waited for its topic's place.
    pub(super) fn publish_owned(&mut self, now: Now, index: u32, publish: OwnedPublish) {
        let topic = publish.topic;
        self.publish(now, index, OwnedPublish::as_command(&topic, publish));
    }

    /// MPUB's line has been read: NSQ creates the topic before it reads the body.
    pub(super) fn publish_start(&mut self, now: Now, index: u32, topic: &TopicName) {
        let refused = self.refuse_while_draining(index, PublishKind::Mpub);
        if !refused && self.publish_place(index, topic).is_none() {
            self.await_place(now, index, *topic, Parked::PublishStart(*topic));
        }
    }

    /// Messages for a topic of this shard. All of them are taken, or none. When they are answered
    /// later, `reply_to` says whom to tell.
    pub(super) fn put<'a>(
        &mut self,
        now: Now,
        id: TopicId,
        put: Put<'a>,
        reply_to: impl FnOnce(&mut Self) -> ReplyTo,
    ) -> Result<Taken, NotTaken<'a>> {
        let Some(topic) = self.topic_mut(id) else {
            return Err(self.refuse_put(put, Refusal::Exiting));
        };
        if topic.watch.has_caps
            && let Some(refusal) = self.cap_reached(now, id.index, &put)
        {
            return Err(self.refuse_put(put, refusal));
        }
        if self.is_draining {
            return Err(self.refuse_put(put, Refusal::Draining));
        }
        match self.admission(now, id.index, &put) {
            Admission::Refuse => Err(self.refuse_put(put, Refusal::QueueFull)),
            Admission::Log { in_memory } => {
                self.put_in_log(now, id.index, put, in_memory, reply_to)
            }
            Admission::Memory if self.is_waiting_for_log(id.index) => {
                self.put_behind_others(now, id.index, put, reply_to)
            }
            Admission::Memory => {
                self.put_in_memory(now, id.index, put).map_err(NotTaken::Refused)?;
                Ok(Taken::Now)
            }
        }
    }

    fn put_in_memory(&mut self, now: Now, index: u32, put: Put<'_>) -> Result<(), Refusal> {
        let delay_ms = put.delay_ms();
        let topic = self.topics[index as usize].as_ref().expect("checked by `put`");
        let holders = if topic.flows() { topic.channels.len() } else { 1 };
        let holders = u32::try_from(holders).expect("CHANNELS_MAX is below 2^32");
        self.store_bodies(put, holders)?;
        let bytes = self.make_messages(now, index, holders);
        let topic = self.topics[index as usize].as_mut().expect("checked by `put`");
        topic.message_count += self.slots.len() as u64;
        topic.message_bytes += bytes;
        self.hand_over(now, index, delay_ms);
        trim(&mut self.places, SCRATCH_KEPT_MAX);
        trim(&mut self.slots, SCRATCH_KEPT_MAX);
        Ok(())
    }

    /// Makes messages of the bodies in `self.places`, with so many references each, and leaves them
    /// in `self.slots`. Gives the bytes of the bodies.
    pub(super) fn make_messages(&mut self, now: Now, index: u32, holders: u32) -> u64 {
        let topic = self.topics[index as usize].as_mut().expect("the topic is alive");
        let mut bytes = 0;
        for &place in &self.places {
            bytes += place.body_bytes() as u64;
            let identity = (topic.ids.next(now.wall), now.wall.0);
            self.slots.push(self.store.insert(identity, place, holders));
        }
        self.places.clear();
        bytes
    }

    /// Publishes another shard has mailed; answered by mail.
    pub(super) fn put_batch(&mut self, now: Now, from: ShardIndex, batch: PublishBatch) {
        let mut offset = 0;
        for publish in batch.publishes {
            let RemotePublish { topic, session, ticket, kind, delay_ms, count, body } = publish;
            let body = match body {
                RemoteBody::Inline { length } => {
                    offset += length;
                    Body::Borrowed(&batch.bytes[offset - length..offset])
                }
                RemoteBody::Slab(slab) => {
                    self.store.pool.adopt(&slab);
                    Body::Owned(slab)
                }
            };
            let reply_to = ReplyTo::Remote(from, session, ticket);
            self.put_for(now, topic, Put { kind, delay_ms, count, body }, reply_to);
        }
    }

    /// A publish that is not a session's of this shard: answered now, later, or kept until the
    /// log can take it.
    pub(super) fn put_for(&mut self, now: Now, topic: TopicId, put: Put<'_>, reply_to: ReplyTo) {
        let outcome = match self.put(now, topic, put, |_| reply_to) {
            Ok(Taken::Later) => return,
            Ok(Taken::Now) => Ok(()),
            Err(NotTaken::Refused(refusal)) => Err(refusal),
            Err(NotTaken::Busy(put)) => {
                let Put { kind, delay_ms, count, body } = put;
                let body = self.own_body(body);
                let stalled = Stalled::Publish { reply_to, kind, delay_ms, count, body };
                return self.stall(topic, stalled);
            }
        };
        self.answer(reply_to, outcome);
    }

    /// Moves what waits in a topic to its channels.
    pub(super) fn flow(&mut self, now: Now, topic_index: u32) {
        // What waits belongs to all channels that come back, not to the first of them.
        if self.is_loading {
            return;
        }
        loop {
            let topic = self.topics[topic_index as usize].as_mut().expect("flow of a live topic");
            if !topic.flows() {
                return;
            }
            let Some(Waiting { message, delay_ms }) = topic.queue.pop_front() else {
                topic.queue = VecDeque::new();
                return self.flow_from_log(now, topic_index);
            };
            if let Some(governed) = topic.governed.as_deref_mut() {
                let bytes = self.store.message(message).body_bytes() as u64;
                governed.bytes = governed.bytes.saturating_sub(bytes);
            }
            let others = topic.channels.len() - 1;
            self.store.retain(message, u32::try_from(others).expect("CHANNELS_MAX is below 2^32"));
            self.slots.push(message);
            self.hand_over(now, topic_index, delay_ms);
        }
    }

    /// Turns the publishes of this turn into mail.
    pub(super) fn seal_batches(&mut self) {
        for (shard, batch) in self.remote.iter_mut().enumerate() {
            if let Some(batch) = batch.take() {
                self.outboxes[shard].push(Mail::Publish(batch));
            }
        }
    }

    /// Sessions whose publish found an outbox full go on when that has drained.
    pub(super) fn release_held_back(&mut self, now: Now) {
        for (key, home) in std::mem::take(&mut self.held_back) {
            if self.has_room(home) {
                self.retry(now, key);
            } else {
                self.held_back.push((key, home));
            }
        }
    }

    /// Whether a session waits for an outbox that has room by now.
    pub(super) fn may_release_held_back(&self) -> bool {
        self.held_back.iter().any(|(_, home)| self.has_room(*home))
    }

    pub(super) fn has_room(&self, home: ShardIndex) -> bool {
        self.outboxes[usize::from(home)].len() < OUTBOX_MAX
    }

    /// Where a session's publish goes; remembered per session, so a name is looked up only when
    /// the client changes its topic.
    fn publish_place(&mut self, index: u32, topic: &TopicName) -> Option<(TopicId, ShardIndex)> {
        let session = &mut self.sessions[index as usize];
        if let Some(last) = &session.last_publish
            && last.topic == *topic
            && let Some(home) = self.registry.home(last.id)
        {
            return Some((last.id, home));
        }
        let (id, home) = self.known_home(topic)?;
        self.sessions[index as usize].note_publish(topic, id);
        Some((id, home))
    }

    fn publish_remote(
        &mut self,
        index: u32,
        topic: TopicId,
        home: ShardIndex,
        publish: Publish<'_>,
    ) {
        if !self.has_room(home) {
            let parked = Parked::Publish(self.own(publish));
            let key = self.park(index, parked, Input::Waiting);
            return self.held_back.push((key, home));
        }
        let batch = self.remote[usize::from(home)].get_or_insert_default();
        let body = match publish.body {
            Body::Borrowed(bytes) => {
                batch.bytes.extend_from_slice(bytes);
                RemoteBody::Inline { length: bytes.len() }
            }
            Body::Owned(slab) => {
                self.store.pool.uncharge(slab.capacity());
                RemoteBody::Slab(slab)
            }
        };
        let session = &mut self.sessions[index as usize];
        session.count_published(u64::from(publish.count));
        let key = super::session::SessionKey { index, generation: session.generation };
        batch.publishes.push(RemotePublish {
            topic,
            session: key,
            ticket: session.await_answer(publish.kind),
            kind: publish.kind,
            delay_ms: publish.delay_ms,
            count: publish.count,
            body,
        });
        let run = &mut session.remote_run;
        run.length = if run.home == home.0 { run.length + 1 } else { 1 };
        run.home = home.0;
        // A client that goes back and forth is moved less and less often.
        let habit = MOVE_AFTER_PUBLISHES << session.moves;
        if run.length >= habit && session.channel.is_none() {
            session.moves = (session.moves + 1).min(MOVES_MAX);
            session.input = Input::Moving(home);
            self.actions.push(Action::Move(key, home));
        }
    }

    /// Where a publish to a topic goes. Before a queue is taken to be full, what can be delivered
    /// is: a turn may bring more than a queue holds, though its consumers are waiting for it.
    fn admission(&mut self, now: Now, topic_index: u32, put: &Put<'_>) -> Admission {
        let limit = self.config.mem_queue_size;
        let is_deferred = put.delay_ms > 0;
        let decide = |shard: &Self| {
            let topic = shard.topics[topic_index as usize].as_ref().expect("checked by `put`");
            (overflow::admit(topic, &shard.channels, limit, is_deferred), topic.durability)
        };
        let (mut admission, durability) = decide(self);
        let may_yet_fit = match admission {
            Admission::Memory => false,
            Admission::Refuse => true,
            Admission::Log { in_memory } => in_memory && !durability.writes_all(),
        };
        if may_yet_fit && !self.dirty_channels.is_empty() {
            self.deliver_dirty(now);
            (admission, _) = decide(self);
        }
        if admission == Admission::Memory
            && let Some(topic) = self.topics[topic_index as usize].as_ref()
            && topic.may_log()
        {
            let body_bytes = match &put.body {
                Body::Borrowed(bytes) => bytes.len(),
                Body::Owned(_) => 0,
            };
            if !self.store.has_room(put.count as usize, topic.channels.len(), body_bytes) {
                return Admission::Log { in_memory: false };
            }
        }
        admission
    }

    /// Leaves the bodies, for so many holders each, in `self.places`; on failure nothing is kept.
    pub(super) fn store_bodies(&mut self, put: Put<'_>, holders: u32) -> Result<(), Refusal> {
        debug_assert!(self.places.is_empty());
        let stored = match (put.kind, put.body) {
            (PublishKind::Mpub, Body::Borrowed(bytes)) => self.copy_batch(bytes),
            (_, Body::Borrowed(bytes)) => self.copy_one(bytes),
            (kind, Body::Owned(slab)) => self.keep(kind, slab),
        };
        let stored = stored.and_then(|()| self.store.charge_holders(self.places.len(), holders));
        if stored.is_err() {
            for place in self.places.drain(..) {
                self.store.abandon(place);
            }
        }
        Ok(stored?)
    }

    fn copy_one(&mut self, bytes: &[u8]) -> Result<(), OverBudget> {
        self.store.copy_body(bytes, &mut self.places)
    }

    fn copy_batch(&mut self, bytes: &[u8]) -> Result<(), OverBudget> {
        for (_, body) in BatchIter::new(bytes) {
            self.store.copy_body(body, &mut self.places)?;
        }
        Ok(())
    }

    /// Takes a slab over whole if it is full enough; otherwise its messages are packed into pages
    /// and the slab is used again while it is warm.
    fn keep(&mut self, kind: PublishKind, slab: Vec<u8>) -> Result<(), OverBudget> {
        if slab.len() >= slab.capacity() / 4 * 3 {
            return self.store.adopt(slab, kind, &mut self.places);
        }
        let copied = match kind {
            PublishKind::Mpub => self.copy_batch(&slab),
            PublishKind::Pub | PublishKind::Dpub => self.copy_one(&slab),
        };
        self.store.pool.give(slab);
        copied
    }

    /// Gives the messages in `self.slots` to every channel of their topic, or to its queue. Each
    /// has as many references as there are takers; one that does not take a message drops its own.
    pub(super) fn hand_over(&mut self, now: Now, topic_index: u32, delay_ms: u32) {
        let limit = self.config.mem_queue_size;
        let topic = self.topics[topic_index as usize].as_mut().expect("the topic is alive");
        let slots = &self.slots;
        let first = slots.first().map_or(0, |slot| self.store.sequence(*slot));
        let body_bytes = |slot: &MessageSlot| self.store.message(*slot).body_bytes() as u64;
        let bytes =
            if topic.watch.counts_bytes { slots.iter().map(body_bytes).sum::<u64>() } else { 0 };
        if topic.flows() {
            for &index in &topic.channels {
                let channel = &mut self.channels[index as usize];
                channel.receive(now.time, (slots.len() as u64, bytes), &mut self.deadlines);
                let is_full = delay_ms == 0 && channel.ready.len() >= limit;
                let reads = channel.behind.is_some() || is_full;
                if first > 0 && reads && channel.cursor.is_some() {
                    channel.fall_behind(first, slots.len() as u64);
                    slots.iter().for_each(|message| self.store.release(*message));
                    mark_ready(&mut self.dirty_channels, index, channel);
                    continue;
                }
                if delay_ms > 0 {
                    let due = now.time + Span::from_ms(u64::from(delay_ms));
                    for &message in slots {
                        self.next_sequence += 1;
                        let entry = Entry { message, attempts: 0 };
                        let deferred = Deferred { due, sequence: self.next_sequence, entry };
                        channel.deferred.push(Reverse(deferred));
                    }
                    self.deadlines.arm(channel.timer, channel.first_due());
                    continue;
                }
                let room = overflow::room(
                    || channel.name.is_ephemeral(),
                    channel.ready.len(),
                    slots.len(),
                    limit,
                );
                let (kept, dropped) = slots.split_at(room);
                let entry = |message: &MessageSlot| Entry { message: *message, attempts: 0 };
                if let [one] = kept {
                    channel.ready.push_back(entry(one));
                } else {
                    channel.ready.extend(kept.iter().map(entry));
                }
                channel.counts.discarded += dropped.len() as u64;
                for message in dropped {
                    channel.let_go(self.store.message(*message));
                    self.store.release(*message);
                }
                mark_ready(&mut self.dirty_channels, index, channel);
            }
        } else {
            let room =
                overflow::room(|| topic.name.is_ephemeral(), topic.queue.len(), slots.len(), limit);
            let (kept, dropped) = slots.split_at(room);
            topic.queue.extend(kept.iter().map(|message| Waiting { message: *message, delay_ms }));
            dropped.iter().for_each(|message| self.store.release(*message));
            topic.receive(now.time, bytes, &mut self.deadlines);
        }
        let drops_oldest = topic.watch.drops_oldest;
        self.slots.clear();
        if drops_oldest {
            self.make_way(topic_index);
        }
    }

    /// A publish that has to wait.
    pub(super) fn own(&mut self, publish: Publish<'_>) -> OwnedPublish {
        let Publish { topic, kind, delay_ms, count, body } = publish;
        OwnedPublish { topic: *topic, kind, delay_ms, count, body: self.own_body(body) }
    }

    fn own_body(&mut self, body: Body<'_>) -> Vec<u8> {
        match body {
            Body::Borrowed(bytes) => {
                // At most what one receive brought: it may overshoot the budget by that much.
                let slab = bytes.to_vec();
                self.store.pool.adopt(&slab);
                slab
            }
            Body::Owned(slab) => slab,
        }
    }

    /// Gives up a publish that is refused.
    pub(super) fn refuse_put<'a>(&mut self, put: Put<'_>, refusal: Refusal) -> NotTaken<'a> {
        if let Body::Owned(slab) = put.body {
            self.store.pool.give(slab);
        }
        NotTaken::Refused(refusal)
    }
}

/// Puts a channel that has something to deliver, and someone to deliver it to, on the list.
pub(super) fn mark_ready(dirty_channels: &mut Vec<u32>, index: u32, channel: &mut Channel) {
    if !channel.dirty && !channel.eligible.is_empty() {
        channel.dirty = true;
        dirty_channels.push(index);
    }
}

/// Gives back the memory of scratch that a very large batch has left behind.
fn trim<T>(scratch: &mut Vec<T>, kept_max: usize) {
    if scratch.capacity() > kept_max {
        *scratch = Vec::new();
    }
}
