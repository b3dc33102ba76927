//! Publishes that go through the log: appended, waited for, handed over, answered.
//!
//! A publish becomes visible to consumers and is answered in one step, when the log covers it as
//! its topic's [`Durability`](super::durability::Durability) says; nobody sees a message whose
//! publish failed. Publishes of one topic are settled in the order they came, so that one which
//! needs no log waits for those before it.

use super::action::Action;
use super::admin::{AdminReply, TopicId};
use super::mail::{Mail, PublishAnswer, Refusal};
use super::message_id::MessageIds;
use super::publish::{NotTaken, Put, Taken};
use super::session::SessionKey;
use super::shard::Shard;
use super::time::{Now, WallClock};
use super::topic_log::{Pending, ReplyTo, Stalled, TopicLog};
use crate::protocol::command::{BatchIter, Body, PublishKind};
use crate::protocol::message::encode_id;
use ringmain_storage::log::{AppendError, Io, Log, State};
use ringmain_storage::message::{ENTRY_HEAD_BYTES, EntryHead, TOPIC_CURSOR};
use ringmain_storage::request::LogKey;

impl Shard {
    /// Whether publishes to a topic are waiting for its log.
    pub(super) fn is_waiting_for_log(&self, index: u32) -> bool {
        let topic = self.topics[index as usize].as_ref();
        let log = topic.and_then(|topic| topic.log.as_deref());
        log.is_some_and(|log| !log.pending.is_empty() || !log.stalled.is_empty())
    }

