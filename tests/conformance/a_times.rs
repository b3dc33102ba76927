//! Deferral, message timeouts, TOUCH and REQ. Nothing may happen before its time.

use crate::support::client::Client;
use crate::support::matrix::check;
use crate::support::wait::{Stopwatch, pass};
use serde_json::json;
use std::time::Duration;

#[test]
fn a14_dpub() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        let since = Stopwatch::start();
        client.publish_deferred("t", 1000, &[b'a'; 100]);
        daemon.wait_channel("t", "ch", &[("message_count", 1), ("deferred_count", 1)]);
        client.message_with(&[b'a'; 100]);
        assert!(since.elapsed() >= Duration::from_millis(1000), "{:?}", since.elapsed());
        daemon.wait_channel("t", "ch", &[("message_count", 1), ("deferred_count", 0)]);

        client.publish_deferred("t", 3_600_000, b"the longest");
        client.command_with_body("DPUB t 3600100", b"body");
        client.expect_fatal("E_INVALID DPUB timeout 3600100 out of range 0-3600000");
    });
}

#[test]
fn a14_dpub_without_delay_is_pub() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.publish_deferred("t", 0, b"body");
        assert_eq!(client.message_with(b"body").attempts, 1);
    });
}

#[test]
fn a15_touch() {
    check(&["--msg-timeout=2s"], |daemon| {
        daemon.create_channel("t", "ch");
        daemon.warm_up_timers("t", "ch");
        let mut client = Client::consumer(daemon, "t", "ch", 2);
        client.publish_batch("t", &[b"left alone", b"touched"]);
        let (first, second) = (client.message(), client.message());
        let touched = [first, second].into_iter().find(|m| m.body == b"touched").unwrap();
        pass(Duration::from_secs(1));
        client.touch(&touched);
        // The other message times out; the touched one has a second left then.
        let again = client.message_with(b"left alone");
        assert_eq!(again.attempts, 2);
        client.finish(&touched);
        client.finish(&again);
        client.expect_quiet();
        let counts = [("timeout_count", 1), ("in_flight_count", 0), ("depth", 0)];
        daemon.wait_channel("t", "ch", &counts);
    });
}

#[test]
fn a15_touch_is_bounded_by_the_longest_timeout() {
    check(&["--msg-timeout=1s", "--max-msg-timeout=1s"], |daemon| {
        daemon.create_channel("t", "ch");
        daemon.warm_up_timers("t", "ch");
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.publish("t", b"body");
        let message = client.message();
        pass(Duration::from_millis(500));
        client.touch(&message);
        client.expect_quiet();
        let again = client.message_with(b"body");
        assert_eq!((again.id, again.attempts), (message.id, 2));
        daemon.wait_channel("t", "ch", &[("timeout_count", 1)]);
    });
}

#[test]
fn a29_client_msg_timeout() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        let settings = json!({"msg_timeout": 1000, "feature_negotiation": true});
        assert_eq!(client.identify(&settings)["msg_timeout"], 1000);
        client.publish_batch("t", &[b"one", b"two"]);
        client.subscribe("t", "ch");
        client.ready(1);
        let message = client.message();
        client.ready(0);
        let counts = [("timeout_count", 1), ("requeue_count", 0), ("depth", 2)];
        daemon.wait_channel("t", "ch", &counts);
        client.finish(&message);
        let id = &message.id;
        client.expect_error(&format!("E_FIN_FAILED FIN {id} failed ID not in flight"));
        client.expect_quiet();
    });
}

#[test]
fn a31_req_range() {
    check(&["--max-req-timeout=1s"], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.publish("t", b"body");
        let message = client.message();
        client.requeue(&message, 0);
        let again = client.message();
        assert_eq!((&again.id, again.attempts), (&message.id, 2));
        assert_eq!(again.timestamp_ns, message.timestamp_ns, "the time of publishing stays");
        // Longer than the longest delay: taken as the longest.
        let since = Stopwatch::start();
        client.requeue(&again, 120_000);
        let third = client.message();
        assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
        assert_eq!((&third.id, third.attempts), (&message.id, 3));
        daemon.wait_channel("t", "ch", &[("requeue_count", 2), ("timeout_count", 0)]);
    });
}

#[test]
fn a31_requeued_messages_are_deferred() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.publish("t", b"body");
        let message = client.message();
        client.requeue(&message, 120_000);
        client.expect_quiet();
        let counts = [("deferred_count", 1), ("in_flight_count", 0), ("requeue_count", 1)];
        daemon.wait_channel("t", "ch", &counts);
        client.finish(&message);
        let id = &message.id;
        client.expect_error(&format!("E_FIN_FAILED FIN {id} failed ID not in flight"));
    });
}

#[test]
fn b3_in_flight_messages_time_out() {
    check(&["--msg-timeout=200ms"], |daemon| {
        daemon.create_channel("t", "ch");
        daemon.warm_up_timers("t", "ch");
        let mut client = Client::consumer(daemon, "t", "ch", 250);
        client.publish_batch("t", &vec![&b"body"[..]; 250]);
        client.messages(250);
        client.ready(0);
        // A message that timed out before RDY 0 was read has come, and timed out, once more.
        daemon.wait_channel("t", "ch", &[("in_flight_count", 0), ("depth", 250)]);
        let channel = daemon.channel("t", "ch").unwrap();
        assert!(channel["timeout_count"].as_u64().unwrap() >= 250, "{channel}");
        assert_eq!(channel["requeue_count"], 0);
    });
}
