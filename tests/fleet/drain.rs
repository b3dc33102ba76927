//! `--drain-timeout`: what happens between SIGTERM and the end.

use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options, plain_flags};
use crate::support::lookupd::FakeLookupd;
use crate::support::matrix::check;
use crate::support::wait::eventually;

#[test]
fn a_drained_daemon_takes_nothing_new_and_delivers_what_it_has() {
    if plain_flags() {
        return; // The original has no such flag.
    }
    let lookupd = FakeLookupd::start(&[]);
    let address = format!("--lookupd-tcp-address={}", lookupd.address);
    let flags = ["--drain-timeout=10m", address.as_str()];
    let mut daemon = Daemon::start(&Options { flags: &flags, ..Options::default() });
    let mut client = Client::consumer(&daemon, "t", "ch", 1);
    client.publish_batch("t", &[b"one", b"two", b"three"]);
    client.publish("other", b"stays");
    lookupd.wait(|seen| seen.registered.contains("t ch") && seen.registered.contains("other"));
    let first = client.message_with(b"one");
    let mut producers: Vec<_> = (0..4).map(|_| Client::connect(&daemon)).collect();
    daemon.signal("TERM");
    // Nobody is sent here any more.
    lookupd.wait(|seen| seen.open == 0);
    let refused = |producer: &mut Client, line: &str, name: &str| {
        producer.command_with_body(line, b"\0\0\0\x01\0\0\0\x01x");
        producer.expect_fatal(&format!("E_{name}_FAILED {name} failed exiting"));
    };
    eventually(|| {
        let log = daemon.log();
        if log.contains("NSQ: draining for 10m0s at most") { Ok(()) } else { Err(log) }
    });
    // Each shard learns of it in its next turn.
    eventually(|| match daemon.post("/pub?topic=t#ephemeral", b"x").status {
        503 => Ok(()),
        status => Err(status.to_string()),
    });
    refused(&mut producers[0], "PUB t", "PUB");
    refused(&mut producers[1], "MPUB t", "MPUB");
    refused(&mut producers[2], "DPUB t 10", "DPUB");
    refused(&mut producers[3], "PUB unheard-of", "PUB");
    assert!(daemon.topic("unheard-of").is_none());
    daemon.post("/pub?topic=t", b"x").expect_message(503, "EXITING");
    client.finish(&first);
    let second = client.message_with(b"two");
    client.requeue(&second, 0);
    for body in [&b"three"[..], b"two"] {
        let message = client.message_with(body);
        client.finish(&message);
    }
    client.expect_closed();
    assert!(daemon.ended().success());
    let log = daemon.log();
    assert!(log.contains("NSQ: drained\n") && log.contains("NSQ: bye\n"), "{log}");
    // What nobody could take is there after the next start.
    let again = daemon.start_again(&Options::default());
    again.wait_topic("other", &[("depth", 1)]);
    again.wait_channel("t", "ch", &[("depth", 0)]);
}

#[test]
fn a_drain_ends_with_its_time_or_another_signal() {
    if plain_flags() {
        return;
    }
    for (flag, signals) in [("--drain-timeout=300ms", 1), ("--drain-timeout=10m", 2)] {
        let options = Options { flags: &[flag], ..Options::default() };
        let mut daemon = Daemon::start(&options);
        let mut client = Client::consumer(&daemon, "t", "ch", 1);
        client.publish("t", b"held");
        client.message_with(b"held");
        for _ in 0..signals {
            daemon.signal("TERM");
            eventually(|| {
                let log = daemon.log();
                if log.contains("NSQ: draining") { Ok(()) } else { Err(log) }
            });
        }
        assert!(daemon.ended().success());
        let log = daemon.log();
        assert!(log.contains("NSQ: not drained, what is left is kept\n"), "{log}");
        let again = daemon.start_again(&Options::default());
        again.wait_channel("t", "ch", &[("depth", 1)]);
    }
}

#[test]
fn an_idle_daemon_is_drained_at_once() {
    if plain_flags() {
        return;
    }
    check(&["--drain-timeout=10m"], |daemon| {
        let _idle = Client::consumer(daemon, "t", "ch", 10);
        Client::connect(daemon).publish_deferred("t", 3_600_000, b"later");
        daemon.signal("INT");
        eventually(|| {
            let log = daemon.log();
            if log.contains("NSQ: bye") { Ok(()) } else { Err(log) }
        });
    });
}