    /// A publish that is answered when the log covers it.
    pub(super) fn put_in_log<'a>(
        &mut self,
        now: Now,
        index: u32,
        put: Put<'a>,
        in_memory: bool,
        reply_to: impl FnOnce(&mut Self) -> ReplyTo,
    ) -> Result<Taken, NotTaken<'a>> {
        self.open_log(index);
        let topic = self.topics[index as usize].as_mut().expect("checked by `put`");
        let tl = topic.log.as_mut().expect("it was just opened");
        if !tl.stalled.is_empty() {
            return Err(NotTaken::Busy(put));
        }
        let appended = append(&mut tl.log, &topic.ids, now.wall, &put, &mut self.io);
        self.mark_log(index);
        if let Err(error) = appended {
            return Err(match error {
                AppendError::Busy => NotTaken::Busy(put),
                AppendError::Blocked(error) | AppendError::Failed(error) => {
                    self.refuse_put(put, Refusal::Disk(error))
                }
                AppendError::TooLarge(_) => self.refuse_put(put, Refusal::TooLargeForLog),
            });
        }
        self.await_log(now, index, put, (in_memory, true), reply_to);
        Ok(Taken::Later)
    }

    /// A publish that needs no log, after some that do.
    pub(super) fn put_behind_others<'a>(
        &mut self,
        now: Now,
        index: u32,
        put: Put<'a>,
        reply_to: impl FnOnce(&mut Self) -> ReplyTo,
    ) -> Result<Taken, NotTaken<'a>> {
        let log = self.topics[index as usize].as_ref().and_then(|topic| topic.log.as_deref());
        if log.is_some_and(|log| !log.stalled.is_empty()) {
            return Err(NotTaken::Busy(put));
        }
        self.await_log(now, index, put, (true, false), reply_to);
        Ok(Taken::Later)
    }

    /// Notes a publish to be settled when the log has come as far as it is now appended.
    fn await_log(
        &mut self,
        now: Now,
        index: u32,
        put: Put<'_>,
        (in_memory, is_logged): (bool, bool),
        reply_to: impl FnOnce(&mut Self) -> ReplyTo,
    ) {
        let (count, delay_ms) = (put.count, put.delay_ms());
        let body_bytes = put.body_bytes();
        // Without memory for it, a message that is in the log is read back from there.
        let is_in_memory = if in_memory {
            self.store_pending(now, index, put, is_logged)
        } else {
            self.drop_body(put);
            false
        };
        let reply_to = reply_to(self);
        let topic = self.topics[index as usize].as_mut().expect("checked by `put`");
        let tl = topic.log.as_mut().expect("there is something to wait for");
        let end = tl.log.appended_up_to();
        if is_logged {
            tl.unsynced_count += u64::from(count);
            if !is_in_memory {
                (0..count).for_each(|_| _ = topic.ids.next(now.wall));
            }
        }
        let is_synced = topic.durability == super::durability::Durability::Synced;
        let needs_sync = is_synced && is_logged || tl.pending.back().is_some_and(|p| p.needs_sync);
        tl.push_pending(Pending {
            end,
            count,
            body_bytes,
            is_logged,
            is_in_memory,
            needs_sync,
            delay_ms,
            reply_to,
        });
    }

    /// Keeps the messages of a publish in memory until it is settled. Returns whether there was
    /// room; what is not in the log is kept whatever the budget says.
    fn store_pending(&mut self, now: Now, index: u32, put: Put<'_>, is_logged: bool) -> bool {
        debug_assert!(self.places.is_empty() && self.slots.is_empty());
        if is_logged {
            if self.store_bodies(put, 1).is_err() {
                return false;
            }
        } else {
            self.store_bodies_anyway(put);
        }
        self.make_messages(now, index, 1);
        let topic = self.topics[index as usize].as_mut().expect("checked by `put`");
        let tl = topic.log.as_mut().expect("there is something to wait for");
        if is_logged {
            let first = tl.log.appended_up_to() - self.slots.len() as u64;
            for (sequence, slot) in (first..).zip(&self.slots) {
                self.store.set_sequence(*slot, sequence);
            }
        }
        tl.pending_slots.extend(self.slots.drain(..));
        true
    }

    fn drop_body(&mut self, put: Put<'_>) {
        if let Body::Owned(slab) = put.body {
            self.store.pool.give(slab);
        }
    }

    fn store_bodies_anyway(&mut self, put: Put<'_>) {
        let bytes = put.body.as_bytes();
        match put.kind {
            PublishKind::Mpub => {
                for (_, body) in BatchIter::new(bytes) {
                    self.places.push(self.store.copy_body_anyway(body));
                }
            }
            PublishKind::Pub | PublishKind::Dpub => {
                self.places.push(self.store.copy_body_anyway(bytes));
            }
        }
        self.drop_body(put);
    }

    /// Gives the topic a log unless it has one, with a cursor for itself and for every channel.
    pub(super) fn open_log(&mut self, index: u32) {
        let topic = self.topics[index as usize].as_mut().expect("the topic is alive");
        if topic.log.is_some() {
            return;
        }
        let key = self.log_keys.give(topic.id);
        let seed = Self::random(&mut self.random);
        let mut log = Log::new(key, self.config.log_options, seed);
        let start = log.appended_up_to();
        let own = log.create_cursor(TOPIC_CURSOR, start, &mut self.io);
        for slot in &topic.channels {
            let channel = &mut self.channels[*slot as usize];
            if !channel.name.is_ephemeral() {
                let name = channel.name.as_str().as_bytes();
                channel.cursor = Some(log.create_cursor(name, start, &mut self.io));
            }
        }
        self.actions.push(Action::OpenLog { key, topic: topic.name });
        topic.log = Some(Box::new(TopicLog::new(key, log, own, start)));
    }

    /// Settles publishes that the log covers, refuses those it never will, and lets go on who was
    /// waiting for it.
    pub(super) fn settle(&mut self, now: Now, index: u32) {
        while let Some(pending) = self.next_covered(index) {
            self.settle_one(now, index, &pending);
            self.answer(pending.reply_to, Ok(()));
        }
        let Some(topic) = self.topics[index as usize].as_mut() else { return };
        let flows = topic.flows();
        let Some(tl) = topic.log.as_mut() else { return };
        if flows && tl.handed < tl.settled {
            tl.hand_up_to(tl.settled);
        }
        let refusal = match tl.log.state() {
            State::Healthy => None,
            State::Blocked(error) => {
                let withdrawn = tl.log.withdraw(&mut self.io);
                Some((withdrawn.start, error))
            }
            State::Failed(error) => Some((tl.log.written_up_to(), error)),
        };
        if let Some((from, error)) = refusal {
            self.refuse_pending(index, from, Refusal::Disk(error));
        }
        self.retry_stalled(now, index);
    }

    fn next_covered(&mut self, index: u32) -> Option<Pending> {
        let tl = self.topics[index as usize].as_mut()?.log.as_mut()?;
        let covered = tl.pending.front().is_some_and(|front| tl.covers(front));
        let pending = if covered { tl.pending.pop_front() } else { None };
        pending.inspect(|pending| tl.note_settled(pending))
    }

    /// A publish is covered: its messages go where they belong.
    fn settle_one(&mut self, now: Now, index: u32, pending: &Pending) {
        let topic = self.topics[index as usize].as_mut().expect("it has a log");
        topic.message_count += u64::from(pending.count);
        topic.message_bytes += pending.body_bytes;
        let flows = topic.flows();
        let takers = if flows { topic.channels.len() } else { 1 };
        let tl = topic.log.as_mut().expect("something was pending");
        if pending.is_logged {
            tl.settled = pending.end;
        }
        if !pending.is_in_memory {
            return self.leave_to_log(now, index, pending);
        }
        let count = pending.count as usize;
        if pending.is_logged && !flows && tl.waiting_from.is_some() {
            // What came before it waits in the log: it would be read back with that, once more.
            for slot in tl.pending_slots.drain(..count) {
                self.store.release(slot);
            }
            return self.leave_to_log(now, index, pending);
        }
        self.slots.extend(tl.pending_slots.drain(..count));
        let others = u32::try_from(takers - 1).expect("CHANNELS_MAX is below 2^32");
        if others > 0 {
            self.slots.iter().for_each(|slot| self.store.retain(*slot, others));
        }
        self.hand_over(now, index, pending.delay_ms);
    }

    /// Messages that are only in the log: channels read them from there.
    fn leave_to_log(&mut self, now: Now, index: u32, pending: &Pending) {
        let topic = self.topics[index as usize].as_mut().expect("it has a log");
        let (count, bytes) = (u64::from(pending.count), pending.body_bytes);
        let first = pending.end - count;
        if topic.flows() {
            for &slot in &topic.channels {
                let channel = &mut self.channels[slot as usize];
                if channel.cursor.is_some() {
                    channel.receive(now.time, (count, bytes), &mut self.deadlines);
                    channel.fall_behind(first, count);
                    super::publish::mark_ready(&mut self.dirty_channels, slot, channel);
                } else {
                    channel.counts.put += count;
                    channel.counts.discarded += count;
                }
            }
        } else {
            let tl = topic.log.as_mut().expect("something was pending");
            tl.waiting_from.get_or_insert(first);
            tl.waiting_count += count;
            topic.receive(now.time, bytes, &mut self.deadlines);
        }
        if topic.watch.drops_oldest {
            self.make_way(index);
        }
    }

    /// The topic flows, and its queue is empty: what it kept in the log is for its channels.
    pub(super) fn flow_from_log(&mut self, now: Now, index: u32) {
        let topic = self.topics[index as usize].as_mut().expect("flow of a live topic");
        let mean_bytes = if topic.watch.counts_bytes { topic.mean_bytes_in_log() } else { 0 };
        if let Some(governed) = topic.governed.as_deref_mut() {
            (governed.bytes, governed.reader, governed.oldest_ns) = (0, None, None);
        }
        let Some(tl) = topic.log.as_mut() else { return };
        let (from, count) = (tl.waiting_from.take(), std::mem::take(&mut tl.waiting_count));
        for &slot in &topic.channels {
            let Some(from) = from else { break };
            let channel = &mut self.channels[slot as usize];
            if let Some(cursor) = channel.cursor.and_then(|id| tl.log.cursors().cursor(id)) {
                // After a crash a channel may have finished some of them.
                let count = cursor.unfinished_count(tl.settled) - cursor.unfinished_count(from);
                channel.receive(now.time, (count, count * mean_bytes), &mut self.deadlines);
                channel.fall_behind(from, count);
                super::publish::mark_ready(&mut self.dirty_channels, slot, channel);
            } else {
                channel.counts.put += count;
                channel.counts.discarded += count;
            }
        }
        if tl.handed < tl.settled {
            tl.hand_up_to(tl.settled);
        }
        self.mark_log(index);
        if self.topics[index as usize].as_ref().is_some_and(|topic| topic.watch.drops_oldest) {
            self.make_way(index);
        }
    }

    /// Refuses publishes whose records will not be covered: those that end above a sequence.
    pub(super) fn refuse_pending(&mut self, index: u32, from: u64, refusal: Refusal) {
        loop {
            let Some(topic) = self.topics[index as usize].as_mut() else { return };
            let Some(tl) = topic.log.as_mut() else { return };
            let is_failed = matches!(tl.log.state(), State::Failed(_));
            let last = tl.pending.back();
            let Some(pending) = last.filter(|p| p.end > from || is_failed && !tl.covers(p)) else {
                return;
            };
            let count = if pending.is_in_memory { pending.count as usize } else { 0 };
            let reply_to = pending.reply_to;
            if let Some(pending) = tl.pending.pop_back() {
                tl.note_settled(&pending);
            }
            let kept = tl.pending_slots.len() - count;
            for slot in tl.pending_slots.drain(kept..) {
                self.store.release(slot);
            }
            self.answer(reply_to, Err(refusal));
        }
    }

    /// Keeps a publish until the log has got on.
    pub(super) fn stall(&mut self, topic: TopicId, stalled: Stalled) {
        let log = self.topic_mut(topic).and_then(|topic| topic.log.as_mut());
        log.expect("only a log is busy").stalled.push_back(stalled);
        self.mark_log(topic.index);
    }

    /// Tries again what the log had no room for, until it has none again.
    pub(super) fn retry_stalled(&mut self, now: Now, index: u32) {
        let Some((id, tl)) = self.log_of(index) else { return };
        let mut waiting = std::mem::take(&mut tl.stalled);
        while let Some(stalled) = waiting.pop_front() {
            match stalled {
                Stalled::Session(key) => self.retry(now, key),
                Stalled::Publish { reply_to, kind, delay_ms, count, body } => {
                    let put = Put { kind, delay_ms, count, body: Body::Owned(body) };
                    self.put_for(now, id, put, reply_to);
                }
            }
            let Some((_, tl)) = self.log_of(index) else { return };
            if !tl.stalled.is_empty() {
                // The one just tried waits again, before all the others.
                tl.stalled.append(&mut waiting);
                return;
            }
        }
    }

    fn log_of(&mut self, index: u32) -> Option<(TopicId, &mut TopicLog)> {
        let topic = self.topics.get_mut(index as usize)?.as_mut()?;
        Some((topic.id, topic.log.as_deref_mut()?))
    }

    /// Tells whoever published how it ended.
    pub(super) fn answer(&mut self, reply_to: ReplyTo, outcome: Result<(), Refusal>) {
        match reply_to {
            ReplyTo::Session(session, ticket) => {
                self.resolve_answer(PublishAnswer { session, ticket, outcome });
            }
            ReplyTo::Remote(shard, session, ticket) => {
                let answer = PublishAnswer { session, ticket, outcome };
                let outbox = &mut self.outboxes[usize::from(shard)];
                if let Some(Mail::Answers(answers)) = outbox.last_mut() {
                    answers.push(answer);
                } else {
                    outbox.push(Mail::Answers(vec![answer]));
                }
            }
            ReplyTo::Control(ticket) => {
                let reply = AdminReply::of_publish(outcome);
                self.actions.push(Action::Reply { ticket, reply });
            }
        }
    }

    /// Keeps a place among a session's answers.
    pub(super) fn await_own_answer(&mut self, index: u32, kind: PublishKind) -> ReplyTo {
        let session = &mut self.sessions[index as usize];
        let key = SessionKey { index, generation: session.generation };
        ReplyTo::Session(key, session.await_answer(kind))
    }
}

