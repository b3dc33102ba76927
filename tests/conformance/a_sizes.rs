//! A13: sizes of messages and bodies.

use crate::support::client::{Client, batch};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;

/// A fresh subscribed client, as in the upstream case.
fn subscribed(daemon: &Daemon) -> Client {
    Client::consumer(daemon, "t", "ch", 0)
}

#[test]
fn a13_size_limits() {
    check(&["--max-msg-size=100", "--max-body-size=1000"], |daemon| {
        let mut client = subscribed(daemon);
        client.publish("t", &[b'a'; 95]);
        client.publish("t", &[b'a'; 100]);
        client.command_with_body("PUB t", &[b'a'; 105]);
        client.expect_fatal("E_BAD_MESSAGE PUB message too big 105 > 100");

        let mut client = subscribed(daemon);
        client.command_with_body("PUB t", b"");
        client.expect_fatal("E_BAD_MESSAGE PUB invalid message body size 0");

        let body = [b'a'; 100];
        let mut client = subscribed(daemon);
        client.publish_batch("t", &[&body[..]; 5]);
        client.command_with_body("MPUB t", &batch(&[&body[..]; 11]));
        client.expect_fatal("E_BAD_BODY MPUB body too big 1148 > 1000");

        let mut client = subscribed(daemon);
        let mut bodies = [&body[..]; 6];
        bodies[5] = b"";
        client.command_with_body("MPUB t", &batch(&bodies));
        client.expect_fatal("E_BAD_MESSAGE MPUB invalid message(5) body size 0");

        let mut client = subscribed(daemon);
        client.command_with_body("MPUB t", &batch(&[&[b'a'; 101][..]; 5]));
        client.expect_fatal("E_BAD_MESSAGE MPUB message too big 101 > 100");

        // Nothing of a refused batch was queued.
        daemon.wait_topic("t", &[("message_count", 7)]);
        daemon.wait_channel("t", "ch", &[("depth", 7)]);
    });
}

#[test]
fn a13_size_limits_of_a_deferred_publish() {
    check(&["--max-msg-size=100"], |daemon| {
        let mut client = subscribed(daemon);
        client.command_with_body("DPUB t 1000", &[b'a'; 101]);
        client.expect_fatal("E_BAD_MESSAGE DPUB message too big 101 > 100");
        let mut client = subscribed(daemon);
        client.command_with_body("DPUB t 1000", b"");
        client.expect_fatal("E_BAD_MESSAGE DPUB invalid message body size 0");
    });
}
