//! A topic: takes publishes and hands each message to every channel it has at that moment.
//!
//! While it has no channels, or is paused, messages wait in its own queue; the first channel that
//! comes gets all of them.

use super::admin::TopicId;
use super::message_id::MessageIds;
use super::store::MessageSlot;
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
    /// Messages no channel has been given yet, oldest first.
    pub queue: VecDeque<Waiting>,
    /// Generator of its messages' ids.
    pub ids: MessageIds,
    /// Messages accepted since start.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
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
    pub fn new(id: TopicId, name: TopicName, node: u16) -> Self {
        Self {
            id,
            name,
            paused: false,
            starting: false,
            channels: Vec::new(),
            channels_by_name: BTreeMap::new(),
            queue: VecDeque::new(),
            ids: MessageIds::new(node),
            message_count: 0,
            message_bytes: 0,
        }
    }

    /// Whether a publish goes straight to the channels.
    pub fn flows(&self) -> bool {
        !self.paused && !self.starting && !self.channels.is_empty()
    }
}
