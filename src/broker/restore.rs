//! The beginning and the end of a topic's log: what an earlier run left is taken up again, and what
//! belongs to a deleted topic goes.

use super::action::Action;
use super::admin::{REGISTRAR, TopicId};
use super::governed::mean_bytes;
use super::mail::{Mail, Refusal};
use super::shard::Shard;
use super::time::Now;
use super::topic_log::{Stalled, TopicLog};
use crate::protocol::name::{ChannelName, TopicName};
use ringmain_storage::log::Log;
use ringmain_storage::message::TOPIC_CURSOR;
use ringmain_storage::request::LogKey;

impl Shard {
    /// Before anything else: topics that are created until [`Self::loaded`] may have logs, which
    /// are asked for by [`Action::FindLog`].
    pub fn begin_loading(&mut self) {
        self.is_loading = true;
    }

    /// A key for the log of a topic, to recover it with.
    pub fn log_key(&mut self, topic: TopicId) -> LogKey {
        self.log_keys.give(topic)
    }

    /// A topic has the log it had. Channels that only the log knows of are created.
    pub fn restore_log(&mut self, now: Now, id: TopicId, key: LogKey, mut log: Log) {
        let Some(topic) = self.topic_mut(id) else { return };
        let name = topic.name;
        let found = log.cursors().find(TOPIC_CURSOR);
        let end = log.appended_up_to();
        let own = found.unwrap_or_else(|| log.create_cursor(TOPIC_CURSOR, end, &mut self.io));
        let handed = log.cursors().cursor(own).map_or(end, |cursor| cursor.low().min(end));
        let channels: Vec<_> =
            log.cursors().iter().filter_map(|(_, c)| ChannelName::parse(c.name()).ok()).collect();
        self.actions.push(Action::OpenLog { key, topic: name });
        let topic = self.topics[id.index as usize].as_mut().expect("checked above");
        topic.log = Some(Box::new(TopicLog::new(key, log, own, handed)));
        for channel in channels {
            let created = self.channel_or_new(now, id.index, channel);
            debug_assert!(created.is_some(), "channels of an earlier run fit");
        }
        self.mark_log(id.index);
    }

    /// Topics, channels and pause states are what they were: messages flow again.
    pub fn loaded(&mut self, now: Now) {
        self.is_loading = false;
        let topics: Vec<_> = self.log_keys.topics().collect();
        for id in topics {
            let Some(topic) = self.topic_mut(id) else { continue };
            let (flows, slots) = (topic.flows(), topic.channels.clone());
            let Some(tl) = topic.log.as_mut() else { continue };
            if flows {
                tl.hand_up_to(tl.settled);
            } else if let Some(own) = tl.log.cursors().cursor(tl.own) {
                tl.waiting_count = own.unfinished_count(tl.settled);
                tl.waiting_from = (tl.waiting_count > 0).then_some(tl.handed);
                if let Some(governed) = topic.governed.as_deref_mut() {
                    governed.bytes += tl.waiting_count * mean_bytes(tl);
                }
            }
            for slot in slots {
                self.take_up(now, id.index, slot);
            }
            self.sweep_topic_at(id.index, now.time);
            self.mark_log(id.index);
            self.flow(now, id.index);
        }
    }

    /// A channel goes on where its cursor is.
    fn take_up(&mut self, now: Now, index: u32, slot: u32) {
        let topic = self.topics[index as usize].as_ref().expect("its channel is alive");
        let channel = &mut self.channels[slot as usize];
        let (Some(tl), Some(id)) = (topic.log.as_ref(), channel.cursor) else { return };
        let Some(cursor) = tl.log.cursors().cursor(id) else { return };
        let count = cursor.unfinished_count(tl.handed);
        if count > 0 {
            channel.counts.restored += count;
            channel.fall_behind(cursor.low(), count);
            if let Some(governed) = channel.governed.as_deref_mut() {
                governed.bytes += count * mean_bytes(tl);
            }
            self.sweep_channel_at(slot, now.time);
        }
    }

    /// A topic is gone: nobody waits for its log any more, and its files are to be removed.
    pub(super) fn drop_log(&mut self, id: TopicId, name: TopicName, mut tl: TopicLog) {
        for pending in tl.pending.drain(..) {
            self.answer(pending.reply_to, Err(Refusal::Exiting));
        }
        for slot in tl.pending_slots.drain(..) {
            self.store.release(slot);
        }
        for stalled in tl.stalled.drain(..) {
            match stalled {
                // It finds that the topic is gone when it is tried again.
                Stalled::Session(key) => self.held_back.push((key, self.config.index)),
                Stalled::Publish { reply_to, body, .. } => {
                    self.store.pool.give(body);
                    self.answer(reply_to, Err(Refusal::Exiting));
                }
            }
        }
        tl.log.withdraw(&mut self.io);
        tl.log.release_memory(&mut self.io);
        self.log_keys.forget(tl.key);
        self.removing.push((tl.key, id));
        self.actions.push(Action::RemoveLog { key: tl.key, topic: name });
    }

    /// Whether a topic that was dropped still has files.
    pub(super) fn is_removing(&self, id: TopicId) -> bool {
        self.removing.iter().any(|(_, topic)| *topic == id)
    }

    /// The files of a topic that was dropped are gone, or could not be removed.
    pub fn log_removed(&mut self, now: Now, key: LogKey) {
        let Some(index) = self.removing.iter().position(|(removed, _)| *removed == key) else {
            return;
        };
        let (_, id) = self.removing.swap_remove(index);
        if self.config.index == REGISTRAR {
            self.topic_deleted(now, id);
        } else {
            self.outboxes[usize::from(REGISTRAR)].push(Mail::Deleted { id });
        }
    }
}
