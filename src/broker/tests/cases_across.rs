//! Cases that take several shards: placement, mail, moved connections, deletion under way.

use super::world::{Frame, World, publish, publish_all};
use crate::broker::admin::{AdminReply, AdminRequest};
use crate::limits::{MOVE_AFTER_PUBLISHES, OUTBOX_MAX};

fn ok() -> Frame {
    Frame::Response("OK".into())
}

fn message_count(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| matches!(frame, Frame::Message { .. })).count()
}

/// A world whose topic `name` lives on `home`.
fn world_with_topic(shards: u16, name: &str, home: usize) -> World {
    let mut world = World::new(shards);
    let owner = world.connect(home);
    world.ask(owner, format!("SUB {name} first\n"));
    assert_eq!(world.home(name).map(|found| found.1), Some(home), "it lives where it is used");
    world
}

#[test]
fn topics_spread_evenly_over_shards() {
    let mut world = World::new(3);
    let client = world.connect(1);
    for index in 0..9 {
        world.ask(client, publish(&format!("t{index}"), b"x"));
    }
    let counts = world.shards.iter().map(|shard| shard.topics.iter().flatten().count());
    assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn the_first_publish_is_answered_after_every_shard_knows_the_place() {
    let mut world = World::new(2);
    let producer = world.connect(1);
    world.send(producer, publish("t", b"x"));
    world.turn(1, 9);
    world.complete_send(producer);
    assert_eq!(world.take_frames(producer), [], "the registrar has not heard of it");
    assert!(world.home("t").is_none());
    world.settle();
    assert_eq!(world.take_frames(producer), [ok()]);
    assert!(world.home("t").is_some());
}

#[test]
fn answers_leave_in_the_order_of_commands_across_shards() {
    let mut world = world_with_topic(3, "far", 2);
    let producer = world.connect(1);
    world.ask(producer, "SUB near c\n");
    assert_eq!(world.home("near").map(|found| found.1), Some(1), "where it is used");
    world.send(producer, publish("far", b"1"));
    world.send(producer, "FIN 0123456789abcdef\n");
    world.send(producer, publish("near", b"2"));
    world.send(producer, publish_all("far", &[b"3".to_vec()]));
    world.send(producer, "CLS\n");
    let frames = world.ask(producer, "");
    let failed = "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight".into();
    let close_wait = Frame::Response("CLOSE_WAIT".into());
    assert_eq!(frames, [ok(), Frame::Error(failed), ok(), ok(), close_wait]);
}

#[test]
fn a_consumer_moves_to_its_topic() {
    let mut world = world_with_topic(2, "t", 1);
    let consumer = world.connect(0);
    let frames = world.ask(consumer, [b"SUB t c\nRDY 5\n".to_vec(), publish("t", b"x")].concat());
    assert_eq!((message_count(&frames), frames[0].clone()), (1, ok()));
    assert_eq!(world.clients[consumer].place.map(|place| place.0), Some(1));
}

#[test]
fn a_producer_moves_after_a_run_of_publishes_to_one_shard() {
    let mut world = world_with_topic(2, "t", 1);
    let producer = world.connect(0);
    let published = MOVE_AFTER_PUBLISHES + 10;
    for _ in 0..published {
        world.send(producer, publish("t", b"x"));
    }
    let frames = world.ask(producer, "");
    assert_eq!(frames, vec![ok(); published as usize]);
    assert_eq!(world.clients[producer].place.map(|place| place.0), Some(1));
    assert_eq!(world.session(producer).counts.published[0].1, u64::from(published));
}

#[test]
fn a_topic_deleted_while_publishes_are_on_their_way_refuses_or_remakes() {
    let mut world = world_with_topic(3, "t", 2);
    let producer = world.connect(1);
    world.send(producer, publish("t", b"early"));
    world.turn(1, 9);
    // The publish stays in its outbox while the topic goes.
    let request = AdminRequest::DeleteTopic { topic: super::world::topic("t") };
    let ticket = world.administer(0, request);
    for _ in 0..4 {
        for shard in [0, 2] {
            world.turn(shard, 9);
            (0..3).for_each(|to| world.post(shard, to, 9));
        }
        world.turn(1, 9);
        // All but the mail to the home leaves.
        world.post(1, 0, 9);
    }
    assert!(matches!(world.replies[&ticket], AdminReply::Done));
    world.settle();
    let frames = world.take_frames(producer);
    assert_eq!(frames, [Frame::Error("E_PUB_FAILED PUB failed exiting".into())]);
    let producer = world.connect(1);
    assert_eq!(world.ask(producer, publish("t", b"late")), [ok()], "the topic is made again");
    assert!(world.home("t").is_some());
}

#[test]
fn a_topic_is_made_again_from_any_shard_after_its_deletion() {
    let mut world = world_with_topic(2, "t", 1);
    let producer = world.connect(0);
    world.ask(producer, publish("t", b"old"));
    let before = world.home("t").unwrap().0;
    assert!(matches!(world.delete_topic("t"), AdminReply::Done));
    assert_eq!(world.ask(producer, publish("t", b"new")), [ok()]);
    assert_ne!(world.home("t").unwrap().0, before, "the old place is not taken for it");
    let consumer = world.connect(1);
    let frames = world.ask(consumer, "SUB t c\nRDY 10\n");
    assert_eq!(message_count(&frames), 1, "only what came after the deletion");
}

#[test]
fn a_deletion_asked_for_while_another_is_under_way_finds_no_topic() {
    let mut world = world_with_topic(2, "t", 1);
    let name = super::world::topic("t");
    let first = world.administer(0, AdminRequest::DeleteTopic { topic: name });
    let second = world.administer(0, AdminRequest::DeleteTopic { topic: name });
    let created = world.administer(0, AdminRequest::Resolve { topic: name, create: true });
    world.settle();
    assert!(matches!(world.replies[&first], AdminReply::Done));
    assert!(matches!(world.replies[&second], AdminReply::TopicNotFound));
    assert!(matches!(world.replies[&created], AdminReply::Resolved { .. }));
}

/// The registrar tells a home of its topic while the home has already ended it.
#[test]
fn an_ephemeral_topic_that_ends_at_once_is_not_remembered() {
    let mut world = World::new(2);
    let consumer = world.connect(1);
    world.send(consumer, "SUB t#ephemeral c#ephemeral\n");
    for _ in 0..3 {
        world.turn(1, 9);
        world.post(1, 0, 9);
        world.turn(0, 9);
        if world.shards[1].topics.iter().flatten().next().is_some() {
            world.disconnect(consumer);
        }
        world.post(0, 1, 9);
    }
    world.settle();
    super::invariants::check_empty(&world);
    let producer = world.connect(1);
    assert_eq!(world.ask(producer, publish("t#ephemeral", b"x")), [ok()]);
}

#[test]
fn an_ephemeral_topic_of_the_registrar_can_be_used_again_in_the_turn_it_ended() {
    let mut world = World::new(2);
    let first = world.connect(0);
    world.ask(first, "SUB t#ephemeral c#ephemeral\n");
    assert_eq!(world.home("t#ephemeral").map(|found| found.1), Some(0));
    world.disconnect(first);
    let second = world.connect(0);
    assert_eq!(world.ask(second, "SUB t#ephemeral c#ephemeral\n"), [ok()]);
}

#[test]
fn publishes_wait_while_the_mail_to_their_home_does_not_leave() {
    let mut world = world_with_topic(2, "t", 1);
    let producers = [world.connect(0), world.connect(0)];
    for index in 0..OUTBOX_MAX + 5 {
        world.send(producers[index % 2], publish("t", b"x"));
        world.turn(0, 0);
    }
    assert_eq!(world.shards[0].outboxes[1].len(), OUTBOX_MAX);
    assert!(producers.iter().all(|producer| !world.session(*producer).may_read()));
    world.post(0, 1, usize::MAX);
    let now = world.now.time;
    assert!(world.shards[0].next_deadline().is_some_and(|due| due <= now), "it does not sleep");
    world.settle();
    let answers = producers.map(|producer| world.take_frames(producer)).concat();
    assert_eq!(answers, vec![ok(); OUTBOX_MAX + 5]);
}

#[test]
fn what_a_connection_held_that_fails_after_the_turn_is_delivered_without_further_events() {
    let mut world = World::new(1);
    let clients = [world.connect(0), world.connect(0)];
    for client in clients {
        world.ask(client, "SUB t c\nRDY 1\n");
    }
    world.ask(clients[0], publish("t", b"x"));
    let holder = clients.iter().position(|client| world.session(*client).in_flight_count == 1);
    let holder = holder.expect("somebody has it");
    world.disconnect(clients[holder]);
    let now = world.now.time;
    assert!(world.shards[0].next_deadline().is_some_and(|due| due <= now), "it does not sleep");
}

#[test]
fn a_session_cut_off_while_it_waits_for_a_place_stays_closed() {
    let mut world = world_with_topic(2, "t", 1);
    let consumer = world.connect(1);
    world.ask(consumer, "SUB t c\n");
    world.send(consumer, publish("new", b"x"));
    world.turn(1, 9);
    assert!(!world.session(consumer).may_read(), "it waits for the place of its topic");
    world.shards[1].fail(
        world.clients[consumer].place.unwrap().1.index,
        crate::protocol::error::ProtocolError::AuthDisabled,
    );
    world.settle();
    assert!(world.clients[consumer].closed);
    assert_eq!(world.take_frames(consumer).len(), 1, "one error and nothing after it");
}
