//! Messages past the high-water mark, through memory, log and memory again.

use super::world::{Frame, World, publish, publish_all, publish_deferred, topic};
use crate::broker::durability::Durability;
use crate::broker::shard::ShardConfig;

pub(super) fn spilling(mem_queue_size: usize) -> impl Fn(&mut ShardConfig) {
    move |config| {
        config.durability = Durability::Overflow;
        config.mem_queue_size = mem_queue_size;
    }
}

fn at(level: Durability) -> impl Fn(&mut ShardConfig) {
    move |config| config.durability = level
}

pub(super) fn ok() -> Frame {
    Frame::Response("OK".into())
}

pub(super) fn bodies(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| format!("body {number}").into_bytes()).collect()
}

pub(super) fn messages(frames: &[Frame]) -> Vec<(String, u16, Vec<u8>)> {
    let message = |frame: &Frame| match frame {
        Frame::Message { id, attempts, body } => Some((id.clone(), *attempts, body.clone())),
        _ => None,
    };
    frames.iter().filter_map(message).collect()
}

/// Takes everything a channel has, finishing each message, and gives the bodies in order.
pub(super) fn drain(world: &mut World, consumer: usize) -> Vec<Vec<u8>> {
    let mut drained = Vec::new();
    let mut frames = world.ask(consumer, "RDY 10\n");
    loop {
        let got = messages(&frames);
        if got.is_empty() {
            return drained;
        }
        let finishes: String = got.iter().map(|(id, ..)| format!("FIN {id}\n")).collect();
        drained.extend(got.into_iter().map(|(.., body)| body));
        frames = world.ask(consumer, finishes);
    }
}

#[test]
fn what_does_not_fit_is_read_back_in_order() {
    for mem_queue_size in [0, 1, 10, 95] {
        let mut world = World::with(1, spilling(mem_queue_size));
        let (producer, consumer) = (world.connect(0), world.connect(0));
        assert_eq!(world.ask(consumer, "SUB t c\n"), [ok()]);
        for body in bodies(0..50) {
            assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
        }
        assert_eq!(world.ask(producer, publish_all("t", &bodies(50..100))), [ok()]);
        assert!(world.shards[0].message_count() <= mem_queue_size + 50);
        assert_eq!(drain(&mut world, consumer), bodies(0..100), "{mem_queue_size}");
        assert_eq!(world.shards[0].message_count(), 0);
        // Up to date again: memory.
        assert_eq!(world.ask(producer, publish("t", b"last")), [ok()]);
        assert_eq!(drain(&mut world, consumer), [b"last"]);
    }
}

#[test]
fn each_channel_reads_its_own_and_the_log_has_one_copy() {
    let mut world = World::with(1, spilling(0));
    let producer = world.connect(0);
    let consumers = ["a", "b", "c"].map(|channel| {
        let consumer = world.connect(0);
        assert_eq!(world.ask(consumer, format!("SUB t {channel}\n")), [ok()]);
        consumer
    });
    let bodies: Vec<_> = (0..40u8).map(|fill| vec![fill; 100_000]).collect();
    for body in &bodies {
        assert_eq!(world.ask(producer, publish("t", body)), [ok()]);
    }
    let log_bytes = world.shards[0].topics[0].as_ref().unwrap().log.as_ref().unwrap();
    let log_bytes = log_bytes.log.segment_bytes();
    assert!(log_bytes <= 32 << 20, "4 MB of bodies once: {log_bytes}");
    for consumer in consumers {
        assert_eq!(drain(&mut world, consumer), bodies);
    }
}

#[test]
fn a_topic_without_channels_spills_too_and_the_first_channel_gets_all() {
    let mut world = World::with(1, spilling(3));
    let producer = world.connect(0);
    for body in bodies(0..20) {
        assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
    }
    let consumer = world.connect(0);
    assert_eq!(world.ask(consumer, "SUB t c\n"), [ok()]);
    assert_eq!(drain(&mut world, consumer), bodies(0..20));
    let late = world.connect(0);
    assert_eq!(world.ask(late, "SUB t late\n"), [ok()]);
    assert_eq!(drain(&mut world, late), Vec::<Vec<u8>>::new(), "they were before its time");
}

