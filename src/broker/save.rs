//! An orderly stop: what is only in memory is written to the logs, with the attempts and the times
//! that every channel knows of its messages, and the logs are closed.
//!
//! Nothing is lost but what was never meant to last: topics of level `memory`, and what is
//! ephemeral. A message that several channels hold is written once, as ever.

use super::channel::Channel;
use super::logged::head;
use super::shard::Shard;
use super::store::MessageSlot;
use super::time::{Now, WallClock};
use super::topic_log::Saving;
use ringmain_storage::cursors::Retry;
use ringmain_storage::log::AppendError;
use std::collections::{HashMap, HashSet};

/// A message that a channel has not finished, and what the channel knows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) message: MessageSlot,
    pub(super) retry: Retry,
}

impl Shard {
    /// No client is served any more: begins to save what has to last. Gives how many messages are
    /// to be written, and how many go with the daemon because their topic promises no more.
    pub fn begin_saving(&mut self, now: Now) -> (usize, usize) {
        let (mut saving, mut leaving) = (0, 0);
        for index in 0..self.topics.len() {
            let index = u32::try_from(index).expect("TOPICS_MAX is below 2^32");
            let Some(topic) = self.topics[index as usize].as_ref() else { continue };
            if topic.may_log() {
                let own: Vec<_> = topic.queue.iter().map(|waiting| waiting.message).collect();
                let mut unsaved = Vec::new();
                for slot in &topic.channels {
                    let channel = &self.channels[*slot as usize];
                    if !channel.name.is_ephemeral() {
                        unsaved.extend(self.holding(now, channel).iter().map(|held| held.message));
                    }
                }
                saving += self.list_unsaved(index, unsaved, own);
            } else if !topic.name.is_ephemeral() {
                let channels = topic.channels.iter().map(|slot| &self.channels[*slot as usize]);
                leaving += topic.queue.len();
                leaving += channels.map(|channel| self.holding(now, channel).len()).sum::<usize>();
            }
        }
        for topic in self.log_keys.topics().collect::<Vec<_>>() {
            self.mark_log(topic.index);
        }
        (saving, leaving)
    }

    /// Goes on saving. Returns whether all is saved that can be; and how many messages are not.
    pub fn save(&mut self, now: Now) -> (bool, usize) {
        let (mut is_done, mut lost) = (true, 0);
        for topic in self.log_keys.topics().collect::<Vec<_>>() {
            lost += self.save_topic(now, topic.index);
            let topic = self.topics[topic.index as usize].as_ref();
            let log = topic.and_then(|topic| topic.log.as_ref());
            is_done &= log.is_none_or(|log| log.log.is_closed());
        }
        (is_done, lost)
    }

    fn list_unsaved(
        &mut self,
        index: u32,
        unsaved: Vec<MessageSlot>,
        own: Vec<MessageSlot>,
    ) -> usize {
        let by_id = |store: &super::store::MessageStore, list: Vec<MessageSlot>| {
            let mut list: Vec<_> =
                list.into_iter().filter(|slot| store.sequence(*slot) == 0).collect();
            list.sort_unstable_by_key(|slot| store.message(*slot).id);
            list.dedup();
            list
        };
        let (unsaved, own) = (by_id(&self.store, unsaved), by_id(&self.store, own));
        if unsaved.is_empty() && own.is_empty() {
            return 0;
        }
        self.open_log(index);
        let topic = self.topics[index as usize].as_mut().expect("listed just now");
        let tl = topic.log.as_mut().expect("it was just opened");
        tl.unsaved = unsaved.into_iter().chain(own).collect();
        tl.unsaved.len()
    }

