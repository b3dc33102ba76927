//! A backlog far larger than memory: it costs the disk one copy, memory next to nothing, and comes
//! back whole.

use super::ledger::Ledger;
use super::traffic::Traffic;
use super::wire::{Connection, Frame, Read_};
use super::{Daemon, check_log, number, start, u64_of, wait_drained};
use crate::support::wait::{PATIENCE, Stopwatch, eventually};
use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const MEBIBYTE: u64 = 1 << 20;

const BODY_BYTES: usize = 168;

/// Messages of one MPUB.
const BATCH: usize = 100;

/// Batches on their way.
const WINDOW: usize = 16;

/// Publishes so many messages, in pieces of which as many as `window` are on their way.
fn publish(
    (traffic, daemon): (&Traffic<'_>, &Daemon),
    (messages, piece, window): (usize, usize, usize),
    mut write: impl FnMut(Range<usize>, &mut Vec<u8>),
) {
    let mut connection = Connection::open(&daemon.tcp, PATIENCE).expect("the daemon is there");
    let mut waiting = VecDeque::new();
    let mut bytes = Vec::new();
    let mut left = messages / piece;
    while left > 0 || !waiting.is_empty() {
        bytes.clear();
        while left > 0 && waiting.len() < window {
            let numbers = traffic.ledger.take(piece).expect("there is room for all");
            write(numbers.clone(), &mut bytes);
            waiting.push_back(numbers);
            left -= 1;
        }
        connection.send(&bytes).expect("the daemon reads");
        assert_eq!(connection.fill(), Read_::Some, "an answer");
        while let Some(frame) = connection.frame() {
            match frame {
                Frame::Response(b"OK") => {
                    traffic.ledger.acknowledge(waiting.pop_front().expect("asked"))
                }
                Frame::Response(_) => {}
                Frame::Error(text) => panic!("{}", String::from_utf8_lossy(text)),
                Frame::Message { .. } => panic!("a message for a producer"),
            }
        }
    }
}

/// Bytes that the files of a log take.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the log");
    entries
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("it is ours").blocks() * 512)
        .sum()
}

#[test]
fn a_backlog_costs_one_copy_on_disk_and_little_memory() {
    let messages = number("RINGMAIN_MESSAGES", 100_000);
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    // Flags are the default ones.
    let daemon = start(&directory, 2, &[]);
    let channels = ["a", "b", "c"];
    for channel in channels {
        daemon.create_channel("t", channel);
        daemon.order(&format!("/channel/pause?topic=t&channel={channel}"));
    }
    let ledger = Ledger::new(messages, 3);
    let traffic = Traffic {
        ledger: &ledger,
        topic: "t",
        channels: &channels,
        body_bytes: BODY_BYTES,
        defers: false,
    };
    let started = Stopwatch::start();
    publish((&traffic, &daemon), (messages, BATCH, WINDOW), |numbers, bytes| {
        traffic.write_batch(numbers, bytes);
    });
    let filled = started.elapsed();
    let sent = ledger.sent() as u64;
    for channel in channels {
        daemon.wait_channel("t", channel, &[("depth", sent)]);
    }
    let resident = [daemon.resident_bytes(), daemon.resident_peak_bytes()].map(|b| b / MEBIBYTE);
    assert!(resident[1] < 300, "{resident:?} MiB");
    // One copy: the bodies, 40 bytes each beside them, and the segment that is being filled.
    let payload: u64 = sent * (BODY_BYTES as u64 + 32 + 40);
    let disk = disk_bytes(&directory.path().join("t.log"));
    assert!(disk < payload + payload / 5 + 200 * MEBIBYTE, "{disk} bytes for {payload}");
    let log_bytes = u64_of(&daemon.topic("t").expect("it is there"), "log_bytes");
    eprintln!(
        "{sent} messages in {filled:?}: resident, now and at most, {resident:?} MiB; \
         {} MiB on disk, {} MiB by /stats, {} MiB of bodies",
        disk / MEBIBYTE,
        log_bytes / MEBIBYTE,
        sent * (BODY_BYTES as u64 + 32) / MEBIBYTE
    );
    let started = Stopwatch::start();
    for channel in channels {
        daemon.order(&format!("/channel/unpause?topic=t&channel={channel}"));
    }
    let life = traffic.with(&daemon);
    life.while_consuming(&[0, 1, 2], || wait_drained(&daemon, "t"));
    let peak = daemon.resident_peak_bytes() / MEBIBYTE;
    eprintln!("drained by three channels in {:?}, at most {peak} MiB", started.elapsed());
    ledger.check_nothing_lost();
    ledger.check_batches();
    // A consumer requeues one in 512; nothing else comes twice.
    let again = ledger.sums().again;
    assert!(again <= 3 * sent / 512, "{again} came again");
    check_log(&daemon);
}

#[test]
fn deferred_messages_without_number_wait_on_disk() {
    let messages = number("RINGMAIN_MESSAGES", 50_000);
    let delay_ms = 2000.max(messages / 100);
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let daemon = start(&directory, 2, &[]);
    let channels = ["a"];
    daemon.create_channel("t", "a");
    let ledger = Ledger::new(messages, 1);
    let body_bytes = BODY_BYTES;
    let traffic =
        Traffic { ledger: &ledger, topic: "t", channels: &channels, body_bytes, defers: true };
    let life = traffic.with(&daemon);
    let started = Stopwatch::start();
    life.while_consuming(&[0], || {
        publish((&traffic, &daemon), (messages, 1, 1000), |numbers, bytes| {
            traffic.write_deferred(numbers.start, delay_ms + numbers.start % 2000, bytes);
        });
        let filled = started.elapsed();
        // Those that found no room in memory are read once to see when they are due.
        eventually(|| {
            let is_late = started.elapsed() >= Duration::from_millis(delay_ms as u64);
            let seen = daemon.channel("t", "a").expect("it is there");
            let are_all = seen["deferred_count"] == messages as u64;
            if are_all || is_late { Ok(()) } else { Err(seen.to_string()) }
        });
        let resident = daemon.resident_peak_bytes() / MEBIBYTE;
        eprintln!("{messages} deferred in {filled:?}, at most {resident} MiB");
        wait_drained(&daemon, "t");
    });
    let peak = daemon.resident_peak_bytes() / MEBIBYTE;
    eprintln!("all delivered after {:?}, at most {peak} MiB", started.elapsed());
    assert!(peak < 300, "{peak} MiB");
    ledger.check_nothing_lost();
    let again = ledger.sums().again;
    assert!(again <= messages as u64 / 256, "{again} came again");
    check_log(&daemon);
}
