//! Levels of single topics, and topics that are deleted and come again.

use super::{check_log, kill, start};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::wait::eventually;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn level(daemon: &Daemon, topic: &str) -> String {
    let topic = daemon.topic(topic).expect("it is there");
    topic["durability"].as_str().expect("a text").to_owned()
}

#[test]
fn levels_of_topics_are_chosen_shown_saved_and_kept() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 2, &["--durability=logged"]);
    for level in ["memory", "overflow", "logged", "synced"] {
        daemon.order(&format!("/topic/create?topic={level}&durability={level}"));
        daemon.order(&format!("/channel/create?topic={level}&channel=a"));
    }
    daemon.create_channel("default", "a");
    for wrong in ["", "Synced", "disk"] {
        let reply = daemon.post(&format!("/topic/create?topic=x&durability={wrong}"), b"");
        reply.expect_message(400, "INVALID_DURABILITY");
    }
    assert!(daemon.topic("x").is_none());
    // Chosen of a topic that exists: from here on.
    daemon.create_channel("late", "a");
    daemon.order("/topic/create?topic=late&durability=memory");
    assert_eq!(level(&daemon, "late"), "memory");
    let saved = fs::read_to_string(directory.path().join("nsqd.dat")).expect("the file");
    assert_eq!(saved.matches("\"durability\"").count(), 5, "{saved}");
    for signal in ["KILL", "TERM"] {
        assert_eq!(daemon.terminate(signal).success(), signal == "TERM");
        daemon = start(&directory, 1, &["--durability=overflow"]);
        for own in ["memory", "overflow", "logged", "synced"] {
            assert_eq!(level(&daemon, own), own);
        }
        assert_eq!(level(&daemon, "late"), "memory");
        assert_eq!(level(&daemon, "default"), "overflow");
    }
    // And it is what publishes get.
    let mut producer = Client::connect(&daemon);
    for topic in ["memory", "overflow", "logged", "synced"] {
        producer.publish(topic, topic.as_bytes());
    }
    kill(&mut daemon);
    let daemon = start(&directory, 2, &[]);
    for (topic, depth) in [("memory", 0), ("overflow", 0), ("logged", 1), ("synced", 1)] {
        daemon.wait_channel(topic, "a", &[("depth", depth)]);
        let log_bytes = daemon.topic(topic).unwrap()["log_bytes"].as_u64().unwrap();
        assert_eq!(log_bytes > 0, depth > 0, "{topic}: {log_bytes}");
    }
}

#[test]
fn a_deleted_topic_takes_its_log_along_and_can_come_again() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let log = directory.path().join("t.log");
    let gone = |path: &Path| {
        eventually(|| if path.exists() { Err("it is still there".to_owned()) } else { Ok(()) });
    };
    let mut daemon = start(&directory, 2, &["--durability=synced"]);
    for round in 0..5_u8 {
        daemon.create_channel("t", "a");
        let mut producer = Client::connect(&daemon);
        producer.publish_batch("t", &[&[round], &[round]]);
        assert!(log.is_dir());
        if round == 3 {
            // A log of an earlier run goes as well.
            kill(&mut daemon);
            daemon = start(&directory, 1, &["--durability=synced"]);
        }
        let mut consumer = Client::consumer(&daemon, "t", "a", 1);
        consumer.message_with(&[round]);
        daemon.wait_channel("t", "a", &[("depth", 1), ("in_flight_count", 1)]);
        daemon.order("/topic/delete?topic=t");
        consumer.expect_closed();
        daemon.wait_no_topic("t");
        gone(&log);
        gone(&log.with_extension("log.deleted"));
        // An answer to a deletion says nothing of the file; it follows soon.
        eventually(|| {
            let saved = fs::read_to_string(directory.path().join("nsqd.dat")).unwrap_or_default();
            if saved.contains("\"t\"") { Err(saved) } else { Ok(()) }
        });
    }
    kill(&mut daemon);
    let daemon = start(&directory, 2, &[]);
    assert!(daemon.topic("t").is_none());
    check_log(&daemon);
}

#[test]
fn a_deleted_channel_does_not_come_again_and_lets_the_log_go() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 2, &["--durability=logged"]);
    daemon.create_channel("t", "a");
    daemon.create_channel("t", "b");
    let mut producer = Client::connect(&daemon);
    producer.publish_batch("t", &[b"one", b"two"]);
    daemon.order("/channel/delete?topic=t&channel=a");
    daemon.order("/channel/empty?topic=t&channel=b");
    producer.publish("t", b"three");
    // An answer to a deletion says nothing of the file; it follows soon.
    eventually(|| {
        let saved = fs::read_to_string(directory.path().join("nsqd.dat")).unwrap_or_default();
        let is_saved = saved.contains("\"b\"") && !saved.contains("\"a\"");
        if is_saved { Ok(()) } else { Err(saved) }
    });
    kill(&mut daemon);
    let daemon = start(&directory, 2, &["--durability=logged"]);
    assert!(daemon.channel("t", "a").is_none());
    let mut consumer = Client::consumer(&daemon, "t", "b", 10);
    let mut bodies: Vec<_> = Vec::new();
    // What was emptied just before a crash may be there again; what came later has to be.
    while bodies.last().is_none_or(|body| body != b"three") {
        let message = consumer.message();
        consumer.finish(&message);
        bodies.push(message.body);
    }
    daemon.wait_channel("t", "b", &[("depth", 0), ("in_flight_count", 0)]);
    check_log(&daemon);
}
