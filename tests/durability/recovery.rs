//! The start after a crash: it may be cut off itself, redelivers little, and touches nothing it
//! does not understand.

use super::disk::copy;
use super::ledger::Ledger;
use super::traffic::Traffic;
use super::wire::{Connection, Frame, Read_};
use super::{check_log, kill, random, rounds, start, wait_drained};
use crate::support::client::{Client, batch, with_body};
use crate::support::daemon::{Daemon, command, log_path};
use crate::support::wait::{PATIENCE, Stopwatch, eventually, pass};
use fastrand::Rng;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const LOGGED: &[&str] = &["--durability=logged", "--mem-queue-size=100"];

/// What a channel holds: bodies, by their id.
type Contents = BTreeMap<String, Vec<u8>>;

fn contents(daemon: &Daemon, channel: &str) -> Contents {
    let count = daemon.channel("t", channel).expect("it is there")["depth"].as_u64().unwrap_or(0);
    let mut consumer = Client::consumer(daemon, "t", channel, 2500);
    let mut seen = Contents::new();
    for _ in 0..count {
        let message = consumer.message();
        consumer.finish(&message);
        let before = seen.insert(message.id.clone(), message.body);
        assert_eq!(before, None, "{} came twice", message.id);
    }
    consumer.expect_quiet();
    seen
}

/// Leaves a crash behind: a directory as `kill -9` leaves it under load.
fn crash(random: &mut Rng) -> Arc<TempDir> {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 2, LOGGED);
    daemon.create_channel("t", "a");
    daemon.create_channel("t", "b");
    let ledger = Ledger::new(1_000_000, 2);
    let channels = ["a", "b"];
    let traffic = Traffic {
        ledger: &ledger,
        topic: "t",
        channels: &channels,
        body_bytes: 100,
        defers: false,
    };
    let life = traffic.with(&daemon);
    thread::scope(|scope| {
        let _end = super::traffic::EndWhenDropped(&life);
        let producer = Rng::with_seed(random.u64(..));
        scope.spawn(|| life.produce(producer));
        scope.spawn(|| life.consume(0));
        pass(Duration::from_millis(random.u64(50..250)));
        kill(&mut daemon);
    });
    directory
}

/// Starts the daemon and kills it after some time, wherever it is then.
fn kill_at_start(directory: &Path, flags: &[&str], after: Duration) {
    let mut command = command(directory);
    command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]).args(flags);
    let mut child = command.spawn().expect("the daemon starts");
    pass(after);
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let log = fs::read_to_string(log_path(directory)).expect("its log");
    assert!(!log.contains("FATAL") && !log.contains(" ERROR: "), "{log}");
}

#[test]
fn reliability_5_a_recovery_cut_off_is_as_good_as_one() {
    let mut random = random();
    for _ in 0..rounds(6) {
        let once = crash(&mut random);
        let again = Arc::new(TempDir::new().expect("a temporary directory"));
        copy(&once.path().join("."), again.path());
        let started = Stopwatch::start();
        let daemon = start(&once, 1, LOGGED);
        let took = u64::try_from(started.elapsed().as_micros()).expect("a short time");
        let expected = ["a", "b"].map(|channel| contents(&daemon, channel));
        check_log(&daemon);
        for _ in 0..random.u32(1..=3) {
            let after = Duration::from_micros(random.u64(..=took));
            kill_at_start(again.path(), LOGGED, after);
        }
        let daemon = start(&again, 2, LOGGED);
        let seen = ["a", "b"].map(|channel| contents(&daemon, channel));
        check_log(&daemon);
        assert_eq!(seen.each_ref().map(Contents::len), expected.each_ref().map(Contents::len));
        assert!(seen == expected, "recovery was cut off, and found other messages");
    }
}

/// An id nobody has: the answer to its FIN tells that all commands before were carried out.
const FENCE: &[u8] = b"FIN ffffffffffffffff\n";

/// Finishes messages as fast as they come. Returns those whose FIN was carried out for certain.
fn finish_until_killed(daemon: &Daemon) -> HashSet<[u8; 16]> {
    let mut connection = Connection::open(&daemon.tcp, PATIENCE).expect("the daemon is there");
    connection.send(b"SUB t a\nRDY 2500\n").expect("the daemon reads");
    let (mut finished, mut sent) = (HashSet::new(), std::collections::VecDeque::new());
    let mut bytes = Vec::new();
    while connection.fill() == Read_::Some {
        bytes.clear();
        let mut ids = Vec::new();
        while let Some(frame) = connection.frame() {
            match frame {
                Frame::Message { id, .. } => {
                    bytes.extend(b"FIN ");
                    bytes.extend(id);
                    bytes.push(b'\n');
                    ids.push(id);
                }
                Frame::Error(_) => finished.extend(sent.pop_front().unwrap_or_else(Vec::new)),
                Frame::Response(_) => {}
            }
        }
        if !ids.is_empty() {
            bytes.extend(FENCE);
            sent.push_back(ids);
        }
        if connection.send(&bytes).is_err() {
            // What was answered before the end may still be read.
            continue;
        }
    }
    finished
}

