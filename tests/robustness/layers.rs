//! Hostile clients behind TLS and compression: bombs, and many handshakes at once.

use crate::support::certificates::{CERTIFICATES, Shown};
use crate::support::client::{Client, with_body};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use crate::support::wait::eventually;
use rustls::ClientConnection;
use serde_json::json;
use std::io::Write;
use std::net::Shutdown;
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

/// The first flight of a client that asks for TLS.
fn hello() -> (ClientConnection, Vec<u8>) {
    let name = "localhost".try_into().expect("a name");
    let config = CERTIFICATES.client(Shown::Nothing);
    let mut tls = ClientConnection::new(config, name).expect("a configuration");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("a vector takes all bytes");
    (tls, hello)
}

fn asks_for_tls(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon);
    client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
    client
}

/// More handshakes than are done at once, of clients that do not stay to see them: they leave
/// nothing behind, and those who stay get through.
#[test]
fn handshakes_of_clients_that_have_gone() {
    check_with_tls(|daemon| {
        connect(daemon, &["tls_v1"]).publish("t", b"x");
        let before = daemon.descriptors();
        for round in 0..10 {
            let mut clients: Vec<_> = (0..50).map(|_| asks_for_tls(daemon)).collect();
            let mut staying = asks_for_tls(daemon);
            for client in &mut clients {
                client.stream.raw.write_all(&hello().1).unwrap();
                if round % 2 == 0 {
                    client.shutdown(Shutdown::Write);
                }
            }
            drop(clients);
            staying.stream.start_tls(CERTIFICATES.client(Shown::Nothing)).unwrap();
            staying.expect_ok();
            staying.publish("t", b"x");
        }
        daemon.wait_topic("t", &[("depth", 11)]);
        eventually(|| match daemon.descriptors() {
            open if open <= before => Ok(()),
            open => Err(format!("{open} descriptors, {before} before")),
        });
    });
}

/// The end of a handshake, a command and the end of the connection come in one piece: the command
/// is carried out.
#[test]
fn a_whole_session_behind_the_end_of_a_handshake() {
    check_with_tls(|daemon| {
        let mut client = asks_for_tls(daemon);
        let (mut tls, hello) = hello();
        client.stream.raw.write_all(&hello).unwrap();
        while tls.is_handshaking() {
            tls.read_tls(&mut client.stream.raw).unwrap();
            tls.process_new_packets().unwrap();
        }
        tls.writer().write_all(&with_body("PUB t", b"x")).unwrap();
        tls.send_close_notify();
        let mut last = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut last).unwrap();
        }
        client.stream.raw.write_all(&last).unwrap();
        client.shutdown(Shutdown::Write);
        daemon.wait_topic("t", &[("depth", 1)]);
    });
}
