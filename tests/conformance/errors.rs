//! Every error text a client can provoke with a command, to the letter.

use crate::support::client::{Client, batch, with_body};
use crate::support::matrix::check;

const ID: &str = "0123456789abcdef";

/// The state a connection is in when the bytes are sent.
#[derive(Clone, Copy, Debug)]
enum State {
    Init,
    Subscribed,
    Closing,
}
use State::{Closing, Init, Subscribed};

/// Sends the bytes of each case on a connection of its own; the error ends it.
fn check_fatal(flags: &[&str], cases: &[(State, &[u8], &str)]) {
    check(flags, |daemon| {
        for (state, bytes, text) in cases {
            let mut client = Client::connect(daemon);
            if matches!(state, Subscribed | Closing) {
                client.subscribe("t", "ch");
            }
            if matches!(state, Closing) {
                client.command("CLS");
                client.expect_response("CLOSE_WAIT");
            }
            client.send(bytes);
            client.expect_fatal(text);
        }
    });
}

#[test]
fn bad_magic() {
    check(&[], |daemon| {
        let mut client = Client::raw(&daemon.tcp);
        client.send(b"  V1");
        client.expect_fatal("E_BAD_PROTOCOL");
        let mut client = Client::raw(&daemon.tcp);
        client.send(b"  V");
        client.shutdown(std::net::Shutdown::Write);
        client.expect_closed();
    });
}

#[test]
fn commands_in_the_wrong_state() {
    let identify = with_body("IDENTIFY", b"{}");
    let auth = with_body("AUTH", b"secret");
    let finish = format!("FIN {ID}\n");
    let requeue = format!("REQ {ID} 0\n");
    let touch = format!("TOUCH {ID}\n");
    let cases: &[(State, &[u8], &str)] = &[
        (Init, b"RDY 1\n", "E_INVALID cannot RDY in current state"),
        (Init, finish.as_bytes(), "E_INVALID cannot FIN in current state"),
        (Init, requeue.as_bytes(), "E_INVALID cannot REQ in current state"),
        (Init, touch.as_bytes(), "E_INVALID cannot TOUCH in current state"),
        (Init, b"CLS\n", "E_INVALID cannot CLS in current state"),
        (Subscribed, &identify, "E_INVALID cannot IDENTIFY in current state"),
        (Subscribed, &auth, "E_INVALID cannot AUTH in current state"),
        (Subscribed, b"SUB t ch\n", "E_INVALID cannot SUB in current state"),
        (Closing, &identify, "E_INVALID cannot IDENTIFY in current state"),
        (Closing, &auth, "E_INVALID cannot AUTH in current state"),
        (Closing, b"SUB t ch\n", "E_INVALID cannot SUB in current state"),
        (Closing, b"CLS\n", "E_INVALID cannot CLS in current state"),
    ];
    check_fatal(&[], cases);
}

#[test]
fn identify_and_auth() {
    let too_big = format!("E_BAD_BODY IDENTIFY body too big {} > 1000", u32::MAX >> 1);
    let cases: &[(State, &[u8], &str)] = &[
        (Init, &with_body("IDENTIFY", b""), "E_BAD_BODY IDENTIFY invalid body size 0"),
        (Init, b"IDENTIFY\n\xff\xff\xff\xff", "E_BAD_BODY IDENTIFY invalid body size -1"),
        (Init, b"IDENTIFY\n\x7f\xff\xff\xff", &too_big),
        (Init, &with_body("IDENTIFY", b"{"), "E_BAD_BODY IDENTIFY failed to decode JSON body"),
        (Init, &with_body("AUTH", b"secret"), "E_AUTH_DISABLED AUTH disabled"),
        (Init, b"AUTH x\n", "E_INVALID AUTH invalid number of parameters"),
        (Init, &with_body("AUTH", b""), "E_BAD_BODY AUTH invalid body size 0"),
        (Init, b"AUTH\n\0\0\x03\xe9", "E_BAD_BODY AUTH body too big 1001 > 1000"),
    ];
    check_fatal(&["--max-body-size=1000"], cases);
}

