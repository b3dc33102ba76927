//! Hostile clients behind TLS and compression: bombs, and many handshakes at once.

use crate::support::certificates::{CERTIFICATES, Shown};
use crate::support::client::{Client, with_body};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use serde_json::json;
use std::io::Write;
use std::thread;

fn check_with_tls(case: impl Fn(&Daemon) + Sync) {
    let flags = CERTIFICATES.flags(&[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    check(&flags, case);
}

fn connect(daemon: &Daemon, layers: &[&str]) -> Client {
    let mut client = Client::connect(daemon);
    let mut wishes = json!({"feature_negotiation": true});
    for layer in layers {
        wishes[*layer] = json!(true);
    }
    client.identify(&wishes);
    for layer in layers {
        match *layer {
            "tls_v1" => {
                let config = CERTIFICATES.client(Shown::Nothing);
                client.stream.start_tls(config).expect("a handshake");
            }
            "snappy" => client.stream.start_snappy(),
            _ => client.stream.start_deflate(),
        }
        client.expect_ok();
    }
    client
}

/// A few kilobytes that stand for very many bytes cost the daemon neither memory nor other
/// clients their turn.
#[test]
fn bombs() {
    const LINES: usize = 2000;
    check_with_tls(|daemon| {
        // What it takes to serve at all.
        Client::connect(daemon).publish("t", &vec![b'x'; 1 << 20]);
        let before = daemon.resident_bytes();
        thread::scope(|scope| {
            for layers in [&["deflate"][..], &["snappy"], &["tls_v1", "deflate"]] {
                scope.spawn(move || {
                    let mut client = connect(daemon, layers);
                    // Parameters that are ignored, 32 MiB of them in all.
                    let line = [b"NOP ", &[b'x'; 16_000][..], b"\n"].concat();
                    client.stream.write_all(&line.repeat(LINES)).unwrap();
                    client.publish("t", b"at the end");
                });
            }
            scope.spawn(|| {
                let mut client = Client::connect(daemon);
                for _ in 0..50 {
                    client.publish("t", b"beside it");
                }
            });
        });
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{grown} bytes more");
    });
}

/// Fifty clients at once, who all get through, and one who is served meanwhile.
#[test]
fn many_handshakes_at_once() {
    check_with_tls(|daemon| {
        let mut clients: Vec<_> = (0..50).map(|_| Client::connect(daemon)).collect();
        let asks = json!({"feature_negotiation": true, "tls_v1": true}).to_string();
        for client in &mut clients {
            client.send(&with_body("IDENTIFY", asks.as_bytes()));
        }
        thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || {
                    client.frame();
                    client.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
                    client.expect_ok();
                    client.publish("t", b"x");
                });
            }
            scope.spawn(|| {
                let mut client = Client::connect(daemon);
                for _ in 0..50 {
                    client.publish("t", b"x");
                }
            });
        });
        daemon.wait_topic("t", &[("depth", 100)]);
    });
}
