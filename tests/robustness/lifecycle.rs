//! Starting and stopping the daemon.

use crate::support::client::{Client, MAGIC, with_body};
use crate::support::daemon::{Daemon, Options, command, log_path, plain_flags, program};
use crate::support::matrix::{Transport, check};
use crate::support::stream::Address;
use crate::support::wait::eventually;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use tempfile::TempDir;

fn stops_in_order(transport: Transport, signal: &str) {
    let mut daemon = Daemon::start(&Options { transport, ..Options::default() });
    let mut consumer = Client::consumer(&daemon, "t", "ch", 10);
    let mut producer = Client::connect(&daemon);
    producer.publish_batch("t", &[b"one", b"two"]);
    consumer.messages(2);
    // The original never ends while somebody is connected who has not sent the magic.
    let mut silent = Client::raw(&daemon.tcp);
    if daemon.is_original() {
        silent = Client::connect(&daemon);
    }
    let status = daemon.terminate(signal);
    assert_eq!(status.code(), Some(0), "{status}");
    consumer.expect_closed();
    producer.expect_closed();
    silent.expect_closed();
    for address in [&daemon.tcp, &daemon.http] {
        assert!(address.connect().is_err(), "{address:?} is closed");
        if let Address::Unix(path) = address {
            assert!(!path.exists(), "the socket file is removed");
        }
    }
    assert!(daemon.log().contains("NSQ: bye"), "the last line of an orderly stop");
}

#[test]
fn sigterm_and_sigint_stop_in_order() {
    for transport in [Transport::Tcp, Transport::Unix] {
        for signal in ["TERM", "INT"] {
            stops_in_order(transport, signal);
        }
    }
}

#[test]
fn c7_unix_sockets() {
    check(&[], |daemon| {
        for address in [&daemon.tcp, &daemon.http] {
            if let Address::Unix(path) = address {
                assert!(fs::metadata(path).unwrap().file_type().is_socket(), "{path:?}");
            }
        }
        daemon.get("/ping").expect(200, "OK");
    });
}

#[test]
fn a_second_daemon_on_the_same_address_fails() {
    check(&[], |daemon| {
        let (address, network) = match &daemon.tcp {
            Address::Tcp(address) => (address.clone(), "tcp"),
            Address::Unix(path) => (path.display().to_string(), "unix"),
        };
        let directory = TempDir::new().unwrap();
        let mut second = command(directory.path());
        second.arg(format!("--tcp-address={address}")).arg("--http-address=127.0.0.1:0");
        let mut second = second.spawn().unwrap();
        let status = eventually(|| second.try_wait().unwrap().ok_or("it runs".to_owned()));
        assert_eq!(status.code(), Some(1), "{status}");
        let log = fs::read_to_string(log_path(directory.path())).unwrap();
        let reason = format!("listen ({address}) failed - listen {network} {address}: bind: ");
        assert!(log.contains(&format!("{reason}address already in use")), "{log}");
        // The first one is not disturbed.
        Client::connect(daemon).expect_quiet();
    });
}

#[test]
fn flags_are_checked() {
    for (flag, code, text) in [
        ("--no-such-flag", 2, "flag provided but not defined: -no-such-flag"),
        ("--mem-queue-size=many", 2, "invalid value \"many\" for flag -mem-queue-size"),
        ("--msg-timeout=60", 2, "invalid value \"60\" for flag -msg-timeout"),
        ("--node-id=1024", 1, "--node-id must be [0,1024)"),
    ] {
        let directory = TempDir::new().unwrap();
        let mut child = command(directory.path()).arg(flag).spawn().unwrap();
        let status = eventually(|| child.try_wait().unwrap().ok_or("it runs".to_owned()));
        let log = fs::read_to_string(log_path(directory.path())).unwrap();
        assert_eq!(status.code(), Some(code), "{flag}: {log}");
        assert!(log.contains(text), "{flag}: {log}");
    }
    let version = Command::new(program()).arg("-version").output().unwrap();
    assert!(version.status.success());
    assert!(version.stdout.starts_with(b"nsqd v"), "{version:?}");
}

/// The daemon's other threads would go on without a shard; a supervisor could not tell.
#[test]
fn reliability_8_a_panic_of_one_shard_ends_the_whole_daemon() {
    if plain_flags() {
        return; // It does not panic at our word.
    }
    let directory = TempDir::new().unwrap();
    let mut daemon = command(directory.path());
    daemon.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]);
    let mut child = daemon.env("RINGMAIN_PANIC_AT_TOPIC", "fatal").spawn().unwrap();
    let log = || fs::read_to_string(log_path(directory.path())).unwrap();
    let address = eventually(|| {
        let log = log();
        let mut lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let address = lines.find_map(|line| line.split_once("TCP: listening on "));
        address.map(|(_, address)| address.trim().to_owned()).ok_or(log.clone())
    });
    let address = Address::Tcp(address);
    let mut bystander = Client::raw(&address);
    bystander.send(MAGIC);
    bystander.publish("harmless", b"body");
    let mut client = Client::raw(&address);
    client.send(&[MAGIC, &with_body("PUB fatal", b"body")].concat());
    let status = eventually(|| child.try_wait().unwrap().ok_or("it runs".to_owned()));
    assert_eq!(status.signal(), Some(6), "{status}: {}", log());
    assert!(log().contains("panicked"), "{}", log());
    client.expect_closed();
    bystander.expect_closed();
}
