//! Cases found by driving the original over a socket: lexing, and the corners of commands.

use crate::support::client::{Client, Frame, batch, with_body};
use crate::support::matrix::check;
use serde_json::json;

#[test]
fn l1_two_spaces_make_an_empty_parameter() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"PUB  t\n");
        client.expect_fatal("E_BAD_TOPIC PUB topic name \"\" is not valid");
    });
}

#[test]
fn l2_the_code_of_a_bad_mpub_topic_is_doubled() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"MPUB t$\n");
        client.expect_fatal("E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"t$\" is not valid");
    });
}

#[test]
fn l3_a_bad_mpub_creates_the_topic_and_a_bad_pub_does_not() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.command_with_body("MPUB created", b"");
        client.expect_fatal("E_BAD_BODY MPUB invalid body size 0");
        daemon.wait_topic("created", &[("message_count", 0)]);
        let mut client = Client::connect(daemon);
        client.command_with_body("PUB missing", b"");
        client.expect_fatal("E_BAD_MESSAGE PUB invalid message body size 0");
        assert!(daemon.topic("missing").is_none());
    });
}

#[test]
fn l4_the_body_size_of_an_mpub_is_only_checked_for_range() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        let body = batch(&[b"one", b"two"]);
        client.send(&[b"MPUB t\n\0\0\0\x01", &body[..]].concat());
        client.expect_ok();
        // Nothing is skipped either: the next command follows the last message.
        client.send(&[b"MPUB t\n\0\0\x10\0", &body[..], &with_body("PUB t", b"three")].concat());
        client.expect_ok();
        client.expect_ok();
        daemon.wait_topic("t", &[("message_count", 5), ("message_bytes", 17)]);
    });
}

#[test]
fn l5_a_line_too_long_closes_without_a_frame() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        // The daemon may close before it has taken all of it.
        let _ = client.try_send(&[&vec![b'N'; 20_000][..], b"\n"].concat());
        client.expect_closed();
        let mut client = Client::connect(daemon);
        let line = [b'N'; 16_383];
        client.send(&[&line[..], b"\n"].concat());
        let text = String::from_utf8(line.to_vec()).unwrap();
        client.expect_fatal(&format!("E_INVALID invalid command {text}"));
    });
}

#[test]
fn l6_crlf_ends_a_line() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"NOP\r\nPUB t\r\n\0\0\0\x01x");
        client.expect_ok();
        daemon.wait_topic("t", &[("message_bytes", 1)]);
        client.send(b"PUB t\r\r\n");
        client.expect_fatal("E_BAD_TOPIC PUB topic name \"t\\r\" is not valid");
    });
}

#[test]
fn l8_rdy_without_a_count_is_one() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 0);
        client.command("RDY");
        client.publish_batch("t", &[b"one", b"two"]);
        client.message();
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("in_flight_count", 1), ("depth", 1)]);
        // An empty count is none.
        client.send(b"RDY \n");
        client.expect_quiet();
        assert_eq!(daemon.channel("t", "ch").unwrap()["clients"][0]["ready_count"], 0);
    });
}

#[test]
fn l9_extra_parameters_are_ignored() {
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(b"NOP x y\nSUB t ch extra \n");
        client.expect_ok();
        client.send(b"RDY 1 x\nPUB t x\n\0\0\0\x01x");
        client.expect_ok();
        client.message_with(b"x");
    });
}

#[test]
fn l10_cls() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 2);
        client.publish("t", b"body");
        let message = client.message();
        client.command("CLS");
        client.expect_response("CLOSE_WAIT");
        // Ready counts are ignored from here on; what is in flight can be finished.
        client.command("RDY 5");
        client.publish("t", b"another");
        client.finish(&message);
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("in_flight_count", 0), ("depth", 1)]);
        client.command("CLS");
        client.expect_fatal("E_INVALID cannot CLS in current state");
    });
}

