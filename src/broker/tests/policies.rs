//! Policies in virtual time: what expires, what makes way, what is refused, where dead letters go.

use super::overflow::{bodies, drain, messages, ok, spilling};
use super::random::{Step, end, run_in};
use super::world::{Frame, World, publish, publish_all, publish_deferred, topic};
use crate::broker::admin::{ChannelAction, TopicAction};
use crate::broker::durability::Durability;
use crate::broker::policy::{Policy, WhenFull};
use crate::broker::shard::ShardConfig;
use crate::limits::{DEAD_LETTERS_SENT_MAX, DEAD_LETTERS_WAITING_MAX};
use proptest::prelude::*;

/// A policy for every topic and channel.
fn everywhere(policy: Policy) -> impl Fn(&mut ShardConfig) {
    move |config| config.policies.add("*", None, policy)
}

/// The same where no message has room in memory.
fn in_the_log(policy: Policy) -> impl Fn(&mut ShardConfig) {
    move |config| {
        spilling(0)(config);
        config.policies.add("*", None, policy);
    }
}

fn ttl(ms: u64) -> Policy {
    Policy { ttl_ms: Some(ms), ..Policy::default() }
}

fn most(messages: u64, when_full: WhenFull) -> Policy {
    let (max_messages, when_full) = (Some(messages), Some(when_full));
    Policy { max_messages, when_full, ..Policy::default() }
}

fn attempts(most: u16) -> Policy {
    Policy { max_attempts: Some(most), ..Policy::default() }
}

fn settle_after(world: &mut World, ms: u64) {
    world.pass_ms(ms);
    world.settle();
}

/// `(expired, dropped, dead letters)` of a channel, and what it holds besides.
fn counts(world: &mut World, name: &str, of: &str) -> (u64, u64, u64, u64) {
    let stats = world.channel_stats(name, of);
    let governed = stats.governed.as_ref().expect("policies hold for it");
    let held = stats.depth + stats.deferred_count + stats.in_flight_count;
    (governed.expired_count, governed.dropped_count, governed.dead_letter_count, held)
}

fn depth(world: &World, name: &str) -> u64 {
    let (id, home) = world.home(name).expect("the topic exists");
    world.shards[home].topics[id.index as usize].as_ref().unwrap().depth()
}

/// Everything below this is needed by nobody.
fn log_low(world: &World, name: &str) -> (u64, u64) {
    let (id, home) = world.home(name).expect("the topic exists");
    let topic = world.shards[home].topics[id.index as usize].as_ref().unwrap();
    let log = &topic.log.as_ref().expect("it has a log").log;
    let low = log.cursors().iter().map(|(_, cursor)| cursor.low()).min().unwrap();
    (low, log.appended_up_to())
}

#[test]
fn old_messages_go_though_nobody_takes_any() {
    for (in_memory, adjust) in [
        (true, Box::new(everywhere(ttl(1000))) as Box<dyn Fn(&mut ShardConfig)>),
        (false, Box::new(in_the_log(ttl(1000)))),
    ] {
        let mut world = World::with(1, adjust);
        let producer = world.connect(0);
        world.create_topic("t");
        world.on_channel("t", "c", ChannelAction::Create);
        for part in bodies(0..6000).chunks(500) {
            assert_eq!(world.ask(producer, publish_all("t", part)), [ok()]);
        }
        settle_after(&mut world, 600);
        assert_eq!(world.ask(producer, publish("t", b"young")), [ok()]);
        assert_eq!(counts(&mut world, "t", "c"), (0, 0, 0, 6001));
        for _ in 0..10 {
            settle_after(&mut world, 50);
        }
        assert_eq!(counts(&mut world, "t", "c"), (6000, 0, 0, 1), "in memory: {in_memory}");
        assert!(world.shards[0].message_count() <= 1);
        let consumer = world.connect(0);
        world.ask(consumer, "SUB t c\n");
        assert_eq!(drain(&mut world, consumer), [b"young"]);
        if !in_memory {
            let (low, end) = log_low(&world, "t");
            assert_eq!(low, end, "the log can be reclaimed");
        }
        assert_eq!(world.shards[0].message_count(), 0);
        settle_after(&mut world, 2000);
        let next = world.shards[0].deadlines.due(world.shards[0].channels[0].timer);
        assert_eq!(next, crate::broker::time::Time::NEVER, "an idle channel needs no timer");
    }
}

