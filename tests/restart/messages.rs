//! Messages across an orderly stop, and what a start makes of them.

use super::{document, restart, saved};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::matrix::Transport;
use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;

#[test]
fn c1_half_consumed_messages_are_there_after_a_restart() {
    const MESSAGES: usize = 300;
    let flags = ["--mem-queue-size=100", "--max-bytes-per-file=10240"];
    for transport in [Transport::Tcp, Transport::Unix] {
        let mut daemon = Daemon::start(&Options { transport, flags: &flags, ..Options::default() });
        let body = |index: usize| format!("{index:0>256}").into_bytes();
        let mut client = Client::consumer(&daemon, "t", "ch", 0);
        for index in 0..MESSAGES {
            client.publish("t", &body(index));
        }
        daemon.wait_topic("t", &[("depth", 0)]);
        client.ready(1);
        let mut seen = BTreeSet::new();
        for _ in 0..MESSAGES / 2 {
            let message = client.message();
            if seen.len() + 1 == MESSAGES / 2 {
                client.ready(0);
            }
            client.finish(&message);
            assert!(seen.insert(message.body));
        }
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("depth", 150), ("in_flight_count", 0)]);
        drop(client);
        let again = restart(&mut daemon, "TERM", 1);
        let channels = r#"[{"name":"ch","paused":false}]"#;
        let topic = format!(r#"[{{"name":"t","paused":false,"channels":{channels}}}]"#);
        if !again.is_original() {
            assert_eq!(saved(again.directory()), document(&topic));
        }
        again.wait_topic("t", &[("depth", 0)]);
        again.wait_channel("t", "ch", &[("depth", 150)]);
        let mut client = Client::consumer(&again, "t", "ch", 150);
        for message in client.messages(MESSAGES / 2) {
            client.finish(&message);
            assert!(seen.insert(message.body), "delivered again");
        }
        client.expect_quiet();
        assert_eq!(seen.len(), MESSAGES);
    }
}

#[test]
fn l13_what_a_restart_keeps() {
    let mut daemon = Daemon::start(&Options::default());
    let mut client = Client::consumer(&daemon, "t", "ch", 1);
    client.publish("t", b"held");
    client.message_with(b"held");
    let mut producer = Client::connect(&daemon);
    producer.publish("t", b"waits");
    producer.publish_deferred("t", 1000, b"later");
    daemon.wait_channel("t", "ch", &[("in_flight_count", 1), ("depth", 1)]);
    daemon.order("/channel/pause?topic=t&channel=ch");
    let again = restart(&mut daemon, "TERM", 2);
    let channel = again.channel("t", "ch").unwrap();
    assert_eq!(channel["paused"], true);
    for key in ["message_count", "requeue_count", "timeout_count", "client_count"] {
        assert_eq!(channel[key], 0, "{key} begins anew");
    }
    if again.is_original() {
        // It forgets when a message is due.
        again.wait_channel("t", "ch", &[("depth", 3), ("deferred_count", 0)]);
    } else {
        let waiting = |seen: &serde_json::Value| {
            seen["depth"].as_u64().unwrap() + seen["deferred_count"].as_u64().unwrap()
        };
        assert_eq!(waiting(&channel), 3, "{channel}");
    }
    again.order("/channel/unpause?topic=t&channel=ch");
    let mut client = Client::consumer(&again, "t", "ch", 3);
    let mut seen: Vec<_> =
        client.messages(3).into_iter().map(|message| (message.body, message.attempts)).collect();
    seen.sort();
    let expected = [(&b"held"[..], 2), (b"later", 1), (b"waits", 1)];
    assert_eq!(seen, expected.map(|(body, attempts)| (body.to_vec(), attempts)));
}

#[test]
fn l22_a_stale_unix_socket_prevents_the_start() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("stale.sock");
    // Its owner is gone, and has left the file.
    drop(UnixListener::bind(&path).expect("a free path"));
    let address = format!("--tcp-address={}", path.display());
    let (code, log) = super::start_refused(directory.path(), &[&address]);
    assert_eq!(code, Some(1));
    let name = path.display();
    let text = format!("listen ({name}) failed - listen unix {name}: bind: address already in use");
    assert!(log.contains(&text), "{log}");
}

#[test]
fn l24_a_deferred_message_without_room_in_memory() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let options = Options { transport, flags: &["--mem-queue-size=0"], ..Options::default() };
        let daemon = Daemon::start(&options);
        let mut client = Client::connect(&daemon);
        client.publish_deferred("t", 600, b"later");
        daemon.wait_topic("t", &[("depth", 1)]);
        client.subscribe("t", "ch");
        client.ready(1);
        if !daemon.is_original() {
            // The original's files have no times: it delivers at once.
            daemon.wait_channel("t", "ch", &[("deferred_count", 1)]);
        }
        client.message_with(b"later");
    }
}
