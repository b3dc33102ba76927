//! Conformance cases of one shard: topics, channels, deliveries, timeouts, limits.

use super::invariants::check_empty;
use super::world::{
    Frame, World, channel, identify, publish, publish_all, publish_deferred, topic,
};
use crate::broker::admin::{
    AdminReply, AdminRequest, ChannelAction, ChannelStats, TopicAction, TopicStats,
};
use crate::limits::{MESSAGE_HOLDER_BYTES, SLAB_BYTES};

fn messages(frames: &[Frame]) -> Vec<(String, u16, Vec<u8>)> {
    let message = |frame: &Frame| match frame {
        Frame::Message { id, attempts, body } => Some((id.clone(), *attempts, body.clone())),
        _ => None,
    };
    frames.iter().filter_map(message).collect()
}

fn error(frames: &[Frame]) -> &str {
    match frames.last() {
        Some(Frame::Error(text)) => text,
        other => panic!("no error: {other:?}"),
    }
}

fn stats(world: &mut World, name: &str) -> Option<TopicStats> {
    let (_, home) = world.home(name)?;
    let request = AdminRequest::TopicsPage {
        from: 0,
        topic: Some(topic(name)),
        channel: None,
        latencies: true,
    };
    let ticket = world.administer(home, request);
    match world.replies.remove(&ticket) {
        Some(AdminReply::Topics(mut page)) => page.topics.pop(),
        other => panic!("{other:?}"),
    }
}

fn channel_stats(world: &mut World, name: &str, of: &str) -> ChannelStats {
    let stats = stats(world, name).expect("the topic exists");
    stats.channels.into_iter().find(|found| found.name == channel(of)).expect("it exists")
}

fn subscribed(world: &mut World, name: &str, of: &str, ready: u32) -> usize {
    let consumer = world.connect(0);
    world.ask(consumer, format!("SUB {name} {of}\nRDY {ready}\n"));
    consumer
}

fn bodies(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("body {index}").into_bytes()).collect()
}

#[test]
fn b1_b2_a_message_appears_in_every_channel_with_the_same_id_and_body() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    let consumers = ["ch1", "ch2"].map(|of| subscribed(&mut world, "t", of, 1));
    assert_eq!(world.ask(producer, publish("t", b"hello")), [Frame::Response("OK".into())]);
    let got = consumers.map(|consumer| messages(&world.take_frames(consumer)));
    assert_eq!(got[0], got[1]);
    assert_eq!((got[0][0].1, got[0][0].2.as_slice()), (1, b"hello".as_slice()));
}

#[test]
fn b3_what_is_in_flight_for_too_long_comes_back() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    let consumer = world.connect(0);
    world.ask(consumer, identify(r#"{"msg_timeout":1000}"#));
    world.ask(consumer, "SUB t c\nRDY 250\n");
    world.ask(producer, publish_all("t", &bodies(250)));
    assert_eq!(channel_stats(&mut world, "t", "c").in_flight_count, 250);
    world.ask(consumer, "RDY 0\n");
    world.pass_ms(1000);
    world.settle();
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!((stats.in_flight_count, stats.timeout_count, stats.depth), (0, 250, 250));
}

#[test]
fn b4_b5_an_emptied_channel_forgets_what_is_in_flight_and_deferred() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    let consumer = subscribed(&mut world, "t", "c", 25);
    world.ask(producer, publish_all("t", &bodies(25)));
    let got = messages(&world.take_frames(consumer));
    world.ask(consumer, format!("RDY 0\nREQ {} 100\n", got[0].0));
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!((stats.in_flight_count, stats.deferred_count), (24, 1));
    world.on_channel("t", "c", ChannelAction::Empty);
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!((stats.in_flight_count, stats.deferred_count, stats.depth), (0, 0, 0));
    assert_eq!(world.session(consumer).in_flight_count, 0);
    let frames = world.ask(consumer, format!("FIN {}\n", got[1].0));
    assert_eq!(error(&frames), format!("E_FIN_FAILED FIN {} failed ID not in flight", got[1].0));
    world.ask(consumer, "RDY 25\n");
    world.ask(producer, publish("t", b"next"));
    assert_eq!(messages(&world.take_frames(consumer)).len(), 1, "its window is its own again");
}

#[test]
fn b6_l15_a_channel_takes_so_many_consumers() {
    let mut world = World::with(1, |config| config.max_channel_consumers = 1);
    subscribed(&mut world, "ok1", "ch1", 1);
    let second = world.connect(0);
    let frames = world.ask(second, "SUB ok1 ch1\n");
    let text = "E_SUB_FAILED SUB failed consumers for ok1:ch1 exceeds limit of 1";
    assert_eq!(error(&frames), text);
    assert!(world.clients[second].closed);
}