#[test]
fn a_message_that_is_too_old_is_never_delivered() {
    let mut world = World::with(1, everywhere(ttl(1000)));
    let (producer, consumer) = (world.connect(0), world.connect(0));
    world.ask(consumer, "SUB t c\n");
    world.ask(producer, publish("t", b"requeued"));
    let frames = world.ask(consumer, "RDY 1\n");
    let requeued = messages(&frames)[0].0.clone();
    world.ask(producer, publish_deferred("t", 900, b"in time"));
    world.ask(producer, publish_deferred("t", 1500, b"too late"));
    // In flight nothing expires.
    settle_after(&mut world, 1200);
    assert_eq!(counts(&mut world, "t", "c").0, 2, "both deferred ones: nobody took the first");
    let frames = world.ask(consumer, format!("REQ {requeued} 0\nRDY 5\n"));
    assert_eq!(messages(&frames), [], "it is too old by now");
    assert_eq!(counts(&mut world, "t", "c"), (3, 0, 0, 0));
    world.ask(producer, publish_deferred("t", 900, b"taken"));
    settle_after(&mut world, 901);
    let frames = world.take_frames(consumer);
    let taken = messages(&frames)[0].0.clone();
    settle_after(&mut world, 5000);
    assert_eq!(world.ask(consumer, format!("FIN {taken}\n")), []);
    assert_eq!(counts(&mut world, "t", "c"), (3, 0, 0, 0));
}

#[test]
fn what_waits_in_a_topic_ages_as_well() {
    for spills in [false, true] {
        let mut world = World::with(1, move |config| {
            config.policies.add("t", None, ttl(1000));
            if spills {
                spilling(3)(config);
            }
        });
        let producer = world.connect(0);
        for body in bodies(0..20) {
            assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
        }
        settle_after(&mut world, 500);
        assert_eq!(world.ask(producer, publish_all("t", &bodies(20..30))), [ok()]);
        assert_eq!(depth(&world, "t"), 30);
        for _ in 0..20 {
            settle_after(&mut world, 30);
        }
        assert_eq!(depth(&world, "t"), 10, "spills: {spills}");
        let consumer = world.connect(0);
        world.ask(consumer, "SUB t c\n");
        assert_eq!(drain(&mut world, consumer), bodies(20..30));
        world.on_topic("t", TopicAction::Pause);
        assert_eq!(world.ask(producer, publish_all("t", &bodies(30..40))), [ok()]);
        for _ in 0..20 {
            settle_after(&mut world, 100);
        }
        world.on_topic("t", TopicAction::Unpause);
        world.settle();
        assert_eq!(drain(&mut world, consumer), Vec::<Vec<u8>>::new());
        if spills {
            let (low, end) = log_low(&world, "t");
            assert_eq!(low, end);
        }
    }
}

#[test]
fn a_cap_refuses_what_is_too_much_to_the_message() {
    for adjust in [
        Box::new(everywhere(most(10, WhenFull::Reject))) as Box<dyn Fn(&mut ShardConfig)>,
        Box::new(in_the_log(most(10, WhenFull::Reject))),
    ] {
        let mut world = World::with(2, adjust);
        let consumer = world.connect(0);
        world.ask(consumer, "SUB t c\n");
        let mut publisher = world.connect(1);
        assert_eq!(world.ask(publisher, publish_all("t", &bodies(0..8))), [ok()]);
        for (command, text) in [
            (publish_all("t", &bodies(8..11)), "E_MPUB_FAILED MPUB failed max_messages of 10"),
            (publish_all("t", &bodies(8..20)), "E_MPUB_FAILED MPUB failed max_messages of 10"),
        ] {
            publisher = world.connect(1);
            let frames = world.ask(publisher, command);
            assert!(
                matches!(&frames[..], [Frame::Error(error)] if error.starts_with(text)),
                "{frames:?}"
            );
        }
        publisher = world.connect(1);
        assert_eq!(world.ask(publisher, publish_all("t", &bodies(8..10))), [ok()]);
        let frames = world.ask(publisher, publish("t", b"eleventh"));
        let error = "E_PUB_FAILED PUB failed max_messages of 10 reached";
        assert_eq!(frames, [Frame::Error(error.into())]);
        // In flight they are still there; finished they are not.
        let taken = messages(&world.ask(consumer, "RDY 1\n"));
        publisher = world.connect(1);
        assert!(matches!(world.ask(publisher, publish("t", b"x"))[..], [Frame::Error(_)]));
        world.ask(consumer, format!("RDY 0\nFIN {}\n", taken[0].0));
        publisher = world.connect(1);
        assert_eq!(world.ask(publisher, publish("t", b"last")), [ok()]);
        let rest = [&bodies(1..10)[..], &[b"last".to_vec()]].concat();
        assert_eq!(drain(&mut world, consumer), rest);
    }
}

