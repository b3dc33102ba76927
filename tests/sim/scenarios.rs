//! Cases of their own, with the numbers that the tests of reliability have.

use super::loss::How;
use super::plan::{Faults, Plan, config};
use super::workload::{channel_name, topic_name};
use super::world::World;
use fastrand::Rng;
use ringmain::broker::admin::{AdminRequest, ChannelAction};
use ringmain::broker::durability::Durability;
use ringmain_storage::request::IoError;

/// A daemon with one topic and its channels, whose disk does as it is told.
pub(crate) fn world(level: Durability, mem_queue_size: usize, channels: usize) -> World {
    let mut config = config(1);
    config.durability = level;
    config.mem_queue_size = mem_queue_size;
    let plan = Plan {
        shards: 1,
        config,
        levels: vec![None],
        channels,
        buffer_bytes: 8 << 20,
        steps: 0,
        faults: Faults::default(),
        eagerness: [1; 3],
    };
    let mut world = World::new(plan, Rng::with_seed(1));
    world.open();
    let (topic, home) = world.home(topic_name(0)).expect("it was just created");
    for channel in (0..channels).map(|number| channel_name(0, number)) {
        let action = ChannelAction::Create;
        world.administer(home, AdminRequest::Channel { topic, channel, action });
    }
    world.persist();
    world
}

/// Publishes and finishes for a while; gives up when the disk does, or the producer is refused.
fn canonical(world: &mut World) {
    let (producer, consumer) = (world.connect(0), world.connect(0));
    world.subscribe(consumer, 0, channel_name(0, 0));
    for round in 0..10 {
        world.publish(producer, topic_name(0), (1, 1000), None);
        world.publish(producer, topic_name(0), (3, 500), None);
        world.publish(producer, topic_name(0), (1, 10), Some(100));
        for _ in 0..3 {
            world.settle();
            let client = &mut world.clients[consumer];
            for id in std::mem::take(&mut client.held) {
                client.wire.extend(format!("FIN {id}\n").bytes());
            }
        }
        world.pass_ms(if round % 3 == 0 { 2100 } else { 10 });
        if world.is_stopped() || world.clients[producer].is_gone {
            return;
        }
    }
}

/// How many requests the canonical trace takes.
fn requests(level: Durability) -> u64 {
    let mut world = world(level, 2, 2);
    canonical(&mut world);
    assert!(world.disks.executed > 25, "{level} does too little: {}", world.disks.executed);
    world.disks.executed
}

const WRITTEN: [Durability; 3] = [Durability::Overflow, Durability::Logged, Durability::Synced];

/// Names that are not durable yet (14) are among what a power cut takes.
#[test]
fn reliability_06_14_an_end_after_every_request_costs_what_it_may() {
    for level in WRITTEN {
        for stop in 0..=requests(level) {
            for how in [How::Kill, How::Power] {
                let mut world = world(level, 2, 2);
                world.stop_after = Some(stop);
                canonical(&mut world);
                world.end(how);
                world.stop_after = None;
                world.start(1);
                world.drain();
            }
        }
    }
}

#[test]
fn reliability_07_a_kill_brings_back_no_more_than_a_checkpoint_is_apart() {
    let mut world = world(Durability::Logged, 1_000_000, 1);
    let producer = world.connect(0);
    for _ in 0..220 {
        world.publish(producer, topic_name(0), (100, 10), None);
        world.settle();
    }
    let consumer = world.connect(0);
    world.subscribe(consumer, 0, channel_name(0, 0));
    world.clients[consumer].wire.extend(b"RDY 2500\n");
    let mut finished = 0;
    while finished < 21_000 {
        world.settle();
        let client = &mut world.clients[consumer];
        for id in std::mem::take(&mut client.held) {
            finished += 1;
            client.wire.extend(format!("FIN {id}\n").bytes());
        }
    }
    world.settle();
    world.end(How::Kill);
    world.start(1);
    world.finish_all();
    world.auditor.check_lost();
    let again = world.auditor.redelivered;
    assert!((1..=10_000 + 2500).contains(&again), "{again} of {finished} came again");
}