#[test]
fn subscribing() {
    let cases: &[(State, &[u8], &str)] = &[
        (Init, b"SUB\n", "E_INVALID SUB insufficient number of parameters"),
        (Init, b"SUB t\n", "E_INVALID SUB insufficient number of parameters"),
        (Init, b"SUB t$ ch\n", "E_BAD_TOPIC SUB topic name \"t$\" is not valid"),
        (Init, b"SUB t ch$\n", "E_BAD_CHANNEL SUB channel name \"ch$\" is not valid"),
        (Init, b"SUB t \n", "E_BAD_CHANNEL SUB channel name \"\" is not valid"),
        (Init, b"SUB \"\\ ch\n", "E_BAD_TOPIC SUB topic name \"\\\"\\\\\" is not valid"),
        (Init, b"SUB \x01\xff\t ch\n", "E_BAD_TOPIC SUB topic name \"\\x01\\xff\\t\" is not valid"),
        (Init, "SUB \u{fc} ch\n".as_bytes(), "E_BAD_TOPIC SUB topic name \"\u{fc}\" is not valid"),
    ];
    check_fatal(&[], cases);
}

#[test]
fn publishing() {
    let one = with_body("MPUB t", &batch(&[b"x"]));
    let count = |count: &[u8]| [b"MPUB t\n\0\0\0\x64", count].concat();
    let message = |size: &[u8]| [b"MPUB t\n\0\0\0\x64\0\0\0\x01", size].concat();
    let many = "E_BAD_BODY MPUB invalid message count";
    let cases: &[(State, &[u8], &str)] = &[
        (Init, b"PUB\n", "E_INVALID PUB insufficient number of parameters"),
        (Init, b"PUB t$\n", "E_BAD_TOPIC PUB topic name \"t$\" is not valid"),
        (Init, b"PUB t\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0"),
        (Init, b"PUB t\n\x80\0\0\0", "E_BAD_MESSAGE PUB invalid message body size -2147483648"),
        (Init, b"PUB t\n\0\0\0\x65", "E_BAD_MESSAGE PUB message too big 101 > 100"),
        (Init, b"DPUB t\n", "E_INVALID DPUB insufficient number of parameters"),
        (Init, b"DPUB t$ 1\n", "E_BAD_TOPIC DPUB topic name \"t$\" is not valid"),
        (Init, b"DPUB t 1x\n", "E_INVALID DPUB could not parse timeout 1x"),
        (Init, b"DPUB t -1\n", "E_INVALID DPUB could not parse timeout -1"),
        (Init, b"DPUB t 3600001\n", "E_INVALID DPUB timeout 3600001 out of range 0-3600000"),
        (Init, b"DPUB t 1\n\0\0\0\0", "E_BAD_MESSAGE DPUB invalid message body size 0"),
        (Init, b"DPUB t 1\n\0\0\0\x65", "E_BAD_MESSAGE DPUB message too big 101 > 100"),
        (Init, b"MPUB\n", "E_INVALID MPUB insufficient number of parameters"),
        (Init, b"MPUB t\n\0\0\0\0", "E_BAD_BODY MPUB invalid body size 0"),
        (Init, b"MPUB t\n\xff\xff\xff\xff", "E_BAD_BODY MPUB invalid body size -1"),
        (Init, b"MPUB t\n\0\0\x03\xe9", "E_BAD_BODY MPUB body too big 1001 > 1000"),
        (Init, &count(b"\0\0\0\0"), &format!("{many} 0")),
        (Init, &count(b"\xff\xff\xff\xff"), &format!("{many} -1")),
        // (1000 - 4) / 5 = 199 messages are the most a body can hold.
        (Init, &count(b"\0\0\0\xc8"), &format!("{many} 200")),
        (Init, &message(b"\0\0\0\0"), "E_BAD_MESSAGE MPUB invalid message(0) body size 0"),
        (Init, &message(b"\xff\xff\xff\xff"), "E_BAD_MESSAGE MPUB invalid message(0) body size -1"),
        (Init, &message(b"\0\0\0\x65"), "E_BAD_MESSAGE MPUB message too big 101 > 100"),
        (Subscribed, b"PUB t$\n", "E_BAD_TOPIC PUB topic name \"t$\" is not valid"),
        (Closing, b"PUB t$\n", "E_BAD_TOPIC PUB topic name \"t$\" is not valid"),
        // An accepted publish is answered first.
    ];
    check_fatal(&["--max-msg-size=100", "--max-body-size=1000"], cases);
    check(&[], |daemon| {
        let mut client = Client::connect(daemon);
        client.send(&[&one[..], b"PUB\n"].concat());
        client.expect_ok();
        client.expect_fatal("E_INVALID PUB insufficient number of parameters");
    });
}

