//! `nsqd.dat`: when it is written, what is in it, and what becomes of it at the next start.

use super::{document, restart, saved, start_refused, wait_saved};
use crate::support::client::{Client, with_body};
use crate::support::daemon::{Daemon, Options, plain_flags};
use crate::support::matrix::{Transport, check};
use crate::support::wait::{PATIENCE, Stopwatch, eventually, pass};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PERSISTING: &str = "NSQ: persisting topic/channel metadata to ";

fn channel(name: &str, paused: bool) -> String {
    format!("{{\"name\":\"{name}\",\"paused\":{paused}}}")
}

fn topic(name: &str, paused: bool, channels: &str) -> String {
    format!("{{\"name\":\"{name}\",\"paused\":{paused},\"channels\":{channels}}}")
}

fn writes(daemon: &Daemon) -> usize {
    daemon.log().matches(PERSISTING).count()
}

/// Waits until the log tells of just so many writes.
fn wait_writes(daemon: &Daemon, expected: usize) {
    eventually(|| {
        let count = writes(daemon);
        if count == expected { Ok(()) } else { Err(format!("{count} writes")) }
    });
}

/// A directory with such an `nsqd.dat`.
fn directory_with(metadata: &str) -> Arc<TempDir> {
    let directory = TempDir::new().expect("a temporary directory");
    fs::write(directory.path().join("nsqd.dat"), metadata).expect("a new file");
    Arc::new(directory)
}

#[test]
fn l21_the_file_is_nsqs() {
    check(&[], |daemon| {
        wait_saved(daemon, &document("null"));
        daemon.create_topic("t");
        wait_saved(daemon, &document(&format!("[{}]", topic("t", false, "null"))));
        // What is ephemeral comes and goes without being written of.
        daemon.create_channel("e#ephemeral", "e#ephemeral");
        daemon.create_channel("t", "e#ephemeral");
        drop(Client::consumer(daemon, "t", "f#ephemeral", 1));
        daemon.wait_no_channel("t", "f#ephemeral");
        daemon.order("/topic/delete?topic=e#ephemeral");
        wait_writes(daemon, 2);
        // A consumer's channel is as good as one made over HTTP.
        let _client = Client::consumer(daemon, "t", "c", 1);
        let channels = format!("[{}]", channel("c", false));
        wait_saved(daemon, &document(&format!("[{}]", topic("t", false, &channels))));
        let mode = fs::metadata(daemon.directory().join("nsqd.dat")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        if daemon.is_original() {
            return; // It may save what is being deleted.
        }
        daemon.order("/channel/delete?topic=t&channel=c");
        wait_saved(daemon, &document(&format!("[{}]", topic("t", false, "null"))));
        daemon.order("/topic/delete?topic=t");
        wait_saved(daemon, &document("null"));
        wait_writes(daemon, 5);
    });
}

#[test]
fn c3_pauses_are_saved_in_both_directions() {
    check(&[], |daemon| {
        daemon.create_channel("t", "c");
        for paused in [true, false] {
            let action = if paused { "pause" } else { "unpause" };
            daemon.order(&format!("/channel/{action}?topic=t&channel=c"));
            // At once: it is in the file before the answer.
            assert!(saved(daemon.directory()).contains(&channel("c", paused)));
            daemon.order(&format!("/topic/{action}?topic=t"));
            let start = format!("{{\"name\":\"t\",\"paused\":{paused},");
            assert!(saved(daemon.directory()).contains(&start));
        }
    });
}

#[test]
fn a_pause_that_was_answered_survives_a_crash() {
    for shards in [1, 2] {
        let mut daemon = Daemon::start(&Options { shards, ..Options::default() });
        for topic in ["a", "b", "d"] {
            daemon.create_channel(topic, "c");
        }
        daemon.order("/topic/pause?topic=a");
        daemon.order("/channel/pause?topic=b&channel=c");
        let daemon = restart(&mut daemon, "KILL", shards);
        assert_eq!(daemon.topic("a").unwrap()["paused"], true);
        assert_eq!(daemon.channel("a", "c").unwrap()["paused"], false);
        assert_eq!(daemon.topic("b").unwrap()["paused"], false);
        assert_eq!(daemon.channel("b", "c").unwrap()["paused"], true);
        assert_eq!(daemon.topic("d").unwrap()["paused"], false);
        // Pausing is not only shown: nothing flows until it ends.
        let mut client = Client::consumer(&daemon, "b", "c", 1);
        Client::connect(&daemon).publish("b", b"later");
        daemon.wait_channel("b", "c", &[("depth", 1), ("in_flight_count", 0)]);
        daemon.order("/channel/unpause?topic=b&channel=c");
        client.message_with(b"later");
    }
}

#[test]
fn topics_and_channels_survive_an_orderly_stop() {
    for shards in [1, 2] {
        let mut daemon = Daemon::start(&Options { shards, ..Options::default() });
        Client::connect(&daemon).publish("u", b"x");
        daemon.create_channel("e#ephemeral", "c");
        let channels = || (0..20).map(|n| format!("c{n}"));
        // No waiting: the last write of an orderly stop has everything.
        let consumers: Vec<_> = channels().map(|c| Client::consumer(&daemon, "t", &c, 1)).collect();
        let daemon = restart(&mut daemon, "TERM", shards);
        drop(consumers);
        for channel in channels() {
            assert!(daemon.channel("t", &channel).is_some(), "{channel}");
        }
        assert!(daemon.topic("u").is_some() && daemon.topic("e#ephemeral").is_none());
        assert_eq!(daemon.topic("u").unwrap()["message_count"], 0, "counters start again");
    }
}

#[test]
fn topics_and_channels_survive_a_crash() {
    for shards in [1, 2] {
        let mut first = Daemon::start(&Options { shards, ..Options::default() });
        first.create_channel("t", "c");
        let _client = Client::consumer(&first, "u", "d", 1);
        eventually(|| {
            let seen = saved(first.directory());
            let there = ["\"c\"", "\"d\""].iter().all(|name| seen.contains(name));
            if there { Ok(()) } else { Err(seen) }
        });
        let second = restart(&mut first, "KILL", shards);
        assert!(second.channel("t", "c").is_some());
        // A channel that exists gets what is published before its consumer is back.
        Client::connect(&second).publish("u", b"early");
        Client::consumer(&second, "u", "d", 1).message_with(b"early");
    }
}

/// Publishes as soon as the kernel has somebody to connect to, and returns the answer.
fn publish_at_once(socket: &Path) -> Vec<u8> {
    let since = Stopwatch::start();
    while since.elapsed() < PATIENCE {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            let mut answer = [0; 10];
            stream.write_all(b"  V2PUB t1999\n\0\0\0\x05early").expect("the daemon listens");
            stream.read_exact(&mut answer).expect("an answer");
            return answer[8..].to_vec();
        }
        pass(Duration::from_micros(100));
    }
    panic!("nobody listens on {}", socket.display());
}