#[test]
fn reliability_21_no_publish_is_acknowledged_after_a_sync_has_failed() {
    let (mut failures, all) = (0, requests(Durability::Synced));
    for number in 0..all {
        let mut world = world(Durability::Synced, 2, 2);
        let disk = world.disks.of(topic_name(0));
        world.disks.disks[disk].fail_sync_at(number, IoError::DEVICE);
        canonical(&mut world);
        if !world.disks.disks[disk].has_failed {
            continue;
        }
        failures += 1;
        let before = world.auditor.messages.len();
        let producer = world.connect(0);
        world.publish(producer, topic_name(0), (1, 10), None);
        world.settle();
        assert!(world.auditor.messages[before].refused.is_some(), "request {number}");
        world.end(if number % 2 == 0 { How::Kill } else { How::Power });
        world.start(1);
        world.drain();
    }
    assert!(failures > 10, "only {failures} syncs were there to fail");
}

#[test]
fn reliability_23_whatever_one_request_comes_to_nothing_is_lost() {
    let errors = [IoError::DEVICE, IoError::INTERRUPTED, IoError::AGAIN, IoError::CANCELED];
    for number in 0..requests(Durability::Logged) {
        for error in errors.into_iter().map(Some).chain([None]) {
            let mut world = world(Durability::Logged, 2, 2);
            let disk = world.disks.of(topic_name(0));
            let disk = &mut world.disks.disks[disk];
            match error {
                Some(error) => {
                    disk.disk.fail_at(number, error);
                    disk.has_failed = true;
                }
                None => disk.disk.shorten_at(number),
            }
            canonical(&mut world);
            world.end(How::Kill);
            world.start(1);
            world.drain();
        }
    }
}

#[test]
fn reliability_24_a_block_that_cannot_be_read_costs_what_is_in_it() {
    let mut world = world(Durability::Logged, 0, 1);
    let producer = world.connect(0);
    for _ in 0..15 {
        world.publish(producer, topic_name(0), (1, 1000), None);
        world.settle();
    }
    let disk = world.disks.of(topic_name(0));
    let (file, range) = ("0000000000000001.segment", 8192..12288);
    world.disks.disks[disk].disk.break_range(file, range.clone());
    world.damaged.insert(topic_name(0));
    world.finish_all();
    let copies = &world.auditor.channels[&channel_name(0, 0)].copies;
    let bytes = world.disks.disks[disk].disk.bytes(file).expect("it is kept, being damaged");
    let mut lost = 0;
    for (number, message) in world.auditor.messages.iter().enumerate() {
        let body = message.body.as_slice();
        let at = bytes.windows(body.len()).position(|part| part == body).expect("written there");
        let record = at.saturating_sub(100)..at + body.len();
        let is_hit = record.start < range.end && range.start < record.end;
        let is_lost = copies[&number].finished.is_none();
        assert!(is_hit || !is_lost, "message {number} is lost and was not in the block");
        lost += usize::from(is_lost);
    }
    assert!((4..=6).contains(&lost), "{lost} records of 1 KB are in a block of 4 KB");
}

#[test]
fn reliability_28_a_full_disk_keeps_no_channel_from_what_was_acknowledged() {
    for left_bytes in (0..120_000).step_by(8_192) {
        for level in WRITTEN {
            let mut world = world(level, 2, 3);
            let disk = world.disks.of(topic_name(0));
            world.disks.disks[disk].disk.limit(left_bytes);
            world.disks.disks[disk].was_full = true;
            for _ in 0..120 {
                let producer = world.connect(0);
                world.publish(producer, topic_name(0), (2, 400), None);
                world.settle();
            }
            let refused = world.auditor.messages.iter().any(|m| m.refused.is_some());
            assert!(refused, "{left_bytes} bytes are enough for everything");
            world.disks.heal();
            world.rest();
            let (first, producer) = (world.auditor.messages.len(), world.connect(0));
            world.publish(producer, topic_name(0), (1, 10), None);
            world.settle();
            assert!(world.auditor.messages[first].acked.is_some(), "it does not heal");
            world.finish_all();
            world.auditor.check_lost();
        }
    }
}