    /// Appends what of a topic is only in memory, then its cursors. Gives how many messages cannot
    /// be saved.
    fn save_topic(&mut self, now: Now, index: u32) -> usize {
        let Some(topic) = self.topics[index as usize].as_mut() else { return 0 };
        let Some(tl) = topic.log.as_mut() else { return 0 };
        let (start, mut own_from) = match tl.saving {
            Saving::No => (tl.log.appended_up_to(), None),
            Saving::Appending(start, own_from) => (start, own_from),
            Saving::Closing => {
                self.mark_log(index);
                return 0;
            }
        };
        let own: HashMap<_, _> =
            topic.queue.iter().map(|waiting| (waiting.message, waiting.delay_ms)).collect();
        let mut lost = 0;
        while let Some(slot) = tl.unsaved.front().copied() {
            let message = self.store.message(slot);
            let delay_ms = own.get(&slot).copied();
            let delay_ns = i64::from(delay_ms.unwrap_or(0)) * 1_000_000;
            let deliver_at = if delay_ns > 0 { now.wall.0.saturating_add(delay_ns) } else { 0 };
            let head = head(message.id, WallClock(message.timestamp_ns), deliver_at, 0);
            match tl.log.append_message(&[&head, self.store.body(slot)], &mut self.io) {
                Ok(sequence) => {
                    if delay_ms.is_some() {
                        own_from.get_or_insert(sequence);
                    }
                    self.store.set_sequence(slot, sequence);
                    tl.unsaved.pop_front();
                }
                Err(AppendError::Busy) => {
                    tl.saving = Saving::Appending(start, own_from);
                    self.mark_log(index);
                    return 0;
                }
                Err(_) => {
                    lost += tl.unsaved.len();
                    tl.unsaved.clear();
                }
            }
        }
        tl.saving = Saving::Closing;
        self.save_cursors(now, index, start, own_from);
        self.mark_log(index);
        lost
    }

    /// Notes for every channel which of the messages appended since `start` it does not hold, and
    /// what it knows of those it holds; then closes the log.
    fn save_cursors(&mut self, now: Now, index: u32, start: u64, own_from: Option<u64>) {
        let topic = self.topics[index as usize].as_ref().expect("it is being saved");
        let end = topic.log.as_ref().map_or(start, |tl| tl.log.appended_up_to());
        let own_from = own_from.unwrap_or(end);
        let slots = topic.channels.clone();
        for slot in slots {
            let channel = &self.channels[slot as usize];
            let Some(cursor) = channel.cursor else { continue };
            let held: Vec<_> = self.holding(now, channel);
            let sequences: HashSet<_> =
                held.iter().map(|held| self.store.sequence(held.message)).collect();
            let tl = self.topics[index as usize].as_mut().and_then(|topic| topic.log.as_mut());
            let Some(cursor) = tl.and_then(|tl| tl.log.cursor_mut(cursor)) else { continue };
            for sequence in (start..own_from).filter(|sequence| !sequences.contains(sequence)) {
                cursor.finish(sequence);
            }
            for Held { message, retry } in held {
                let sequence = self.store.sequence(message);
                if sequence > 0 {
                    cursor.set_retry(sequence, retry);
                }
            }
        }
        let tl = self.topics[index as usize].as_mut().and_then(|topic| topic.log.as_mut());
        let Some(tl) = tl else { return };
        if tl.handed >= start {
            tl.hand_up_to(own_from);
        } else if let Some(own) = tl.log.cursor_mut(tl.own) {
            own.finish_range(start..own_from);
        }
        tl.log.close(&mut self.io);
    }

    /// What a channel holds in memory.
    pub(super) fn holding(&self, now: Now, channel: &Channel) -> Vec<Held> {
        let retry = |attempts, deliver_at_ns| Retry { attempts, deliver_at_ns };
        let ready = channel
            .ready
            .iter()
            .map(|entry| Held { message: entry.message, retry: retry(entry.attempts, 0) });
        let deferred = channel.deferred.iter().map(|deferred| {
            let left = deferred.0.due.0.saturating_sub(now.time.0);
            let wall = u64::try_from(now.wall.0).unwrap_or(0);
            let entry = deferred.0.entry;
            let retry = retry(entry.attempts, wall.saturating_add(left).max(1));
            Held { message: entry.message, retry }
        });
        let in_flight = channel.in_flight.entries().map(|index| {
            let entry = self.in_flight.entry(index);
            Held { message: entry.message, retry: retry(entry.attempts, 0) }
        });
        let dead = channel.governed.iter().flat_map(|governed| governed.dead.entries());
        let dead =
            dead.map(|entry| Held { message: entry.message, retry: retry(entry.attempts, 0) });
        ready.chain(deferred).chain(in_flight).chain(dead).collect()
    }
}
