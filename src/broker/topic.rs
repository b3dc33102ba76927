//! A topic: takes publishes and hands each message to every channel it has at that moment.
//!
//! While it has no channels, or is paused, messages wait in its own queue; the first channel that
//! comes gets all of them.

use super::admin::TopicId;
use super::durability::Durability;
use super::governed::{GovernedTopic, Watch};
use super::message_id::MessageIds;
use super::store::MessageSlot;
use super::topic_log::TopicLog;
use crate::protocol::name::{ChannelName, TopicName};
use std::collections::{BTreeMap, VecDeque};

/// One topic, on its home shard.
#[derive(Debug)]
pub struct Topic {
    /// Its identity on all shards.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Whether messages stay in `queue`.
    pub paused: bool,
    /// Whether they stay there because the control thread has yet to create channels that
    /// lookups know of; ends with [`super::admin::TopicAction::Start`].
    pub starting: bool,
    /// Its channels, by slot, in the order they were created: what a publish walks.
    pub channels: Vec<u32>,
    /// The same, by name.
    pub channels_by_name: BTreeMap<ChannelName, u32>,
    /// What its publishes promise.
    pub durability: Durability,
    /// Whether that was asked for of this topic.
    pub has_own_durability: bool,
    /// Its log, once it needs one.
    pub log: Option<Box<TopicLog>>,
    /// Messages no channel has been given yet, oldest first.
    pub queue: VecDeque<Waiting>,
    /// Generator of its messages' ids.
    pub ids: MessageIds,
    /// Messages accepted since start.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
    /// What policies hold for its own queue and need; none for most.
    pub governed: Option<Box<GovernedTopic>>,
    /// What its publishes have to look at for the policies of it and its channels.
    pub watch: Watch,
}

/// A message waiting in a topic.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The message.
    pub message: MessageSlot,
    /// Its deferral, which starts when a channel gets it (NSQ); milliseconds.
    pub delay_ms: u32,
}

impl Topic {
    /// A topic without channels.
    pub fn new(id: TopicId, name: TopicName, node: u16, durability: Durability) -> Self {
        Self {
            id,
            name,
            paused: false,
            starting: false,
            channels: Vec::new(),
            channels_by_name: BTreeMap::new(),
            durability,
            has_own_durability: false,
            log: None,
            queue: VecDeque::new(),
            ids: MessageIds::new(node),
            message_count: 0,
            message_bytes: 0,
            governed: None,
            watch: Watch::default(),
        }
    }

    /// Whether its messages may be written to a log at all.
    pub fn may_log(&self) -> bool {
        self.durability != Durability::Memory && !self.name.is_ephemeral()
    }

    /// Forgets what of its own queue is in the log.
    pub fn empty_log(&mut self) {
        let flows = self.flows();
        let Some(log) = self.log.as_deref_mut() else { return };
        (log.waiting_from, log.waiting_count) = (None, 0);
        if !flows && log.handed < log.settled {
            let settled = log.settled;
            self.give_up_below(settled);
        }
    }

    /// What of its own queue is in the log below a sequence is for nobody any more.
    pub(super) fn give_up_below(&mut self, sequence: u64) {
        let Some(log) = self.log.as_deref_mut() else { return };
        let range = log.handed..sequence;
        let cursors: Vec<_> = log.log.cursors().iter().map(|(id, _)| id).collect();
        for id in cursors {
            if let Some(cursor) = log.log.cursor_mut(id) {
                cursor.finish_range(range.clone());
            }
        }
        log.hand_up_to(range.end);
    }

    /// Messages waiting in the topic itself.
    pub fn depth(&self) -> u64 {
        self.queue.len() as u64 + self.log.as_ref().map_or(0, |log| log.waiting_count)
    }

    /// Whether a publish goes straight to the channels.
    pub fn flows(&self) -> bool {
        !self.paused && !self.starting && !self.channels.is_empty()
    }
}
