//! Lengths that lie, and bytes that come in pieces: the numbers are those of the reliability plan.

use crate::support::client::{Client, Frame, MAGIC, batch, with_body};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use serde_json::json;

/// A command whose length says this, whatever follows.
fn with_length(line: &str, length: i32, body: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b"\n", &length.to_be_bytes(), body].concat()
}

/// The message of an MPUB that says it has so many messages, of which one is there.
fn with_count(count: i32) -> Vec<u8> {
    let body = [&count.to_be_bytes()[..], &1_i32.to_be_bytes(), b"x"].concat();
    let length = i32::try_from(body.len()).expect("a few bytes");
    with_length("MPUB t", length, &body)
}

#[test]
fn reliability_34_lengths_that_lie_get_their_error_and_no_memory() {
    const MESSAGE_MAX: usize = 1 << 20;
    const BODY_MAX: usize = 5 << 20;
    check(&[], |daemon| {
        // What is allowed is taken; the pages that it needs stay warm for what follows.
        for (line, body) in [
            ("PUB t", vec![b'x'; MESSAGE_MAX]),
            ("MPUB t", batch(&[&vec![b'x'; MESSAGE_MAX][..]; 4])),
        ] {
            let mut client = Client::connect(daemon);
            client.send(&with_body(line, &body));
            client.expect_ok();
        }
        let over = format!("message too big {} > {MESSAGE_MAX}", MESSAGE_MAX + 1);
        let over_body = format!("body too big {} > {BODY_MAX}", BODY_MAX + 1);
        let most = i32::try_from(MESSAGE_MAX).unwrap();
        let most_body = i32::try_from(BODY_MAX).unwrap();
        let max = i32::MAX;
        let cases = [
            ("PUB t", most + 1, format!("E_BAD_MESSAGE PUB {over}")),
            ("PUB t", 0, "E_BAD_MESSAGE PUB invalid message body size 0".into()),
            ("PUB t", -1, "E_BAD_MESSAGE PUB invalid message body size -1".into()),
            ("PUB t", max, format!("E_BAD_MESSAGE PUB message too big {max} > {MESSAGE_MAX}")),
            ("DPUB t 1", most + 1, format!("E_BAD_MESSAGE DPUB {over}")),
            ("DPUB t 1", 0, "E_BAD_MESSAGE DPUB invalid message body size 0".into()),
            ("DPUB t 1", -1, "E_BAD_MESSAGE DPUB invalid message body size -1".into()),
            ("MPUB t", most_body + 1, format!("E_BAD_BODY MPUB {over_body}")),
            ("MPUB t", 0, "E_BAD_BODY MPUB invalid body size 0".into()),
            ("MPUB t", -1, "E_BAD_BODY MPUB invalid body size -1".into()),
            ("MPUB t", max, format!("E_BAD_BODY MPUB body too big {max} > {BODY_MAX}")),
            ("IDENTIFY", most_body + 1, format!("E_BAD_BODY IDENTIFY {over_body}")),
            ("IDENTIFY", 0, "E_BAD_BODY IDENTIFY invalid body size 0".into()),
            ("IDENTIFY", -1, "E_BAD_BODY IDENTIFY invalid body size -1".into()),
        ];
        let before = daemon.resident_peak_bytes();
        for (line, length, error) in &cases {
            let mut client = Client::connect(daemon);
            client.send(&with_length(line, *length, b""));
            client.expect_fatal(error);
        }
        for count in [0, -1, i32::MAX, i32::MIN] {
            let mut client = Client::connect(daemon);
            client.send(&with_count(count));
            client.expect_fatal(&format!("E_BAD_BODY MPUB invalid message count {count}"));
        }
        let grown = daemon.resident_peak_bytes().saturating_sub(before);
        assert!(daemon.is_original() || grown <= 1 << 20, "{grown} bytes more than before");
    });
}

/// What a script of bytes is answered, as far as it is the same each time.
fn answers(daemon: &Daemon, pieces: [&[u8]; 2], count: usize) -> Vec<String> {
    let mut client = Client::raw(&daemon.tcp);
    pieces.into_iter().filter(|piece| !piece.is_empty()).for_each(|piece| client.send(piece));
    let shape = |frame| match frame {
        Frame::Response(bytes) => String::from_utf8(bytes).expect("text"),
        Frame::Error(text) => text,
        Frame::Message(message) => format!("{:?} {}", message.body, message.attempts),
    };
    (0..count).map(|_| shape(client.frame())).collect()
}

#[test]
fn reliability_33_a_cut_anywhere_changes_no_answer() {
    let identify = json!({"client_id": "c", "feature_negotiation": false}).to_string();
    let id = "0123456789abcdef";
    // Each with the number of its answers.
    let commands: [(Vec<u8>, usize); 20] = [
        (with_body("IDENTIFY", identify.as_bytes()), 1),
        (b"NOP\n".to_vec(), 0),
        (b"NOP\r\n".to_vec(), 0),
        (with_body("PUB t", b"one"), 1),
        (with_body("PUB t\r", b"two"), 1),
        (with_body("PUB t", &[b'\n'; 9]), 1),
        (with_body("MPUB t", &batch(&[b"a", b"bc", b"def"])), 1),
        (with_body("DPUB t 60000", b"later"), 1),
        (b"SUB own ch\n".to_vec(), 1),
        (b"SUB own ch#ephemeral\n".to_vec(), 1),
        (b"SUB own ch\nRDY 0\n".to_vec(), 1),
        ([&b"SUB own ch\n"[..], format!("FIN {id}\n").as_bytes()].concat(), 2),
        ([&b"SUB own ch\n"[..], format!("REQ {id} 0\n").as_bytes()].concat(), 2),
        ([&b"SUB own ch\n"[..], format!("TOUCH {id}\n").as_bytes()].concat(), 2),
        (b"SUB own ch\nCLS\n".to_vec(), 2),
        (b"SUB own ch\nRDY 2501\n".to_vec(), 2),
        (b"AUTH\n\0\0\0\x03abc".to_vec(), 1),
        (b"PUB bad:name\n".to_vec(), 1),
        (b"NONSENSE with words\n".to_vec(), 1),
        (with_length("PUB t", 0, b""), 1),
    ];
    check(&[], |daemon| {
        for (command, count) in &commands {
            let bytes = [MAGIC, command].concat();
            let whole = answers(daemon, [&bytes, b""], *count);
            for cut in 1..bytes.len() {
                if daemon.is_original() {
                    // It may refuse those who come while an ephemeral channel goes.
                    daemon.wait_no_channel("own", "ch#ephemeral");
                }
                let (front, back) = bytes.split_at(cut);
                let cut_answers = answers(daemon, [front, back], *count);
                assert_eq!(cut_answers, whole, "{:?} {:?}", text(front), text(back));
            }
        }
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
