//! `/pub` and `/mpub`.

use crate::support::client::{Client, batch};
use crate::support::http::exchange;
use crate::support::matrix::check;

#[test]
fn d1_pub() {
    check(&[], |daemon| {
        let reply = daemon.post("/pub?topic=t", b"test message");
        reply.expect(200, "OK");
        assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        daemon.wait_topic("t", &[("depth", 1), ("message_bytes", 12)]);
        Client::consumer(daemon, "t", "ch", 1).message_with(b"test message");
    });
}

#[test]
fn d2_pub_empty() {
    check(&[], |daemon| {
        let reply = daemon.post("/pub?topic=t", b"");
        reply.expect_message(400, "MSG_EMPTY");
        assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert!(daemon.topic("t").is_none_or(|topic| topic["depth"] == 0));
    });
}

#[test]
fn d3_mpub() {
    check(&[], |daemon| {
        daemon.post("/mpub?topic=t", b"a\nbb\nccc\ndddd").expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 4), ("message_bytes", 10)]);
    });
}

#[test]
fn d4_mpub_with_trailing_newline() {
    check(&[], |daemon| {
        daemon.post("/mpub?topic=t", b"a\nbb\nccc\ndddd\n").expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 4), ("message_bytes", 10)]);
        // Empty lines are no messages, a carriage return is part of one.
        daemon.post("/mpub?topic=t", b"\n\n\n").expect(200, "OK");
        daemon.post("/mpub?topic=t", b"\r\n\na\r").expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 6), ("message_bytes", 13)]);
    });
}

#[test]
fn d5_mpub_binary() {
    check(&[], |daemon| {
        let body = batch(&[&[b'x'; 100][..]; 5]);
        for (count, mode) in [(5, "true"), (10, "1")] {
            daemon.post(&format!("/mpub?topic=t&binary={mode}"), &body).expect(200, "OK");
            daemon.wait_topic("t", &[("depth", count), ("message_bytes", count * 100)]);
        }
        // Bytes after the last message are ignored.
        daemon.post("/mpub?topic=t&binary=1", &[&body[..], b"rest"].concat()).expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 15)]);
    });
}

#[test]
fn d6_mpub_binary_by_any_other_value() {
    check(&[], |daemon| {
        let body = batch(&[&[b'x'; 100][..]; 5]);
        let target = "/mpub?topic=t&binary=non_normalized_binary_param";
        daemon.post(target, &body).expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 5)]);
        daemon.post("/mpub?topic=t&binary=", &body).expect(200, "OK");
        daemon.wait_topic("t", &[("depth", 10)]);
        for text in ["false", "0"] {
            daemon.post(&format!("/mpub?topic={text}&binary={text}"), b"a\nb").expect(200, "OK");
            daemon.wait_topic(text, &[("depth", 2)]);
        }
    });
}

#[test]
fn d7_pub_deferred() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        daemon.post("/pub?topic=t&defer=100000", b"test message").expect(200, "OK");
        daemon.wait_channel("t", "ch", &[("deferred_count", 1), ("message_count", 1)]);
        daemon.post("/pub?topic=t&defer=0", b"test message").expect(200, "OK");
        daemon.wait_channel("t", "ch", &[("deferred_count", 1), ("depth", 1)]);
    });
}

#[test]
fn l17_pub_with_a_bad_defer_creates_the_topic() {
    check(&[], |daemon| {
        for defer in ["x", "-1", "3600001", "", "1.5"] {
            let reply = daemon.post(&format!("/pub?topic=t&defer={defer}"), b"body");
            reply.expect_message(400, "INVALID_DEFER");
        }
        assert!(daemon.topic("t").is_some());
    });
}

#[test]
fn pub_refuses_bad_topics() {
    check(&[], |daemon| {
        for path in ["/pub", "/mpub"] {
            daemon.post(path, b"body").expect_message(400, "MISSING_ARG_TOPIC");
            let reply = daemon.post(&format!("{path}?topic="), b"body");
            reply.expect_message(400, "INVALID_TOPIC");
            let reply = daemon.post(&format!("{path}?topic=t%24"), b"body");
            reply.expect_message(400, "INVALID_TOPIC");
            let reply = daemon.post(&format!("{path}?topic=%zz"), b"body");
            reply.expect_message(400, "INVALID_REQUEST");
        }
        daemon.get("/pub?topic=t").expect_message(405, "METHOD_NOT_ALLOWED");
    });
}

#[test]
fn pub_and_mpub_refuse_what_is_too_big() {
    check(&["--max-msg-size=100", "--max-body-size=1000"], |daemon| {
        daemon.post("/pub?topic=t", &[b'x'; 100]).expect(200, "OK");
        daemon.post("/pub?topic=t", &[b'x'; 101]).expect_message(413, "MSG_TOO_BIG");
        let line = [&[b'x'; 100][..], b"\n", &[b'x'; 101]].concat();
        daemon.post("/mpub?topic=t", &line).expect_message(413, "MSG_TOO_BIG");
        daemon.post("/mpub?topic=t", &[b'\n'; 1001]).expect_message(413, "BODY_TOO_BIG");
        daemon.wait_topic("t", &[("depth", 1)]);
    });
}

#[test]
fn mpub_binary_refuses_broken_bodies() {
    check(&["--max-msg-size=100", "--max-body-size=1000"], |daemon| {
        let no_message = [0, 0, 0, 0];
        let too_many = [0, 0, 0, 200];
        for (body, text) in [
            (&b""[..], "BAD_BODY"),
            (b"\0\0", "BAD_BODY"),
            (&no_message, "BAD_BODY"),
            (&too_many, "BAD_BODY"),
            (b"\xff\xff\xff\xff", "BAD_BODY"),
            (b"\0\0\0\x01\0", "BAD_MESSAGE"),
            (b"\0\0\0\x01\0\0\0\x05abc", "BAD_MESSAGE"),
            (&batch(&[b""]), "BAD_MESSAGE"),
            (&batch(&[&[b'x'; 101][..]]), "BAD_MESSAGE"),
        ] {
            daemon.post("/mpub?topic=t&binary=1", body).expect_message(413, text);
        }
        daemon.wait_topic("t", &[("depth", 0), ("message_count", 0)]);
    });
}

#[test]
fn pub_takes_a_chunked_body() {
    check(&["--max-msg-size=100"], |daemon| {
        let head = "HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\nTransfer-Encoding: chunked";
        let body = "5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n";
        let bytes = format!("POST /pub?topic=t {head}\r\n\r\n{body}");
        exchange(&daemon.http, bytes.as_bytes()).unwrap().expect(200, "OK");
        daemon.wait_topic("t", &[("message_bytes", 11)]);
        let body = format!("65\r\n{}\r\n0\r\n\r\n", "x".repeat(101));
        let bytes = format!("POST /pub?topic=t {head}\r\n\r\n{body}");
        let reply = exchange(&daemon.http, bytes.as_bytes()).unwrap();
        reply.expect_message(413, "MSG_TOO_BIG");
    });
}

#[test]
fn a_form_is_a_message_like_any_other() {
    check(&[], |daemon| {
        let head = "HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\nContent-Length: 9";
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let bytes = format!("POST /pub?topic=t&topic=u {head}\r\n{kind}\r\n\r\ntopic=bad");
        exchange(&daemon.http, bytes.as_bytes()).unwrap().expect(200, "OK");
        // The first value of a repeated key wins.
        Client::consumer(daemon, "t", "ch", 1).message_with(b"topic=bad");
    });
}