#[test]
fn a_message_published_at_once_finds_the_channels() {
    // Two, because a message that comes before both goes to the first alone.
    let channels = format!("[{},{}]", channel("c", false), channel("d", false));
    let rows = (0..2000).map(|n| topic(&format!("t{n}"), false, &channels));
    let metadata = document(&format!("[{}]", rows.collect::<Vec<_>>().join(",")));
    let directory = directory_with(&metadata);
    let socket = directory.path().join("tcp.sock");
    let publisher = std::thread::spawn(move || publish_at_once(&socket));
    let options = Options { transport: Transport::Unix, ..Options::default() };
    let daemon = Daemon::start_in(directory, &options);
    assert_eq!(publisher.join().unwrap(), b"OK");
    for channel in ["c", "d"] {
        daemon.wait_channel("t1999", channel, &[("depth", 1), ("message_count", 1)]);
    }
    assert_eq!(daemon.stats()["topics"].as_array().unwrap().len(), 2000);
    // Creating while loading writes nothing; all of it is written once.
    wait_writes(&daemon, 1);
}

#[test]
fn the_number_of_shards_may_change() {
    let mut daemon = Daemon::start(&Options { shards: 1, ..Options::default() });
    for n in 0..10 {
        daemon.create_channel(&format!("t{n}"), "c");
    }
    daemon.order("/topic/pause?topic=t3");
    daemon.order("/channel/pause?topic=t4&channel=c");
    for shards in [2, 1, 2] {
        daemon = restart(&mut daemon, "TERM", shards);
        for n in 0..10 {
            let topic = daemon.topic(&format!("t{n}")).expect("it survives");
            assert_eq!(topic["paused"], n == 3);
            assert_eq!(topic["channels"][0]["paused"], n == 4);
        }
    }
    Client::connect(&daemon).publish("t9", b"x");
    Client::consumer(&daemon, "t9", "c", 1).message_with(b"x");
}

#[test]
fn two_thousand_topics_take_few_writes() {
    if plain_flags() {
        return; // It writes once per topic.
    }
    let daemon = Daemon::start(&Options::default());
    let before = writes(&daemon);
    let mut client = Client::connect(&daemon);
    let publishes: Vec<u8> =
        (0..2000).flat_map(|n| with_body(&format!("PUB t{n:04}"), b"x")).collect();
    client.send(&publishes);
    for _ in 0..2000 {
        client.expect_ok();
    }
    let rows = (0..2000).map(|n| topic(&format!("t{n:04}"), false, "null"));
    wait_saved(&daemon, &document(&format!("[{}]", rows.collect::<Vec<_>>().join(","))));
    let count = writes(&daemon) - before;
    assert!(count <= 200, "{count} writes");
}

#[test]
fn a_file_that_is_no_metadata_ends_the_start_and_is_left() {
    for text in ["", "{\"topics\":[", "[]"] {
        let directory = directory_with(text);
        let path = directory.path().join("nsqd.dat");
        let (code, log) = start_refused(directory.path(), &[]);
        assert_eq!(code, Some(1), "{log}");
        let reason = format!("failed to parse metadata in {} - ", path.display());
        assert!(log.contains(&format!(" FATAL: failed to load metadata - {reason}")), "{log}");
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }
}

#[test]
fn names_that_are_none_are_skipped() {
    let rows = [
        topic("t$", true, "null"),
        topic("t", true, &format!("[{},{}]", channel("c c", false), channel("c", true))),
    ];
    let directory = directory_with(&document(&format!("[{}]", rows.join(","))));
    let daemon = Daemon::start_in(directory, &Options::default());
    for line in ["invalid topic t$", "invalid channel c c"] {
        let line = format!(" WARNING: skipping creation of {line}\n");
        assert!(daemon.is_original() || daemon.log().contains(&line), "{}", daemon.log());
    }
    let kept = topic("t", true, &format!("[{}]", channel("c", true)));
    wait_saved(&daemon, &document(&format!("[{kept}]")));
}

#[test]
fn the_file_is_found_in_the_working_directory() {
    let directory = directory_with(&document(&format!("[{}]", topic("t", false, "null"))));
    let options = Options { flags: &["--data-path="], ..Options::default() };
    let daemon = Daemon::start_in(directory, &options);
    assert!(daemon.topic("t").is_some());
    assert!(daemon.log().contains(&format!("{PERSISTING}nsqd.dat\n")), "{}", daemon.log());
}