#[test]
fn b9_to_b12_channels_and_topics_are_found_and_deleted_by_name() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    world.create_topic("t");
    let known = world.home("t");
    world.create_topic("t");
    assert_eq!(world.home("t"), known, "the same topic");
    world.create_topic("other");
    assert_ne!(world.home("other"), known);
    world.on_channel("t", "c", ChannelAction::Create);
    assert_eq!(channel_stats(&mut world, "t", "c").depth, 0);
    assert!(matches!(world.on_channel("t", "c", ChannelAction::Delete), AdminReply::Done));
    let again = world.on_channel("t", "c", ChannelAction::Delete);
    assert!(matches!(again, AdminReply::ChannelNotFound));
    world.ask(producer, publish("t", b"kept"));
    assert_eq!(stats(&mut world, "t").unwrap().depth, 1, "the topic stays, and keeps messages");
    assert!(matches!(world.delete_topic("t"), AdminReply::Done));
    assert!(matches!(world.delete_topic("t"), AdminReply::TopicNotFound));
    assert!(world.home("t").is_none());
}

#[test]
fn b13_a_paused_topic_keeps_its_messages() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    world.create_topic("t");
    world.on_topic("t", TopicAction::Pause);
    world.on_channel("t", "c", ChannelAction::Create);
    world.ask(producer, publish("t", b"later"));
    assert_eq!(stats(&mut world, "t").unwrap().depth, 1);
    assert_eq!(channel_stats(&mut world, "t", "c").depth, 0);
    world.on_topic("t", TopicAction::Unpause);
    assert_eq!(stats(&mut world, "t").unwrap().depth, 0);
    assert_eq!(channel_stats(&mut world, "t", "c").depth, 1);
}

#[test]
fn a11_a_paused_channel_delivers_nothing_until_it_is_resumed() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    let consumer = subscribed(&mut world, "t", "c", 2);
    world.on_channel("t", "c", ChannelAction::Pause);
    world.ask(producer, publish("t", b"one"));
    assert_eq!(world.take_frames(consumer), []);
    world.on_channel("t", "c", ChannelAction::Unpause);
    world.settle();
    assert_eq!(messages(&world.take_frames(consumer)).len(), 1);
}

#[test]
fn a14_a_deferred_publish_is_counted_at_once_and_delivered_when_it_is_due() {
    let mut world = World::new(1);
    let consumer = subscribed(&mut world, "t", "c", 5);
    assert_eq!(world.ask(consumer, publish_deferred("t", 1000, &[7; 100])).len(), 1);
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!((stats.deferred_count, stats.message_count, stats.depth), (1, 1, 0));
    world.pass_ms(999);
    world.settle();
    assert_eq!(world.take_frames(consumer), []);
    world.pass_ms(1);
    world.settle();
    assert_eq!(messages(&world.take_frames(consumer)).len(), 1);
    let frames = world.ask(consumer, publish_deferred("t", 3_600_100, b"x"));
    assert_eq!(error(&frames), "E_INVALID DPUB timeout 3600100 out of range 0-3600000");
}

#[test]
fn a_delay_starts_when_a_channel_gets_the_message() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    world.ask(producer, publish_deferred("t", 1000, b"x"));
    world.pass_ms(5000);
    let consumer = subscribed(&mut world, "t", "c", 1);
    assert_eq!(channel_stats(&mut world, "t", "c").deferred_count, 1);
    world.pass_ms(1000);
    world.settle();
    assert!(world.take_frames(consumer).iter().any(|frame| matches!(frame, Frame::Message { .. })));
}