#[test]
fn the_oldest_make_way_in_memory_and_in_the_log() {
    for adjust in [
        Box::new(everywhere(most(10, WhenFull::DropOldest))) as Box<dyn Fn(&mut ShardConfig)>,
        Box::new(in_the_log(most(10, WhenFull::DropOldest))),
    ] {
        let mut world = World::with(1, adjust);
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\nRDY 2\n");
        for body in bodies(0..40) {
            assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
        }
        assert_eq!(counts(&mut world, "t", "c"), (0, 30, 0, 10));
        // The two in flight are kept; a batch that is larger than the cap loses its own first.
        assert_eq!(world.ask(producer, publish_all("t", &bodies(40..60))), [ok()]);
        assert_eq!(counts(&mut world, "t", "c"), (0, 50, 0, 10));
        assert_eq!(world.ask(producer, publish_deferred("t", 100, b"later")), [ok()]);
        let frames = messages(&world.take_frames(consumer));
        let finishes: String = frames.iter().map(|(id, ..)| format!("FIN {id}\n")).collect();
        world.send(consumer, finishes);
        let rest = drain(&mut world, consumer);
        assert_eq!(rest, bodies(53..60), "eight waited, of which one made way for the deferred");
        settle_after(&mut world, 101);
        assert_eq!(messages(&world.take_frames(consumer))[0].2, b"later");
    }
}

#[test]
fn a_topic_without_channels_has_caps_too() {
    for spills in [false, true] {
        let with = |when_full| {
            move |config: &mut ShardConfig| {
                config.policies.add("t", None, most(10, when_full));
                if spills {
                    spilling(3)(config);
                }
            }
        };
        let mut world = World::with(1, with(WhenFull::DropOldest));
        let producer = world.connect(0);
        for body in bodies(0..25) {
            assert_eq!(world.ask(producer, publish("t", &body)), [ok()]);
        }
        assert_eq!(depth(&world, "t"), 10);
        let consumer = world.connect(0);
        world.ask(consumer, "SUB t c\n");
        assert_eq!(drain(&mut world, consumer), bodies(15..25));
        let mut world = World::with(1, with(WhenFull::Reject));
        let producer = world.connect(0);
        assert_eq!(world.ask(producer, publish_all("t", &bodies(0..10))), [ok()]);
        assert!(matches!(world.ask(producer, publish("t", b"x"))[..], [Frame::Error(_)]));
        assert_eq!(depth(&world, "t"), 10);
    }
}

#[test]
fn bytes_and_ages_have_caps() {
    let bytes = Policy { max_bytes: Some(100), ..Policy::default() };
    let mut world = World::with(1, everywhere(bytes));
    let (producer, consumer) = (world.connect(0), world.connect(0));
    world.ask(consumer, "SUB t c\n");
    assert_eq!(world.ask(producer, publish("t", &[b'x'; 100])), [ok()]);
    let frames = world.ask(producer, publish("t", b"y"));
    assert_eq!(frames, [Frame::Error("E_PUB_FAILED PUB failed max_bytes of 100 reached".into())]);
    let producer = world.connect(0);
    assert_eq!(drain(&mut world, consumer), [[b'x'; 100]]);
    assert_eq!(world.ask(producer, publish("t", b"y")), [ok()]);

    let bytes = Policy { when_full: Some(WhenFull::DropOldest), ..bytes };
    for adjust in
        [Box::new(everywhere(bytes)) as Box<dyn Fn(&mut ShardConfig)>, Box::new(in_the_log(bytes))]
    {
        let mut world = World::with(1, adjust);
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\n");
        for _ in 0..50 {
            assert_eq!(world.ask(producer, publish("t", &[b'x'; 10])), [ok()]);
        }
        assert_eq!(counts(&mut world, "t", "c"), (0, 40, 0, 10));
    }

    let age = Policy { max_age_ms: Some(1000), ..Policy::default() };
    for adjust in
        [Box::new(everywhere(age)) as Box<dyn Fn(&mut ShardConfig)>, Box::new(in_the_log(age))]
    {
        let mut world = World::with(1, adjust);
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\n");
        assert_eq!(world.ask(producer, publish("t", b"old")), [ok()]);
        settle_after(&mut world, 900);
        assert_eq!(world.ask(producer, publish("t", b"next")), [ok()]);
        settle_after(&mut world, 200);
        let frames = world.ask(producer, publish("t", b"refused"));
        let error = "E_PUB_FAILED PUB failed max_age of 1000ms reached";
        assert_eq!(frames, [Frame::Error(error.into())]);
        let producer = world.connect(0);
        assert_eq!(drain(&mut world, consumer), [&b"old"[..], b"next"]);
        assert_eq!(world.ask(producer, publish("t", b"taken")), [ok()]);
    }
    let age = Policy { when_full: Some(WhenFull::DropOldest), ..age };
    let mut world = World::with(1, everywhere(age));
    let producer = world.connect(0);
    world.create_topic("t");
    world.on_channel("t", "c", ChannelAction::Create);
    world.ask(producer, publish("t", b"old"));
    settle_after(&mut world, 1001);
    assert_eq!(counts(&mut world, "t", "c"), (0, 1, 0, 0));
}

