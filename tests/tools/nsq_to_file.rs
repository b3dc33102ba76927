//! `nsq_to_file`.

use super::program::{Program, refuses, run, tcp};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::eventually;
use flate2::read::MultiGzDecoder;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use tempfile::TempDir;

const NSQ_TO_FILE: &str = env!("CARGO_BIN_EXE_nsq_to_file");

/// All lines of all files in the directory, decompressed.
fn lines(directory: &Path) -> Result<Vec<String>, String> {
    let mut text = String::new();
    for entry in fs::read_dir(directory).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let mut file = File::open(&path).map_err(|error| error.to_string())?;
        let read = if path.extension().is_some_and(|extension| extension == "gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text)
        } else {
            file.read_to_string(&mut text)
        };
        read.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(text.lines().map(str::to_owned).collect())
}

fn start(daemon: &Daemon, directory: &TempDir, flags: &[&str]) -> Program {
    let address = format!("-nsqd-tcp-address={}", tcp(daemon));
    let output = format!("-output-dir={}", directory.path().display());
    let fixed = [address.as_str(), output.as_str(), "-topic=t", "-channel=c"];
    let flags: Vec<&str> = fixed.into_iter().chain(flags.iter().copied()).collect();
    Program::start(NSQ_TO_FILE, &flags)
}

/// Waits until nothing of the channel is left.
fn drained(daemon: &Daemon) {
    eventually(|| {
        let channel = daemon.channel("t", "c").ok_or("no channel")?;
        let left = (channel["depth"].as_u64(), channel["in_flight_count"].as_u64());
        if left == (Some(0), Some(0)) { Ok(()) } else { Err(format!("{channel}")) }
    });
}

#[test]
fn messages_are_finished_once_they_are_in_the_file() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let directory = TempDir::new().expect("a temporary directory");
    let flags =
        ["-sync-interval=100ms", "-filename-format=<TOPIC>.<DATETIME>", "-datetime-format=x"];
    let program = start(&daemon, &directory, &flags);
    daemon.post("/mpub?topic=t", b"one\ntwo\nthree");
    drained(&daemon);
    let file = directory.path().join("t.x");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "one\ntwo\nthree\n");

    // Whoever moves the file away gets a new one after SIGHUP.
    let moved = directory.path().join("moved");
    fs::rename(&file, &moved).expect("same directory");
    program.signal("HUP");
    eventually(|| {
        daemon.post("/pub?topic=t", b"four");
        drained(&daemon);
        if file.exists() { Ok(()) } else { Err("no new file".to_owned()) }
    });
    program.signal("TERM");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("[nsq_to_file] "), "{ended:?}");
    assert!(ended.stderr.contains(" INFO: [t/c] syncing 3 records to disk\n"), "{ended:?}");
}

#[test]
fn a_stop_writes_what_is_in_hand() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let directory = TempDir::new().expect("a temporary directory");
    // Nothing is synced before the stop: there are fewer messages than may be in flight.
    let program = start(&daemon, &directory, &["-gzip", "-sync-interval=1h"]);
    daemon.post("/mpub?topic=t", b"one\ntwo\nthree");
    eventually(|| {
        let channel = daemon.channel("t", "c").ok_or("no channel")?;
        if channel["in_flight_count"] == 3 { Ok(()) } else { Err(format!("{channel}")) }
    });
    program.signal("INT");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(lines(directory.path()), Ok(vec!["one".into(), "two".into(), "three".into()]));
    drained(&daemon);
}

/// Killed again and again under load, it loses nothing and leaves only readable files.
#[test]
#[ignore = "a kill at the wrong moment leaves a gzip file without its end, which is to be mended"]
fn kills_lose_nothing() {
    const COUNT: usize = 20_000;
    const KILLS: u32 = 12;
    let daemon =
        Daemon::start(&Options { flags: &["--mem-queue-size=100000"], ..Options::default() });
    daemon.create_channel("t", "c");
    let mut producer = Client::connect(&daemon);
    let bodies: Vec<_> = (0..COUNT).map(|at| format!("{at:06}{}", "x".repeat(at % 300))).collect();
    for batch in bodies.chunks(1000) {
        let batch: Vec<_> = batch.iter().map(String::as_bytes).collect();
        producer.publish_batch("t", &batch);
    }
    let directory = TempDir::new().expect("a temporary directory");
    let flags = ["-gzip", "-sync-interval=50ms", "-max-in-flight=500", "-datetime-format=x"];
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..KILLS {
        let program = start(&daemon, &directory, &flags);
        let before = daemon.channel("t", "c").expect("a channel")["depth"].clone();
        eventually(|| {
            let channel = daemon.channel("t", "c").expect("a channel");
            let moves = channel["depth"] != before || before == 0;
            if moves { Ok(()) } else { Err(format!("{channel}")) }
        });
        crate::support::wait::pass(std::time::Duration::from_millis(random.u64(0..30)));
        program.signal("KILL");
        drop(program);
    }
    let program = start(&daemon, &directory, &flags);
    // The kills may have left it nothing to do: it is to be there before it is told to end.
    daemon.wait_channel("t", "c", &[("client_count", 1)]);
    drained(&daemon);
    program.signal("TERM");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    let written: BTreeSet<_> =
        lines(directory.path()).expect("readable files").into_iter().collect();
    assert!(written.iter().eq(bodies.iter()), "{} of {COUNT} are there", written.len());
}

#[test]
fn failures_are_told() {
    let nsqd = "-nsqd-tcp-address=127.0.0.1:1";
    for (flags, text) in [
        (&["-log-level=x"][..], "--log-level is invalid"),
        (&["-channel="], "--channel is required"),
        (&[], "--nsqd-tcp-address or --lookupd-http-address required."),
        (&[nsqd, "-gzip-level=10"], "invalid --gzip-level value (10), should be 1-9"),
        (&[nsqd], "--topic or --topic-pattern required"),
        (
            &[nsqd, "-topic-pattern=x"],
            "--lookupd-http-address must be specified when no --topic specified",
        ),
    ] {
        refuses(NSQ_TO_FILE, flags, text);
    }
    let version = run(NSQ_TO_FILE, &["-version"]);
    assert_eq!(version.stdout, "nsq_to_file v1.3.0\n");

    // A file that cannot be written ends it.
    let daemon = Daemon::start(&Options::default());
    daemon.post("/pub?topic=t", b"x");
    let address = format!("-nsqd-tcp-address={}", tcp(&daemon));
    let ended = run(NSQ_TO_FILE, &[&address, "-topic=t", "-output-dir=/dev/null/x"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(" FATAL: [t/nsq_to_file] unable to create dir: "), "{ended:?}");
}
