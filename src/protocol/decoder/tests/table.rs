//! Every row of the protocol's tables: bytes in, commands or the exact error text out.

use super::*;
use State::{Closing, Init, Subscribed};

const ID: &str = "0123456789abcdef";

/// The bytes give these commands (separated by `; `), then this error, if any: whole, byte by
/// byte, and in every cut into two.
#[track_caller]
fn check(state: State, bytes: impl AsRef<[u8]>, commands: &str, error: &str) {
    let bytes = bytes.as_ref();
    let expected = (commands.to_owned(), error.to_owned());
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut connection = Connection::new(state, LIMITS);
        pieces.for_each(|piece| connection.feed(piece));
        connection.outcome()
    };
    assert_eq!(run(&mut std::iter::once(bytes)), expected, "whole: {}", bytes.escape_ascii());
    assert_eq!(run(&mut bytes.chunks(1)), expected, "by bytes: {}", bytes.escape_ascii());
    if bytes.len() > 1000 {
        return;
    }
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let outcome = run(&mut [first, second].into_iter());
        assert_eq!(outcome, expected, "cut at {cut}: {}", bytes.escape_ascii());
    }
}

/// The bytes give no command, but this error.
#[track_caller]
fn check_error(state: State, bytes: impl AsRef<[u8]>, error: &str) {
    check(state, bytes, "", error);
}

fn line_and(line: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_bytes(), rest.as_ref()].concat()
}

#[test]
fn the_magic_comes_first() {
    for (bytes, commands, error) in [
        (b"  V2NOP\n".as_slice(), "NOP", ""),
        (b"  V", "", ""),
        (b"  V1", "", "E_BAD_PROTOCOL"),
        (b"GET / HTTP/1.1\r\n", "", "E_BAD_PROTOCOL"),
    ] {
        for cut in 0..=bytes.len() {
            let mut connection = Connection::new(Init, LIMITS);
            connection.decoder = Decoder::new();
            connection.feed(&bytes[..cut]);
            connection.feed(&bytes[cut..]);
            assert_eq!(connection.outcome(), (commands.to_owned(), error.to_owned()));
        }
    }
}

