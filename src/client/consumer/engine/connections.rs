//! What comes in on a consumer's connections and what goes out.

use super::Engine;
use crate::client::backoff::Signal;
use crate::client::commands::{self, CLOSE, NOP};
use crate::client::consumer::GivenUp;
use crate::client::frames::{Arrived, Frame};
use crate::client::link::Link;
use crate::client::message::{Message, Origin, Reply, Verdict};
use crate::limits::{CLIENT_READS_PER_TURN, CLIENT_TURN_MAX};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One connection to an nsqd, subscribed.
pub(super) struct Connection {
    link: Link,
    origin: Arc<Origin>,
    since: Duration,
    last_read: Duration,
    /// The socket has not taken bytes since then, and how many were left.
    stuck: Option<(Duration, usize)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// CLS was sent; messages may still come.
    Closing,
    /// nsqd sends nothing more; what is in hand can be answered.
    CloseWait,
}

impl Connection {
    pub(super) fn new(link: Link, origin: Arc<Origin>, now: Duration) -> Self {
        Self { link, origin, since: now, last_read: now, stuck: None, state: State::Open }
    }

    pub(super) fn is_to(&self, address: &str) -> bool {
        &*self.link.address == address
    }

    /// Asks nsqd for no more messages.
    pub(super) fn begin_close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closing;
            self.link.out.extend_from_slice(CLOSE);
        }
    }
}

impl Engine {
    /// Takes up what was decided about messages.
    pub(super) fn take_replies(&mut self, cx: &mut Context<'_>) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        let polled = self.replies.poll_recv_many(cx, &mut taken, CLIENT_TURN_MAX);
        let busy = polled.is_ready() && !taken.is_empty();
        for reply in taken.drain(..) {
            self.reply(&reply);
        }
        self.taken = taken;
        if busy {
            self.push_ready_changes();
        }
        busy
    }

    fn reply(&mut self, reply: &Reply) {
        if reply.verdict == Verdict::Touch {
            if let Some(connection) = self.connection(reply) {
                commands::push_touch(&mut connection.link.out, &reply.id);
            }
            return;
        }
        self.held = self.held.saturating_sub(1);
        if self.connection(reply).is_none() {
            return;
        }
        let delay = match reply.verdict {
            Verdict::Finish => {
                if !self.backoff.is_open() {
                    self.signal(Signal::Success);
                }
                None
            }
            Verdict::Requeue { delay, attempts, failed } => {
                self.signal(if failed { Signal::Failure } else { Signal::Neutral });
                Some(delay.unwrap_or_else(|| self.settings.config.requeue_delay(attempts)))
            }
            // Nobody looks at messages any more: others may have them at once.
            Verdict::Dropped { .. } if self.stopping.is_some() || self.batches.is_closed() => {
                Some(Duration::ZERO)
            }
            Verdict::Dropped { attempts } => {
                self.signal(Signal::Failure);
                Some(self.settings.config.requeue_delay(attempts))
            }
            Verdict::Touch => unreachable!("dealt with above"),
        };
        match delay {
            None => self.counts.finished += 1,
            Some(_) => self.counts.requeued += 1,
        }
        // RDY goes out before the command that changed it, so that nsqd does not deliver between.
        self.push_ready_changes();
        let Some(connection) = self.connection(reply) else { return };
        let out = &mut connection.link.out;
        match delay {
            None => commands::push_finish(out, &reply.id),
            Some(delay) => commands::push_requeue(out, &reply.id, delay.as_millis()),
        }
        self.ready.answered(reply.connection.slot, self.now);
    }

