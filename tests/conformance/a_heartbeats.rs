//! Heartbeats, and the deadline of a client that is silent.

use crate::support::client::{Client, Frame};
use crate::support::matrix::check;
use serde_json::json;

#[test]
fn a5_heartbeat_timeout() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"heartbeat_interval": 1000}));
        client.subscribe("t", "ch");
        let heartbeats = client.expect_heartbeats_then_closed();
        assert!((1..=2).contains(&heartbeats), "{heartbeats} heartbeats in two intervals");
        daemon.wait_channel("t", "ch", &[("client_count", 0)]);
    });
}

#[test]
fn a6_heartbeat_kept_alive() {
    check(&[], |daemon| {
        let mut alive = Client::connect(daemon);
        alive.identify(&json!({"heartbeat_interval": 1000}));
        alive.subscribe("t", "ch");
        alive.ready(1);
        for _ in 0..3 {
            // Three intervals are past the deadline of two that a silent client has.
            alive.expect_heartbeat();
            alive.command("NOP");
        }
        alive.expect_quiet();
    });
}

#[test]
fn a7_sub_without_heartbeats() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"heartbeat_interval": -1}));
        client.command("SUB t ch");
        client.expect_fatal("E_INVALID cannot SUB with heartbeats disabled");
    });
}

#[test]
fn a8_disabled_heartbeats() {
    check(&[], |daemon| {
        let mut silent = Client::connect(daemon);
        silent.identify(&json!({"heartbeat_interval": 1000}));
        silent.identify(&json!({"heartbeat_interval": -1}));
        let mut sibling = Client::connect(daemon);
        sibling.identify(&json!({"heartbeat_interval": 1000}));
        sibling.expect_heartbeats_then_closed();
        silent.command("NOP");
        silent.command_with_body("PUB t", b"body");
        // The original keeps the heartbeats of the first IDENTIFY, but drops its deadline.
        silent.expect_ok();
    });
}

#[test]
fn a9_max_heartbeat_interval_valid() {
    check(&["--max-heartbeat-interval=300s"], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"heartbeat_interval": 300_000}));
        client.expect_quiet();
    });
}

#[test]
fn a10_max_heartbeat_interval_invalid() {
    check(&["--max-heartbeat-interval=300s"], |daemon| {
        let mut client = Client::connect(daemon);
        let body = json!({"heartbeat_interval": 300_001}).to_string();
        client.command_with_body("IDENTIFY", body.as_bytes());
        client.expect_fatal("E_BAD_BODY IDENTIFY heartbeat interval (300001) is invalid");
    });
}

#[test]
fn heartbeats_come_to_a_client_that_only_talks() {
    check(&["--mem-queue-size=10000000"], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"heartbeat_interval": 1000}));
        let mut answers = 0;
        loop {
            client.command_with_body("PUB t#ephemeral", b"body");
            match client.any_frame() {
                Some(Frame::Response(answer)) if answer == b"OK" => answers += 1,
                Some(Frame::Response(answer)) if answer == b"_heartbeat_" => break,
                other => panic!("after {answers} answers: {:?}", other.map(|f| f.describe())),
            }
        }
    });
}