#[test]
fn lines_end_in_lf_or_crlf_and_are_split_at_every_space() {
    check(Init, "NOP\nNOP\r\nNOP  x \n", "NOP; NOP; NOP", "");
    check_error(Init, "\n", "E_INVALID invalid command ");
    check_error(Init, "\r\n", "E_INVALID invalid command ");
    check_error(Init, " NOP\n", "E_INVALID invalid command ");
    check_error(Init, "NOP\r\r\n", "E_INVALID invalid command NOP\r");
    check_error(Init, "nop\n", "E_INVALID invalid command nop");
    check_error(Init, "GET / HTTP/1.1\n", "E_INVALID invalid command GET");
    check_error(Init, "PUB  t\n", r#"E_BAD_TOPIC PUB topic name "" is not valid"#);
    check_error(Init, "PUB t\tx\n", r#"E_BAD_TOPIC PUB topic name "t\tx" is not valid"#);
    check_error(Init, b"PUB \xfft\"\n", r#"E_BAD_TOPIC PUB topic name "\xfft\"" is not valid"#);
}

#[test]
fn a_line_has_a_longest_length_and_beyond_it_no_error_frame() {
    let padded = |bytes: usize| format!("NOP {}\n", "x".repeat(bytes - 5));
    check(Init, padded(COMMAND_LINE_BYTES_MAX), "NOP", "");
    check_error(Init, padded(COMMAND_LINE_BYTES_MAX + 1), "command line too long");
    check_error(Init, "x".repeat(COMMAND_LINE_BYTES_MAX), "command line too long");
    check(Init, "x".repeat(COMMAND_LINE_BYTES_MAX - 1), "", "");
}

#[test]
fn commands_are_allowed_by_state() {
    let body = sized(b"x");
    let allowed = |state, line: &str, rest: &[u8], commands: &str| {
        check(state, line_and(line, rest), commands, "");
    };
    let refused = |state, name: &str| {
        let text = format!("E_INVALID cannot {name} in current state");
        check_error(state, format!("{name}\n"), &text);
    };
    for state in [Init, Subscribed, Closing] {
        allowed(state, "PUB t\n", &body, "PUB t x");
        allowed(state, "DPUB t 5\n", &body, "DPUB t +5 x");
        allowed(state, "MPUB t\n", &batch(&[b"x"]), "start t; MPUB t [x]");
        allowed(state, "NOP\n", b"", "NOP");
    }
    allowed(Init, "IDENTIFY\n", &body, "IDENTIFY x");
    allowed(Init, "AUTH\n", &body, "AUTH x");
    allowed(Init, "SUB t c\n", b"CLS\nNOP\n", "SUB t c; CLS; NOP");
    for state in [Subscribed, Closing] {
        ["IDENTIFY", "AUTH", "SUB"].iter().for_each(|name| refused(state, name));
        for command in [format!("FIN {ID}"), format!("REQ {ID} 7"), format!("TOUCH {ID}")] {
            allowed(state, &format!("{command}\n"), b"", &command);
        }
    }
    ["RDY", "FIN", "REQ", "TOUCH", "CLS"].iter().for_each(|name| refused(Init, name));
    allowed(Subscribed, "RDY 5\n", b"", "RDY 5");
    allowed(Closing, "RDY 99999\nRDY x\n", b"", "NOP; NOP");
    refused(Closing, "CLS");
}

#[test]
fn identify_and_auth_check_their_bodies_alike() {
    for name in ["IDENTIFY", "AUTH"] {
        let bad_body = |size: i32, text: &str| {
            let bytes = line_and(&format!("{name}\n"), size.to_be_bytes());
            check_error(Init, bytes, &format!("E_BAD_BODY {name} {text}"));
        };
        bad_body(65, "body too big 65 > 64");
        bad_body(i32::MAX, "body too big 2147483647 > 64");
        bad_body(0, "invalid body size 0");
        bad_body(-1, "invalid body size -1");
        let largest = "x".repeat(64);
        let bytes = line_and(&format!("{name}\n"), sized(largest.as_bytes()));
        check(Init, bytes, &format!("{name} {largest}"), "");
    }
    check(Init, line_and("IDENTIFY any thing\r\n", sized(b"{}")), "IDENTIFY {}", "");
    check_error(Init, "AUTH x\n", "E_INVALID AUTH invalid number of parameters");
    check_error(Init, "AUTH \n", "E_INVALID AUTH invalid number of parameters");
}

#[test]
fn sub_checks_in_order() {
    check(Init, "SUB t.1#ephemeral c-2 x\r\n", "SUB t.1#ephemeral c-2", "");
    let count = "E_INVALID SUB insufficient number of parameters";
    ["SUB\n", "SUB t\n", "SUB $\n"].iter().for_each(|line| check_error(Init, line, count));
    check_error(Init, "SUB  c\n", r#"E_BAD_TOPIC SUB topic name "" is not valid"#);
    check_error(Init, "SUB $ $\n", r#"E_BAD_TOPIC SUB topic name "$" is not valid"#);
    check_error(Init, "SUB t \n", r#"E_BAD_CHANNEL SUB channel name "" is not valid"#);
    check_error(Init, "SUB t $ c\n", r#"E_BAD_CHANNEL SUB channel name "$" is not valid"#);
    let mut connection = Connection::new(Init, LIMITS);
    connection.heartbeats = false;
    connection.feed(b"SUB\n");
    let text = "E_INVALID cannot SUB with heartbeats disabled";
    assert_eq!(connection.outcome().1, text);
}

#[test]
fn pub_and_dpub_check_in_order() {
    check_error(Init, "PUB\n", "E_INVALID PUB insufficient number of parameters");
    let count = "E_INVALID DPUB insufficient number of parameters";
    ["DPUB\n", "DPUB $\n"].iter().for_each(|line| check_error(Init, line, count));
    for (name, rest) in [("PUB", ""), ("DPUB", " 0")] {
        let bad_topic = format!(r#"E_BAD_TOPIC {name} topic name "$" is not valid"#);
        check_error(Init, format!("{name} ${rest}\n"), &bad_topic);
        for (size, text) in [
            (0, "invalid message body size 0"),
            (i32::MIN, "invalid message body size -2147483648"),
            (11, "message too big 11 > 10"),
        ] {
            let bytes = line_and(&format!("{name} t{rest}\n"), size.to_be_bytes());
            check_error(Init, bytes, &format!("E_BAD_MESSAGE {name} {text}"));
        }
    }
    check(Init, line_and("PUB t x y\n", sized(b"0123456789")), "PUB t 0123456789", "");
    check(Init, line_and("PUB t\n", sized(b"PUB t\n")), r"PUB t PUB t\n", "");
}

#[test]
fn every_publish_goes_to_its_own_topic() {
    let topics = ["aa", "aa", "ab", "a", "aa"];
    let bytes = topics.map(|topic| line_and(&format!("PUB {topic}\n"), sized(b"x"))).concat();
    check(Init, bytes, &topics.map(|topic| format!("PUB {topic} x")).join("; "), "");
    check_error(Init, "PUB aa\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0");
    let bytes = line_and("PUB aa\n", sized(b"x"));
    let error = r#"E_BAD_TOPIC PUB topic name "a$" is not valid"#;
    check(Init, [&bytes, b"PUB a$\n".as_slice()].concat(), "PUB aa x", error);
}

#[test]
fn dpub_refuses_delays_out_of_range() {
    check_error(Init, "DPUB $ x\n", r#"E_BAD_TOPIC DPUB topic name "$" is not valid"#);
    for text in ["x", "-1", "+1", "1.5", "1\t"] {
        let error = format!("E_INVALID DPUB could not parse timeout {text}");
        check_error(Init, format!("DPUB t {text}\n"), &error);
    }
    for (text, shown) in [
        ("3600001", "3600001"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551617", "18446744073709551615"),
        ("99999999999999999999999", "18446744073709551615"),
    ] {
        let error = format!("E_INVALID DPUB timeout {shown} out of range 0-3600000");
        check_error(Init, format!("DPUB t {text}\n"), &error);
    }
    let longest = line_and("DPUB t 03600000\n", sized(b"x"));
    check(Init, longest, "DPUB t +3600000 x", "");
    check(Init, line_and("DPUB t \n", sized(b"x")), "DPUB t +0 x", "");
}

#[test]
fn mpub_checks_its_line_and_sizes_in_order() {
    let mpub = |rest: &[u8]| line_and("MPUB t\n", rest);
    check_error(Init, "MPUB\n", "E_INVALID MPUB insufficient number of parameters");
    let doubled = r#"E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "$" is not valid"#;
    check_error(Init, "MPUB $\n", doubled);
    for (rest, error) in [
        (b"\0\0\0\0".as_slice(), "E_BAD_BODY MPUB invalid body size 0"),
        (b"\xff\xff\xff\xff", "E_BAD_BODY MPUB invalid body size -1"),
        (b"\0\0\0\x41", "E_BAD_BODY MPUB body too big 65 > 64"),
        (b"\0\0\0\x05\0\0\0\0", "E_BAD_BODY MPUB invalid message count 0"),
        (b"\0\0\0\x05\xff\xff\xff\xfe", "E_BAD_BODY MPUB invalid message count -2"),
        (b"\0\0\0\x05\0\0\0\x0d", "E_BAD_BODY MPUB invalid message count 13"),
        (
            b"\0\0\0\x05\0\0\0\x02\0\0\0\x01a\0\0\0\0",
            "E_BAD_MESSAGE MPUB invalid message(1) body size 0",
        ),
        (
            b"\0\0\0\x05\0\0\0\x02\xff\xff\xff\xff",
            "E_BAD_MESSAGE MPUB invalid message(0) body size -1",
        ),
        (b"\0\0\0\x05\0\0\0\x02\0\0\0\x0b", "E_BAD_MESSAGE MPUB message too big 11 > 10"),
    ] {
        check(Init, mpub(rest), "start t", error);
    }
}

#[test]
fn mpub_is_driven_by_its_count_not_by_its_body_size() {
    let mpub = |bytes: Vec<u8>| [b"MPUB t\n", bytes.as_slice(), b"NOP\n"].concat();
    check(Init, mpub(batch(&[b"a", b"bc"])), "start t; MPUB t [a] [bc]; NOP", "");
    for claimed in [1, 64] {
        let mut bytes = batch(&[b"a", b"bc"]);
        bytes[3] = claimed;
        check(Init, mpub(bytes), "start t; MPUB t [a] [bc]; NOP", "");
    }
    let most = [b"x".as_slice(); 12];
    let commands = format!("start t; MPUB t{}; NOP", " [x]".repeat(12));
    check(Init, mpub(batch(&most)), &commands, "");
}

#[test]
fn rdy_takes_a_count_in_range() {
    for (line, count) in [("RDY", 1), ("RDY ", 0), ("RDY 0", 0), ("RDY 2500 x", 2500)] {
        check(Subscribed, format!("{line}\n"), &format!("RDY {count}"), "");
    }
    let error = "E_INVALID RDY count 2501 out of range 0-2500";
    check_error(Subscribed, "RDY 2501\n", error);
    let error = "E_INVALID RDY could not parse count -1";
    check_error(Subscribed, "RDY -1\n", error);
}

#[test]
fn fin_req_and_touch_take_any_sixteen_bytes() {
    let insufficient = |name| format!("E_INVALID {name} insufficient number of params");
    check_error(Subscribed, "FIN\n", &insufficient("FIN"));
    check_error(Subscribed, "TOUCH\n", &insufficient("TOUCH"));
    check_error(Subscribed, "REQ\n", &insufficient("REQ"));
    check_error(Subscribed, "REQ x\n", &insufficient("REQ"));
    for line in ["FIN \n", "FIN 0123456789abcde\n", "REQ 0123456789abcdef0 x\n", "TOUCH x\n"] {
        check_error(Subscribed, line, "E_INVALID invalid message ID");
    }
    check(Subscribed, "FIN NOT-HEX-AT-ALL!!\r\n", "FIN NOT-HEX-AT-ALL!!", "");
    check(Subscribed, format!("TOUCH {ID} x\n"), &format!("TOUCH {ID}"), "");
}

#[test]
fn req_clamps_its_delay() {
    let check_delay = |text: &str, delay_ms: u64| {
        let line = format!("REQ {ID} {text}\n");
        check(Subscribed, line, &format!("REQ {ID} {delay_ms}"), "");
    };
    check_delay("0", 0);
    check_delay("", 0);
    check_delay("3600000", 3_600_000);
    check_delay("3600001", 3_600_000);
    check_delay("99999999999999999999999 x", 3_600_000);
    let error = "E_INVALID REQ could not parse timeout -5";
    check_error(Subscribed, format!("REQ {ID} -5\n"), error);
}

#[test]
fn an_end_of_the_stream_inside_a_body_is_told() {
    let after_line = |line: &str, rest: &[u8]| {
        let mut connection = Connection::new(Init, LIMITS);
        connection.feed(&line_and(line, rest));
        let error = connection.decoder.end_of_stream().err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    for (line, rest, error) in [
        ("NOP\n", b"".as_slice(), ""),
        ("PUB t", b"", ""),
        ("PUB t\n", b"\0\0\0", "E_BAD_MESSAGE PUB failed to read message body size"),
        ("PUB t\n", b"\0\0\0\x01", "E_BAD_MESSAGE PUB failed to read message body"),
        ("DPUB t 1\n", b"", "E_BAD_MESSAGE DPUB failed to read message body size"),
        ("DPUB t 1\n", b"\0\0\0\x02x", "E_BAD_MESSAGE DPUB failed to read message body"),
        ("IDENTIFY\n", b"", "E_BAD_BODY IDENTIFY failed to read body size"),
        ("IDENTIFY\n", b"\0\0\0\x02{", "E_BAD_BODY IDENTIFY failed to read body"),
        ("AUTH\n", b"", "E_BAD_BODY AUTH failed to read body size"),
        ("AUTH\n", b"\0\0\0\x02x", "E_BAD_BODY AUTH failed to read body"),
        ("MPUB t\n", b"\0\0", "E_BAD_BODY MPUB failed to read body size"),
        ("MPUB t\n", b"\0\0\0\x05\0", "E_BAD_BODY MPUB failed to read message count"),
        (
            "MPUB t\n",
            b"\0\0\0\x05\0\0\0\x02\0\0\0\x01a\0",
            "E_BAD_MESSAGE MPUB failed to read message(1) body size",
        ),
        (
            "MPUB t\n",
            b"\0\0\0\x05\0\0\0\x01\0\0\0\x02a",
            "E_BAD_MESSAGE MPUB failed to read message body",
        ),
    ] {
        assert_eq!(after_line(line, rest), error, "{line:?} {rest:?}");
    }
}