#[test]
fn reliability_7_a_kill_redelivers_little_of_what_was_finished() {
    const MESSAGES: usize = 100_000;
    let mut random = random();
    let mut worst = 0;
    for _ in 0..rounds(3) {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let mut daemon = start(&directory, 1, LOGGED);
        daemon.create_channel("t", "a");
        let mut producer = Client::connect(&daemon);
        for _ in 0..MESSAGES / 1000 {
            producer.publish_batch("t", &[&[b'x'; 50][..]; 1000]);
        }
        let finished = thread::scope(|scope| {
            let consumer = scope.spawn(|| finish_until_killed(&daemon));
            let enough = random.usize(MESSAGES / 4..MESSAGES);
            eventually(|| {
                let channel = daemon.channel("t", "a").ok_or("no channel")?;
                let left = usize::try_from(channel["depth"].as_u64().unwrap_or(0)).unwrap_or(0);
                if left + enough < MESSAGES { Ok(()) } else { Err(format!("{left} left")) }
            });
            let pid = daemon.pid().to_string();
            let sent = std::process::Command::new("kill").args(["-KILL", &pid]).status();
            assert!(sent.expect("kill can be run").success());
            consumer.join().expect("the consumer fails only with the daemon")
        });
        let _killed = daemon.terminate("KILL");
        let daemon = start(&directory, 1, LOGGED);
        let again = contents(&daemon, "a");
        let is_again = |id: &&[u8; 16]| again.contains_key(&String::from_utf8_lossy(*id)[..]);
        let redelivered = finished.iter().filter(is_again).count();
        worst = worst.max(redelivered);
        assert!(finished.len() + again.len() >= MESSAGES, "{} are lost", MESSAGES);
        check_log(&daemon);
    }
    eprintln!("at most {worst} delivered again after a kill");
    assert!(worst <= 10_000, "{worst} finished messages were delivered again");
}

/// All files of a directory, with their bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1)))
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn reliability_20_a_log_of_a_newer_format_is_refused_and_untouched() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 1, LOGGED);
    Client::connect(&daemon).publish("t", b"x");
    kill(&mut daemon);
    let log = directory.path().join("t.log");
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|e| e == "segment");
    let segments = files(&log);
    let (segment, bytes) = segments.iter().find(|(path, _)| is_segment(path)).expect("a segment");
    // docs/STORAGE_FORMAT.md: the version follows the magic, and the header has a checksum.
    let mut newer = bytes.clone();
    newer[8] += 1;
    let crc = crc32c(&newer[..52]).to_le_bytes();
    newer[52..56].copy_from_slice(&crc);
    fs::write(segment, newer).expect("a file of ours");
    let before = files(&log);
    for _ in 0..2 {
        let mut command = command(directory.path());
        command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]);
        let mut child = command.spawn().expect("the daemon starts");
        let status = eventually(|| child.try_wait().expect("a child").ok_or("it runs".to_owned()));
        let text = fs::read_to_string(log_path(directory.path())).expect("its log");
        assert_eq!(status.code(), Some(1), "{text}");
        let line = text.lines().find(|line| line.contains(" FATAL: ")).unwrap_or_default();
        for part in ["topic t", "format version 2, newer than", "Nothing was changed"] {
            assert!(line.contains(part), "{text}");
        }
        assert!(files(&log) == before, "the log was touched");
    }
    // With the old header everything is there again.
    fs::write(segment, bytes).expect("a file of ours");
    let daemon = start(&directory, 1, LOGGED);
    Client::consumer(&daemon, "t", "a", 1).message_with(b"x");
}

#[test]
fn a_log_that_no_metadata_knows_brings_its_topic_back() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 2, LOGGED);
    daemon.create_channel("t", "a");
    let mut client = Client::connect(&daemon);
    client.send(&with_body("MPUB t", &batch(&[b"one", b"two"])));
    client.expect_ok();
    kill(&mut daemon);
    fs::remove_file(directory.path().join("nsqd.dat")).expect("it is there");
    let daemon = start(&directory, 2, LOGGED);
    daemon.wait_channel("t", "a", &[("depth", 2)]);
    let mut consumer = Client::consumer(&daemon, "t", "a", 2);
    for message in consumer.messages(2) {
        consumer.finish(&message);
    }
    wait_drained(&daemon, "t");
}