#[test]
fn bodies_that_end_early() {
    check(&[], |daemon| {
        for (bytes, text) in [
            (&b"PUB t\n\0\0"[..], "E_BAD_MESSAGE PUB failed to read message body size"),
            (b"PUB t\n\0\0\0\x05abc", "E_BAD_MESSAGE PUB failed to read message body"),
            (b"DPUB t 1\n\0\0", "E_BAD_MESSAGE DPUB failed to read message body size"),
            (b"DPUB t 1\n\0\0\0\x05abc", "E_BAD_MESSAGE DPUB failed to read message body"),
            (b"IDENTIFY\n\0\0", "E_BAD_BODY IDENTIFY failed to read body size"),
            (b"IDENTIFY\n\0\0\0\x05{", "E_BAD_BODY IDENTIFY failed to read body"),
            (b"AUTH\n\0\0", "E_BAD_BODY AUTH failed to read body size"),
            (b"MPUB t\n\0", "E_BAD_BODY MPUB failed to read body size"),
            (b"MPUB t\n\0\0\0\x20\0", "E_BAD_BODY MPUB failed to read message count"),
        ] {
            let mut client = Client::connect(daemon);
            client.send(bytes);
            client.shutdown(std::net::Shutdown::Write);
            client.expect_fatal(text);
        }
    });
}

#[test]
fn consuming() {
    let long = format!("FIN {ID}0\n");
    let requeue = format!("REQ {ID}\n");
    let requeue_bad = format!("REQ {ID} x\n");
    let cases: &[(State, &[u8], &str)] = &[
        (Subscribed, b"RDY x\n", "E_INVALID RDY could not parse count x"),
        (Subscribed, b"RDY -1\n", "E_INVALID RDY could not parse count -1"),
        (Subscribed, b"RDY 2501\n", "E_INVALID RDY count 2501 out of range 0-2500"),
        (Subscribed, b"FIN\n", "E_INVALID FIN insufficient number of params"),
        (Subscribed, b"FIN x\n", "E_INVALID invalid message ID"),
        (Subscribed, long.as_bytes(), "E_INVALID invalid message ID"),
        (Subscribed, requeue.as_bytes(), "E_INVALID REQ insufficient number of params"),
        (Subscribed, b"REQ x 0\n", "E_INVALID invalid message ID"),
        (Subscribed, requeue_bad.as_bytes(), "E_INVALID REQ could not parse timeout x"),
        (Subscribed, b"TOUCH\n", "E_INVALID TOUCH insufficient number of params"),
        (Subscribed, b"TOUCH x\n", "E_INVALID invalid message ID"),
        (Closing, b"FIN x\n", "E_INVALID invalid message ID"),
    ];
    check_fatal(&[], cases);
}

#[test]
fn errors_that_do_not_end_the_connection() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.command(&format!("FIN {ID}"));
        client.expect_error(&format!("E_FIN_FAILED FIN {ID} failed ID not in flight"));
        client.command(&format!("REQ {ID} 10"));
        client.expect_error(&format!("E_REQ_FAILED REQ {ID} failed ID not in flight"));
        client.command(&format!("TOUCH {ID}"));
        client.expect_error(&format!("E_TOUCH_FAILED TOUCH {ID} failed ID not in flight"));
        // The server does not look at an id beyond its length.
        client.command("FIN zzzzzzzzzzzzzzzz");
        let text = "E_FIN_FAILED FIN zzzzzzzzzzzzzzzz failed ID not in flight";
        client.expect_error(text);

        client.publish("t", b"body");
        let message = client.message();
        let mut other = Client::consumer(daemon, "t", "ch", 1);
        let id = &message.id;
        for (command, argument) in [("FIN", ""), ("REQ", " 0"), ("TOUCH", "")] {
            other.command(&format!("{command} {id}{argument}"));
            let reason = "client does not own message";
            other.expect_error(&format!("E_{command}_FAILED {command} {id} failed {reason}"));
        }
        client.finish(&message);
        client.expect_quiet();
        client.touch(&message);
        client.expect_error(&format!("E_TOUCH_FAILED TOUCH {id} failed ID not in flight"));
    });
}
