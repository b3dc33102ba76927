//! The end of the process at any moment: `kill -9` under load, and what comes back.

use super::ledger::Ledger;
use super::traffic::{BATCH_MAX, EndWhenDropped, READY, Traffic, WINDOW};
use super::{check_log, kill, random, rounds, start};
use crate::support::client::{Client, with_body};
use crate::support::wait::pass;
use fastrand::Rng;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const PRODUCERS: usize = 4;

/// Channel of each consumer: one of the channels falls behind.
const CONSUMERS: [usize; 4] = [0, 0, 0, 1];

const CHANNELS: &[&str] = &["a", "b"];

/// Most numbers used in one round.
const PER_ROUND: usize = 60_000;

/// What of a kill loop is to be judged.
struct Outcome {
    ledger: Ledger,
    /// Numbers of each round.
    rounds: Vec<Range<usize>>,
}

/// Kills a daemon again and again at random moments, while producers and consumers are at it, and
/// has it deliver the rest at the end.
fn kill_loop(level: &str, flags: &[&str], defers: bool) -> Outcome {
    let (count, mut random) = (rounds(20), random());
    let ledger = Ledger::new(count * PER_ROUND, CHANNELS.len());
    let traffic =
        Traffic { ledger: &ledger, topic: "t", channels: CHANNELS, body_bytes: 8, defers };
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let level_flag = format!("--durability={level}");
    let flags = [&[level_flag.as_str()], flags].concat();
    let mut numbers = Vec::new();
    for round in 0..count {
        let mut daemon = start(&directory, random.u16(1..=2), &flags);
        if round == 0 {
            CHANNELS.iter().for_each(|channel| daemon.create_channel("t", channel));
        }
        let first = ledger.sent();
        let life = traffic.with(&daemon);
        thread::scope(|scope| {
            let _end = EndWhenDropped(&life);
            for _ in 0..PRODUCERS {
                let random = Rng::with_seed(random.u64(..));
                scope.spawn(|| life.produce(random));
            }
            for channel in CONSUMERS {
                let life = &life;
                scope.spawn(move || life.consume(channel));
            }
            pass(Duration::from_millis(random.u64(5..=500)));
            kill(&mut daemon);
        });
        numbers.push(first..ledger.sent());
    }
    let daemon = start(&directory, 2, &flags);
    traffic.drain(&daemon);
    check_log(&daemon);
    eprintln!("{level}: {count} kills, {:?}", ledger.sums());
    Outcome { ledger, rounds: numbers }
}

#[test]
fn reliability_1_nothing_acknowledged_is_lost_by_kills_at_synced() {
    let Outcome { ledger, .. } = kill_loop("synced", &[], true);
    ledger.check_nothing_lost();
    ledger.check_batches();
}

#[test]
fn reliability_2_nothing_acknowledged_is_lost_by_kills_at_logged() {
    let Outcome { ledger, .. } = kill_loop("logged", &["--mem-queue-size=1000"], true);
    ledger.check_nothing_lost();
    ledger.check_batches();
}

#[test]
fn reliability_3_kills_at_overflow_cost_what_was_in_memory_alone() {
    const QUEUE: usize = 1000;
    let Outcome { ledger, rounds } = kill_loop("overflow", &["--mem-queue-size=1000"], false);
    let mut worst = 0;
    for (channel, name) in CHANNELS.iter().enumerate() {
        let consumers = CONSUMERS.iter().filter(|consumer| **consumer == channel).count();
        // Of each kill: a full queue, a batch that was admitted whole, and what was in flight.
        let allowed = QUEUE + BATCH_MAX + consumers * READY;
        for round in &rounds {
            let lost = ledger.lost(channel, round.clone()).len();
            worst = worst.max(lost);
            assert!(lost <= allowed, "channel {name} lost {lost} of {round:?}");
        }
    }
    eprintln!("overflow: at most {worst} lost by one kill in one channel");
}

#[test]
fn reliability_3_what_reached_the_log_survives_kills_at_overflow() {
    const QUEUE: u64 = 500;
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let flags = ["--mem-queue-size=500"];
    let mut daemon = start(&directory, 2, &flags);
    daemon.create_channel("t", "a");
    let mut producer = Client::connect(&daemon);
    for chunk in 0..10 * QUEUE / WINDOW as u64 {
        let publish = with_body("PUB t", &chunk.to_be_bytes());
        producer.send(&publish.repeat(WINDOW));
        (0..WINDOW).for_each(|_| producer.expect_ok());
    }
    let published = 10 * QUEUE / WINDOW as u64 * WINDOW as u64;
    daemon.wait_channel("t", "a", &[("depth", published)]);
    kill(&mut daemon);
    let daemon = start(&directory, 1, &flags);
    // The messages came before any of them could be delivered: exactly the queue is gone.
    daemon.wait_channel("t", "a", &[("depth", published - QUEUE)]);
    let mut consumer = Client::consumer(&daemon, "t", "a", 100);
    for _ in QUEUE..published {
        let message = consumer.message();
        consumer.finish(&message);
    }
    daemon.wait_channel("t", "a", &[("depth", 0), ("in_flight_count", 0)]);
    check_log(&daemon);
}