    fn connection(&mut self, reply: &Reply) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(reply.connection.slot as usize)?;
        let current = slot.generation == reply.connection.generation;
        slot.connection.as_mut().filter(|_| current)
    }

    /// Reads what has come, as far as there is room for messages.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        for slot in 0..self.slots.len() {
            // Taken out while it is read, so that the rest of the state can be changed.
            let Some(mut connection) = self.slots[slot].connection.take() else { continue };
            let outcome = self.read_one(&mut connection, cx);
            busy |= outcome != Ok(false);
            self.slots[slot].connection = Some(connection);
            if let Err(reason) = outcome {
                self.lose(slot, &reason);
            }
        }
        busy
    }

    /// `true` when there may be more to read.
    fn read_one(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Result<bool, String> {
        let mut batch = Vec::new();
        let mut outcome = Ok(true);
        for _ in 0..CLIENT_READS_PER_TURN {
            if !self.has_room() {
                outcome = Ok(false);
                break;
            }
            match connection.link.poll_fill(cx) {
                Poll::Pending => outcome = Ok(false),
                Poll::Ready(Err(reason)) => outcome = Err(reason),
                Poll::Ready(Ok(())) => {
                    connection.last_read = self.now;
                    outcome = self.take_frames(connection, &mut batch).map(|()| true);
                }
            }
            if outcome != Ok(true) {
                break;
            }
        }
        if !batch.is_empty() {
            self.held += batch.len();
            // A consumer that was dropped gets no more; its messages go back by being dropped.
            let _ = self.batches.send(batch);
        }
        outcome
    }

    fn take_frames(
        &mut self,
        connection: &mut Connection,
        batch: &mut Vec<Message>,
    ) -> Result<(), String> {
        let key = connection.origin.connection.slot;
        while let Some(frame) = connection.link.frames.next().map_err(|e| e.to_string())? {
            match frame {
                Frame::Message(arrived) => {
                    self.counts.received += 1;
                    let most = self.settings.config.max_attempts;
                    if most > 0 && arrived.attempts > most {
                        commands::push_finish(&mut connection.link.out, &arrived.id);
                        self.give_up(arrived);
                        continue;
                    }
                    self.ready.delivered(key, self.now);
                    batch.push(Message::new(arrived, &connection.origin));
                }
                Frame::Response(b"_heartbeat_") => connection.link.out.extend_from_slice(NOP),
                Frame::Response(b"CLOSE_WAIT") => {
                    connection.state = State::CloseWait;
                    self.ready.close(key, self.now);
                }
                Frame::Response(_) => {}
                Frame::Error(text) => {
                    let (text, address) = (String::from_utf8_lossy(text), &connection.link.address);
                    tracing::error!("{} ({address}) protocol error - {text}", self.label);
                }
            }
        }
        Ok(())
    }

    fn give_up(&mut self, arrived: Arrived) {
        let given_up = GivenUp::new(arrived);
        let GivenUp { id, attempts, .. } = &given_up;
        tracing::warn!("{} msg {id} attempted {attempts} times, giving up", self.label);
        if let Some(hook) = &self.hooks.give_up {
            hook(&given_up);
        }
        self.counts.finished += 1;
        self.signal(Signal::Success);
    }

    /// Sends RDY where it has changed.
    pub(super) fn push_ready_changes(&mut self) {
        for (slot, count) in self.ready.changes() {
            if let Some(connection) = &mut self.slots[slot as usize].connection {
                commands::push_ready(&mut connection.link.out, count);
            }
        }
    }

    /// Writes what the turn brought, and lets go of connections that are at their end.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        for slot in 0..self.slots.len() {
            let Some(connection) = &mut self.slots[slot].connection else { continue };
            match connection.link.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    connection.stuck = None;
                    let done = connection.state == State::CloseWait
                        && self.ready.in_flight(connection.origin.connection.slot) == 0;
                    if done {
                        self.lose(slot, "closed as asked");
                    }
                }
                Poll::Ready(Err(error)) => self.lose(slot, &error.to_string()),
                Poll::Pending => {
                    let unsent = connection.link.unsent_bytes();
                    let moved = connection.stuck.is_none_or(|(_, before)| unsent < before);
                    if moved {
                        connection.stuck = Some((self.now, unsent));
                    }
                }
            }
        }
    }

    /// Cuts connections whose nsqd sends no heartbeats or takes no bytes.
    pub(super) fn cut_silent(&mut self) {
        for slot in 0..self.slots.len() {
            let Some(connection) = &self.slots[slot].connection else { continue };
            if self.read_deadline(connection).is_some_and(|deadline| deadline <= self.now) {
                self.lose(slot, "nsqd sent nothing for too long");
            } else if self.write_deadline(connection).is_some_and(|d| d <= self.now) {
                self.lose(slot, "nsqd took nothing for too long");
            }
        }
    }

    pub(super) fn silence_deadline(&self) -> Option<Duration> {
        let connections = self.slots.iter().filter_map(|slot| slot.connection.as_ref());
        connections
            .flat_map(|connection| {
                [self.read_deadline(connection), self.write_deadline(connection)]
            })
            .flatten()
            .min()
    }

    fn read_deadline(&self, connection: &Connection) -> Option<Duration> {
        // A connection that is not read for want of room is not silent.
        let deadline = connection.last_read + self.settings.config.read_timeout;
        self.has_room().then_some(deadline)
    }

    fn write_deadline(&self, connection: &Connection) -> Option<Duration> {
        connection.stuck.map(|(since, _)| since + self.settings.config.write_timeout)
    }

    /// A connection has ended.
    fn lose(&mut self, slot: usize, reason: &str) {
        let Some(connection) = self.slots[slot].connection.take() else { return };
        let address = &connection.link.address;
        if connection.state == State::Open {
            tracing::warn!("{} ({address}) connection lost - {reason}", self.label);
        } else {
            tracing::info!("{} ({address}) connection closed", self.label);
        }
        self.ready.remove(connection.origin.connection.slot, self.now);
        self.push_ready_changes();
        if self.stopping.is_none() {
            self.lost_address(address, self.now - connection.since);
        }
    }
}
