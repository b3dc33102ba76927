//! Peers that send nonsense, too much, or promises without bytes.

use crate::support::client::{Client, Frame, MAGIC, Message, batch, with_body};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use crate::support::wait::eventually;
use std::env;
use std::net::Shutdown;

const MEBIBYTE: u64 = 1024 * 1024;

/// Publishing and consuming work, and the process has not been replaced or stalled.
fn still_serves(daemon: &Daemon) {
    let mut client = Client::consumer(daemon, "alive", "ch#ephemeral", 1);
    client.publish("alive", b"body");
    let message = client.message_with(b"body");
    client.finish(&message);
    client.expect_quiet();
}

#[test]
fn garbage() {
    check(&[], |daemon| {
        let seed = env::var("RINGMAIN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("RINGMAIN_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let commands = ["PUB t\n", "MPUB t\n", "SUB t ch\n", "RDY 5\n", "IDENTIFY\n", "NOP\n"];
        for round in 0..200 {
            let mut client = Client::raw(&daemon.tcp);
            let mut bytes = Vec::new();
            if round % 4 > 0 {
                bytes.extend(MAGIC);
            }
            for _ in 0..random.usize(..8) {
                if random.bool() {
                    let command = commands[random.usize(..commands.len())];
                    bytes.extend(command.as_bytes());
                }
                let count = random.usize(..64);
                bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(count));
            }
            // The daemon may have refused the first of it before the last is sent.
            let _ = client.try_send(&bytes);
        }
        still_serves(daemon);
    });
}

#[test]
fn one_byte_at_a_time() {
    check(&[], |daemon| {
        let mut client = Client::raw(&daemon.tcp);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(with_body("IDENTIFY", b"{\"client_id\":\"slow\"}"));
        bytes.extend(b"SUB t ch\nRDY 0\n");
        bytes.extend(with_body("PUB t", b"one"));
        bytes.extend(with_body("MPUB t", &batch(&[b"two", b"three"])));
        bytes.extend(with_body("DPUB t 0", b"four"));
        for byte in bytes {
            client.send(&[byte]);
        }
        for _ in 0..5 {
            client.expect_ok();
        }
        for byte in b"RDY 4\n" {
            client.send(&[*byte]);
        }
        let mut bodies: Vec<_> = client.messages(4).into_iter().map(|m| m.body).collect();
        bodies.sort();
        assert_eq!(bodies, [&b"four"[..], b"one", b"three", b"two"]);
    });
}

#[test]
fn all_in_one_piece() {
    check(&[], |daemon| {
        let mut client = Client::raw(&daemon.tcp);
        let mut bytes = [MAGIC, b"SUB t ch\nRDY 0\n"].concat();
        for number in 0..2000 {
            bytes.extend(with_body("PUB t", format!("{number}").as_bytes()));
        }
        client.send(&bytes);
        for _ in 0..=2000 {
            client.expect_ok();
        }
        client.ready(2000);
        let mut numbers: Vec<usize> = client.messages(2000).iter().map(number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..2000));
    });
}

#[test]
fn a_whole_session_in_the_first_bytes() {
    check(&[], |daemon| {
        // Subscribing may move the connection to another shard; what follows moves with it.
        for round in 0..40 {
            let (topic, other) = (format!("t{}", round % 4), format!("t{}", (round + 1) % 4));
            let mut client = Client::raw(&daemon.tcp);
            let mut bytes = MAGIC.to_vec();
            bytes.extend(with_body(&format!("PUB {other}"), b"other"));
            bytes.extend(with_body("IDENTIFY", b"{}"));
            bytes.extend(format!("SUB {topic} ch{round}\nRDY 0\n").into_bytes());
            bytes.extend(with_body(&format!("PUB {topic}"), b"own"));
            bytes.extend(with_body(&format!("PUB {other}"), b"other"));
            bytes.extend(b"FIN 0123456789abcdef\nRDY 100\n");
            client.send(&bytes);
            // Answers keep the order of commands; messages may come between them. A new channel
            // may begin with what earlier rounds left in the topic.
            let (mut answers, mut own) = (Vec::new(), false);
            while answers.len() < 6 || !own {
                match client.frame() {
                    Frame::Message(message) => own |= message.body == b"own",
                    answer => answers.push(answer),
                }
            }
            let failed = "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight";
            assert_eq!(answers.pop(), Some(Frame::Error(failed.to_owned())));
            assert!(answers.iter().all(|answer| *answer == Frame::Response(b"OK".to_vec())));
        }
    });
}

fn number(message: &Message) -> usize {
    let text = String::from_utf8(message.body.clone()).expect("digits");
    text.parse().expect("a number")
}

