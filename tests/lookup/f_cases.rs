//! Section F of the conformance cases. F8, the database alone, is tested where it stands.

use super::client::identity;
use super::daemon::Daemon;
use crate::support::wait::{Stopwatch, eventually, pass};
use serde_json::json;
use std::time::Duration;

#[test]
fn f1_basic() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.json("/topics"), json!({"topics": []}));
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER t channel1");

    let nodes = daemon.nodes();
    assert_eq!(nodes.len(), 1);
    assert_eq!(daemon.json("/topics"), json!({"topics": ["t"]}));
    let document = daemon.json("/lookup?topic=t");
    assert_eq!(document["channels"], json!(["channel1"]));
    let producers = document["producers"].as_array().unwrap();
    assert_eq!(producers.len(), 1);
    for (producer, source) in [(&producers[0], "/lookup"), (&nodes[0], "/nodes")] {
        for (key, value) in identity().as_object().unwrap() {
            assert_eq!(producer[key], *value, "{key} of {source}");
        }
        let remote = producer["remote_address"].as_str().unwrap();
        assert!(remote.starts_with("127.0.0.1:"), "{remote}");
    }
    assert_eq!(nodes[0]["topics"], json!(["t"]));
    assert_eq!(nodes[0]["tombstones"], json!([false]));

    drop(client);
    daemon.wait_found("t", (1, 0));
    assert_eq!(daemon.nodes(), Vec::<serde_json::Value>::new());
}

#[test]
fn f2_channel_unregister() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER t ch1");
    client.order("UNREGISTER t ch1");
    assert_eq!(daemon.json("/topics"), json!({"topics": ["t"]}));
    // The channel is still registered, by nobody.
    assert_eq!(daemon.found("t"), (1, 1));
    let debug = daemon.json("/debug");
    let keys: Vec<_> = debug.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["client::", "topic:t:"]);
}

#[test]
fn f3_tombstone_recover() {
    let daemon = Daemon::start(&["--tombstone-lifetime=500ms"]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER topic1");
    client.order("REGISTER topic2");
    let since = Stopwatch::start();
    daemon.post("/topic/tombstone?topic=topic1&node=ip.address:5555").expect(200, "");
    assert_eq!(daemon.found("topic1").1, 0);
    assert_eq!(daemon.found("topic2").1, 1);
    daemon.wait_found("topic1", (0, 1));
    assert!(since.elapsed() >= Duration::from_millis(500));
}

#[test]
fn f4_tombstone_unregister() {
    let daemon = Daemon::start(&["--tombstone-lifetime=50ms"]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER topic1");
    daemon.post("/topic/tombstone?topic=topic1&node=ip.address:5555").expect(200, "");
    client.order("UNREGISTER topic1");
    pass(Duration::from_millis(55));
    assert_eq!(daemon.found("topic1").1, 0);
}

#[test]
fn f5_inactive_nodes() {
    let daemon = Daemon::start(&["--inactive-producer-timeout=1s"]);
    let mut client = daemon.connect();
    let since = Stopwatch::start();
    client.identify();
    client.order("REGISTER t");
    let nodes = daemon.nodes();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0]["topics"], json!(["t"]));
    assert_eq!(nodes[0]["tombstones"], json!([false]));
    eventually(|| if daemon.nodes().is_empty() { Ok(()) } else { Err("still active".to_owned()) });
    assert!(since.elapsed() >= Duration::from_secs(1));
    assert_eq!(daemon.found("t"), (0, 0));
    // It is only silent, not gone.
    client.order("PING");
    assert_eq!(daemon.nodes().len(), 1);
    assert_eq!(daemon.found("t"), (0, 1));
}

