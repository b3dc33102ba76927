//! Names, delivery, fan-out, pausing and unknown commands.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::matrix::{check, check_tcp};
use serde_json::json;
use std::net::Shutdown;

#[test]
fn a1_names() {
    check(&[], |daemon| {
        for name in ["test", "test-with_period.", "test#ephemeral", &"n".repeat(64)] {
            let mut client = Client::connect(daemon);
            client.subscribe(name, name);
            client.publish(name, b"x");
        }
        let long = "n".repeat(65);
        for name in ["test:ephemeral", "#ephemeral", "te$t", &long] {
            let mut client = Client::connect(daemon);
            client.command(&format!("SUB {name} c"));
            client.expect_fatal(&format!("E_BAD_TOPIC SUB topic name \"{name}\" is not valid"));
            let mut client = Client::connect(daemon);
            client.command(&format!("SUB t {name}"));
            client.expect_fatal(&format!("E_BAD_CHANNEL SUB channel name \"{name}\" is not valid"));
        }
    });
}

#[test]
fn a2_basic() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.publish("t", b"test body");
        daemon.wait_topic("t", &[("depth", 1), ("message_count", 1), ("message_bytes", 9)]);
        client.identify(&json!({"client_id": "a2"}));
        client.subscribe("t", "ch");
        client.ready(1);
        let message = client.message_with(b"test body");
        assert_eq!(message.attempts, 1);
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        assert!(message.id.bytes().all(hexadecimal), "{}", message.id);
        assert!(message.timestamp_ns > 1_700_000_000_000_000_000, "{}", message.timestamp_ns);
        client.finish(&message);
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("depth", 0), ("in_flight_count", 0)]);
    });
}

#[test]
fn a3_fan_out() {
    check(&[], |daemon| {
        let mut one = Client::consumer(daemon, "t", "ch1", 1);
        let mut two = Client::consumer(daemon, "t", "ch2", 1);
        Client::connect(daemon).publish("t", b"test body");
        let (first, second) = (one.message_with(b"test body"), two.message_with(b"test body"));
        assert_eq!(first, second, "same id, time, attempts and body");
        assert_eq!(first.attempts, 1);
    });
}

#[test]
fn a4_zone_preference() {
    let experiment = "--enable-experiment=topology-aware-consumption";
    let flags = [experiment, "--topology-region=region", "--topology-zone=zone"];
    check_tcp(&flags, |daemon| {
        let mut consumers = Vec::new();
        for zone in ["zone", "zone", "zone2", "zone2"] {
            let mut client = Client::connect(daemon);
            client.identify(&json!({"topology_region": "region", "topology_zone": zone}));
            client.subscribe("t", "ch");
            client.ready(10);
            client.expect_quiet();
            consumers.push(client);
        }
        let mut producer = Client::connect(daemon);
        for count in 1..=21 {
            producer.publish("t", b"test body");
            // In between, every consumer gets to wait for the next message again.
            daemon.wait_channel("t", "ch", &[("in_flight_count", count)]);
        }
        let channel = daemon.channel("t", "ch").unwrap();
        let count = |address: &str| {
            channel["clients"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|client| client["topology_zone"] == address)
                .map(|client| client["in_flight_count"].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!((count("zone"), count("zone2")), (20, 1), "{channel}");
    });
}

#[test]
fn a11_pausing() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        let mut producer = Client::connect(daemon);
        producer.publish("t", b"body");
        let message = client.message_with(b"body");
        client.finish(&message);
        client.ready(1);
        client.expect_quiet();

        daemon.order("/channel/pause?topic=t&channel=ch");
        assert_eq!(daemon.channel("t", "ch").unwrap()["paused"], true);
        producer.publish("t", b"body2");
        daemon.wait_channel("t", "ch", &[("depth", 1), ("in_flight_count", 0)]);
        client.expect_quiet();

        daemon.order("/channel/unpause?topic=t&channel=ch");
        let message = client.message_with(b"body2");
        client.finish(&message);
        producer.publish("t", b"body3");
        client.message_with(b"body3");
    });
}

#[test]
fn a12_empty_command() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"\n\n");
        client.expect_fatal("E_INVALID invalid command ");
        Client::connect(daemon).expect_quiet();
    });
}

#[test]
fn a17_fatal_error() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"ASDF\n");
        client.expect_fatal("E_INVALID invalid command ASDF");
    });
}

#[test]
fn a30_bad_fin() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 0);
        client.send(b"FIN \n");
        client.expect_fatal("E_INVALID invalid message ID");
    });
}

#[test]
fn a33_invalid_command_whether_or_not_the_answer_can_be_written() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"INVALID_COMMAND\n");
        client.expect_fatal("E_INVALID invalid command INVALID_COMMAND");

        let mut client = Client::connect(daemon);
        client.send(b"INVALID_COMMAND\n");
        client.shutdown(Shutdown::Both);
        drop(client);
        Client::connect(daemon).expect_quiet();
    });
}

#[test]
fn c2_ephemeral_topics_and_channels() {
    check(&[], |daemon: &Daemon| {
        let mut client = Client::consumer(daemon, "t#ephemeral", "ch#ephemeral", 1);
        Client::connect(daemon).publish("t#ephemeral", b"body");
        client.message_with(b"body");
        drop(client);
        daemon.wait_no_topic("t#ephemeral");

        // Without a client there is none whose leaving deletes them.
        daemon.create_channel("u#ephemeral", "ch#ephemeral");
        // A normal channel outlives its clients, and keeps its ephemeral topic.
        let client = Client::consumer(daemon, "v#ephemeral", "ch", 1);
        let leaving = Client::consumer(daemon, "v#ephemeral", "ch#ephemeral", 1);
        drop((client, leaving));
        daemon.wait_no_channel("v#ephemeral", "ch#ephemeral");
        daemon.wait_channel("v#ephemeral", "ch", &[("client_count", 0)]);
        daemon.wait_channel("u#ephemeral", "ch#ephemeral", &[("client_count", 0)]);
        daemon.order("/channel/delete?topic=v%23ephemeral&channel=ch");
        daemon.wait_no_topic("v#ephemeral");
    });
}