#[test]
fn a28_sampling_delivers_its_share_and_drops_the_rest() {
    let mut world = World::with(1, |config| {
        config.command_limits.max_rdy_count = 10_000;
        config.mem_queue_size = 20_000;
    });
    let producer = world.connect(0);
    let consumer = world.connect(0);
    world.ask(consumer, identify(r#"{"sample_rate":42}"#));
    world.ask(consumer, "SUB t c\n");
    world.ask(producer, publish_all("t", &bodies(10_000)));
    world.ask(consumer, "RDY 10000\n");
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!(stats.depth, 0);
    assert!((3700..=4700).contains(&stats.in_flight_count), "{}", stats.in_flight_count);
}

#[test]
fn a29_a_message_times_out_after_what_its_client_asked_for() {
    let mut world = World::new(1);
    let producer = world.connect(0);
    let consumer = world.connect(0);
    world.ask(consumer, identify(r#"{"msg_timeout":1000}"#));
    world.ask(consumer, "SUB t c\nRDY 1\n");
    world.ask(producer, publish_all("t", &bodies(2)));
    let got = messages(&world.ask(consumer, "RDY 0\n"));
    world.pass_ms(1150);
    world.settle();
    let stats = channel_stats(&mut world, "t", "c");
    assert_eq!((stats.timeout_count, stats.requeue_count), (1, 0));
    let frames = world.ask(consumer, format!("FIN {}\n", got[0].0));
    assert_eq!(error(&frames), format!("E_FIN_FAILED FIN {} failed ID not in flight", got[0].0));
    assert!(!world.clients[consumer].closed);
}

#[test]
fn a31_requeue_is_at_once_or_after_a_clamped_delay() {
    let mut world = World::with(1, |config| config.command_limits.max_req_timeout_ms = 60_000);
    let consumer = subscribed(&mut world, "t", "c", 1);
    let got = messages(&world.ask(consumer, publish("t", b"x")));
    let again = messages(&world.ask(consumer, format!("REQ {} 0\n", got[0].0)));
    assert_eq!((&again[0].0, again[0].1), (&got[0].0, 2));
    world.ask(consumer, format!("REQ {} 120000\n", got[0].0));
    world.pass_ms(59_999);
    world.settle();
    assert_eq!(channel_stats(&mut world, "t", "c").deferred_count, 1);
    world.pass_ms(1);
    world.settle();
    assert_eq!(messages(&world.take_frames(consumer))[0].1, 3);
}

#[test]
fn only_the_client_that_holds_a_message_may_answer_it() {
    let mut world = World::new(1);
    let holder = subscribed(&mut world, "t", "c", 1);
    let other = subscribed(&mut world, "t", "c", 0);
    let got = messages(&world.ask(holder, publish("t", b"x")));
    let id = &got[0].0;
    for command in ["FIN", "TOUCH"] {
        let frames = world.ask(other, format!("{command} {id}\n"));
        let text = format!("E_{command}_FAILED {command} {id} failed client does not own message");
        assert_eq!(error(&frames), text);
    }
    world.ask(holder, format!("FIN {id}\n"));
    assert_eq!(channel_stats(&mut world, "t", "c").in_flight_count, 0);
}

#[test]
fn what_a_lost_connection_held_is_delivered_to_another_at_once() {
    let mut world = World::new(1);
    let first = subscribed(&mut world, "t", "c", 1);
    world.ask(first, publish("t", b"x"));
    let second = subscribed(&mut world, "t", "c", 1);
    world.take_frames(second);
    world.disconnect(first);
    world.settle();
    assert_eq!(messages(&world.take_frames(second))[0].1, 2);
}

#[test]
fn after_cls_nothing_is_delivered_and_what_is_held_may_be_finished() {
    let mut world = World::new(1);
    let consumer = subscribed(&mut world, "t", "c", 5);
    let got = messages(&world.ask(consumer, publish("t", b"x")));
    assert_eq!(world.ask(consumer, "CLS\n"), [Frame::Response("CLOSE_WAIT".into())]);
    assert_eq!(world.ask(consumer, publish("t", b"y")), [Frame::Response("OK".into())]);
    assert_eq!(world.ask(consumer, format!("RDY 5\nFIN {}\n", got[0].0)), []);
    assert_eq!(channel_stats(&mut world, "t", "c").depth, 1);
}

#[test]
fn l11_a_subscriber_may_publish() {
    let mut world = World::new(1);
    let consumer = subscribed(&mut world, "t", "c", 1);
    let frames = world.ask(consumer, publish("t", b"own"));
    assert_eq!(messages(&frames).len(), 1);
    assert!(frames.contains(&Frame::Response("OK".into())));
    assert_eq!(world.session(consumer).counts.published, [(topic("t"), 1)]);
}

#[test]
fn l20_an_ephemeral_topic_drops_what_does_not_fit() {
    let mut world = World::with(1, |config| config.mem_queue_size = 3);
    let producer = world.connect(0);
    for _ in 0..10 {
        let frames = world.ask(producer, publish("t#ephemeral", b"x"));
        assert_eq!(frames, [Frame::Response("OK".into())]);
    }
    let stats = stats(&mut world, "t#ephemeral").unwrap();
    assert_eq!((stats.depth, stats.message_count), (3, 10));
}

#[test]
fn c2_an_ephemeral_channel_goes_with_its_last_client_and_its_topic_with_it() {
    let mut world = World::new(1);
    let first = subscribed(&mut world, "t#ephemeral", "c#ephemeral", 1);
    let second = subscribed(&mut world, "t#ephemeral", "c#ephemeral", 1);
    world.disconnect(first);
    world.settle();
    assert!(world.home("t#ephemeral").is_some());
    world.disconnect(second);
    world.settle();
    check_empty(&world);
}

#[test]
fn an_ephemeral_channel_that_never_had_a_client_stays() {
    let mut world = World::new(1);
    world.create_topic("t");
    world.on_channel("t", "c#ephemeral", ChannelAction::Create);
    world.settle();
    assert_eq!(channel_stats(&mut world, "t", "c#ephemeral").client_count, 0);
}

#[test]
fn a_full_queue_refuses_a_publish_and_keeps_nothing_of_it() {
    let mut world = World::with(1, |config| config.mem_queue_size = 2);
    let producer = world.connect(0);
    world.ask(producer, publish_all("t", &bodies(2)));
    let frames = world.ask(producer, publish("t", b"x"));
    assert_eq!(error(&frames), "E_PUB_FAILED PUB failed memory queue full");
    assert!(world.clients[producer].closed);
    let stats = stats(&mut world, "t").unwrap();
    assert_eq!((stats.depth, stats.message_count), (2, 2));
}

#[test]
fn a_full_queue_whose_consumers_wait_takes_more_in_the_same_turn() {
    let mut world = World::with(1, |config| config.mem_queue_size = 2);
    let consumer = subscribed(&mut world, "t", "c", 2500);
    for body in bodies(20) {
        world.send(consumer, publish("t", &body));
    }
    let frames = world.ask(consumer, "");
    assert_eq!(messages(&frames).len(), 20);
}

#[test]
fn over_the_memory_budget_a_publish_is_refused_whole() {
    let mut world = World::with(1, |config| config.budget_bytes = 140_000);
    let single = world.connect(0);
    let batch = world.connect(0);
    world.ask(single, publish("t", &[1; 40_000]));
    world.ask(batch, "NOP\n");
    let used = world.shards[0].store.pool.bytes_used();
    let frames = world.ask(single, publish("t", &[2; 100_000]));
    assert_eq!(error(&frames), "E_PUB_FAILED PUB failed memory budget exceeded");
    let large = vec![vec![3; 30_000]; 4];
    let frames = world.ask(batch, publish_all("t", &large));
    assert_eq!(error(&frames), "E_MPUB_FAILED MPUB failed memory budget exceeded");
    let kept = world.shards[0].store.pool.bytes_used() - used;
    assert!(kept <= SLAB_BYTES, "nothing but an empty page stays: {kept}");
    assert_eq!(stats(&mut world, "t").unwrap().depth, 1);
}

#[test]
fn what_many_channels_hold_of_a_batch_counts_against_the_budget() {
    let mut world = World::with(1, |config| config.budget_bytes = 1 << 20);
    let producer = world.connect(0);
    world.create_topic("t");
    for number in 0..100 {
        world.on_channel("t", &format!("c{number}"), ChannelAction::Create);
    }
    let small = vec![vec![7]; 100];
    assert_eq!(world.ask(producer, publish_all("t", &small)), [Frame::Response("OK".into())]);
    let used = world.shards[0].store.pool.bytes_used();
    assert!(used > 99 * 100 * MESSAGE_HOLDER_BYTES, "{used}");
    // One byte each, but an entry in a hundred queues.
    let frames = world.ask(producer, publish_all("t", &vec![vec![7]; 2000]));
    assert_eq!(error(&frames), "E_MPUB_FAILED MPUB failed memory budget exceeded");
    assert_eq!(world.shards[0].store.pool.bytes_used(), used);
    world.delete_topic("t");
    world.settle();
    assert!(world.shards[0].store.pool.bytes_used() <= SLAB_BYTES);
}

#[test]
fn a_deleted_channel_cuts_its_clients_off() {
    let mut world = World::new(1);
    let consumer = subscribed(&mut world, "t", "c", 1);
    world.ask(consumer, publish("t", b"x"));
    world.on_channel("t", "c", ChannelAction::Delete);
    world.settle();
    assert!(world.clients[consumer].closed);
    assert_eq!(world.shards[0].store.live_count(), 0);
}

#[test]
fn heartbeats_come_and_silence_ends_a_connection() {
    let mut world = World::new(1);
    let client = world.connect(0);
    world.ask(client, identify(r#"{"heartbeat_interval":1000}"#));
    world.pass_ms(1000);
    world.settle();
    assert_eq!(world.clients[client].heartbeats, 1);
    world.ask(client, "NOP\n");
    world.pass_ms(1500);
    world.settle();
    assert!(!world.clients[client].closed, "it was heard less than two intervals ago");
    world.pass_ms(500);
    world.settle();
    assert!(world.clients[client].closed);
}
