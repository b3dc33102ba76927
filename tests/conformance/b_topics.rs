//! Topics and channels: fan-out, emptying, deleting, pausing, and what happens when they are full.

use crate::support::client::{Client, Message, batch};
use crate::support::daemon::{Daemon, plain_flags};
use crate::support::matrix::check;
use crate::support::wait::eventually;

#[test]
fn b1_put_message() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        Client::connect(daemon).publish("t", b"test");
        daemon.wait_channel("t", "ch", &[("depth", 1), ("message_count", 1)]);
        daemon.wait_topic("t", &[("depth", 0), ("message_count", 1), ("message_bytes", 4)]);
        Client::consumer(daemon, "t", "ch", 1).message_with(b"test");
    });
}

#[test]
fn b2_put_message_into_two_channels() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch1");
        daemon.create_channel("t", "ch2");
        Client::connect(daemon).publish("t", b"test");
        daemon.wait_channel("t", "ch1", &[("depth", 1)]);
        daemon.wait_channel("t", "ch2", &[("depth", 1)]);
        let first = Client::consumer(daemon, "t", "ch1", 1).message_with(b"test");
        let second = Client::consumer(daemon, "t", "ch2", 1).message_with(b"test");
        assert_eq!(first, second);
    });
}

#[test]
fn b2_a_later_channel_gets_later_messages() {
    check(&[], |daemon| {
        daemon.create_channel("t", "first");
        let mut producer = Client::connect(daemon);
        producer.publish("t", b"before");
        daemon.wait_channel("t", "first", &[("depth", 1)]);
        daemon.create_channel("t", "second");
        producer.publish("t", b"after");
        let mut client = Client::consumer(daemon, "t", "second", 10);
        client.message_with(b"after");
        client.expect_quiet();
        daemon.wait_channel("t", "first", &[("depth", 2)]);
    });
}

/// A channel with 24 messages in flight to the client and one deferred.
fn busy_channel(daemon: &Daemon) -> (Client, Vec<Message>) {
    let mut client = Client::consumer(daemon, "t", "ch", 25);
    client.publish_batch("t", &[&b"test"[..]; 25]);
    let messages = client.messages(25);
    client.ready(24);
    client.requeue(&messages[24], 100_000);
    daemon.wait_channel("t", "ch", &[("in_flight_count", 24), ("deferred_count", 1)]);
    (client, messages)
}

#[test]
fn b4_channel_empty() {
    check(&[], |daemon| {
        let (mut client, messages) = busy_channel(daemon);
        client.publish_batch("t", &[&b"waiting"[..]; 3]);
        daemon.wait_channel("t", "ch", &[("depth", 3)]);
        daemon.order("/channel/empty?topic=t&channel=ch");
        let counts = [("in_flight_count", 0), ("deferred_count", 0), ("depth", 0)];
        daemon.wait_channel("t", "ch", &counts);
        for (command, argument) in [("FIN", ""), ("REQ", " 0"), ("TOUCH", "")] {
            let id = &messages[0].id;
            client.command(&format!("{command} {id}{argument}"));
            let code = format!("E_{command}_FAILED {command} {id}");
            client.expect_error(&format!("{code} failed ID not in flight"));
        }
    });
}

#[test]
fn b5_channel_empty_resets_its_clients() {
    check(&[], |daemon| {
        let (mut client, _) = busy_channel(daemon);
        let count = || {
            let channel = daemon.channel("t", "ch").unwrap();
            channel["clients"][0]["in_flight_count"].as_u64().unwrap()
        };
        assert_eq!(count(), 24);
        daemon.order("/channel/empty?topic=t&channel=ch");
        assert_eq!(count(), 0);
        // It is within its ready count again.
        client.publish_batch("t", &[&b"more"[..]; 24]);
        client.messages(24);
        assert_eq!(count(), 24);
    });
}

#[test]
fn b6_max_channel_consumers() {
    check(&["--max-channel-consumers=1"], |daemon| {
        let mut first = Client::consumer(daemon, "ok1", "ch1", 1);
        let mut second = Client::connect(daemon);
        second.command("SUB ok1 ch1");
        let text = "consumers for ok1:ch1 exceeds limit of 1";
        second.expect_fatal(&format!("E_SUB_FAILED SUB failed {text}"));
        first.expect_quiet();
        drop(first);
        daemon.wait_channel("ok1", "ch1", &[("client_count", 0)]);
        Client::consumer(daemon, "ok1", "ch1", 1).expect_quiet();
    });
}

