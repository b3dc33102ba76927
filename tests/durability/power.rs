//! The end of the power, and disks that fail: a filesystem is shut down under the daemon, or runs
//! out of the space it promised.

use super::disk::{Disk, Probe, with_mounts};
use super::full::publish_until_full;
use super::ledger::Ledger;
use super::traffic::{EndWhenDropped, Traffic};
use super::{Daemon, random, rounds, start};
use crate::support::client::{Client, with_body};
use crate::support::wait::{eventually, pass};
use fastrand::Rng;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const DISK_BYTES: u64 = 256 << 20;

const CHANNELS: &[&str] = &["a", "b"];

const PER_ROUND: usize = 40_000;

/// Channel of each consumer.
const CONSUMERS: [usize; 3] = [0, 0, 1];

/// A daemon on a disk whose power is cut, again and again.
struct Outage<'a> {
    disk: Disk,
    directory: Arc<TempDir>,
    traffic: Traffic<'a>,
    level: &'a str,
}

impl<'a> Outage<'a> {
    fn new(traffic: Traffic<'a>, level: &'a str) -> Self {
        let disk = Disk::new(DISK_BYTES, &[], Probe::Inside).expect("it could be made before");
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let outage = Self { disk, directory, traffic, level };
        let mut daemon = outage.start(2);
        CHANNELS.iter().for_each(|channel| daemon.create_channel("t", channel));
        assert!(daemon.terminate("TERM").success());
        outage
    }

    fn start(&self, shards: u16) -> Daemon {
        let flag = self.disk.data_path_flag();
        start(&self.directory, shards, &[self.level, &flag, "--mem-queue-size=1000"])
    }

    /// Lets clients work for some time, and cuts the power. Returns the numbers used.
    fn round(
        &self,
        random: &mut Rng,
        producers: usize,
        consumers: &[usize],
        ms: Range<u64>,
    ) -> Range<usize> {
        let mut daemon = self.start(random.u16(1..=2));
        let first = self.traffic.ledger.sent();
        let life = self.traffic.with(&daemon);
        thread::scope(|scope| {
            let _end = EndWhenDropped(&life);
            for _ in 0..producers {
                let random = Rng::with_seed(random.u64(..));
                scope.spawn(|| life.produce(random));
            }
            for channel in consumers {
                let life = &life;
                scope.spawn(move || life.consume(*channel));
            }
            pass(Duration::from_millis(random.u64(ms)));
            // What is acknowledged after this instant has to be on the disk just the same.
            self.disk.cut_power();
            let _ended_by_itself_or_so = daemon.terminate("KILL");
        });
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        drop(daemon);
        self.disk.unmount();
        self.disk.mount().expect("a journal is replayed");
        first..self.traffic.ledger.sent()
    }
}

#[test]
fn reliability_9_nothing_acknowledged_is_lost_by_power_cuts_at_synced() {
    let name = "durability::power::\
                reliability_9_nothing_acknowledged_is_lost_by_power_cuts_at_synced";
    with_mounts(name, cut_synced);
}

fn cut_synced() {
    let (count, mut random) = (rounds(5), random());
    let ledger = Ledger::new(count * PER_ROUND, CHANNELS.len());
    let traffic =
        Traffic { ledger: &ledger, topic: "t", channels: CHANNELS, body_bytes: 8, defers: true };
    let outage = Outage::new(traffic, "--durability=synced");
    for _ in 0..count {
        outage.round(&mut random, 4, &CONSUMERS, 5..500);
    }
    outage.traffic.drain(&outage.start(2));
    eprintln!("synced: {count} power cuts, {:?}", ledger.sums());
    ledger.check_nothing_lost();
    ledger.check_batches();
}

#[test]
fn reliability_10_power_cuts_at_logged_cost_the_last_messages_alone() {
    let name = "durability::power::\
                reliability_10_power_cuts_at_logged_cost_the_last_messages_alone";
    with_mounts(name, cut_logged);
}

fn cut_logged() {
    /// As in the flag; a sync begins when so many are written, and others are written meanwhile.
    const SYNC_EVERY: usize = 2500;
    let (count, mut random) = (rounds(5), random());
    let ledger = Ledger::new(count * PER_ROUND, CHANNELS.len());
    let traffic =
        Traffic { ledger: &ledger, topic: "t", channels: CHANNELS, body_bytes: 8, defers: false };
    let outage = Outage::new(traffic, "--durability=logged");
    let mut worst = 0;
    for _ in 0..count {
        // One producer, so that the order of numbers is that of the log; nobody consumes.
        let numbers = outage.round(&mut random, 1, &[], 5..1500);
        outage.traffic.drain(&outage.start(1));
        let lost = ledger.lost(0, numbers.clone());
        assert_eq!(lost, ledger.lost(1, numbers.clone()), "channels share a log");
        if let Some(first) = lost.first() {
            let kept = (*first..numbers.end).find(|number| ledger.is_delivered(0, *number));
            assert_eq!(kept, None, "{first} was lost, and a later one kept");
        }
        worst = worst.max(lost.len());
    }
    eprintln!("logged: {count} power cuts, at most {worst} lost, {:?}", ledger.sums());
    assert!(worst <= 4 * SYNC_EVERY, "{worst} lost by one power cut");
}

#[test]
fn reliability_22_an_aborted_journal_costs_nothing_that_was_acknowledged() {
    let name = "durability::power::\
                reliability_22_an_aborted_journal_costs_nothing_that_was_acknowledged";
    with_mounts(name, abort_journal);
}

fn abort_journal() {
    const PROMISED_BYTES: u64 = 256 << 20;
    let disk = Disk::thin(PROMISED_BYTES, 32 << 20);
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let flag = disk.data_path_flag();
    let flags = ["--durability=synced", &flag, "--mem-queue-size=1000"];
    let ledger = Ledger::new(PER_ROUND, CHANNELS.len());
    let traffic = Traffic {
        ledger: &ledger,
        topic: "t",
        channels: CHANNELS,
        body_bytes: 3000,
        defers: false,
    };
    let mut daemon = start(&directory, 2, &flags);
    CHANNELS.iter().for_each(|channel| daemon.create_channel("t", channel));
    publish_until_full(&traffic.with(&daemon), &mut random());
    let check_ill = || {
        eventually(|| match daemon.get("/ping") {
            reply if reply.status == 500 && reply.text().starts_with("NOK - ") => Ok(()),
            reply => Err(format!("{} {}", reply.status, reply.text())),
        });
    };
    check_ill();
    traffic.with(&daemon).while_consuming(&[0], || {
        daemon.wait_channel("t", "a", &[("depth", 0), ("in_flight_count", 0)]);
    });
    check_ill();
    let mut client = Client::connect(&daemon);
    client.send(&with_body("PUB t", &[b'x'; 100_000]));
    client.expect_fatal_prefix("E_PUB_FAILED PUB failed ");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let _ended = daemon.terminate("KILL");
    // A start says what is wrong, or serves what it can; it does not hang, nor remove anything.
    disk.unmount();
    disk.thicken(PROMISED_BYTES + (64 << 20));
    disk.mount().expect("a journal is replayed");
    let daemon = start(&directory, 1, &flags);
    traffic.publish_one(&daemon);
    traffic.drain(&daemon);
    ledger.check_nothing_lost();
    ledger.check_batches();
    eprintln!("an aborted journal: {:?}", ledger.sums());
}
