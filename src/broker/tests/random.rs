//! Any workload, mailed in any order a mesh of bounded queues allows, keeps every promise.

use super::invariants;
use super::world::{
    Frame, World, channel, identify, publish, publish_all, publish_deferred, topic,
};
use crate::broker::admin::{AdminReply, AdminRequest, ChannelAction, TopicAction};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::HashMap;

const TOPICS: [&str; 4] = ["a", "b", "c", "e#ephemeral"];
const CHANNELS: [&str; 4] = ["x", "y", "sampled", "z#ephemeral"];

pub(super) type Step = (u8, u16, u16);

#[derive(Default)]
struct Run {
    bodies: u32,
    deletions: HashMap<u64, &'static str>,
}

impl Run {
    fn body(&mut self, size: u16) -> Vec<u8> {
        self.bodies += 1;
        let mut body = format!("body {} ", self.bodies).into_bytes();
        // Now and then one that has a page for itself, or is shared with the output.
        let padding = if size.is_multiple_of(16) { 20_000 } else { usize::from(size % 300) };
        body.resize(body.len() + padding, b'.');
        body
    }

    fn step(&mut self, world: &mut World, (kind, a, b): Step) {
        let shards = world.shards.len();
        let (shard, other) = (usize::from(a) % shards, usize::from(b) % shards);
        let alive: Vec<_> =
            (0..world.clients.len()).filter(|client| !world.clients[*client].closed).collect();
        if alive.is_empty() || kind % 24 == 0 && alive.len() < 8 {
            world.connect(shard);
            return;
        }
        let client = alive[usize::from(a) % alive.len()];
        match kind % 24 {
            2 if b % 8 == 0 => world.disconnect(client),
            1..=12 => self.command(world, client, b, kind),
            13..=15 => world.turn(shard, usize::from(b % 4)),
            16 | 17 if shard != other => world.post(shard, other, usize::from(b >> 8) % 4),
            18 | 19 => world.complete_send(client),
            20 => world.pass_ms(u64::from(b % 400)),
            21 => self.administer(world, a, b),
            _ => world.settle(),
        }
        self.collect(world);
        invariants::check(world);
        note_channels(world);
    }

    fn command(&mut self, world: &mut World, client: usize, pick: u16, kind: u8) {
        let name = TOPICS[usize::from(pick) % TOPICS.len()];
        let of = CHANNELS[usize::from(pick >> 2) % CHANNELS.len()];
        let fresh = world.clients[client].expected.is_empty()
            && world.clients[client].place.is_some()
            && world.session(client).channel.is_none();
        let subscribed = world.clients[client].subscription.is_some();
        match kind % 24 {
            1 | 3 | 4 if fresh && world.clients[client].subscription.is_none() => {
                let rate = if of == "sampled" { 50 } else { 0 };
                let json = format!(
                    r#"{{"feature_negotiation":true,"sample_rate":{rate},"msg_timeout":1000}}"#
                );
                world.send(client, identify(&json));
                world.send(client, format!("SUB {name} {of}\nRDY {}\n", pick % 7));
            }
            1 | 3 | 4 if subscribed => world.send(client, format!("RDY {}\n", pick % 50)),
            5 => world.send(client, publish(name, &self.body(pick))),
            6 => {
                let bodies: Vec<_> = (0..=pick % 9).map(|_| self.body(pick)).collect();
                world.send(client, publish_all(name, &bodies));
            }
            7 => {
                let body = self.body(pick);
                world.send(client, publish_deferred(name, u64::from(pick % 300), &body));
            }
            8 if pick.is_multiple_of(32) => world.send(client, "CLS\n"),
            _ if subscribed => Self::answer_messages(world, client, pick),
            _ => world.send(client, publish(name, &self.body(pick))),
        }
    }

    /// FIN, REQ or TOUCH of messages a client has got, some of them already finished.
    fn answer_messages(world: &mut World, client: usize, pick: u16) {
        let ids: Vec<_> = world.clients[client]
            .frames
            .iter()
            .filter_map(|frame| match frame {
                Frame::Message { id, .. } => Some(id.clone()),
                _ => None,
            })
            .collect();
        for (at, id) in ids.iter().enumerate() {
            let command = match (usize::from(pick) + at) % 5 {
                0 => format!("REQ {id} 0\n"),
                1 => format!("REQ {id} {}\n", pick % 200),
                2 => format!("TOUCH {id}\n"),
                _ => format!("FIN {id}\n"),
            };
            world.send(client, command);
        }
        if pick.is_multiple_of(3) {
            world.take_frames(client);
        }
    }