#[test]
fn publishes_are_answered_at_every_level() {
    for level in [Durability::Memory, Durability::Overflow, Durability::Logged, Durability::Synced]
    {
        for shards in [1, 2] {
            let mut world = World::with(shards, at(level));
            let last = usize::from(shards) - 1;
            let (producer, consumer) = (world.connect(last), world.connect(0));
            let mut bytes = Vec::new();
            for body in bodies(0..10) {
                bytes.extend(publish("t", &body));
            }
            bytes.extend(publish_all("t", &bodies(10..20)));
            bytes.extend(publish_deferred("t", 50, b"later"));
            let answers = world.ask(producer, bytes);
            assert_eq!(answers, vec![ok(); 12], "{level} with {shards}");
            world.ask(consumer, "SUB t c\n");
            assert_eq!(drain(&mut world, consumer), bodies(0..20));
            world.pass_ms(51);
            world.settle();
            let frames = world.take_frames(consumer);
            assert_eq!(messages(&frames).len(), 1, "{level}: {frames:?}");
        }
    }
}

#[test]
fn a_deleted_topic_takes_its_log_along_and_can_come_back() {
    let mut world = World::with(2, spilling(0));
    let producer = world.connect(1);
    for _ in 0..3 {
        for body in bodies(0..20) {
            assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
        }
        assert!(matches!(world.delete_topic("t"), crate::broker::admin::AdminReply::Done));
        assert!(world.disks.disk(topic("t")).files().is_empty());
    }
    let consumer = world.connect(0);
    world.ask(consumer, "SUB t c\n");
    assert_eq!(world.ask(producer, publish("t", b"new")), [ok()]);
    assert_eq!(drain(&mut world, consumer), [b"new"]);
}

#[test]
fn deferred_messages_past_the_bound_wait_in_the_log() {
    let mut world = World::with(1, spilling(100));
    let (producer, consumer) = (world.connect(0), world.connect(0));
    assert_eq!(world.ask(consumer, "SUB t c\nRDY 100\n"), [ok()]);
    let count = u32::try_from(crate::limits::DEFERRED_IN_MEMORY_MAX).unwrap() + 2_000;
    let all = bodies(0..count);
    // The last are due first.
    let deferred =
        |number: usize, body: &Vec<u8>| publish_deferred("t", 100_000 - number as u64, body);
    let all_bytes: Vec<_> = all.iter().enumerate().map(|(n, body)| deferred(n, body)).collect();
    for bytes in all_bytes.chunks(1000) {
        let answers = world.ask(producer, bytes.concat());
        assert_eq!(answers, vec![ok(); bytes.len()]);
    }
    let held = world.shards[0].message_count();
    assert!(held <= crate::limits::DEFERRED_IN_MEMORY_MAX + 1024, "{held} in memory");
    let channel = world.channel_stats("t", "c");
    assert_eq!((channel.deferred_count, channel.depth), (u64::from(count), 0));
    assert!(messages(&world.take_frames(consumer)).is_empty(), "none is due");
    world.pass_ms(100_001);
    world.settle();
    let mut got = Vec::new();
    loop {
        let frames = messages(&world.take_frames(consumer));
        if frames.is_empty() {
            break;
        }
        let finishes: String = frames.iter().map(|(id, ..)| format!("FIN {id}\n")).collect();
        got.extend(frames.into_iter().map(|(.., body)| body));
        world.send(consumer, finishes);
        world.settle();
    }
    got.sort();
    let mut expected = all;
    expected.sort();
    assert_eq!(got, expected);
    assert_eq!(world.shards[0].message_count(), 0);
}

#[test]
fn messages_requeued_for_later_stay_in_the_log_past_the_bound() {
    let mut world = World::with(1, spilling(0));
    let (producer, consumer) = (world.connect(0), world.connect(0));
    let count = u32::try_from(crate::limits::DEFERRED_IN_MEMORY_MAX).unwrap() + 500;
    assert_eq!(world.ask(producer, publish_all("t", &bodies(0..count))), [ok()]);
    world.send(consumer, "SUB t c\nRDY 100\n");
    let mut requeued = 0;
    while requeued < count {
        world.settle();
        for (id, attempts, _) in messages(&world.take_frames(consumer)) {
            assert_eq!(attempts, 1);
            requeued += 1;
            world.send(consumer, format!("REQ {id} 5000\n"));
        }
    }
    world.settle();
    assert_eq!(world.channel_stats("t", "c").deferred_count, u64::from(count));
    world.pass_ms(5001);
    let mut finished = 0;
    while finished < count {
        world.settle();
        for (id, attempts, _) in messages(&world.take_frames(consumer)) {
            assert_eq!(attempts, 2, "attempts are kept");
            finished += 1;
            world.send(consumer, format!("FIN {id}\n"));
        }
    }
    world.settle();
    assert_eq!(world.shards[0].message_count(), 0);
}
