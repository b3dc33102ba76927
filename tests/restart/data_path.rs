//! The data directory: one daemon at a time, and files that are not ours.

use super::start_refused;
use crate::support::daemon::{Daemon, Options, plain_flags};
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let mut first = Daemon::start(&Options::default());
    let elsewhere = Daemon::start(&Options::default());
    // Its log goes elsewhere, so that the first one's stays.
    let directory = TempDir::new().unwrap();
    let path = first.directory().display().to_string();
    // Of two things that are wrong the lock is told: it comes first.
    let flags = [&format!("--data-path={path}"), "--node-id=1024"];
    let (code, log) = start_refused(directory.path(), &flags);
    assert_eq!(code, Some(1));
    let expected = format!(
        " FATAL: failed to instantiate nsqd - failed to lock data-path: cannot flock directory \
         {path} - resource temporarily unavailable (possibly in use by another instance of nsqd)\n"
    );
    assert!(log.contains(&expected), "{log}");
    for daemon in [&first, &elsewhere] {
        daemon.get("/ping").expect(200, "OK");
    }
    // The lock ends with its owner, however that ends.
    for signal in ["KILL", "TERM"] {
        first.terminate(signal);
        first = first.start_again(&Options::default());
    }
}

#[test]
fn a_directory_that_does_not_exist_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data").display().to_string();
    let (code, log) = start_refused(directory.path(), &[&format!("--data-path={path}")]);
    assert_eq!(code, Some(1));
    let expected = format!(
        " FATAL: failed to instantiate nsqd - failed to lock data-path: open {path}: no such file \
         or directory\n"
    );
    assert!(log.contains(&expected), "{log}");
    assert!(!fs::exists(&path).unwrap(), "it is not created");
}

#[test]
fn message_files_of_nsqd_are_left_and_told_of() {
    if plain_flags() {
        return; // It reads them.
    }
    let directory = Arc::new(TempDir::new().unwrap());
    let names = ["t.diskqueue.000000.dat", "t.diskqueue.meta.dat", "t:c.diskqueue.000012.dat"];
    for name in names {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let remains = directory.path().join("nsqd.dat.4711.tmp");
    fs::write(&remains, "{\"topics\":").unwrap();
    let mut daemon = Daemon::start_in(directory, &Options::default());
    let log = daemon.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARNING: ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    let command = format!("run: nsq_log import {}", daemon.directory().display());
    assert!(warnings[0].ends_with(&command), "{}", warnings[0]);
    for name in names {
        assert!(warnings[0].contains(name), "{}", warnings[0]);
    }
    daemon.create_channel("t", "c");
    daemon.order("/channel/delete?topic=t&channel=c");
    daemon.order("/topic/delete?topic=t");
    daemon.terminate("TERM");
    for name in names {
        assert_eq!(fs::read_to_string(daemon.directory().join(name)).unwrap(), name);
    }
    assert!(!remains.exists(), "what a cut-off write leaves behind is removed");
}
