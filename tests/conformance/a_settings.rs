//! What a client negotiates: ready count, output buffering, sampling.

use crate::support::client::Client;
use crate::support::matrix::check;
use crate::support::wait::Stopwatch;
use serde_json::{Value, json};
use std::time::Duration;

/// IDENTIFY with feature negotiation, and the answer.
fn negotiate(client: &mut Client, settings: &Value) -> Value {
    let mut settings = settings.clone();
    settings["feature_negotiation"] = json!(true);
    client.identify(&settings)
}

#[test]
fn identify_answers_with_what_is_in_force() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        let answer = negotiate(&mut client, &json!({"client_id": "c", "unknown": [1]}));
        let mut keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
        let mut expected = vec![
            "max_rdy_count",
            "version",
            "max_msg_timeout",
            "msg_timeout",
            "tls_v1",
            "deflate",
            "deflate_level",
            "max_deflate_level",
            "snappy",
            "sample_rate",
            "auth_required",
            "output_buffer_size",
            "output_buffer_timeout",
            "topology_region",
            "topology_zone",
        ];
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        for (key, value) in [
            ("max_rdy_count", json!(2500)),
            ("max_msg_timeout", json!(900_000)),
            ("msg_timeout", json!(60_000)),
            ("tls_v1", json!(false)),
            ("deflate", json!(false)),
            ("snappy", json!(false)),
            ("sample_rate", json!(0)),
            ("auth_required", json!(false)),
            ("output_buffer_size", json!(16384)),
            ("output_buffer_timeout", json!(250)),
            ("topology_region", json!("")),
        ] {
            assert_eq!(answer[key], value, "{key}");
        }
        // Without negotiation the answer is a plain OK, and the settings hold all the same.
        let mut client = Client::connect(daemon);
        assert_eq!(client.identify(&json!({"heartbeat_interval": 1000})), Value::Null);
        client.expect_heartbeat();
    });
}

#[test]
fn a16_max_rdy() {
    check(&["--max-rdy-count=50"], |daemon| {
        Client::connect(daemon).publish("t", b"body");
        let mut client = Client::connect(daemon);
        assert_eq!(negotiate(&mut client, &json!({}))["max_rdy_count"], 50);
        client.subscribe("t", "ch");
        client.ready(50);
        client.message_with(b"body");
        client.ready(51);
        client.expect_fatal("E_INVALID RDY count 51 out of range 0-50");
    });
}

#[test]
fn a18_output_buffering() {
    let flags = ["--max-output-buffer-size=524288", "--max-output-buffer-timeout=1s"];
    check(&flags, |daemon| {
        let body = vec![b'a'; 255 * 1024];
        Client::connect(daemon).publish("t", &body);
        let mut client = Client::connect(daemon);
        let since = Stopwatch::start();
        let settings = json!({"output_buffer_size": 262_144, "output_buffer_timeout": 500});
        let answer = negotiate(&mut client, &settings);
        assert_eq!(answer["output_buffer_size"], 262_144);
        assert_eq!(answer["output_buffer_timeout"], 500);
        client.subscribe("t", "ch");
        client.ready(10);
        assert_eq!(client.message().body, body);
        if daemon.is_original() {
            // Ours flushes at the end of a turn: the timeout is an upper bound.
            assert!(since.elapsed() >= Duration::from_millis(500));
        }
    });
}

#[test]
fn a19_output_buffer_validity() {
    let flags = ["--max-output-buffer-size=524288", "--max-output-buffer-timeout=1s"];
    check(&flags, |daemon| {
        let mut client = Client::connect(daemon);
        let settings =
            |size, timeout| json!({"output_buffer_size": size, "output_buffer_timeout": timeout});
        let answer = negotiate(&mut client, &settings(524_288, 1000));
        assert_eq!(answer["output_buffer_size"], 524_288);
        assert_eq!(answer["output_buffer_timeout"], 1000);
        let answer = negotiate(&mut client, &settings(-1, -1));
        assert_eq!(answer["output_buffer_size"], 1, "unbuffered");
        assert_eq!(answer["output_buffer_timeout"], 0, "disabled");
        negotiate(&mut client, &settings(0, 0));
        refused(&mut client, &settings(524_289, 0), "output buffer size (524289) is invalid");
        for (size, timeout, text) in [
            (0, 1001, "output buffer timeout (1001) is invalid"),
            (0, 24, "output buffer timeout (24) is invalid"),
            (63, 0, "output buffer size (63) is invalid"),
        ] {
            refused(&mut Client::connect(daemon), &settings(size, timeout), text);
        }
    });
}

fn refused(client: &mut Client, settings: &Value, text: &str) {
    client.command_with_body("IDENTIFY", settings.to_string().as_bytes());
    client.expect_fatal(&format!("E_BAD_BODY IDENTIFY {text}"));
}

#[test]
fn identify_refuses_values_out_of_range() {
    check(&[], |daemon| {
        for (settings, text) in [
            (json!({"heartbeat_interval": 999}), "heartbeat interval (999) is invalid"),
            (json!({"heartbeat_interval": 60_001}), "heartbeat interval (60001) is invalid"),
            (json!({"heartbeat_interval": -2}), "heartbeat interval (-2) is invalid"),
            (json!({"sample_rate": 100}), "sample rate (100) is invalid"),
            (json!({"sample_rate": -1}), "sample rate (-1) is invalid"),
            (json!({"msg_timeout": 999}), "msg timeout (999) is invalid"),
            (json!({"msg_timeout": 900_001}), "msg timeout (900001) is invalid"),
            (json!({"msg_timeout": -1}), "msg timeout (-1) is invalid"),
            (json!({"msg_timeout": "1s"}), "failed to decode JSON body"),
            (json!([]), "failed to decode JSON body"),
            // Checked in this order, whatever the order of the keys.
            (json!({"msg_timeout": 1, "sample_rate": 100}), "sample rate (100) is invalid"),
        ] {
            refused(&mut Client::connect(daemon), &settings, text);
        }
    });
}

#[test]
fn a28_sampling() {
    const MESSAGES: usize = 10_000;
    check(&["--max-rdy-count=10000", "--mem-queue-size=20000"], |daemon| {
        let mut client = Client::connect(daemon);
        let answer = negotiate(&mut client, &json!({"sample_rate": 42}));
        assert_eq!(answer["sample_rate"], 42);
        let bodies = vec![&b"test body"[..]; MESSAGES / 10];
        for _ in 0..10 {
            client.publish_batch("t", &bodies);
        }
        client.subscribe("t", "ch");
        client.ready(10_000);
        // Reads what is surely delivered; the rest fits the buffers on the way.
        client.messages(3300);
        daemon.wait_topic("t", &[("depth", 0)]);
        daemon.wait_channel("t", "ch", &[("depth", 0)]);
        let channel = daemon.channel("t", "ch").unwrap();
        let in_flight = channel["in_flight_count"].as_u64().unwrap();
        assert!((3700..=4700).contains(&in_flight), "{in_flight} of 10000 delivered");
        // What was left out is gone for the channel: neither waiting nor counted as requeued.
        assert_eq!(
            (&channel["message_count"], &channel["requeue_count"]),
            (&json!(10_000), &json!(0))
        );
    });
}