/// Where the topic's log would be is a file: the log cannot be written.
fn forbid_log(daemon: &Daemon, topic: &str) -> std::path::PathBuf {
    let path = daemon.directory().join(format!("{topic}.log"));
    std::fs::write(&path, b"in the way").expect("the directory is ours");
    path
}

#[test]
fn b7_b8_what_the_disk_does_not_take_is_refused_until_it_does() {
    check(&["--mem-queue-size=2"], |daemon| {
        if daemon.is_original() {
            return;
        }
        let in_the_way = forbid_log(daemon, "t");
        daemon.create_channel("t", "ch");
        let mut producer = Client::connect(daemon);
        producer.publish("t", b"1");
        producer.publish("t", b"2");
        daemon.get("/ping").expect(200, "OK");
        for _ in 0..2 {
            refused(daemon, "PUB t", b"3", "E_PUB_FAILED PUB failed write to the topic's log: ");
            refused(daemon, "DPUB t 0", b"3", "E_DPUB_FAILED DPUB failed ");
            refused(daemon, "MPUB t", &batch(&[b"4", b"5"]), "E_MPUB_FAILED MPUB failed ");
            daemon.post("/pub?topic=t", b"body").expect_message(503, "EXITING");
        }
        let ping = daemon.get("/ping");
        assert_eq!(ping.status, 500);
        assert!(ping.text().starts_with("NOK - cannot write to the log of topic t: "));
        daemon.wait_topic("t", &[("depth", 0), ("message_count", 2)]);
        std::fs::remove_file(in_the_way).unwrap();
        eventually(|| {
            let ping = daemon.get("/ping");
            if ping.status == 200 { Ok(()) } else { Err(ping.text()) }
        });
        Client::connect(daemon).publish("t", b"3");
        let mut consumer = Client::consumer(daemon, "t", "ch", 10);
        for body in [b"1", b"2", b"3"] {
            let message = consumer.message();
            assert_eq!(message.body, body);
            consumer.finish(&message);
        }
        consumer.expect_quiet();
    });
}

/// Publishes into a full topic: refused, and nothing grows.
fn refused(daemon: &Daemon, line: &str, body: &[u8], prefix: &str) {
    let mut client = Client::connect(daemon);
    client.command_with_body(line, body);
    client.expect_fatal_prefix(prefix);
}

#[test]
fn b7_a_full_channel_without_a_log_refuses_and_recovers() {
    if plain_flags() {
        return; // It has a disk to go to.
    }
    check(&["--mem-queue-size=2", "--durability=memory"], |daemon| {
        daemon.create_channel("t", "ch");
        let mut accepted = 0;
        while daemon.post("/pub?topic=t", b"body").status == 200 {
            accepted += 1;
            assert!(accepted <= 4, "a topic and a channel hold two messages each");
        }
        assert!(accepted >= 2, "the channel holds two messages");
        daemon.post("/pub?topic=t", b"body").expect_message(503, "EXITING");
        refused(daemon, "PUB t", b"body", "E_PUB_FAILED PUB failed ");
        refused(daemon, "DPUB t 0", b"body", "E_DPUB_FAILED DPUB failed ");
        daemon.wait_topic("t", &[("message_count", accepted)]);
        drain(daemon, accepted);
    });
}

#[test]
fn b8_a_full_topic_without_a_log_refuses_and_recovers() {
    if plain_flags() {
        return; // It has a disk to go to.
    }
    check(&["--mem-queue-size=2", "--durability=memory"], |daemon| {
        let three = batch(&[b"1", b"2", b"3"]);
        daemon.create_topic("t");
        let mut producer = Client::connect(daemon);
        producer.publish("t", b"body");
        producer.publish("t", b"body");
        for _ in 0..3 {
            refused(daemon, "PUB t", b"body", "E_PUB_FAILED PUB failed ");
            refused(daemon, "MPUB t", &three, "E_MPUB_FAILED MPUB failed ");
            daemon.post("/pub?topic=t", b"body").expect_message(503, "EXITING");
            daemon.post("/mpub?topic=t", b"1\n2\n3").expect_message(503, "EXITING");
        }
        daemon.wait_topic("t", &[("depth", 2), ("message_count", 2)]);
        // Another topic is not concerned.
        producer.publish("other", b"body");
        drain(daemon, 2);
    });
}

