//! A full disk: what cannot be kept is refused, consumers go on, and it heals by itself.

use super::disk::{Disk, Probe, with_mounts};
use super::ledger::Ledger;
use super::traffic::{End, EndWhenDropped, Life, Traffic};
use super::{Daemon, held, random, rounds, start, u64_of, wait_drained};
use crate::support::client::{Client, Frame, with_body};
use crate::support::wait::{Stopwatch, eventually};
use fastrand::Rng;
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

const DISK_BYTES: u64 = 64 << 20;

/// What a body has at least, so that the disk is full soon.
const BODY_BYTES: usize = 3000;

/// Messages that fill the disk once, and some more.
const MESSAGES: usize = 40_000;

const LEVEL: &str = "--durability=logged";

fn ping(daemon: &Daemon) -> (u16, String) {
    let reply = daemon.get("/ping");
    (reply.status, reply.text())
}

/// Waits until `/ping` tells of the want of space.
fn wait_ill(daemon: &Daemon) {
    eventually(|| match ping(daemon) {
        (500, text) if text.contains("NOK - cannot write to the log of topic t: No space") => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
}

/// Waits until `/ping` is content; how long that took.
fn wait_healthy(daemon: &Daemon) {
    let since = Stopwatch::start();
    eventually(|| match ping(daemon) {
        (200, text) if text == "OK" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    eprintln!("healthy {:?} after space was made", since.elapsed());
}

/// Publishes until the daemon refuses.
pub(super) fn publish_until_full(life: &Life<'_>, random: &mut Rng) {
    thread::scope(|scope| {
        let _end = EndWhenDropped(life);
        let producers: Vec<_> = (0..4)
            .map(|_| {
                let random = Rng::with_seed(random.u64(..));
                scope.spawn(|| life.produce(random))
            })
            .collect();
        for producer in producers {
            assert_eq!(producer.join().expect("it fails only with the daemon"), End::Refused);
        }
    });
}

/// Every way to publish is refused with NSQ's codes, and with the reason.
fn check_refusals(daemon: &Daemon) {
    // A place in what is left of the segment may still take something small.
    let body = vec![b'x'; 900 << 10];
    let batch = crate::support::client::batch(&[&body]);
    for (line, body) in [("PUB t", &body), ("DPUB t 10", &body), ("MPUB t", &batch)] {
        let mut client = Client::connect(daemon);
        client.send(&with_body(line, body));
        let command = line.split(' ').next().expect("a word");
        let text =
            format!("E_{command}_FAILED {command} failed write to the topic's log: No space");
        client.expect_fatal_prefix(&text);
    }
    for (target, body) in [("/pub?topic=t", &body), ("/mpub?topic=t&binary=true", &batch)] {
        let reply = daemon.post(target, body);
        assert!((500..=503).contains(&reply.status), "{target}: {} {}", reply.status, reply.text());
    }
}

fn create(daemon: &Daemon, channels: &[&str]) {
    channels.iter().for_each(|channel| daemon.create_channel("t", channel));
}

#[test]
fn reliability_25_a_full_disk_refuses_and_heals() {
    with_mounts("durability::full::reliability_25_a_full_disk_refuses_and_heals", fill_and_drain);
}

fn fill_and_drain() {
    let (count, mut random) = (rounds(2), random());
    let disk = Disk::new(DISK_BYTES, &[], Probe::Inside).expect("it could be made before");
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let flag = disk.data_path_flag();
    let daemon = start(&directory, 2, &[LEVEL, &flag, "--mem-queue-size=100"]);
    let channels = ["a", "b"];
    create(&daemon, &channels);
    let ledger = Ledger::new(count * MESSAGES, 2);
    let traffic = Traffic {
        ledger: &ledger,
        topic: "t",
        channels: &channels,
        body_bytes: BODY_BYTES,
        defers: false,
    };
    for round in 0..count {
        publish_until_full(&traffic.with(&daemon), &mut random);
        wait_ill(&daemon);
        check_refusals(&daemon);
        // One channel is drained while the disk is full; the other still needs the messages.
        let depth = |name: &str| u64_of(&daemon.channel("t", name).expect("it is there"), "depth");
        assert!(depth("a") > 5000 && depth("b") > 5000, "{} {}", depth("a"), depth("b"));
        let life = traffic.with(&daemon);
        life.while_consuming(&[0], || {
            daemon.wait_channel("t", "a", &[("depth", 0), ("in_flight_count", 0)]);
        });
        if round % 2 == 0 {
            wait_ill(&daemon);
        }
        traffic.drain(&daemon);
        wait_healthy(&daemon);
        traffic.publish_one(&daemon);
        traffic.drain(&daemon);
    }
    ledger.check_nothing_lost();
    ledger.check_refused();
    eprintln!("{count} fills, {:?}", ledger.sums());
}

#[test]
fn reliability_25_space_that_returns_is_found() {
    with_mounts("durability::full::reliability_25_space_that_returns_is_found", others_fill);
}

fn others_fill() {
    let disk = Disk::new(DISK_BYTES, &[], Probe::Inside).expect("it could be made before");
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let flag = disk.data_path_flag();
    let daemon = start(&directory, 2, &["--durability=synced", &flag]);
    create(&daemon, &["a"]);
    // No log yet, and no space for one.
    disk.fill();
    for round in 0..3_u8 {
        let mut client = Client::connect(&daemon);
        client.send(&with_body("PUB t", &[round]));
        if round == 0 {
            client
                .expect_fatal_prefix("E_PUB_FAILED PUB failed write to the topic's log: No space");
            wait_ill(&daemon);
            let reply = daemon.post("/pub?topic=t", b"x");
            assert!(reply.status >= 500, "{} {}", reply.status, reply.text());
            disk.make_space();
            wait_healthy(&daemon);
        } else {
            client.expect_ok();
        }
    }
    let mut consumer = Client::consumer(&daemon, "t", "a", 1);
    for round in 1..3 {
        let message = consumer.message_with(&[round]);
        consumer.finish(&message);
    }
    consumer.expect_quiet();
}

#[test]
fn reliability_26_a_crash_while_the_disk_is_full_loses_nothing() {
    let name = "durability::full::reliability_26_a_crash_while_the_disk_is_full_loses_nothing";
    with_mounts(name, full_and_killed);
}

fn full_and_killed() {
    let (count, mut random) = (rounds(2), random());
    let disk = Disk::new(DISK_BYTES, &[], Probe::Inside).expect("it could be made before");
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let flag = disk.data_path_flag();
    let flags = [LEVEL, &flag, "--mem-queue-size=100"];
    let ledger = Ledger::new(count * MESSAGES, 2);
    let channels = ["a", "b"];
    let traffic = Traffic {
        ledger: &ledger,
        topic: "t",
        channels: &channels,
        body_bytes: BODY_BYTES,
        defers: false,
    };
    let mut daemon = start(&directory, 2, &flags);
    create(&daemon, &channels);
    for _ in 0..count {
        publish_until_full(&traffic.with(&daemon), &mut random);
        disk.fill();
        wait_ill(&daemon);
        let life = traffic.with(&daemon);
        life.while_consuming(&[0], || {
            eventually(|| {
                let channel = daemon.channel("t", "a").ok_or("no channel")?;
                if channel["depth"].as_u64() < Some(3000) {
                    Ok(())
                } else {
                    Err(channel.to_string())
                }
            });
            let status = daemon.terminate("KILL");
            assert!(!status.success());
        });
        let before = held_by(&ledger);
        daemon = start(&directory, random.u16(1..=2), &flags);
        assert!(held(&daemon, "t") >= before, "{} of {before}", held(&daemon, "t"));
        traffic.drain(&daemon);
        ledger.check_nothing_lost();
        disk.make_space();
        wait_healthy(&daemon);
        traffic.publish_one(&daemon);
    }
    daemon.terminate("KILL");
    eprintln!("{count} crashes while full, {:?}", ledger.sums());
}

/// Acknowledged messages that were not delivered yet, in both channels.
fn held_by(ledger: &Ledger) -> u64 {
    (0..2).map(|channel| ledger.lost(channel, 0..ledger.sent()).len() as u64).sum()
}

#[test]
fn reliability_28_channels_get_all_that_was_acknowledged_while_the_disk_fills() {
    let name = "durability::full::\
                reliability_28_channels_get_all_that_was_acknowledged_while_the_disk_fills";
    with_mounts(name, three_channels);
}

fn three_channels() {
    let mut random = random();
    for level in ["--durability=overflow", LEVEL] {
        let disk = Disk::new(DISK_BYTES, &[], Probe::Inside).expect("it could be made before");
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let flag = disk.data_path_flag();
        let daemon = start(&directory, 2, &[level, &flag, "--mem-queue-size=50"]);
        let channels = ["a", "b", "c"];
        create(&daemon, &channels);
        let ledger = Ledger::new(2 * MESSAGES, 3);
        let traffic = Traffic {
            ledger: &ledger,
            topic: "t",
            channels: &channels,
            body_bytes: BODY_BYTES,
            defers: false,
        };
        // One channel keeps up, one begins when the disk is full, one in the end.
        let life = traffic.with(&daemon);
        life.while_consuming(&[0], || publish_until_full(&traffic.with(&daemon), &mut random));
        wait_ill(&daemon);
        // What can be kept is taken, all of it or none by all channels.
        let mut client = Client::connect(&daemon);
        let numbers = ledger.take(5).expect("there are more");
        let mut bytes = Vec::new();
        traffic.write_batch(numbers.clone(), &mut bytes);
        client.send(&bytes);
        match client.frame() {
            Frame::Response(_) => ledger.acknowledge(numbers),
            _ => ledger.refuse(numbers),
        }
        traffic.with(&daemon).while_consuming(&[1], || {
            daemon.wait_channel("t", "b", &[("depth", 0), ("in_flight_count", 0)]);
        });
        traffic.drain(&daemon);
        ledger.check_nothing_lost();
        ledger.check_refused();
        ledger.check_batches();
        wait_drained(&daemon, "t");
        wait_healthy(&daemon);
        eprintln!("{level}: {:?}", ledger.sums());
    }
}