#[test]
fn half_closed_sockets() {
    check(&[], |daemon| {
        // Everything before the end of what a client sends is carried out and answered.
        let mut producer = Client::connect(daemon);
        producer.command_with_body("PUB t", b"one");
        producer.command_with_body("MPUB t", &batch(&[b"two", b"three"]));
        producer.shutdown(Shutdown::Write);
        producer.expect_ok();
        producer.expect_ok();
        producer.expect_closed();
        daemon.wait_topic("t", &[("message_count", 3)]);

        // A consumer that will send no more can finish nothing: it is gone.
        let mut consumer = Client::consumer(daemon, "t", "ch", 1);
        consumer.message();
        consumer.shutdown(Shutdown::Write);
        consumer.expect_closed();
        daemon.wait_channel("t", "ch", &[("client_count", 0)]);

        // A client that will read no more still publishes.
        let mut producer = Client::connect(daemon);
        producer.shutdown(Shutdown::Read);
        producer.command_with_body("PUB deaf", b"body");
        daemon.wait_topic("deaf", &[("message_count", 1)]);
        still_serves(daemon);
    });
}

#[test]
fn thousands_of_connections_opened_and_dropped() {
    check(&[], |daemon| {
        still_serves(daemon);
        daemon.stats();
        let before = daemon.descriptors();
        for _ in 0..10 {
            let clients: Vec<_> = (0..200).map(|i| dropped_at(daemon, i % 8)).collect();
            drop(clients);
        }
        still_serves(daemon);
        eventually(|| match daemon.descriptors() {
            // The request for statistics may be one of them; nothing else may be left.
            now if now <= before + 2 => Ok(()),
            now => Err(format!("{now} descriptors open, {before} before")),
        });
        daemon.wait_channel("dropped", "ch", &[("client_count", 0)]);
    });
}

/// A connection left at one of eight points of its life.
fn dropped_at(daemon: &Daemon, point: u32) -> Client {
    let mut client = Client::raw(&daemon.tcp);
    let said: &[u8] = match point {
        0 => b"",
        1 => b"  ",
        2 => b"  V2",
        3 => b"  V2PUB dropp",
        4 => b"  V2PUB dropped\n\0\0\0\x05ab",
        5 => b"  V2SUB dropped ch\n",
        6 => b"  V2SUB dropped ch\nRDY 10\n",
        _ => b"  V2PUB dropped\n\0\0\0\x01aNONSENSE\n",
    };
    client.send(said);
    client
}

#[test]
fn the_largest_mpub() {
    check(&["--mem-queue-size=100000"], |daemon| {
        // 5 MiB in all, as few messages as can be; then as many as fit in the default limits.
        let limit = 5 * 1024 * 1024;
        let big = vec![b'b'; 1024 * 1024];
        let last = vec![b'l'; limit - 4 - 4 * (4 + big.len()) - 4];
        let mut client = Client::consumer(daemon, "big", "ch", 5);
        client.publish_batch("big", &[&big, &big, &big, &big, &last]);
        for _ in 0..5 {
            let body = client.message().body;
            assert!(body == big || body == last, "{} bytes", body.len());
        }
        let small = vec![b's'; 100];
        let count = (limit - 4) / 104;
        let mut client = Client::consumer(daemon, "small", "ch", 2500);
        client.publish_batch("small", &vec![&small[..]; count]);
        for _ in 0..count {
            let message = client.message();
            assert_eq!(message.body, small);
            client.finish(&message);
        }
        client.expect_quiet();
        daemon.wait_channel("small", "ch", &[("depth", 0), ("in_flight_count", 0)]);
    });
}

#[test]
fn promised_bodies_take_no_memory() {
    check(&[], |daemon| {
        still_serves(daemon);
        let before = daemon.resident_bytes();
        let promises: &[&[u8]] = if daemon.is_original() {
            &[b"MPUB t\n\0\x50\0\0"]
        } else {
            // One MPUB of 5 MiB, one with its first message begun, one PUB of 1 MiB, one IDENTIFY.
            &[
                b"MPUB t\n\0\x50\0\0",
                b"MPUB t\n\0\x50\0\0\0\0\0\x05\0\x10\0\0abc",
                b"PUB t\n\0\x10\0\0",
                b"IDENTIFY\n\0\x50\0\0",
            ]
        };
        let mut clients: Vec<_> = (0..200).map(|_| Client::connect(daemon)).collect();
        for (client, promise) in clients.iter_mut().zip(promises.iter().cycle()) {
            client.send(promise);
        }
        still_serves(daemon);
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 30 * MEBIBYTE, "{grown} bytes more for 200 connections");
    });
}