/// Appends a publish as one record, whole or not at all. Gives its first sequence.
fn append(
    log: &mut Log,
    ids: &MessageIds,
    wall: WallClock,
    put: &Put<'_>,
    io: &mut Io,
) -> Result<u64, AppendError> {
    let mut ids = ids.clone();
    let delay_ns = i64::from(put.delay_ms()) * 1_000_000;
    let deliver_at_ns = if delay_ns > 0 { wall.0.saturating_add(delay_ns) } else { 0 };
    let mut head = move || head(ids.next(wall), wall, deliver_at_ns, 0);
    let bytes = put.body.as_bytes();
    match put.kind {
        PublishKind::Mpub => {
            let entries = BatchIter::new(bytes).map(move |(_, body)| (head(), body));
            log.append_batch(entries, io)
        }
        PublishKind::Pub | PublishKind::Dpub => log.append_message(&[&head(), bytes], io),
    }
}

/// What stands before a body in the log.
pub(super) fn head(
    id: u64,
    timestamp: WallClock,
    deliver_at_ns: i64,
    attempts: u16,
) -> [u8; ENTRY_HEAD_BYTES] {
    let mut digits = [0; 16];
    encode_id(id, &mut digits);
    EntryHead { deliver_at_ns, timestamp_ns: timestamp.0, attempts, id: digits }.encode()
}

/// The keys of logs, which are never used again: a late completion must not find another log.
#[derive(Debug, Default)]
pub struct LogKeys {
    topics: hashbrown::HashMap<LogKey, TopicId, foldhash::fast::FixedState>,
    next: u32,
}

impl LogKeys {
    /// A key for a topic's log.
    pub fn give(&mut self, topic: TopicId) -> LogKey {
        let key = LogKey(self.next);
        self.next += 1;
        self.topics.insert(key, topic);
        key
    }

    /// Whose log it is.
    pub fn topic(&self, key: LogKey) -> Option<TopicId> {
        self.topics.get(&key).copied()
    }

    /// The log is gone.
    pub fn forget(&mut self, key: LogKey) {
        self.topics.remove(&key);
    }

    /// The topics that have a log, in no order.
    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.topics.values().copied()
    }
}

impl Put<'_> {
    /// Bytes of the bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        let bytes = self.body.as_bytes().len() as u64;
        match self.kind {
            PublishKind::Mpub => bytes - 4 * u64::from(self.count),
            PublishKind::Pub | PublishKind::Dpub => bytes,
        }
    }
}
