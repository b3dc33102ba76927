//! Upgrades that go wrong, late or twice, and certificates that change.

use crate::support::certificates::{CERTIFICATES, Shown};
use crate::support::client::{Client, MAGIC, with_body};
use crate::support::daemon::{Daemon, Options};
use crate::support::matrix::check;
use crate::support::wait::{PATIENCE, Stopwatch, eventually};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

const ASKS_FOR_TLS: &str = r#"{"feature_negotiation":true,"tls_v1":true}"#;

/// Asks for TLS, sends these bytes instead of a handshake, and gives all that comes back.
fn spoil(daemon: &Daemon, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut client = Client::raw(&daemon.tcp);
    client.send(&[MAGIC, &with_body("IDENTIFY", ASKS_FOR_TLS.as_bytes()), bytes].concat());
    if ends {
        client.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    // A reset may follow what was answered.
    let _ = client.stream.read_to_end(&mut answer);
    answer
}

fn check_with_tls(flags: &[&str], case: impl Fn(&Daemon) + Sync) {
    let flags = CERTIFICATES.flags(flags);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    check(&flags, case);
}

fn ends_with_error(answer: &[u8], reason: &str) {
    let text = String::from_utf8_lossy(answer);
    let at = text.find("E_IDENTIFY_FAILED IDENTIFY failed ");
    let at = at.unwrap_or_else(|| panic!("no error in {text:?}"));
    assert!(text[at..].contains(reason), "{text:?}");
}

#[test]
fn a_handshake_that_is_none_is_told_in_the_clear() {
    check_with_tls(&[], |daemon| {
        if daemon.is_original() {
            return; // It may have read the bytes before its handshake, and loses them.
        }
        ends_with_error(&spoil(daemon, b"GET / HTTP/1.1\r\n\r\n", false), "");
        ends_with_error(&spoil(daemon, &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], false), "");
        // A handshake message of 16 MiB is refused at its first bytes.
        let mut huge = vec![0x16, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff];
        huge.resize(200_000, 0);
        let since = Stopwatch::start();
        ends_with_error(&spoil(daemon, &huge, false), "");
        assert!(since.elapsed() < PATIENCE);
        ends_with_error(&spoil(daemon, &[], true), "EOF");
        ends_with_error(&spoil(daemon, &[0x16, 3, 1], true), "EOF");
        // Nobody else has noticed.
        Client::connect(daemon).publish("t", b"x");
    });
}

#[test]
fn a_stalled_handshake_ends_after_5_s() {
    check_with_tls(&[], |daemon| {
        let since = Stopwatch::start();
        ends_with_error(&spoil(daemon, &[], false), "i/o timeout");
        assert!(since.elapsed() >= Duration::from_secs(5));
    });
}

#[test]
fn what_is_no_stream_ends_the_connection() {
    check_with_tls(&[], |daemon| {
        for wish in ["snappy", "deflate"] {
            let mut client = Client::connect(daemon);
            client.identify(&json!({"feature_negotiation": true, wish: true}));
            if wish == "snappy" {
                client.stream.start_snappy();
            } else {
                client.stream.start_deflate();
            }
            client.expect_ok();
            client.stream.raw.write_all(&[0xfd; 100]).unwrap();
            client.expect_closed();
        }
        let mut client = Client::connect(daemon);
        client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
        client.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
        client.expect_ok();
        client.stream.raw.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
        client.stream.raw.write_all(&[1; 20]).unwrap();
        let mut rest = Vec::new();
        assert!(client.stream.read_to_end(&mut rest).is_err() || rest.is_empty());
        Client::connect(daemon).publish("t", b"x");
    });
}

#[test]
fn layers_come_one_after_the_other_and_once() {
    check_with_tls(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
        client.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
        client.expect_ok();
        client.identify(&json!({"feature_negotiation": true, "snappy": true}));
        client.stream.start_snappy();
        client.expect_ok();
        client.publish("t", b"x");
        if !daemon.is_original() {
            // The original puts another stream on the socket below the first.
            let again = json!({"feature_negotiation": true, "snappy": true}).to_string();
            client.command_with_body("IDENTIFY", again.as_bytes());
            client.expect_fatal_prefix("E_IDENTIFY_FAILED IDENTIFY failed ");
        }
    });
}

/// The reply to IDENTIFY comes after the answers before it, and only then the upgrade.
#[test]
fn an_upgrade_waits_for_answers_before_it() {
    check(&[], |daemon| {
        for round in 0..20 {
            let mut client = Client::connect(daemon);
            let settings = json!({"feature_negotiation": true, "snappy": true}).to_string();
            let publish = with_body(&format!("PUB t{round}"), b"x");
            let identify = with_body("IDENTIFY", settings.as_bytes());
            client.send(&[publish.clone(), publish, identify].concat());
            client.expect_ok();
            client.expect_ok();
            client.frame();
            client.stream.start_snappy();
            client.expect_ok();
            client.publish("t", b"x");
        }
    });
}

#[test]
fn a_clean_end_of_tls_is_one() {
    check_with_tls(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
        client.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
        client.expect_ok();
        client.subscribe("t", "ch");
        daemon.wait_channel("t", "ch", &[("client_count", 1)]);
        client.stream.end_tls();
        if daemon.is_original() {
            return; // It closes the socket without a word.
        }
        // Not an error: the daemon has ended its side of TLS as well.
        client.expect_closed();
        daemon.wait_channel("t", "ch", &[("client_count", 0)]);
    });
}

#[test]
fn sighup_reads_certificates_again() {
    let directory = tempfile::TempDir::new().unwrap();
    let paths = ["pem", "key"].map(|kind| directory.path().join(format!("now.{kind}")));
    let put = |name: &str| {
        for (path, kind) in paths.iter().zip(["pem", "key"]) {
            fs::copy(CERTIFICATES.path(&format!("{name}.{kind}")), path).unwrap();
        }
    };
    put("server");
    let flags =
        [format!("--tls-cert={}", paths[0].display()), format!("--tls-key={}", paths[1].display())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&Options { flags: &flags, ..Options::default() });
    if daemon.is_original() {
        return; // SIGHUP ends it.
    }
    let certificate = || {
        let mut client = Client::connect(&daemon);
        client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
        client.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
        client.expect_ok();
        (client.stream.certificate(), client)
    };
    let hang_up = |mark: &str| {
        let pid = daemon.pid().to_string();
        std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap();
        eventually(|| daemon.log().contains(mark).then_some(()).ok_or(daemon.log()));
    };
    let (first, mut kept) = certificate();
    // Half of a change is none.
    fs::copy(CERTIFICATES.path("other-server.pem"), &paths[0]).unwrap();
    hang_up("stays as it was read before - tls: private key does not match public key");
    assert_eq!(certificate().0, first);
    put("other-server");
    hang_up("read again");
    assert_ne!(certificate().0, first);
    kept.publish("t", b"over what was there before");
}
