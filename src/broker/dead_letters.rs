//! Dead letters: a message that was delivered as often as it may be goes to another topic.
//!
//! ```text
//! in flight ──► waiting ──► sent ──► finished here, once that topic has it
//!                  ▲          │
//!                  └──────────┘ refused: tried again after a while
//! ```
//!
//! It stays this channel's until the other topic has taken it, as its durability says, wherever
//! that topic lives: so it is never lost, and never there twice but after a crash. While many wait,
//! the channel delivers nothing more, so that what piles up is bounded.

use super::action::{Action, Notice};
use super::channel::Entry;
use super::mail::{PublishAnswer, Refusal, RemoteBody, RemotePublish};
use super::publish::{NotTaken, Put, Taken, mark_ready};
use super::session::SessionKey;
use super::shard::Shard;
use super::time::{Now, Span, Time};
use super::topic_log::ReplyTo;
use crate::limits::{DEAD_LETTER_RETRY_NS, DEAD_LETTERS_SENT_MAX, DEAD_LETTERS_WAITING_MAX};
use crate::protocol::command::{Body, PublishKind};
use crate::protocol::name::TopicName;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The messages of a channel that are to go to its dead-letter topic.
#[derive(Debug)]
pub struct DeadLetters {
    /// Not sent yet, oldest first.
    waiting: VecDeque<Entry>,
    /// Sent and not answered, with their tickets.
    sent: Vec<(u64, Entry)>,
    /// The last answer was a refusal.
    is_refused: bool,
    /// That has been told.
    is_told: bool,
    /// When refused ones are sent again.
    pub retry_at: Time,
    /// The channel is in one of the shard's lists.
    is_listed: bool,
}

/// A shard's dead letters on their way.
#[derive(Debug, Default)]
pub struct Burials {
    /// Channels with something to send, by slot.
    due: Vec<u32>,
    /// Channels whose dead-letter topic has no known place yet, by slot.
    homeless: Vec<u32>,
    /// The channel of each that was sent, by ticket.
    sent: HashMap<u64, u32, foldhash::fast::FixedState>,
    next_ticket: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            sent: Vec::new(),
            is_refused: false,
            is_told: false,
            retry_at: Time::NEVER,
            is_listed: false,
        }
    }
}

impl DeadLetters {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more may be added but what is in flight already.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= DEAD_LETTERS_WAITING_MAX
    }

    /// All of them.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.waiting.iter().copied().chain(self.sent.iter().map(|(_, entry)| *entry))
    }
}

impl Burials {
    /// Whether there is something to send in this turn.
    pub fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether answers are still to come.
    pub fn are_under_way(&self) -> bool {
        !self.sent.is_empty()
    }
}

impl Shard {
    /// Whether dead letters have been sent whose answers are still to come.
    pub fn has_dead_letters_out(&self) -> bool {
        self.burials.are_under_way()
    }

    /// A message of a channel has been delivered as often as it may be.
    pub(super) fn bury(&mut self, slot: u32, entry: Entry) {
        let channel = &mut self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref_mut() else { return };
        governed.dead.waiting.push_back(entry);
        if governed.dead.retry_at == Time::NEVER {
            self.list_burial(slot);
        }
    }

    /// The end of a turn: sends what is to be sent.
    pub(super) fn send_dead_letters(&mut self, now: Now) {
        for slot in std::mem::take(&mut self.burials.due) {
            let Some(channel) = self.channels.get_mut(slot as usize) else { continue };
            let Some(governed) = channel.governed.as_deref_mut() else { continue };
            governed.dead.is_listed = false;
            let Some((_, to)) = governed.terms.dead_letters else {
                // That was taken back: they are messages like others.
                let waiting = std::mem::take(&mut governed.dead.waiting);
                channel.ready.extend(waiting);
                mark_ready(&mut self.dirty_channels, slot, channel);
                continue;
            };
            while !self.rests_after_refusal(now, slot) && self.send_first(now, slot, to) {}
        }
    }

