//! Memory or log: the one place that decides where a message waits.
//!
//! A queue takes messages in memory up to `--mem-queue-size`, and the shard up to its byte budget.
//! What does not fit is left to the topic's log, from where it is read back in order. A topic that
//! may have no log (level `memory`, ephemeral) refuses it, so that nothing acknowledged is dropped.
//! Ephemeral channels never use the log: what does not fit is dropped for them, as in NSQ.

use super::channel::Channel;
use super::topic::Topic;
use crate::limits::DEFERRED_IN_MEMORY_MAX;
use slab::Slab;

/// What happens to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It waits in memory.
    Memory,
    /// It is written to the log, and waits in memory as well for those that are up to date.
    Log {
        /// Whether anyone takes it in memory.
        in_memory: bool,
    },
    /// It is refused: a queue it must go to is full.
    Refuse,
}

/// Decides for one publish to a topic. A batch is admitted whole while there is any room, so a
/// queue overshoots by one batch at most.
pub(super) fn admit(
    topic: &Topic,
    channels: &Slab<Channel>,
    mem_queue_size: usize,
    is_deferred: bool,
) -> Admission {
    let log = topic.log.as_deref();
    let coming = log.map_or(0, |log| log.pending_slots.len());
    let (mut takes, mut overflows) = (false, false);
    if topic.flows() {
        for index in &topic.channels {
            let channel = &channels[*index as usize];
            let has_room = channel.behind.is_none()
                && (is_deferred || channel.ready.len() + coming < mem_queue_size)
                && (!topic.may_log() || channel.deferred.len() + coming < DEFERRED_IN_MEMORY_MAX);
            takes |= has_room;
            overflows |= !has_room && !channel.name.is_ephemeral();
        }
    } else {
        let waits_in_log = log.is_some_and(|log| log.waiting_from.is_some());
        takes = topic.queue.len() + coming < mem_queue_size && !waits_in_log;
        overflows = !takes && !topic.name.is_ephemeral();
    }
    if topic.may_log() && (overflows || topic.durability.writes_all()) {
        Admission::Log { in_memory: takes }
    } else if overflows {
        Admission::Refuse
    } else {
        Admission::Memory
    }
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
