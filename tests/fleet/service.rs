//! What a service manager and log rotation do to the daemon, and what it tells them.

use crate::support::daemon::{Daemon, Options, command, log_path, plain_flags};
use crate::support::wait::{PATIENCE, eventually};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use tempfile::TempDir;

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("kill can be run").success());
}

#[test]
fn systemd_is_told_that_it_serves_lives_and_stops() {
    if plain_flags() {
        return; // The original tells nobody.
    }
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let next = || {
        let mut buffer = [0; 1024];
        let bytes = socket.recv(&mut buffer).expect("a notice");
        String::from_utf8_lossy(&buffer[..bytes]).trim_end().to_owned()
    };
    let mut command = command(directory.path());
    command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--shards=2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut child = command.spawn().expect("the daemon starts");
    let mut notices = vec![next()];
    while notices.iter().filter(|notice| *notice == "WATCHDOG=1").count() < 3
        || !notices.contains(&"READY=1".to_owned())
    {
        notices.push(next());
    }
    assert!(fs::read_to_string(log_path(directory.path())).unwrap().contains("TCP: listening on"));
    signal(child.id(), "TERM");
    while next() != "STOPPING=1" {}
    let status =
        eventually(|| child.try_wait().expect("it is our child").ok_or("it runs".to_owned()));
    assert!(status.success());
}

#[test]
fn sighup_opens_the_log_file_again() {
    let daemon = Daemon::start(&Options::default());
    if daemon.is_original() {
        return; // It ends.
    }
    let path = log_path(daemon.directory());
    let moved = path.with_extension("1");
    fs::rename(&path, &moved).expect("the log is there");
    daemon.create_topic("before");
    // Lines are written by a thread of their own.
    eventually(|| {
        let log = fs::read_to_string(&moved).expect("the old log is there");
        if log.contains("TOPIC(before): created") { Ok(()) } else { Err(log) }
    });
    signal(daemon.pid(), "HUP");
    eventually(|| {
        let log = daemon.log();
        if log.contains(" INFO: SIGHUP: log file ") { Ok(()) } else { Err(log) }
    });
    daemon.create_topic("after");
    eventually(|| {
        let log = daemon.log();
        if log.contains("TOPIC(after): created") { Ok(()) } else { Err(log) }
    });
    let moved = fs::read_to_string(moved).expect("the old log is there");
    assert!(!moved.contains("TOPIC(after)"), "{moved}");
}

#[test]
fn json_lines_are_objects() {
    if plain_flags() {
        return; // The original has no such flag.
    }
    let directory = TempDir::new().expect("a temporary directory");
    let mut command = command(directory.path());
    command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]);
    let mut child = command.arg("--log-format=json").spawn().expect("the daemon starts");
    let log = || fs::read_to_string(log_path(directory.path())).expect("its log");
    eventually(|| if log().contains("TCP: listening") { Ok(()) } else { Err(log()) });
    signal(child.id(), "TERM");
    let status =
        eventually(|| child.try_wait().expect("it is our child").ok_or("it runs".to_owned()));
    assert!(status.success());
    for line in log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object per line");
        for key in ["time", "level", "message"] {
            assert!(object[key].is_string(), "{line}");
        }
    }
}