/// Takes and requeues until nothing comes any more.
fn exhaust(world: &mut World, consumer: usize) -> usize {
    let mut deliveries = 0;
    loop {
        let taken = messages(&world.take_frames(consumer));
        if taken.is_empty() {
            return deliveries;
        }
        deliveries += taken.len();
        let requeues: String = taken.iter().map(|(id, ..)| format!("REQ {id} 0\n")).collect();
        world.send(consumer, requeues);
        world.settle();
    }
}

#[test]
fn dead_letters_arrive_once_wherever_their_topic_lives() {
    for (shards, level) in [
        (1, Durability::Memory),
        (1, Durability::Synced),
        (2, Durability::Overflow),
        (3, Durability::Logged),
    ] {
        let mut world = World::with(shards, |config| {
            config.durability = level;
            everywhere(attempts(3))(config);
        });
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\nRDY 50\n");
        assert_eq!(world.ask(producer, publish_all("t", &bodies(0..500))), [ok()]);
        assert_eq!(exhaust(&mut world, consumer), 1500);
        assert_eq!(counts(&mut world, "t", "c"), (0, 0, 500, 0), "{shards} shards, {level}");
        assert_eq!(depth(&world, "t.c.dead"), 500);
        let reader = world.connect(0);
        world.ask(reader, "SUB t.c.dead r\n");
        let mut dead = drain(&mut world, reader);
        dead.sort();
        let mut all = bodies(0..500);
        all.sort();
        assert_eq!(dead, all);
        assert_eq!(world.shards.iter().map(|s| s.message_count()).sum::<usize>(), 0);
    }
}

#[test]
fn attempts_are_used_up_by_timeouts_and_lost_connections_too() {
    let graveyard = Policy { dead_letter_topic: Some(topic("graveyard")), ..attempts(1) };
    let mut world = World::with(2, everywhere(graveyard));
    let (producer, consumer) = (world.connect(0), world.connect(0));
    world.ask(consumer, "SUB t c\nRDY 1\n");
    world.ask(producer, publish("t", b"timed out"));
    settle_after(&mut world, 60_001);
    assert_eq!(depth(&world, "graveyard"), 1);
    world.take_frames(consumer);
    world.ask(producer, publish("t", b"requeued for later"));
    let taken = messages(&world.take_frames(consumer));
    world.ask(consumer, format!("REQ {} 5000\n", taken[0].0));
    assert_eq!(depth(&world, "graveyard"), 2, "it does not wait for a time it will not see");
    world.ask(producer, publish("t", b"lost"));
    world.disconnect(consumer);
    world.settle();
    assert_eq!(depth(&world, "graveyard"), 3);
    assert_eq!(counts(&mut world, "t", "c"), (0, 0, 3, 0));
    let reader = world.connect(1);
    world.send(reader, "SUB graveyard r\nRDY 1\n");
    world.settle();
    for _ in 0..3 {
        // A dead-letter topic has none of its own.
        let taken = messages(&world.take_frames(reader));
        world.send(reader, format!("REQ {} 0\n", taken[0].0));
        world.settle();
    }
    assert_eq!(world.channel_stats("graveyard", "r").in_flight_count, 1);
}

