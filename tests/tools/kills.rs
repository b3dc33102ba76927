//! `nsq_to_file` killed at random moments, again and again, while messages come.
//!
//! `RINGMAIN_ROUNDS=50 cargo test --test tools kills` does it 50 times instead of 8;
//! `RINGMAIN_SEED` repeats the choices of a run, not its timing.

use super::nsq_to_file::{drained, read, start};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::{eventually, pass};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Messages that come while one program runs.
const PER_ROUND: usize = 2_000;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A body of its own that compresses badly, so that writes are long; now and then a large one.
fn body(number: usize, random: &mut Rng) -> String {
    let length = if random.u8(..) == 0 { 50_000 } else { random.usize(..300) };
    let filler: String = std::iter::repeat_with(|| random.alphanumeric()).take(length).collect();
    format!("{number:06}{filler}")
}

/// Messages that are written for good.
fn finished(daemon: &Daemon) -> u64 {
    let channel = daemon.channel("t", "c").expect("a channel");
    let count = |name: &str| channel[name].as_u64().expect("a number");
    count("message_count") - count("depth") - count("in_flight_count")
}

fn unreadable(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory of the test");
    entries.filter_map(|entry| read(&entry.expect("a file").path()).err()).collect()
}

/// Kills it in each round; in the end everything that came is in files that can be read.
fn kill(flags: &[&str]) {
    let rounds = number("RINGMAIN_ROUNDS", 8);
    let seed = number("RINGMAIN_SEED", fastrand::u64(..));
    eprintln!("RINGMAIN_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let daemon =
        Daemon::start(&Options { flags: &["--mem-queue-size=1000000"], ..Options::default() });
    daemon.create_channel("t", "c");
    let directory = TempDir::new().expect("a temporary directory");
    let fixed = ["-sync-interval=20ms", "-max-in-flight=500", "-datetime-format=x"];
    // Nobody reads what it logs.
    let fixed = [&fixed[..], &["-log-level=warn"]].concat();
    let flags = [&fixed[..], flags].concat();
    let mut bodies = BTreeSet::new();
    for _ in 0..rounds {
        let program = start(&daemon, directory.path(), &flags);
        let before = finished(&daemon);
        let new: Vec<_> = (0..PER_ROUND).map(|at| body(bodies.len() + at, &mut random)).collect();
        let mut producer = Client::connect(&daemon);
        for batch in new.chunks(100) {
            let batch: Vec<_> = batch.iter().map(String::as_bytes).collect();
            producer.publish_batch("t", &batch);
        }
        bodies.extend(new);
        // Sometimes it is killed while it starts.
        if random.u8(..) >= 64 {
            eventually(|| {
                let is_finishing = finished(&daemon) > before;
                if is_finishing { Ok(()) } else { Err(format!("{:?}", daemon.channel("t", "c"))) }
            });
        }
        pass(Duration::from_millis(random.u64(..40)));
        program.signal("KILL");
        drop(program);
        // Only the last program's own file waits for the next start to be put right.
        let unreadable = unreadable(directory.path());
        assert!(unreadable.len() <= 1, "{unreadable:?}");
    }
    let program = start(&daemon, directory.path(), &flags);
    // The kills may have left it nothing to do: it is to be there before it is told to end.
    daemon.wait_channel("t", "c", &[("client_count", 1)]);
    drained(&daemon);
    program.signal("TERM");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    let mut missing = bodies;
    for entry in fs::read_dir(directory.path()).expect("the directory of the test") {
        let text = read(&entry.expect("a file").path()).expect("a readable file");
        for line in text.lines() {
            missing.remove(line);
        }
    }
    assert!(missing.is_empty(), "{} are missing", missing.len());
}

#[test]
fn kills_leave_readable_compressed_files() {
    kill(&["-gzip"]);
}

#[test]
fn kills_lose_no_line() {
    kill(&[]);
}