/// Takes what the topic `t` holds through its channel `ch`; then it accepts messages again.
fn drain(daemon: &Daemon, count: u64) {
    let mut client = Client::consumer(daemon, "t", "ch", 10);
    for _ in 0..count {
        let message = client.message();
        client.finish(&message);
    }
    client.expect_quiet();
    Client::connect(daemon).publish("t", b"again");
    client.message_with(b"again");
}

#[test]
fn b9_one_topic_per_name() {
    check(&[], |daemon| {
        daemon.create_topic("test");
        daemon.create_topic("test");
        daemon.create_topic("test2");
        Client::connect(daemon).publish("test", b"body");
        let stats = daemon.stats();
        let topics = stats["topics"].as_array().unwrap();
        let names: Vec<_> = topics.iter().map(|t| t["topic_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["test", "test2"]);
        daemon.wait_topic("test", &[("depth", 1)]);
        daemon.wait_topic("test2", &[("depth", 0)]);
    });
}

#[test]
fn b10_one_channel_per_name() {
    check(&[], |daemon| {
        for channel in ["ch2", "ch1", "ch2"] {
            daemon.create_channel("t", channel);
        }
        let topic = daemon.topic("t").unwrap();
        let channels = topic["channels"].as_array().unwrap();
        let names: Vec<_> = channels.iter().map(|c| c["channel_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["ch1", "ch2"]);
    });
}

#[test]
fn b11_deletes() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch1");
        daemon.create_channel("t", "ch2");
        let mut first = Client::consumer(daemon, "t", "ch1", 1);
        let mut second = Client::consumer(daemon, "t", "ch2", 1);
        daemon.order("/channel/delete?topic=t&channel=ch1");
        first.expect_closed();
        daemon.wait_no_channel("t", "ch1");
        second.expect_quiet();
        daemon.order("/topic/delete?topic=t");
        second.expect_closed();
        daemon.wait_no_topic("t");
        // A publish makes a new topic, with nothing of the old one.
        Client::connect(daemon).publish("t", b"body");
        daemon.wait_topic("t", &[("depth", 1), ("message_count", 1)]);
        assert!(daemon.channel("t", "ch2").is_none());
    });
}

#[test]
fn b12_delete_last_channel() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        daemon.order("/channel/delete?topic=t&channel=ch");
        daemon.wait_no_channel("t", "ch");
        Client::connect(daemon).publish("t", b"aaaaaaaaaaaaaaaaaaaaaa");
        daemon.wait_topic("t", &[("depth", 1)]);
    });
}

#[test]
fn b13_pause() {
    check(&[], |daemon| {
        daemon.create_topic("t");
        daemon.order("/topic/pause?topic=t");
        assert_eq!(daemon.topic("t").unwrap()["paused"], true);
        daemon.order("/channel/create?topic=t&channel=ch");
        Client::connect(daemon).publish("t", b"aaaaaaaaaaaaaaaaaaaaaa");
        daemon.wait_topic("t", &[("depth", 1)]);
        daemon.wait_channel("t", "ch", &[("depth", 0)]);
        daemon.order("/topic/unpause?topic=t");
        daemon.wait_topic("t", &[("depth", 0)]);
        daemon.wait_channel("t", "ch", &[("depth", 1)]);
    });
}

#[test]
fn b13_a_deferral_starts_when_the_channel_gets_the_message() {
    check(&[], |daemon| {
        daemon.create_topic("t");
        Client::connect(daemon).publish_deferred("t", 3_000_000, b"later");
        daemon.wait_topic("t", &[("depth", 1)]);
        daemon.order("/channel/create?topic=t&channel=ch");
        daemon.wait_topic("t", &[("depth", 0)]);
        daemon.wait_channel("t", "ch", &[("deferred_count", 1), ("depth", 0)]);
    });
}

#[test]
fn topic_empty_leaves_channels_alone() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        let mut producer = Client::connect(daemon);
        producer.publish("t", b"kept");
        daemon.wait_channel("t", "ch", &[("depth", 1)]);
        daemon.order("/topic/pause?topic=t");
        producer.publish_batch("t", &[b"dropped", b"dropped"]);
        daemon.wait_topic("t", &[("depth", 2)]);
        daemon.order("/topic/empty?topic=t");
        daemon.wait_topic("t", &[("depth", 0), ("message_count", 3)]);
        daemon.order("/topic/unpause?topic=t");
        let mut client = Client::consumer(daemon, "t", "ch", 10);
        client.message_with(b"kept");
        client.expect_quiet();
    });
}