    fn administer(&mut self, world: &mut World, a: u16, b: u16) {
        let name = TOPICS[usize::from(a) % TOPICS.len()];
        let of = CHANNELS[usize::from(b) % CHANNELS.len()];
        match b >> 2 & 15 {
            0 => {
                world.auditor.begin_delete(topic(name));
                let request = AdminRequest::DeleteTopic { topic: topic(name) };
                let ticket = world.administer(0, request);
                self.deletions.insert(ticket, name);
            }
            1 => {
                world.on_channel(name, of, ChannelAction::Delete);
                world.auditor.forget(topic(name));
            }
            2 => {
                world.on_channel(name, of, ChannelAction::Empty);
                world.auditor.forget(topic(name));
            }
            3 => {
                world.on_topic(name, TopicAction::Empty);
                world.auditor.forget(topic(name));
            }
            4 | 5 => drop(world.on_topic(name, TopicAction::Pause)),
            6 | 7 => drop(world.on_topic(name, TopicAction::Unpause)),
            8 | 9 => drop(world.on_channel(name, of, ChannelAction::Pause)),
            10 | 11 => drop(world.on_channel(name, of, ChannelAction::Unpause)),
            _ => drop(world.on_channel(name, of, ChannelAction::Create)),
        }
    }

    fn collect(&mut self, world: &mut World) {
        let replies = &world.replies;
        let done: Vec<_> =
            self.deletions.extract_if(|ticket, _| replies.contains_key(ticket)).collect();
        for (ticket, name) in done {
            let reply = &world.replies[&ticket];
            assert!(matches!(reply, AdminReply::Done | AdminReply::TopicNotFound), "{reply:?}");
            world.auditor.end_delete(topic(name));
        }
    }
}

/// Tells the auditor which channels must get what is published from here on.
fn note_channels(world: &mut World) {
    world.auditor.channels.clear();
    for topic in world.shards.iter().flat_map(|shard| shard.topics.iter().flatten()) {
        let names = topic.channels_by_name.keys().copied();
        let owed = names.filter(|name| !name.is_ephemeral() && *name != channel("sampled"));
        if !topic.name.is_ephemeral() {
            world.auditor.channels.insert(topic.name, owed.collect());
        }
    }
}

fn holds(world: &World, name: &str, of: &str, body: &[u8]) -> bool {
    let topics = world
        .shards
        .iter()
        .flat_map(|shard| shard.topics.iter().flatten().map(move |topic| (shard, topic)));
    topics.filter(|(_, topic)| topic.name.as_str() == name).any(|(shard, topic)| {
        let waits = topic.queue.iter().any(|entry| shard.store.body(entry.message) == body);
        waits
            || topic.channels_by_name.get(&channel(of)).is_some_and(|slot| {
                let held = invariants::held(shard, &shard.channels[*slot as usize]);
                held.iter().any(|message| shard.store.body(*message) == body)
            })
    })
}

fn run(shards: u16, mem_queue_size: usize, budget_bytes: usize, steps: Vec<Step>) -> World {
    let mut world = World::with(shards, |config| {
        config.mem_queue_size = mem_queue_size;
        config.budget_bytes = budget_bytes;
    });
    world.auditor.on = true;
    run_in(world, steps)
}

/// Runs the steps and lets everything settle.
pub(super) fn run_in(mut world: World, steps: Vec<Step>) -> World {
    let mut run = Run::default();
    for step in steps {
        run.step(&mut world, step);
    }
    world.settle();
    run.collect(&mut world);
    assert!(run.deletions.is_empty(), "a deletion was not answered");
    world
        .auditor
        .check_owed(|topic, channel, body| holds(&world, topic.as_str(), channel.as_str(), body));
    world
}

/// Everything ends: nothing may be left.
pub(super) fn end(mut world: World) {
    for client in 0..world.clients.len() {
        world.disconnect(client);
    }
    world.settle();
    let alive = world.shards.iter().flat_map(|shard| shard.topics.iter().flatten());
    let names: Vec<_> = alive.map(|topic| topic.name).collect();
    for name in names {
        world.delete_topic(name.as_str());
    }
    // A log was looked after.
    world.pass_ms(5000);
    world.settle();
    invariants::check_empty(&world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_is_kept(
        shards in 1u16..4,
        mem_queue_size in prop::sample::select(vec![3usize, 20, 10_000]),
        budget_bytes in prop::sample::select(vec![200_000usize, 64 << 20]),
        steps in prop::collection::vec(any::<Step>(), 1..250),
    ) {
        end(run(shards, mem_queue_size, budget_bytes, steps));
    }
}

/// The workload must reach what it is meant to test: without this, a change of the step table
/// could leave a property that never publishes.
#[test]
fn the_random_workload_publishes_and_delivers() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(any::<Step>(), 2000..2001);
    let steps = strategy.new_tree(&mut runner).unwrap().current();
    let world = run(2, 10_000, 64 << 20, steps);
    let (acknowledged, delivered) = (world.auditor.acknowledged, world.auditor.delivered);
    assert!(acknowledged > 100 && delivered > 100, "{acknowledged} {delivered}");
}
