//! SUB, RDY, FIN, REQ, TOUCH and CLS: what a subscribed client does, and what happens to the
//! messages it holds when it stops.

use super::action::{Action, Notice};
use super::channel::{Channel, Deferred, Entry};
use super::deadlines::Owner;
use super::delivery::list_eligible;
use super::in_flight::{EntryIndex, Found, InFlight, InFlightIndex};
use super::latency::LatencyWindow;
use super::later::Later;
use super::policy::Policy;
use super::publish::mark_ready;
use super::session::{Input, Parked, SessionKey};
use super::shard::Shard;
use super::time::{Now, Span, Time};
use super::topic::Topic;
use crate::limits::{CHANNELS_MAX, DEFERRED_IN_MEMORY_MAX, QUEUE_IDLE_MAX};
use crate::protocol::command::State;
use crate::protocol::error::{EXITING, NOT_IN_FLIGHT, NOT_OWNER, ProtocolError};
use crate::protocol::frame;
use crate::protocol::message::MessageId;
use crate::protocol::name::{ChannelName, TopicName};
use ringmain_storage::cursors::Retry;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

impl Shard {
    /// SUB: attaches the session, or sends its connection to the topic's home.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        index: u32,
        topic: TopicName,
        channel: ChannelName,
    ) {
        let Some((id, home)) = self.known_home(&topic) else {
            return self.await_place(now, index, topic, Parked::Subscribe(topic, channel));
        };
        if home != self.config.index {
            let parked = Parked::Subscribe(topic, channel);
            let key = self.park(index, parked, Input::Moving(home));
            return self.actions.push(Action::Move(key, home));
        }
        if self.topic_mut(id).is_none() {
            return self.fail(index, ProtocolError::SubFailed(EXITING.into()));
        }
        let Some(slot) = self.channel_or_new(now, id.index, channel) else {
            return self.fail(index, ProtocolError::SubFailed("too many channels".into()));
        };
        let limit = self.config.max_channel_consumers;
        if limit > 0 && self.channels[slot as usize].consumers.len() >= limit {
            let reason = format!("consumers for {topic}:{channel} exceeds limit of {limit}");
            return self.fail(index, ProtocolError::SubFailed(reason.into()));
        }
        self.channels[slot as usize].consumers.push(index);
        let session = &mut self.sessions[index as usize];
        session.state = State::Subscribed;
        session.channel = Some(slot);
        session.answer_ok();
        self.mark_dirty(index);
    }

    /// RDY: an absolute window.
    pub(super) fn ready(&mut self, index: u32, count: u64) {
        let session = &mut self.sessions[index as usize];
        if session.state == State::Subscribed {
            session.ready_count = count;
            self.mark_eligible(index);
        }
    }

    /// CLS: nothing more is delivered; what is in flight may still be finished.
    pub(super) fn close(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        session.state = State::Closing;
        session.ready_count = 0;
        session.answer(frame::push_close_wait);
        self.mark_dirty(index);
    }

    /// FIN.
    pub(super) fn finish(&mut self, now: Now, index: u32, id: MessageId) {
        let (slot, found) = match self.held(index, id) {
            Ok(held) => held,
            Err(reason) => {
                return self.fail(index, ProtocolError::FinFailed { id, reason: reason.into() });
            }
        };
        // What `take` and `mark_eligible` do, with one look at each of the two.
        let channel = &mut self.channels[slot as usize];
        let session = &mut self.sessions[index as usize];
        channel.in_flight.remove(found);
        channel.counts.finished += 1;
        session.in_flight_count -= 1;
        session.counts.finished += 1;
        let entry = self.in_flight.remove(&mut session.in_flight, found.entry);
        channel.let_go(self.store.message(entry.message));
        if let Some(latency) = &mut channel.latency {
            let published_ns = self.store.message(entry.message).timestamp_ns;
            latency.record(now.time, now.wall.0, published_ns);
        }
        let sequence = self.store.sequence(entry.message);
        if sequence > 0 {
            finish_in_log(&mut self.topics, &mut self.marked_logs, channel, sequence);
        }
        self.store.release(entry.message);
        list_eligible(&mut self.dirty_channels, (slot, channel), (index, session));
    }

    /// REQ: back to the queue now, or when the delay is over.
    pub(super) fn requeue(&mut self, now: Now, index: u32, id: MessageId, delay_ms: u64) {
        let (slot, found) = match self.held(index, id) {
            Ok(held) => held,
            Err(reason) => {
                return self.fail(index, ProtocolError::ReqFailed { id, reason: reason.into() });
            }
        };
        let InFlight { message, attempts, .. } = self.take(slot, index, found);
        let entry = Entry { message, attempts };
        self.sessions[index as usize].counts.requeued += 1;
        let channel = &mut self.channels[slot as usize];
        channel.counts.requeued += 1;
        if delay_ms == 0 || channel.has_used_up(entry) {
            self.make_ready(slot, entry);
        } else if self.leave_deferred_to_log(now, slot, entry, delay_ms) {
            self.store.release(message);
        } else {
            self.next_sequence += 1;
            let due = now.time + Span::from_ms(delay_ms);
            let deferred = Deferred { due, sequence: self.next_sequence, entry };
            let channel = &mut self.channels[slot as usize];
            channel.deferred.push(Reverse(deferred));
            self.deadlines.arm(channel.timer, channel.first_due());
        }
        self.mark_eligible(index);
    }

    /// A deferred message for which there is no room in memory waits in the log, if it is there.
    /// Returns whether it does. What is only in memory stays: there is never much of that, since
    /// what is published meanwhile goes to the log.
    fn leave_deferred_to_log(&mut self, now: Now, slot: u32, entry: Entry, delay_ms: u64) -> bool {
        let channel = &self.channels[slot as usize];
        if channel.deferred.len() < DEFERRED_IN_MEMORY_MAX || channel.name.is_ephemeral() {
            return false;
        }
        let sequence = self.store.sequence(entry.message);
        if sequence == 0 {
            return false;
        }
        let delay_ns = i64::try_from(Span::from_ms(delay_ms).0).unwrap_or(i64::MAX);
        let due_ns = now.wall.0.saturating_add(delay_ns);
        let channel = &self.channels[slot as usize];
        let topic = self.topics[channel.topic as usize].as_mut();
        let Some(log) = topic.and_then(|topic| topic.log.as_mut()) else { return false };
        let Some(cursor) = channel.cursor.and_then(|id| log.log.cursor_mut(id)) else {
            return false;
        };
        let deliver_at_ns = u64::try_from(due_ns).unwrap_or(1);
        cursor.set_retry(sequence, Retry { attempts: entry.attempts, deliver_at_ns });
        log.has_changed = true;
        self.mark_log(self.channels[slot as usize].topic);
        self.defer_in_log(now, slot, due_ns, sequence);
        true
    }

    /// TOUCH: the full timeout again, but never beyond `--max-msg-timeout` after delivery.
    pub(super) fn touch(&mut self, now: Now, index: u32, id: MessageId) {
        let (_, Found { entry, .. }) = match self.held(index, id) {
            Ok(held) => held,
            Err(reason) => {
                return self.fail(index, ProtocolError::TouchFailed { id, reason: reason.into() });
            }
        };
        let session = &mut self.sessions[index as usize];
        let cap = self.in_flight.entry(entry).delivered_at + self.config.max_message_timeout;
        let deadline = (now.time + session.negotiated.message_timeout).min(cap);
        self.in_flight.postpone(&mut session.in_flight, entry, deadline);
        // A cap below the message timeout brings the deadline forward.
        self.arm_session(index);
    }

    /// A session's timer fired: heartbeat, deadlines of the client, timeouts of its messages.
    pub(super) fn session_due(&mut self, now: Now, index: u32) {
        let session = &mut self.sessions[index as usize];
        if session.client_deadline() <= now.time || session.write_deadline() <= now.time {
            let key = SessionKey { index, generation: session.generation };
            return self.actions.push(Action::Close(key));
        }
        if session.upgrade_deadline() <= now.time {
            let reason = "i/o timeout".into();
            return self.fail(index, ProtocolError::IdentifyFailed(reason));
        }
        if let Some(interval) = session.negotiated.heartbeat_interval
            && session.last_heartbeat + interval <= now.time
        {
            session.last_heartbeat = now.time;
            // During an upgrade nothing but its own bytes may go out.
            if !matches!(session.input, Input::Closed | Input::Upgrading { .. }) {
                frame::push_heartbeat(&mut session.output.bytes);
                self.mark_dirty(index);
            }
        }
        self.time_out(now, index);
        self.arm_session(index);
    }

    /// A channel's timer fired: deferred messages whose time has come are ready.
    pub(super) fn deferred_due(&mut self, now: Now, index: u32) {
        while let Some(first) = self.channels[index as usize].deferred.peek() {
            if first.0.due > now.time {
                break;
            }
            let entry = first.0.entry;
            self.channels[index as usize].deferred.pop();
            self.make_ready(index, entry);
        }
        self.later_due(now, index);
        if self.channels[index as usize].governed.is_some() {
            self.sweep(now, index);
            self.dead_letters_due(now, index);
        }
        self.arm_channel(now, index);
        let channel = &mut self.channels[index as usize];
        if channel.deferred.is_empty() && channel.deferred.capacity() > QUEUE_IDLE_MAX {
            channel.deferred = BinaryHeap::new();
        }
    }

    /// Takes a session off its channel; what it holds is ready again at once.
    pub(super) fn unsubscribe(&mut self, index: u32) {
        let Some(slot) = self.sessions[index as usize].channel.take() else { return };
        while let Some(entry) = self.in_flight.first(&self.sessions[index as usize].in_flight) {
            let InFlight { message, attempts, .. } = self.take_entry(slot, index, entry);
            self.make_ready(slot, Entry { message, attempts });
        }
        let channel = &mut self.channels[slot as usize];
        channel.consumers.retain(|consumer| *consumer != index);
        if std::mem::take(&mut self.sessions[index as usize].eligible) {
            channel.eligible.remove(index);
        }
        if channel.consumers.is_empty() {
            // Nobody holds a message: what the windows of its consumers took goes.
            channel.in_flight = InFlightIndex::default();
            (channel.consumers, channel.eligible) = Default::default();
            if channel.name.is_ephemeral() {
                self.drop_channel(slot);
            }
        }
    }

    /// The channel of that name, created when missing; `None` when there are too many.
    pub(super) fn channel_or_new(
        &mut self,
        now: Now,
        topic_index: u32,
        name: ChannelName,
    ) -> Option<u32> {
        let topic = self.topics[topic_index as usize].as_mut()?;
        if let Some(slot) = topic.channels_by_name.get(&name) {
            return Some(*slot);
        }
        if self.channels.len() >= CHANNELS_MAX {
            return None;
        }
        let entry = self.channels.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("CHANNELS_MAX is below 2^32");
        let timer = self.deadlines.add(Owner::Channel(slot));
        let channel = entry.insert(Channel::new(topic_index, name, timer));
        channel.latency = self
            .config
            .latency
            .as_ref()
            .map(|config| Box::new(LatencyWindow::new(now.time, config.window)));
        topic.channels.push(slot);
        topic.channels_by_name.insert(name, slot);
        let notice = Notice::ChannelCreated(topic.name, name);
        self.actions.push(Action::Notice(notice));
        if let Some(log) = topic.log.as_mut().filter(|_| !name.is_ephemeral()) {
            let bytes = name.as_str().as_bytes();
            let known = log.log.cursors().find(bytes);
            let cursor = known.unwrap_or_else(|| log.create_cursor(bytes, &mut self.io));
            self.channels[slot as usize].cursor = Some(cursor);
            log.has_changed = true;
            self.mark_log(topic_index);
        }
        self.govern_channel(now, slot, Policy::default());
        self.flow(now, topic_index);
        Some(slot)
    }

    /// Deletes a channel with all it holds; its clients are cut off. An ephemeral topic goes with
    /// its last channel.
    pub(super) fn drop_channel(&mut self, slot: u32) {
        self.empty_channel(slot);
        let channel = self.channels.remove(slot as usize);
        self.deadlines.remove(channel.timer);
        self.drop_cursor(slot, &channel);
        if channel.dirty {
            // The slot may be another channel's before the list is next walked.
            self.dirty_channels.retain(|other| *other != slot);
        }
        self.actions.push(Action::Notice(Notice::ChannelDeleting(channel.name)));
        for consumer in channel.consumers {
            let session = &mut self.sessions[consumer as usize];
            session.channel = None;
            session.eligible = false;
            session.input = Input::Closed;
            let key = SessionKey { index: consumer, generation: session.generation };
            self.actions.push(Action::Close(key));
        }
        let Some(topic) = self.topics[channel.topic as usize].as_mut() else { return };
        topic.channels.retain(|other| *other != slot);
        topic.channels_by_name.remove(&channel.name);
        if topic.channels.is_empty() && topic.name.is_ephemeral() {
            let id = topic.id;
            self.end_topic(id);
        }
    }

    /// Forgets all a channel holds; its clients get their windows back.
    pub(super) fn empty_channel(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        for entry in channel.in_flight.drain() {
            let session = &mut self.sessions[self.in_flight.entry(entry).session as usize];
            let removed = self.in_flight.remove(&mut session.in_flight, entry);
            session.in_flight_count -= 1;
            channel.counts.discarded += 1;
            self.store.release(removed.message);
        }
        let ready = std::mem::take(&mut channel.ready);
        let deferred = std::mem::take(&mut channel.deferred);
        channel.counts.discarded += (ready.len() + deferred.len()) as u64 + channel.behind_count();
        channel.counts.discarded += channel.later.count();
        if let Some(governed) = channel.governed.as_deref_mut() {
            (governed.bytes, governed.sweep_at) = (0, Time::NEVER);
        }
        channel.behind = None;
        channel.later = Later::default();
        let topic = self.topics.get_mut(channel.topic as usize).and_then(Option::as_mut);
        if let Some(log) = topic.and_then(|topic| topic.log.as_mut())
            && let Some(cursor) = channel.cursor.and_then(|id| log.log.cursor_mut(id))
        {
            cursor.finish_range(cursor.low()..log.handed);
            log.readers.retain(|reader| *reader != slot);
            log.has_changed = true;
        }
        let dead = self.take_dead_letters(slot);
        let channel = &mut self.channels[slot as usize];
        channel.counts.discarded += dead.len() as u64;
        self.deadlines.disarm(channel.timer);
        let held = ready.into_iter().chain(deferred.into_iter().map(|item| item.0.entry));
        for entry in held.chain(dead) {
            self.store.release(entry.message);
        }
        self.mark_log(self.channels[slot as usize].topic);
        for consumer in self.channels[slot as usize].consumers.clone() {
            self.mark_eligible(consumer);
        }
    }

    /// A channel is gone: nothing of the log is kept for it.
    fn drop_cursor(&mut self, slot: u32, channel: &Channel) {
        let topic = self.topics.get_mut(channel.topic as usize).and_then(Option::as_mut);
        let Some(log) = topic.and_then(|topic| topic.log.as_mut()) else { return };
        log.readers.retain(|reader| *reader != slot);
        if let Some(cursor) = channel.cursor {
            log.log.delete_cursor(cursor, &mut self.io);
            log.has_changed = true;
            // Until this is durable, a crash brings the channel back.
            log.begin_checkpoint(&mut self.io);
            self.mark_log(channel.topic);
        }
    }

    /// Puts a message (back) into a channel's queue.
    pub(super) fn make_ready(&mut self, slot: u32, entry: Entry) {
        let channel = &mut self.channels[slot as usize];
        if channel.has_used_up(entry) {
            return self.bury(slot, entry);
        }
        channel.ready.push_back(entry);
        mark_ready(&mut self.dirty_channels, slot, channel);
    }

    /// The session's channel, and the entry of a message it holds.
    #[inline]
    fn held(&self, index: u32, id: MessageId) -> Result<(u32, Found), &'static str> {
        let slot = self.sessions[index as usize].channel.ok_or(NOT_IN_FLIGHT)?;
        let number = id.number().ok_or(NOT_IN_FLIGHT)?;
        let channel = &self.channels[slot as usize];
        let found = channel.in_flight.find(&self.in_flight, number).ok_or(NOT_IN_FLIGHT)?;
        if self.in_flight.entry(found.entry).session == index {
            Ok((slot, found))
        } else {
            Err(NOT_OWNER)
        }
    }

    /// Takes a message that was just found from the session that holds it.
    #[inline]
    fn take(&mut self, slot: u32, index: u32, found: Found) -> InFlight {
        self.channels[slot as usize].in_flight.remove(found);
        let session = &mut self.sessions[index as usize];
        session.in_flight_count -= 1;
        self.in_flight.remove(&mut session.in_flight, found.entry)
    }

    /// The same for an entry of the session's list.
    fn take_entry(&mut self, slot: u32, index: u32, entry: EntryIndex) -> InFlight {
        let id = self.in_flight.entry(entry).id;
        let channel = &self.channels[slot as usize];
        let found = channel.in_flight.find(&self.in_flight, id);
        self.take(slot, index, found.expect("what is in a session's list is in the index"))
    }

    /// Requeues what a session has held for too long.
    fn time_out(&mut self, now: Now, index: u32) {
        let Some(slot) = self.sessions[index as usize].channel else { return };
        let mut any = false;
        while let Some(first) = self.in_flight.first(&self.sessions[index as usize].in_flight) {
            if self.in_flight.entry(first).deadline > now.time {
                break;
            }
            let InFlight { message, attempts, .. } = self.take_entry(slot, index, first);
            self.channels[slot as usize].counts.timed_out += 1;
            self.make_ready(slot, Entry { message, attempts });
            any = true;
        }
        if any {
            self.mark_eligible(index);
        }
    }
}

/// A channel needs a message of its topic's log no more.
#[inline]
pub(super) fn finish_in_log(
    topics: &mut [Option<Box<Topic>>],
    marked_logs: &mut Vec<u32>,
    channel: &Channel,
    sequence: u64,
) {
    let topic = topics[channel.topic as usize].as_mut();
    let Some(log) = topic.and_then(|topic| topic.log.as_mut()) else { return };
    if let Some(cursor) = channel.cursor {
        log.finish(cursor, sequence);
        if !log.is_marked {
            log.is_marked = true;
            marked_logs.push(channel.topic);
        }
    }
}
