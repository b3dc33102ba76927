//! What the simulation has found, each as a case of its own.

use super::loss::How;
use super::scenarios::world;
use super::workload::{channel_name, topic_name};
use super::world::World;
use ringmain::broker::admin::{AdminRequest, ChannelAction, TopicAction};
use ringmain::broker::durability::Durability;

fn on_topic(world: &mut World, action: TopicAction) {
    let (topic, home) = world.home(topic_name(0)).expect("it is there");
    world.administer(home, AdminRequest::Topic { topic, action });
}

fn create_channel(world: &mut World, number: usize) {
    let (topic, home) = world.home(topic_name(0)).expect("it is there");
    let (channel, action) = (channel_name(0, number), ChannelAction::Create);
    world.administer(home, AdminRequest::Channel { topic, channel, action });
}

fn publish(world: &mut World, producer: usize, count: usize) {
    for _ in 0..count {
        world.publish(producer, topic_name(0), (1, 10), None);
    }
    let client = &mut world.clients[producer];
    client.input.append(&mut client.wire);
    world.turn(0, 0);
}

fn finish_all_and_check(mut world: World) -> World {
    world.finish_all();
    world.auditor.check_lost();
    world
}

#[test]
fn a_new_channel_does_not_count_what_a_crash_has_lost() {
    // Every power cut leaves another part of what was not synced.
    for seed in 0..20 {
        let mut world = world(Durability::Logged, 0, 0);
        world.rng.seed(seed);
        let producer = world.connect(0);
        for _ in 0..10 {
            publish(&mut world, producer, 3);
            world.settle();
        }
        world.end(How::Power);
        world.start(1);
        let producer = world.connect(0);
        publish(&mut world, producer, 5);
        world.settle();
        world.plan.channels = 1;
        // Checks that nothing seems to be left.
        finish_all_and_check(world);
    }
}

#[test]
fn all_channels_that_come_back_get_what_waited_in_their_topic() {
    let mut world = world(Durability::Logged, 3, 0);
    let producer = world.connect(0);
    publish(&mut world, producer, 5);
    world.settle();
    create_channel(&mut world, 0);
    create_channel(&mut world, 1);
    world.persist();
    world.end(How::Kill);
    world.start(1);
    world.settle();
    let channels = world.stats().remove(0).channels;
    let depths: Vec<_> = channels.iter().map(|channel| channel.depth).collect();
    assert_eq!(depths, [5, 5]);
}

#[test]
fn what_comes_behind_messages_in_the_log_is_delivered_once() {
    let mut world = world(Durability::Logged, 1, 1);
    let producer = world.connect(0);
    on_topic(&mut world, TopicAction::Pause);
    publish(&mut world, producer, 1);
    world.settle();
    // The topic's queue is full: the next one waits for the log alone.
    publish(&mut world, producer, 1);
    on_topic(&mut world, TopicAction::Unpause);
    on_topic(&mut world, TopicAction::Pause);
    // The queue is empty again.
    publish(&mut world, producer, 1);
    world.settle();
    let world = finish_all_and_check(world);
    assert_eq!(world.auditor.delivered, 3);
}

#[test]
fn a_checkpoint_that_failed_is_tried_again() {
    let mut world = world(Durability::Logged, 10, 1);
    let disk = world.disks.of(topic_name(0));
    // Enough for a segment.
    world.disks.disks[disk].disk.limit(33 << 10);
    let producer = world.connect(0);
    publish(&mut world, producer, 5);
    world.finish_all();
    world.rest();
    world.disks.heal();
    world.rest();
    world.end(How::Kill);
    world.start(1);
    let world = finish_all_and_check(world);
    assert_eq!((world.auditor.delivered, world.auditor.redelivered), (5, 0));
}

#[test]
fn a_segment_that_found_no_space_is_tried_again_before_it_is_needed() {
    let mut world = world(Durability::Logged, 10, 1);
    let disk = world.disks.of(topic_name(0));
    let producer = world.connect(0);
    // Both slots of checkpoints are there.
    for _ in 0..3 {
        world.publish(producer, topic_name(0), (1, 3000), None);
        world.rest();
    }
    let used = world.disks.disks[disk].disk.used_bytes();
    world.disks.disks[disk].disk.limit(used);
    // Past the half of a segment of six blocks, which asks for the next.
    for _ in 0..2 {
        world.publish(producer, topic_name(0), (1, 3000), None);
        world.rest();
    }
    world.disks.heal();
    world.rest();
    for _ in 0..10 {
        world.publish(producer, topic_name(0), (1, 3000), None);
        world.settle();
    }
    assert!(world.auditor.messages.iter().all(|message| message.acked.is_some()));
}
