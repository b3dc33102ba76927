//! What must be true of every shard after every event.

use super::world::World;
use crate::broker::channel::Channel;
use crate::broker::shard::Shard;
use crate::broker::store::MessageSlot;
use crate::broker::time::Time;
use crate::limits::{OUTPUT_BYTES_MAX, SLAB_BYTES};
use std::collections::HashMap;

/// Every shard's books balance.
pub(super) fn check(world: &World) {
    for shard in &world.shards {
        let mut references: HashMap<u32, (MessageSlot, u32)> = HashMap::new();
        let mut hold = |slot: MessageSlot| {
            references.entry(slot.number()).or_insert((slot, 0)).1 += 1;
        };
        for topic in shard.topics.iter().flatten() {
            topic.queue.iter().for_each(|waiting| hold(waiting.message));
            let pending = topic.log.iter().flat_map(|log| &log.pending_slots);
            pending.for_each(|slot| hold(*slot));
            assert_eq!(topic.channels.len(), topic.channels_by_name.len());
            for slot in &topic.channels {
                let channel = &shard.channels[*slot as usize];
                assert_eq!(topic.channels_by_name[&channel.name], *slot);
                check_channel(shard, *slot, channel);
                for message in held(shard, channel) {
                    hold(message);
                    let body = shard.store.body(message);
                    let finished = world.auditor.is_finished((topic.name, channel.name), body);
                    assert!(!finished, "a finished message is still there");
                }
            }
        }
        let channels: usize = shard.topics.iter().flatten().map(|topic| topic.channels.len()).sum();
        assert_eq!(channels, shard.channels.len(), "a channel without a topic");
        assert_eq!(shard.store.live_count(), references.len());
        for (slot, count) in references.values() {
            assert_eq!(shard.store.references(*slot), *count);
        }
        check_sessions(shard);
    }
}

/// Queues with caps are within them, but for what is only known by its age.
fn check_caps(shard: &Shard, channel: &Channel) {
    let Some(governed) = channel.governed.as_deref() else { return };
    let terms = &governed.terms;
    assert!(channel.held_count() <= terms.max_messages, "{terms:?}");
    let bodies = held(shard, channel).into_iter().map(|slot| shard.store.body(slot).len() as u64);
    let log = shard.topics[channel.topic as usize].as_ref().and_then(|topic| topic.log.as_ref());
    if log.is_none() {
        assert_eq!(channel.held_bytes(), bodies.sum::<u64>(), "bytes are miscounted");
    }
}

/// All a channel holds.
pub(super) fn held(shard: &Shard, channel: &Channel) -> Vec<MessageSlot> {
    let ready = channel.ready.iter().map(|entry| entry.message);
    let deferred = channel.deferred.iter().map(|deferred| deferred.0.entry.message);
    let in_flight = channel.consumers.iter().flat_map(|consumer| {
        let session = &shard.sessions[*consumer as usize];
        shard.in_flight.iter(&session.in_flight).map(|entry| entry.message)
    });
    let dead = channel.governed.iter().flat_map(|governed| governed.dead.entries());
    let dead = dead.map(|entry| entry.message);
    ready.chain(deferred).chain(in_flight).chain(dead).collect()
}

fn check_channel(shard: &Shard, slot: u32, channel: &Channel) {
    assert!(channel.is_conserved(), "{:?}", channel.counts);
    check_caps(shard, channel);
    let mut in_flight = 0;
    for consumer in &channel.consumers {
        let session = &shard.sessions[*consumer as usize];
        assert_eq!(session.channel, Some(slot));
        in_flight += session.in_flight_count;
        let waits = channel.eligible.iter().filter(|index| index == consumer).count();
        assert_eq!(waits, usize::from(session.eligible));
    }
    assert_eq!(channel.in_flight.len() as u64, in_flight);
    assert!(channel.eligible.iter().all(|index| channel.consumers.contains(&index)));
    assert_eq!(channel.dirty, shard.dirty_channels.contains(&slot));
    assert_eq!(shard.deadlines.due(channel.timer), channel.first_due());
}

fn check_sessions(shard: &Shard) {
    for (index, session) in &shard.sessions {
        let index = u32::try_from(index).unwrap();
        let list: Vec<_> = shard.in_flight.iter(&session.in_flight).collect();
        assert_eq!(list.len() as u64, session.in_flight_count);
        assert!(list.iter().all(|entry| entry.session == index));
        assert!(list.is_sorted_by_key(|entry| entry.deadline));
        // A session that has gone may have left its slot in the list to the next one.
        assert!(!session.dirty || shard.dirty_sessions.contains(&index));
        if let Some(slot) = session.channel {
            assert!(shard.channels[slot as usize].consumers.contains(&index));
        } else {
            assert!(!session.eligible && list.is_empty());
        }
        let first = list.first().map_or(Time::NEVER, |entry| entry.deadline);
        let needed = first.min(session.next_liveness());
        assert!(shard.deadlines.due(session.timer) <= needed, "a timer is armed too late");
    }
}

/// At the end of a turn nothing that could be delivered is left.
pub(super) fn check_settled(shard: &Shard) {
    assert!(shard.dirty_channels.is_empty());
    for (_, channel) in &shard.channels {
        let takes = |index: &&u32| {
            let session = &shard.sessions[**index as usize];
            // One whose output was full is asked again when its send has ended.
            let has_room =
                session.output.len() < OUTPUT_BYTES_MAX && session.sending_since.is_none();
            session.window() > 0 && has_room
        };
        for index in channel.consumers.iter().filter(takes) {
            let session = &shard.sessions[*index as usize];
            assert!(session.eligible, "a consumer with room is not listed");
            let name = channel.name;
            let idle = channel.paused || channel.ready.is_empty() || channel.is_held_up();
            assert!(idle, "{name} has messages and a consumer that takes them");
        }
    }
}

/// Nothing is left of anything.
pub(super) fn check_empty(world: &World) {
    for shard in &world.shards {
        assert_eq!(shard.store.live_count(), 0);
        assert!(shard.store.pool.bytes_used() <= SLAB_BYTES, "memory is still charged");
        assert_eq!(shard.deadlines.next(), None);
        assert!(shard.sessions.is_empty() && shard.channels.is_empty());
        assert!(shard.topics.iter().all(Option::is_none));
        assert!(shard.placement.is_idle(), "{:?}", shard.placement);
        assert!(shard.held_back.is_empty() && shard.ended_here.is_empty());
        assert!(!shard.burials.are_due() && !shard.burials.are_under_way());
    }
}