#[test]
fn l11_publishing_on_a_subscribed_connection() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 0);
        client.publish("t", b"body");
        client.publish("t", b"body");
        let stats = daemon.stats();
        assert_eq!(stats["producers"].as_array().unwrap().len(), 1, "{stats}");
        let producer = &stats["producers"][0];
        assert_eq!(producer["pub_counts"], json!([{"topic": "t", "count": 2}]));
        assert_eq!(stats["topics"][0]["channels"][0]["client_count"], 1);
    });
}

#[test]
fn l12_disconnecting_with_messages_in_flight() {
    check(&["--msg-timeout=1500ms"], |daemon| {
        let mut leaving = Client::consumer(daemon, "t", "ch", 10);
        leaving.publish_batch("t", &[b"one", b"two", b"three"]);
        let held: Vec<_> = leaving.messages(3).into_iter().map(|m| m.id).collect();
        let mut staying = Client::consumer(daemon, "t", "ch", 10);
        drop(leaving);
        let again = staying.messages(3);
        assert!(again.iter().all(|m| m.attempts == 2 && held.contains(&m.id)), "{again:?}");
        // The original waits for their timeout; ours requeues them at once.
        let timeouts = if daemon.is_original() { 3 } else { 0 };
        daemon.wait_channel("t", "ch", &[("timeout_count", timeouts), ("client_count", 1)]);
    });
}

#[test]
fn l12_a_disconnect_needs_no_timeout() {
    check(&[], |daemon| {
        if daemon.is_original() {
            return;
        }
        let mut leaving = Client::consumer(daemon, "t", "ch", 1);
        leaving.publish("t", b"body");
        leaving.message();
        drop(leaving);
        let counts = [("in_flight_count", 0), ("depth", 1), ("requeue_count", 0)];
        daemon.wait_channel("t", "ch", &counts);
    });
}

#[test]
fn l20_ephemeral_overflow_is_dropped() {
    check(&["--mem-queue-size=3"], |daemon| {
        let mut producer = Client::connect(daemon);
        for _ in 0..10 {
            producer.publish("t#ephemeral", b"body");
        }
        let counts = [("depth", 3), ("backend_depth", 0), ("message_count", 10)];
        daemon.wait_topic("t#ephemeral", &counts);
    });
}

#[test]
fn l23_deleting_a_topic_disconnects_its_consumers() {
    check(&[], |daemon| {
        let mut clients: Vec<_> =
            ["a", "a", "b"].iter().map(|ch| Client::consumer(daemon, "t", ch, 1)).collect();
        clients[0].expect_quiet();
        daemon.order("/topic/delete?topic=t");
        for client in &mut clients {
            client.expect_closed();
        }
        daemon.wait_no_topic("t");
    });
}

#[test]
fn ready_count_is_a_window_not_a_credit() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 2);
        client.publish_batch("t", &[&b"body"[..]; 6]);
        let first = client.messages(2);
        client.expect_quiet();
        // Room for one more, without a new RDY.
        client.finish(&first[0]);
        client.message();
        client.expect_quiet();
        // A smaller window holds back until enough are finished.
        client.ready(1);
        client.finish(&first[1]);
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("in_flight_count", 1), ("depth", 3)]);
    });
}

#[test]
fn answers_keep_the_order_of_commands() {
    check(&[], |daemon| {
        // Topics live on different shards; every answer must wait for its turn all the same.
        let mut client = Client::consumer(daemon, "home", "ch", 0);
        let mut bytes = Vec::new();
        let rounds = 200;
        for round in 0..rounds {
            bytes.extend(with_body(&format!("PUB topic{}", round % 4), b"body"));
            bytes.extend(format!("FIN {round:016}\n").into_bytes());
        }
        client.send(&bytes);
        for round in 0..rounds {
            assert_eq!(client.frame(), Frame::Response(b"OK".to_vec()));
            let text = format!("E_FIN_FAILED FIN {round:016} failed ID not in flight");
            assert_eq!(client.frame(), Frame::Error(text));
        }
    });
}
