//! Delivery: which subscriber gets which message, and the frames it gets.
//!
//! Deliveries happen at the end of a turn, after everything that was received has been acted on:
//! "read all, then send" costs half of what pumping each subscriber as messages arrive does. A
//! channel is visited only when it has messages and a subscriber that may have room, so the cost
//! does not grow with idle channels or subscribers.

use super::channel::Channel;
use super::consume::finish_in_log;
use super::in_flight::EntryIndex;
use super::publish::mark_ready;
use super::session::{Session, SessionKey};
use super::shard::Shard;
use super::time::{Now, Time};
use crate::limits::{
    OUTPUT_BYTES_MAX, OUTPUT_SPARE_BYTES_MIN, QUEUE_IDLE_MAX, SHARED_BODY_BYTES_MIN,
};
use crate::protocol::frame;
use std::collections::VecDeque;

impl Shard {
    /// The last step of a turn: what waited for it, deliveries, and the turn's publishes as mail.
    pub fn end_turn(&mut self, now: Now) {
        for id in std::mem::take(&mut self.ended_here) {
            self.forget_everywhere(now, id);
        }
        self.release_held_back(now);
        loop {
            self.send_dead_letters(now);
            self.deliver_dirty(now);
            self.advance_logs(now);
            if self.dirty_channels.is_empty() && !self.burials.are_due() {
                break;
            }
        }
        self.seal_batches();
    }

    /// The connection has taken all that was sent; there may be room for more.
    pub fn output_sent(&mut self, key: SessionKey) {
        if let Some(session) = self.session_mut(key) {
            session.sending_since = None;
            self.mark_eligible(key.index);
        }
    }

    /// Output of a session is on its way.
    pub fn output_started(&mut self, now: Now, key: SessionKey) {
        if let Some(session) = self.session_mut(key) {
            session.sending_since = Some(now.time);
        }
    }

    /// Delivers from every channel on the list.
    pub(super) fn deliver_dirty(&mut self, now: Now) {
        let mut channels = std::mem::take(&mut self.dirty_channels);
        for index in channels.drain(..) {
            // The channel may have been deleted since, and its slot used again.
            if let Some(channel) = self.channels.get_mut(index as usize) {
                channel.dirty = false;
                self.deliver_channel(now, index);
            }
        }
        debug_assert!(self.dirty_channels.is_empty());
        self.dirty_channels = channels;
    }

    /// Lets a session's channel know that it may have room.
    pub(super) fn mark_eligible(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        let Some(slot) = session.channel else { return };
        let channel = &mut self.channels[slot as usize];
        list_eligible(&mut self.dirty_channels, (slot, channel), (index, session));
    }

    fn deliver_channel(&mut self, now: Now, slot: u32) {
        loop {
            let channel = &mut self.channels[slot as usize];
            if channel.ready.is_empty() && channel.ready.capacity() > QUEUE_IDLE_MAX {
                channel.ready = VecDeque::new();
            }
            if channel.paused
                || !channel.has_ready()
                || channel.eligible.is_empty()
                || channel.is_held_up()
            {
                return;
            }
            if channel.ready.is_empty() {
                if channel.later.is_due && !channel.later.waits {
                    self.fetch_later(now, slot);
                } else {
                    self.refill(now, slot);
                }
                continue;
            }
            let Some((index, alike)) = channel.eligible.pop() else { return };
            // An even share each, so that a short queue is not given to one subscriber whole.
            let share = channel.ready.len().div_ceil(alike);
            self.sessions[index as usize].eligible = false;
            if channel.governed.is_some() {
                self.end_first(now, slot, share);
            }
            self.fill(now, slot, index, share);
            let session = &mut self.sessions[index as usize];
            if session.window() > 0 && session.output.len() < OUTPUT_BYTES_MAX {
                session.eligible = true;
                let proximity = session.negotiated.proximity;
                self.channels[slot as usize].eligible.push(proximity, index);
            }
        }
    }

    /// Gives a session up to `share` messages, as far as its window and its output allow.
    fn fill(&mut self, now: Now, slot: u32, index: u32, share: usize) {
        let channel = &mut self.channels[slot as usize];
        let session = &mut self.sessions[index as usize];
        let deadline = now.time + session.negotiated.message_timeout;
        let sample_rate = u64::from(session.negotiated.sample_rate);
        let mut room = usize::try_from(session.window()).unwrap_or(usize::MAX).min(share);
        if session.output.bytes.capacity() < OUTPUT_SPARE_BYTES_MIN
            && session.output.is_empty()
            && let Some(spare) = self.spare_outputs.pop()
        {
            session.output.bytes = spare;
        }
        let held_before = session.in_flight_count;
        while room > 0 && session.output.len() < OUTPUT_BYTES_MAX {
            let Some(entry) = channel.ready.pop_front() else { break };
            room -= 1;
            if sample_rate > 0 && Self::random(&mut self.random) % 100 > sample_rate {
                channel.counts.discarded += 1;
                channel.let_go(self.store.message(entry.message));
                let sequence = self.store.sequence(entry.message);
                if sequence > 0 {
                    finish_in_log(&mut self.topics, &mut self.marked_logs, channel, sequence);
                }
                self.store.release(entry.message);
                continue;
            }
            let attempts = entry.attempts.saturating_add(1);
            let message = *self.store.message(entry.message);
            let held: EntryIndex = self.in_flight.insert(
                &mut session.in_flight,
                (message.id, entry.message, attempts),
                index,
                now.time,
                deadline,
            );
            channel.in_flight.insert(message.id, held);
            session.in_flight_count += 1;
            session.counts.delivered += 1;
            let out = &mut session.output;
            let body_bytes = message.body_bytes();
            frame::push_message_header(
                &mut out.bytes,
                message.timestamp_ns,
                attempts,
                message.id,
                body_bytes,
            );
            if body_bytes < SHARED_BODY_BYTES_MIN {
                out.bytes.extend_from_slice(self.store.body(entry.message));
            } else {
                let (slab, range) = self.store.shared_body(entry.message);
                out.push_shared(slab, range);
            }
        }
        let delivered = session.in_flight_count - held_before;
        if delivered == 0 {
            return;
        }
        channel.counts.delivered[session.negotiated.proximity as usize] += delivered;
        if deadline < self.deadlines.due(session.timer) && deadline != Time::NEVER {
            self.deadlines.arm(session.timer, deadline);
        }
        self.mark_dirty(index);
    }
}

/// Puts a session that may have room on its channel's list, and the channel on the shard's.
#[inline]
pub(super) fn list_eligible(
    dirty_channels: &mut Vec<u32>,
    (slot, channel): (u32, &mut Channel),
    (index, session): (u32, &mut Session),
) {
    if !session.eligible && session.window() > 0 && session.output.len() < OUTPUT_BYTES_MAX {
        session.eligible = true;
        channel.eligible.push(session.negotiated.proximity, index);
    }
    if !channel.paused && channel.has_ready() {
        mark_ready(dirty_channels, slot, channel);
    }
}
