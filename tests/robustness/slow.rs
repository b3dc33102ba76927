//! Consumers that stop reading, and what they may cost.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use serde_json::json;
use std::time::Duration;

const MESSAGES: usize = 40_000;
const BODY_BYTES: usize = 1024;
const MEBIBYTE: u64 = 1024 * 1024;

const FLAGS: &[&str] = &["--max-rdy-count=100000", "--mem-queue-size=100000", "--msg-timeout=10s"];

fn fill(daemon: &Daemon) {
    daemon.create_channel("t", "ch");
    let mut producer = Client::connect(daemon);
    let body = [b'x'; BODY_BYTES];
    for _ in 0..MESSAGES / 1000 {
        producer.publish_batch("t", &[&body[..]; 1000]);
    }
}

/// Subscribes with room for everything, and reads nothing of it.
fn stuck_consumer(daemon: &Daemon) -> Client {
    let mut stuck = Client::connect(daemon);
    stuck.identify(&json!({"heartbeat_interval": 1000}));
    stuck.subscribe("t", "ch");
    stuck.ready(100_000);
    stuck
}

/// All messages come to one who reads.
fn take_all(daemon: &Daemon) {
    let mut reader = Client::consumer(daemon, "t", "ch", 2500);
    for _ in 0..MESSAGES {
        let message = reader.message();
        reader.finish(&message);
    }
    reader.expect_quiet();
    daemon.wait_channel("t", "ch", &[("depth", 0), ("in_flight_count", 0)]);
}

#[test]
fn a_consumer_that_stops_reading_is_closed_and_its_messages_go_to_others() {
    check(FLAGS, |daemon| {
        fill(daemon);
        daemon.wait_channel("t", "ch", &[("depth", 40_000)]);
        let before = daemon.resident_peak_bytes();
        let stuck = stuck_consumer(daemon);
        daemon.wait_channel("t", "ch", &[("client_count", 0)]);
        if !daemon.is_original() {
            // The bodies are in memory already; a second copy of them for the stuck connection
            // would be 40 MiB.
            let grown = daemon.resident_peak_bytes() - before;
            assert!(grown < 20 * MEBIBYTE, "{grown} bytes for a consumer that does not read");
        }
        take_all(daemon);
        drop(stuck);
    });
}

#[test]
fn a_consumer_that_talks_but_does_not_read_is_closed_too() {
    check(FLAGS, |daemon| {
        if daemon.is_original() {
            return; // It notices the failed write, but keeps the connection while it talks.
        }
        fill(daemon);
        let mut stuck = stuck_consumer(daemon);
        stuck.limit_writes(Duration::from_secs(1));
        // It looks alive; but the heartbeats sent to it do not get through.
        let closed = || daemon.channel("t", "ch").is_some_and(|ch| ch["client_count"] == 0);
        crate::support::wait::eventually(|| {
            let _ = stuck.try_send(b"NOP\n");
            closed().then_some(()).ok_or("still subscribed".to_owned())
        });
        take_all(daemon);
    });
}

#[test]
fn a_slow_http_client_delays_nobody() {
    check(&[], |daemon| {
        let mut half = Client::raw(&daemon.http);
        half.send(b"POST /pub?topic=t HTTP/1.1\r\nHost: nsqd\r\nContent-Length: 100\r\n\r\nabc");
        let mut idle = Client::raw(&daemon.http);
        idle.send(b"GET /stats HTT");
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.publish("t", b"body");
        client.message_with(b"body");
        daemon.get("/ping").expect(200, "OK");
        daemon.wait_topic("t", &[("message_count", 1)]);
    });
}
