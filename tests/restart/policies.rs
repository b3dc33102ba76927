//! Policies of a running daemon, with its log and across its restarts; topics declared in the file.

use super::{saved, start_refused};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::eventually;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;

/// No message has room in memory.
const SPILLING: Options<'_> = Options {
    transport: crate::support::matrix::Transport::Tcp,
    shards: 2,
    flags: &["--mem-queue-size=0"],
};

fn again(daemon: &mut Daemon, options: &Options<'_>) -> Daemon {
    let status = daemon.terminate("TERM");
    assert!(status.success(), "{status}");
    daemon.start_again(options)
}

#[test]
fn declared_topics_are_there_after_every_start() {
    let directory = Arc::new(TempDir::new().unwrap());
    let path = directory.path().join("nsqd.toml");
    let text = r#"
        mem_queue_size = 0
        [[policy]]
        topic = "ord*"
        channel = "billing"
        max_attempts = 5
        [[topic]]
        name = "orders"
        durability = "logged"
        channels = ["billing", "audit"]
        ttl = "24h"
    "#;
    fs::write(&path, text).unwrap();
    let flag = format!("--config={}", path.display());
    let options = Options { flags: &[&flag], ..Options::default() };
    let mut daemon = Daemon::start_in(directory, &options);
    for _ in 0..2 {
        let topic = daemon.topic("orders").expect("it was declared");
        assert_eq!(
            (&topic["durability"], &topic["policy"]["ttl_ms"]),
            (&json!("logged"), &json!(86_400_000),)
        );
        let channel = daemon.channel("orders", "billing").expect("it was declared");
        assert_eq!(channel["policy"], json!({"ttl_ms": 86_400_000, "max_attempts": 5}));
        assert_eq!(channel["expired_count"], 0);
        let other = daemon.channel("orders", "audit").expect("it was declared");
        assert_eq!(other["policy"], json!({"ttl_ms": 86_400_000}));
        daemon.order("/channel/delete?topic=orders&channel=billing");
        daemon = again(&mut daemon, &options);
    }
    // What is no longer declared stays, without its policy.
    let mut daemon = again(&mut daemon, &Options::default());
    let topic = daemon.topic("orders").expect("nothing is deleted");
    assert_eq!(topic["policy"], json!(null));
    assert!(daemon.terminate("TERM").success());
}

#[test]
fn a_bad_declaration_is_refused_with_its_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("nsqd.toml");
    fs::write(&path, "[[topic]]\nname = \"a\"\n[[topic]]\nname = \"b\"\nttl = \"1 day\"\n")
        .unwrap();
    let flag = format!("--config={}", path.display());
    let (status, log) = start_refused(directory.path(), &[&flag]);
    assert_eq!(status, Some(1), "{log}");
    let expected = format!(
        "failed to load config file {} - [[topic]] number 2 (name = \"b\"): ttl = \"1 day\": parse \
         error",
        path.display()
    );
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn messages_live_their_time_in_the_log_and_across_a_restart() {
    let mut daemon = Daemon::start(&SPILLING);
    daemon.order("/topic/create?topic=t&ttl=1h");
    daemon.order("/channel/create?topic=t&channel=c");
    let mut producer = Client::connect(&daemon);
    for number in 0..50 {
        producer.publish("t", format!("{number}").as_bytes());
    }
    assert!(saved(daemon.directory()).contains(r#""policy":{"ttl_ms":3600000}"#));
    let mut daemon = again(&mut daemon, &SPILLING);
    daemon.wait_channel("t", "c", &[("depth", 50), ("expired_count", 0)]);
    assert_eq!(daemon.channel("t", "c").unwrap()["policy"], json!({"ttl_ms": 3_600_000}));
    daemon.order("/channel/create?topic=t&channel=c&ttl=1ms");
    daemon.wait_channel("t", "c", &[("depth", 0), ("expired_count", 50)]);
    let daemon = again(&mut daemon, &SPILLING);
    daemon.wait_channel("t", "c", &[("depth", 0)]);
    Client::connect(&daemon).publish("t", b"gone at once");
    daemon.wait_channel("t", "c", &[("depth", 0), ("expired_count", 1)]);
    let metrics = daemon.get("/metrics").text();
    let line = r#"nsq_channel_expired_total{topic="t",channel="c"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    daemon.post("/topic/create?topic=t&ttl=soon", b"").expect_message(400, "INVALID_POLICY");
}

#[test]
fn caps_are_exact_over_http_and_tcp_and_across_a_restart() {
    for options in [SPILLING, Options::default()] {
        let mut daemon = Daemon::start(&options);
        daemon.order("/topic/create?topic=t&max_messages=10");
        daemon.order("/channel/create?topic=t&channel=c");
        for number in 0..10 {
            daemon.post("/pub?topic=t", format!("{number}").as_bytes()).expect(200, "OK");
        }
        for _ in 0..2 {
            let reply = daemon.post("/pub?topic=t", b"x");
            reply.expect_message(503, "MAX_MESSAGES_REACHED");
            let mut producer = Client::connect(&daemon);
            producer.command_with_body("PUB t", b"x");
            producer.expect_fatal("E_PUB_FAILED PUB failed max_messages of 10 reached");
            daemon = again(&mut daemon, &options);
        }
        daemon.order("/channel/create?topic=t&channel=c&when_full=drop-oldest");
        daemon.post("/pub?topic=t", b"10").expect(200, "OK");
        daemon.wait_channel("t", "c", &[("depth", 10), ("dropped_count", 1)]);
        let mut consumer = Client::consumer(&daemon, "t", "c", 1);
        for number in 1..=10 {
            let message = consumer.message_with(format!("{number}").as_bytes());
            consumer.finish(&message);
        }
    }
}

#[test]
fn dead_letters_are_where_they_belong_after_a_restart() {
    let mut daemon = Daemon::start(&SPILLING);
    daemon.create_channel("t", "c");
    daemon.order("/channel/create?topic=t&channel=c&max_attempts=2");
    let mut producer = Client::connect(&daemon);
    for number in 0..100 {
        producer.publish("t", format!("{number:02}").as_bytes());
    }
    let mut consumer = Client::consumer(&daemon, "t", "c", 10);
    for delivery in 0..200 {
        let message = consumer.message();
        assert!(message.attempts <= 2, "delivery {delivery}");
        consumer.requeue(&message, 0);
    }
    daemon.wait_topic("t.c.dead", &[("depth", 100)]);
    daemon.wait_channel("t", "c", &[("depth", 0), ("dead_letter_count", 100)]);
    // One more is on its second attempt when the daemon stops.
    producer.publish("t", b"last");
    let first = consumer.message();
    consumer.requeue(&first, 0);
    assert_eq!(consumer.message().attempts, 2);
    let mut daemon = again(&mut daemon, &SPILLING);
    daemon.wait_topic("t.c.dead", &[("depth", 100)]);
    let mut consumer = Client::consumer(&daemon, "t", "c", 10);
    daemon.wait_topic("t.c.dead", &[("depth", 101)]);
    consumer.expect_quiet();
    let mut reader = Client::consumer(&daemon, "t.c.dead", "r", 101);
    let mut bodies: Vec<_> = reader.messages(101).into_iter().map(|m| m.body).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 101, "each is there once");
    eventually(|| {
        let held = daemon.channel("t", "c").map(|channel| channel["depth"].clone());
        if held == Some(json!(0)) { Ok(()) } else { Err(format!("{held:?}")) }
    });
    assert!(daemon.terminate("TERM").success());
}
