//! A backlog far larger than memory: it costs the disk one copy, memory next to nothing, and comes
//! back whole.

use super::ledger::Ledger;
use super::traffic::Traffic;
use super::wire::{Connection, Frame, Read_};
use super::{Daemon, check_log, number, start, u64_of, wait_drained};
use crate::support::wait::{PATIENCE, Stopwatch};
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const MEBIBYTE: u64 = 1 << 20;

const BODY_BYTES: usize = 168;

/// Messages of one MPUB.
const BATCH: usize = 100;

/// Batches on their way.
const WINDOW: usize = 16;

fn publish(traffic: &Traffic<'_>, daemon: &Daemon, messages: usize) {
    let mut connection = Connection::open(&daemon.tcp, PATIENCE).expect("the daemon is there");
    let mut waiting = VecDeque::new();
    let mut bytes = Vec::new();
    let mut left = messages / BATCH;
    while left > 0 || !waiting.is_empty() {
        bytes.clear();
        while left > 0 && waiting.len() < WINDOW {
            let numbers = traffic.ledger.take(BATCH).expect("there is room for all");
            traffic.write_batch(numbers.clone(), &mut bytes);
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
    publish(&traffic, &daemon, messages);
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