#[test]
fn f6_tombstoned_nodes() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify();
    for topic in ["a", "b", "c"] {
        client.order(&format!("REGISTER {topic}"));
    }
    daemon.post("/topic/tombstone?topic=b&node=ip.address:5555").expect(200, "");
    let nodes = daemon.nodes();
    assert_eq!(nodes.len(), 1);
    // Two lists side by side; in which order the topics stand is not promised.
    let topics = nodes[0]["topics"].as_array().unwrap();
    let tombstones = nodes[0]["tombstones"].as_array().unwrap();
    assert_eq!((topics.len(), tombstones.len()), (3, 3));
    for (topic, tombstone) in topics.iter().zip(tombstones) {
        assert_eq!(*tombstone, *topic == "b", "{topic}");
    }
}

#[test]
fn f7_invalid_command() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.send(b"INVALID_COMMAND\n");
    client.expect_last("E_INVALID invalid command INVALID_COMMAND");
    // Nobody is there to be told.
    let mut client = daemon.connect();
    client.send(b"ANOTHER_COMMAND\n");
    drop(client);
    daemon.wait_logged("] - E_INVALID invalid command ANOTHER_COMMAND");
    daemon.get("/ping").expect(200, "OK");
}

#[test]
fn f9_ping_and_info() {
    let daemon = Daemon::start(&[]);
    let reply = daemon.get("/ping");
    reply.expect(200, "OK");
    assert_eq!(reply.header("x-nsq-content-type"), None);
    let reply = daemon.get("/info");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
    let version = reply.json()["version"].as_str().unwrap().to_owned();
    assert_eq!(reply.text(), format!(r#"{{"version":"{version}"}}"#));
}

#[test]
fn f9_topics() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create").expect_message(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/create?topic=x$").expect_message(400, "INVALID_ARG_TOPIC");
    let reply = daemon.post("/topic/create?topic=t");
    reply.expect(200, "");
    assert_eq!(reply.header("content-length"), Some("0"));
    daemon.get("/topics").expect(200, r#"{"topics":["t"]}"#);
    daemon.get("/lookup?topic=t").expect(200, r#"{"channels":[],"producers":[]}"#);

    daemon.post("/topic/delete").expect_message(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/delete?topic=t").expect(200, "");
    daemon.get("/lookup?topic=t").expect_message(404, "TOPIC_NOT_FOUND");
    // One with channels, and one that there is not.
    daemon.post("/channel/create?topic=t&channel=c").expect(200, "");
    daemon.post("/topic/delete?topic=t").expect(200, "");
    daemon.get("/channels?topic=t").expect(200, r#"{"channels":[]}"#);
    daemon.post("/topic/delete?topic=t").expect(200, "");
}

#[test]
fn f9_channels() {
    let daemon = Daemon::start(&[]);
    daemon.get("/channels").expect_message(400, "MISSING_ARG_TOPIC");
    daemon.get("/channels?topic=unknown").expect(200, r#"{"channels":[]}"#);
    for verb in ["create", "delete"] {
        let refused = |query: &str, text| {
            daemon.post(&format!("/channel/{verb}{query}")).expect_message(400, text);
        };
        refused("", "MISSING_ARG_TOPIC");
        refused("?channel=c", "MISSING_ARG_TOPIC");
        refused("?topic=x$", "INVALID_ARG_TOPIC");
        refused("?topic=t", "MISSING_ARG_CHANNEL");
        refused("?topic=t&channel=x$", "INVALID_ARG_CHANNEL");
    }
    daemon.post("/channel/delete?topic=t&channel=c").expect_message(404, "CHANNEL_NOT_FOUND");
    daemon.post("/channel/create?topic=t&channel=c").expect(200, "");
    daemon.get("/channels?topic=t").expect(200, r#"{"channels":["c"]}"#);
    daemon.get("/topics").expect(200, r#"{"topics":["t"]}"#);
    daemon.post("/channel/delete?topic=t&channel=c").expect(200, "");
    daemon.get("/channels?topic=t").expect(200, r#"{"channels":[]}"#);
    daemon.get("/lookup?topic=t").expect(200, r#"{"channels":[],"producers":[]}"#);
}
