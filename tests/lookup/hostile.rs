//! Clients that mean harm, or do not mean anything: they are refused, and cost nothing.

use super::client::{Client, identify_command, identity};
use super::daemon::{Daemon, is_original};
use std::io::Write;

/// What a daemon with nothing to do, and some connections, stays below.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[test]
fn lengths_that_cannot_be_are_refused_at_once() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&[]);
    for (size, text) in [
        (-1, "E_BAD_BODY IDENTIFY invalid body size -1"),
        (i32::MIN, "E_BAD_BODY IDENTIFY invalid body size -2147483648"),
        (i32::MAX, "E_BAD_BODY IDENTIFY body too big 2147483647 > 8192"),
        (8193, "E_BAD_BODY IDENTIFY body too big 8193 > 8192"),
    ] {
        let mut client = daemon.connect();
        client.send(b"IDENTIFY\n");
        client.send(&size.to_be_bytes());
        client.expect_last(text);
    }
    assert!(daemon.resident_peak_bytes() < MEMORY_BYTES_MAX);
}

#[test]
fn a_line_without_end_is_not_held() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    // Far more than is read before the answer; the daemon may close in the middle of it.
    let _ = client.stream.write_all(&vec![b'x'; 1 << 20]);
    client.expect("E_INVALID line is longer than 1024 bytes");
    daemon.get("/ping").expect(200, "OK");
    assert!(daemon.resident_peak_bytes() < MEMORY_BYTES_MAX);
}

#[test]
fn a_client_that_never_reads_is_no_burden() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.stream.limit_writes(Some(std::time::Duration::from_millis(500))).unwrap();
    // Answers fill the way back, then the daemon reads no more, then the way there is full.
    let pings = b"PING\n".repeat(1 << 16);
    while client.stream.write_all(&pings).is_ok() {}
    let mut other = daemon.connect();
    other.identify();
    other.order("REGISTER t");
    assert_eq!(daemon.found("t"), (0, 1));
    assert!(daemon.resident_peak_bytes() < MEMORY_BYTES_MAX);
}

#[test]
fn many_connections_wait_side_by_side() {
    let daemon = Daemon::start(&[]);
    // Silent ones, ones in the middle of a command, ones in the middle of a body.
    let body = identity().to_string();
    let half = identify_command(body.as_bytes());
    let begun: [&[u8]; 3] = [b"", b"PIN", &half[..half.len() / 2]];
    let mut clients: Vec<Client> = (0..300).map(|_| daemon.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(begun[index % begun.len()]);
    }
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER t");
    assert_eq!(daemon.found("t"), (0, 1));
    // They can go on.
    clients[1].send(b"G\n");
    clients[1].expect("OK");
    clients[2].send(&half[half.len() / 2..]);
    assert!(clients[2].answer().unwrap().starts_with('{'));
    assert_eq!(daemon.nodes().len(), 2);
}

#[test]
fn what_a_client_says_cannot_forge_a_log_line() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.send(b"A\r[nsqlookupd] 2026/01/01 00:00:00.000000 INFO: forged\x1b[0m\n");
    client.answer().unwrap();
    daemon.wait_logged("E_INVALID invalid command A\\r[nsqlookupd]");
    assert!(!daemon.log().contains('\u{1b}'));
}
