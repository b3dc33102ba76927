//! What `/stats` says of topics, channels and clients.

use crate::support::client::Client;
use crate::support::matrix::check;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn e1_stats() {
    check(&[], |daemon| {
        let _other = Client::consumer(daemon, "other", "ch", 0);
        let mut client = Client::consumer(daemon, "t", "ch", 0);
        client.expect_quiet();
        let stats = |query: &str| daemon.get(&format!("/stats?format=json{query}")).json();
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);

        let seen = stats("&topic=t&channel=ch");
        assert_eq!(count(&seen["topics"]), 1, "{seen}");
        assert_eq!(count(&seen["topics"][0]["channels"]), 1);
        let channel = &seen["topics"][0]["channels"][0];
        assert_eq!((count(&channel["clients"]), &channel["client_count"]), (1, &json!(1)));

        let seen = stats("&topic=t&channel=ch&include_clients=false");
        let channel = &seen["topics"][0]["channels"][0];
        assert_eq!((count(&channel["clients"]), &channel["client_count"]), (0, &json!(1)));

        assert_eq!(count(&stats("&topic=t&channel=unknown")["topics"]), 0);
        assert_eq!(count(&stats("&topic=unknown")["topics"]), 0);
        assert_eq!(count(&stats("&channel=ch")["topics"]), 2, "a channel of every topic");
    });
}

#[test]
fn e2_client_attributes() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        let agent = "Test/1.2.3 <&>";
        client.identify(&json!({"client_id": "id", "hostname": "host", "user_agent": agent}));
        client.subscribe("t", "ch");
        client.ready(7);
        client.publish("t", b"body");
        let message = client.message();
        client.publish("t", b"body");
        client.finish(&message);
        client.message();
        client.expect_quiet();
        let channel = daemon.channel("t", "ch").unwrap();
        let seen = &channel["clients"][0];
        for (key, value) in [
            ("client_id", json!("id")),
            ("hostname", json!("host")),
            ("user_agent", json!(agent)),
            ("version", json!("V2")),
            ("state", json!(3)),
            ("ready_count", json!(7)),
            ("in_flight_count", json!(1)),
            ("message_count", json!(2)),
            ("finish_count", json!(1)),
            ("requeue_count", json!(0)),
            ("sample_rate", json!(0)),
            ("deflate", json!(false)),
            ("snappy", json!(false)),
            ("tls", json!(false)),
            ("topology_zone", json!("")),
        ] {
            assert_eq!(seen[key], value, "{key} in {seen}");
        }
        client.command("CLS");
        client.expect_response("CLOSE_WAIT");
        let channel = daemon.channel("t", "ch").unwrap();
        assert_eq!(channel["clients"][0]["state"], 4, "closing");
        assert_eq!(channel["clients"][0]["ready_count"], 0);
    });
}

#[test]
fn e2_clients_that_never_identified() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.expect_quiet();
        let channel = daemon.channel("t", "ch").unwrap();
        let seen = &channel["clients"][0];
        let address = seen["remote_address"].as_str().unwrap();
        if address == "@" {
            assert_eq!((&seen["client_id"], &seen["hostname"]), (&json!(""), &json!("")));
        } else {
            assert!(address.starts_with("127.0.0.1:"), "{address}");
            assert_eq!(seen["client_id"], "127.0.0.1");
            assert_eq!(seen["hostname"], "127.0.0.1");
        }
    });
}

#[test]
fn e3_stats_while_publishing() {
    check(&[], |daemon| {
        let stop = AtomicBool::new(false);
        let mut client = Client::consumer(daemon, "t", "ch", 25);
        client.expect_quiet();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = Client::connect(daemon);
                for _ in 0..25 {
                    producer.publish("t", b"body");
                }
                client.messages(25);
                stop.store(true, Ordering::Release);
            });
            while !stop.load(Ordering::Acquire) {
                daemon.stats();
                daemon.get("/stats");
            }
        });
        daemon.wait_channel("t", "ch", &[("in_flight_count", 25)]);
    });
}