    /// Sends one dead letter. Returns whether another may follow.
    fn send_first(&mut self, now: Now, slot: u32, to: TopicName) -> bool {
        let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() else {
            return false;
        };
        let dead = &mut governed.dead;
        if dead.sent.len() >= DEAD_LETTERS_SENT_MAX || dead.waiting.is_empty() {
            return false;
        }
        let Some((topic, home)) = self.known_home(&to) else {
            self.burials.homeless.push(slot);
            self.mark_listed(slot, true);
            self.ask_place(now, to, SessionKey::DEAD_LETTERS);
            return false;
        };
        let is_here = home == self.config.index;
        let has_room = is_here || self.has_room(home);
        let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() else {
            return false;
        };
        if !has_room {
            // It is tried again as if it had been refused.
            governed.dead.is_refused = true;
            return true;
        }
        let Some(entry) = governed.dead.waiting.pop_front() else { return false };
        let body = self.store.body(entry.message).to_vec();
        self.burials.next_ticket += 1;
        let ticket = self.burials.next_ticket;
        governed.dead.sent.push((ticket, entry));
        self.burials.sent.insert(ticket, slot);
        // It may have held deliveries up.
        mark_ready(&mut self.dirty_channels, slot, &mut self.channels[slot as usize]);
        if !is_here {
            let batch = self.remote[usize::from(home)].get_or_insert_default();
            batch.publishes.push(RemotePublish {
                topic,
                session: SessionKey::DEAD_LETTERS,
                ticket,
                kind: PublishKind::Pub,
                delay_ms: 0,
                count: 1,
                body: RemoteBody::Slab(body),
            });
            return true;
        }
        self.store.pool.adopt(&body);
        let put = Put { kind: PublishKind::Pub, delay_ms: 0, count: 1, body: Body::Owned(body) };
        let reply_to = ReplyTo::Session(SessionKey::DEAD_LETTERS, ticket);
        let outcome = match self.put(now, topic, put, |_| reply_to) {
            Ok(Taken::Later) => return true,
            Ok(Taken::Now) => Ok(()),
            Err(NotTaken::Refused(refusal)) => Err(refusal),
            Err(NotTaken::Busy(put)) => {
                self.refuse_put(put, Refusal::QueueFull);
                Err(Refusal::QueueFull)
            }
        };
        self.answer(reply_to, outcome);
        true
    }

    /// The dead-letter topic has taken a message, or has not.
    pub(super) fn dead_letter_answered(&mut self, answer: &PublishAnswer) {
        let Some(slot) = self.burials.sent.remove(&answer.ticket) else { return };
        let channel = &mut self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref_mut() else { return };
        let dead = &mut governed.dead;
        let Some(at) = dead.sent.iter().position(|(ticket, _)| *ticket == answer.ticket) else {
            return;
        };
        let (_, entry) = dead.sent.swap_remove(at);
        if let Err(refusal) = answer.outcome {
            dead.waiting.push_front(entry);
            dead.is_refused = true;
            if !std::mem::replace(&mut dead.is_told, true)
                && let Some((_, to)) = governed.terms.dead_letters
            {
                let channel = channel.name;
                let notice = Notice::DeadLettersRefused { channel, to, refusal };
                self.actions.push(Action::Notice(notice));
            }
        } else {
            dead.is_told = false;
            channel.counts.dead += 1;
            self.end_entry(slot, entry);
        }
        self.list_burial(slot);
    }

    /// After a refusal nothing is sent for a while. Whether that is so now.
    fn rests_after_refusal(&mut self, now: Now, slot: u32) -> bool {
        let channel = &mut self.channels[slot as usize];
        let Some(governed) = channel.governed.as_deref_mut() else { return true };
        if std::mem::take(&mut governed.dead.is_refused) {
            governed.dead.retry_at = now.time + Span(DEAD_LETTER_RETRY_NS);
            self.deadlines.arm(channel.timer, channel.first_due());
            return true;
        }
        governed.dead.retry_at != Time::NEVER
    }

    /// A channel's timer fired: what was refused may be sent again.
    pub(super) fn dead_letters_due(&mut self, now: Now, slot: u32) {
        let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() else { return };
        if governed.dead.retry_at <= now.time {
            governed.dead.retry_at = Time::NEVER;
            self.list_burial(slot);
        }
    }

    /// Places of topics have become known, or known not to be: whoever waited for one tries again.
    pub(super) fn dead_letters_placed(&mut self) {
        for slot in std::mem::take(&mut self.burials.homeless) {
            self.mark_listed(slot, false);
            self.list_burial(slot);
        }
    }

    /// A topic cannot be made: its dead letters are tried again after a while.
    pub(super) fn dead_letters_unplaced(&mut self) {
        for slot in self.burials.homeless.clone() {
            if let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() {
                governed.dead.is_refused = true;
            }
        }
        self.dead_letters_placed();
    }

    /// All a channel has of dead letters, which it forgets.
    pub(super) fn take_dead_letters(&mut self, slot: u32) -> Vec<Entry> {
        let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() else {
            return Vec::new();
        };
        let entries = governed.dead.entries().collect();
        let dead = std::mem::take(&mut governed.dead);
        for (ticket, _) in dead.sent {
            self.burials.sent.remove(&ticket);
        }
        if dead.is_listed {
            self.burials.due.retain(|other| *other != slot);
            self.burials.homeless.retain(|other| *other != slot);
        }
        entries
    }

    fn list_burial(&mut self, slot: u32) {
        let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() else { return };
        let dead = &mut governed.dead;
        let has_work = !dead.waiting.is_empty() || dead.is_refused;
        if has_work && !dead.is_listed {
            dead.is_listed = true;
            self.burials.due.push(slot);
        }
    }

    fn mark_listed(&mut self, slot: u32, is_listed: bool) {
        if let Some(governed) = self.channels[slot as usize].governed.as_deref_mut() {
            governed.dead.is_listed = is_listed;
        }
    }
}
