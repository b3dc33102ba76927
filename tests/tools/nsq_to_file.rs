//! `nsq_to_file`.

use super::program::{Program, refuses, run, tcp};
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::eventually;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use tempfile::TempDir;

const NSQ_TO_FILE: &str = env!("CARGO_BIN_EXE_nsq_to_file");

/// A file's text, decompressed if its name says so.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let mut file = File::open(path).expect("a file that is there");
    let read = if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).read_to_string(&mut text)
    } else {
        file.read_to_string(&mut text)
    };
    read.map(|_| text).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn start(daemon: &Daemon, directory: &Path, flags: &[&str]) -> Program {
    let address = format!("-nsqd-tcp-address={}", tcp(daemon));
    let output = format!("-output-dir={}", directory.display());
    let fixed = [address.as_str(), output.as_str(), "-topic=t", "-channel=c"];
    let flags: Vec<&str> = fixed.into_iter().chain(flags.iter().copied()).collect();
    Program::start(NSQ_TO_FILE, &flags)
}

/// Waits until nothing of the channel is left.
pub(super) fn drained(daemon: &Daemon) {
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
    let program = start(&daemon, directory.path(), &flags);
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
    let program = start(&daemon, directory.path(), &["-gzip", "-sync-interval=1h"]);
    daemon.post("/mpub?topic=t", b"one\ntwo\nthree");
    eventually(|| {
        let channel = daemon.channel("t", "c").ok_or("no channel")?;
        if channel["in_flight_count"] == 3 { Ok(()) } else { Err(format!("{channel}")) }
    });
    program.signal("INT");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    let mut files = fs::read_dir(directory.path()).expect("the directory");
    let file = files.next().expect("a file").expect("a name").path();
    assert_eq!(read(&file).as_deref(), Ok("one\ntwo\nthree\n"));
    assert!(files.next().is_none());
    drained(&daemon);
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
