//! Memory or log: the one place that decides where a message waits.
//!
//! Until the log exists there is one more choice than there will be: a queue that holds
//! `--mem-queue-size` messages refuses the publish, so that nothing acknowledged is ever dropped.
//! Ephemeral topics and channels never use the log: what does not fit is dropped, as in NSQ.

use super::channel::Channel;
use super::topic::Topic;
use slab::Slab;

/// What happens to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It waits in memory.
    Memory,
    /// It is refused: a queue it must go to is full.
    Refuse,
}

/// Decides for one publish to a topic. A batch is admitted whole while there is any room, so a
/// queue overshoots by one batch at most.
pub(super) fn admit(topic: &Topic, channels: &Slab<Channel>, mem_queue_size: usize) -> Admission {
    let full = if topic.flows() {
        topic.channels.iter().any(|index| {
            let channel = &channels[*index as usize];
            channel.ready.len() >= mem_queue_size && !channel.name.is_ephemeral()
        })
    } else {
        topic.queue.len() >= mem_queue_size && !topic.name.is_ephemeral()
    };
    if full { Admission::Refuse } else { Admission::Memory }
}

/// How many of some messages a queue of that length takes; the others are dropped.
#[inline]
pub(super) fn room(
    is_ephemeral: impl FnOnce() -> bool,
    length: usize,
    messages: usize,
    mem_queue_size: usize,
) -> usize {
    if length + messages > mem_queue_size && is_ephemeral() {
        mem_queue_size.saturating_sub(length).min(messages)
    } else {
        messages
    }
}