#[test]
fn a_dead_letter_topic_that_refuses_is_tried_again_and_nothing_piles_up() {
    for shards in [1, 2] {
        let mut world = World::with(shards, |config| {
            config.policies.add("t", None, attempts(1));
            config.policies.add("t.c.dead", None, most(400, WhenFull::Reject));
        });
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\nRDY 10\n");
        let count = u32::try_from(DEAD_LETTERS_WAITING_MAX).unwrap() + 1000;
        assert_eq!(world.ask(producer, publish_all("t", &bodies(0..count))), [ok()]);
        let delivered = exhaust(&mut world, consumer);
        let bound = DEAD_LETTERS_WAITING_MAX + DEAD_LETTERS_SENT_MAX + 10 + 400;
        assert!(delivered <= bound && delivered < count as usize, "{delivered}");
        assert_eq!(counts(&mut world, "t", "c"), (0, 0, 400, u64::from(count) - 400));
        assert_eq!(depth(&world, "t.c.dead"), 400);
        let reader = world.connect(0);
        world.ask(reader, "SUB t.c.dead r\n");
        let mut dead = drain(&mut world, reader);
        for _ in 0..10 {
            settle_after(&mut world, 1001);
            exhaust(&mut world, consumer);
            let frames = messages(&world.take_frames(reader));
            let finishes: String = frames.iter().map(|(id, ..)| format!("FIN {id}\n")).collect();
            dead.extend(frames.into_iter().map(|(.., body)| body));
            world.send(reader, finishes);
            dead.extend(drain(&mut world, reader));
        }
        dead.sort();
        let mut all = bodies(0..count);
        all.sort();
        assert!(dead == all, "{} of {count} arrived", dead.len());
        assert_eq!(counts(&mut world, "t", "c").3, 0);
    }
}

#[test]
fn policies_are_changed_while_they_hold() {
    let mut world = World::new(1);
    let (producer, consumer) = (world.connect(0), world.connect(0));
    world.ask(consumer, "SUB t c\n");
    assert_eq!(world.ask(producer, publish_all("t", &bodies(0..10))), [ok()]);
    settle_after(&mut world, 5000);
    assert!(world.channel_stats("t", "c").governed.is_none(), "there are none");
    world.on_topic("t", TopicAction::SetPolicy(ttl(60_000)));
    world.on_channel("t", "c", ChannelAction::SetPolicy(ttl(1000)));
    world.settle();
    assert_eq!(counts(&mut world, "t", "c"), (10, 0, 0, 0), "the channel's own is nearer");
    world.on_channel("t", "c", ChannelAction::SetPolicy(attempts(1)));
    let policy = world.channel_stats("t", "c").governed.unwrap().policy;
    assert_eq!((policy.ttl_ms, policy.max_attempts), (Some(1000), Some(1)), "beside the others");
    world.on_channel("t", "c", ChannelAction::SetPolicy(ttl(0)));
    world.ask(producer, publish("t", b"lasting"));
    settle_after(&mut world, 100_000);
    assert_eq!(drain(&mut world, consumer), [b"lasting"]);
    world.on_channel("t", "c", ChannelAction::Delete);
    world.delete_topic("t");
    world.settle();
    super::invariants::check(&world);
}

#[test]
fn a_channel_can_be_emptied_and_deleted_with_dead_letters_on_their_way() {
    for action in [ChannelAction::Empty, ChannelAction::Delete] {
        let mut world = World::with(2, |config| {
            config.policies.add("t", None, attempts(1));
            config.policies.add("t.c.dead", None, most(5, WhenFull::Reject));
        });
        let (producer, consumer) = (world.connect(0), world.connect(0));
        world.ask(consumer, "SUB t c\nRDY 10\n");
        assert_eq!(world.ask(producer, publish_all("t", &bodies(0..100))), [ok()]);
        let taken = messages(&world.take_frames(consumer));
        for (id, ..) in taken {
            world.send(consumer, format!("REQ {id} 0\n"));
        }
        let home = world.home("t").unwrap().1;
        world.turn(home, 10);
        world.on_channel("t", "c", action);
        world.settle();
        settle_after(&mut world, 3000);
        end(world);
    }
}

const LEVELS: [Durability; 3] = [Durability::Memory, Durability::Overflow, Durability::Logged];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any workload keeps the books of channels that everything holds for.
    #[test]
    fn the_books_balance_under_policies(
        shards in 1u16..4,
        mem_queue_size in prop::sample::select(vec![0usize, 3, 10_000]),
        level in prop::sample::select(LEVELS.to_vec()),
        ttl_ms in prop::option::of(50u64..2000),
        max_messages in prop::option::of(1u64..30),
        drops in any::<bool>(),
        max_attempts in prop::option::of(1u16..4),
        steps in prop::collection::vec(any::<Step>(), 1..200),
    ) {
        let when_full = if drops { WhenFull::DropOldest } else { WhenFull::Reject };
        let policy = Policy {
            ttl_ms,
            max_messages,
            when_full: Some(when_full),
            max_attempts,
            ..Policy::default()
        };
        let world = World::with(shards, |config| {
            config.mem_queue_size = mem_queue_size;
            config.durability = level;
            // A new channel takes all its topic has kept, whatever its own cap.
            config.policies.add("*", None, policy);
        });
        end(run_in(world, steps));
    }
}
