//! The lookup protocol beside section F: every answer to the letter.

use super::client::{Client, identify_command, identity};
use super::daemon::{Daemon, is_original};
use crate::support::stream::Address;
use serde_json::json;

#[test]
fn identify_is_answered_with_who_we_are() {
    let daemon = Daemon::start(&["--broadcast-address=here"]);
    let mut client = daemon.connect();
    let answer = client.identify();
    let port = |address: &Address| match address {
        Address::Tcp(address) => address.rsplit(':').next().unwrap().parse::<u16>().unwrap(),
        Address::Unix(_) => unreachable!("nsqlookupd listens on TCP"),
    };
    assert_eq!(answer["broadcast_address"], "here");
    assert_eq!(answer["tcp_port"], port(&daemon.tcp));
    assert_eq!(answer["http_port"], port(&daemon.http));
    assert_eq!(answer["version"], daemon.json("/info")["version"]);
    assert!(!answer["hostname"].as_str().unwrap().is_empty());
    assert_eq!(answer.as_object().unwrap().len(), 5);
}

#[test]
fn faulty_commands_end_the_connection() {
    let daemon = Daemon::start(&[]);
    let cases: &[(&[u8], &str)] = &[
        (b"REGISTER t\n", "E_INVALID client must IDENTIFY"),
        (b"UNREGISTER t\n", "E_INVALID client must IDENTIFY"),
        (b"\n", "E_INVALID invalid command "),
        (&identify_command(b"no json"), "E_BAD_BODY IDENTIFY failed to decode JSON body"),
        (&identify_command(b"{}"), "E_BAD_BODY IDENTIFY missing fields"),
        (&identify_command(b""), "E_BAD_BODY IDENTIFY failed to decode JSON body"),
    ];
    for (input, text) in cases {
        let mut client = daemon.connect();
        client.send(input);
        client.expect_last(text);
    }
    let cases = [
        ("REGISTER", "E_INVALID REGISTER insufficient number of params"),
        ("UNREGISTER", "E_INVALID UNREGISTER insufficient number of params"),
        ("REGISTER t$", "E_BAD_TOPIC REGISTER topic name 't$' is not valid"),
        ("UNREGISTER  t", "E_BAD_TOPIC UNREGISTER topic name '' is not valid"),
        ("REGISTER t c$", "E_BAD_CHANNEL REGISTER channel name 'c$' is not valid"),
        ("IDENTIFY", "E_INVALID cannot IDENTIFY again"),
        ("register t", "E_INVALID invalid command register"),
    ];
    for (line, text) in cases {
        let mut client = daemon.connect();
        client.identify();
        client.send(format!("{line}\n").as_bytes());
        client.expect_last(text);
    }
    assert_eq!(daemon.json("/topics"), json!({"topics": []}));
}

#[test]
fn pings_need_no_introduction_and_lines_are_trimmed() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.order("PING");
    client.order(" PING \r");
    client.identify();
    client.order("\tREGISTER t c surplus\r");
    client.order("REGISTER u  no-channel");
    client.order("PING");
    daemon.wait_logged("): pinged (last ping ");
    assert_eq!(daemon.found("t"), (1, 1));
    assert_eq!(daemon.found("u"), (0, 1));
}

#[test]
fn commands_may_come_all_at_once_or_byte_by_byte() {
    let daemon = Daemon::start(&[]);
    let mut input = identify_command(identity().to_string().as_bytes());
    for topic in 0..100 {
        input.extend_from_slice(format!("REGISTER t{topic} c\n").as_bytes());
    }
    let mut client = daemon.connect();
    client.send(&input);
    client.answer().unwrap();
    for _ in 0..100 {
        client.expect("OK");
    }
    assert_eq!(daemon.json("/topics")["topics"].as_array().unwrap().len(), 100);
    let mut client = daemon.connect();
    for byte in &input[..input.len().min(400)] {
        client.send(&[*byte]);
    }
    client.answer().unwrap();
    client.expect("OK");
}

#[test]
fn another_protocol_is_refused() {
    let daemon = Daemon::start(&[]);
    let mut client = Client { stream: daemon.tcp.connect().unwrap() };
    client.send(b"  V2");
    client.expect_last("E_BAD_PROTOCOL");
    daemon.wait_logged(" bad protocol magic '  V2'");
}

#[test]
fn an_input_that_ends_too_soon_is_told_what_was_missing() {
    let daemon = Daemon::start(&[]);
    let cases: &[(&[u8], &str)] = &[
        (b"IDENTIFY\n\0\0", "E_BAD_BODY IDENTIFY failed to read body size"),
        (b"IDENTIFY\n\0\0\0\x05{}", "E_BAD_BODY IDENTIFY failed to read body"),
    ];
    for (input, text) in cases {
        let mut client = daemon.connect();
        client.send(input);
        client.end_input();
        client.expect_last(text);
    }
    let mut client = daemon.connect();
    client.send(b"PING\nPIN");
    client.end_input();
    client.expect_last("OK");
}

#[test]
fn ephemeral_channels_and_topics_end_with_their_last_producer() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    for client in [&mut one, &mut two] {
        client.identify();
        client.order("REGISTER t#ephemeral c#ephemeral");
    }
    one.order("UNREGISTER t#ephemeral c#ephemeral");
    assert_eq!(daemon.found("t#ephemeral"), (1, 2));
    two.order("UNREGISTER t#ephemeral c#ephemeral");
    assert_eq!(daemon.found("t#ephemeral"), (0, 2));
    one.order("UNREGISTER t#ephemeral");
    two.order("UNREGISTER t#ephemeral");
    daemon.get("/lookup?topic=t#ephemeral").expect_message(404, "TOPIC_NOT_FOUND");
    if !is_original() {
        // The original forgets them only so; here the end of a connection does it too.
        one.order("REGISTER t#ephemeral c#ephemeral");
        drop(one);
        crate::support::wait::eventually(|| match daemon.get("/topics").text().as_str() {
            r#"{"topics":[]}"# => Ok(()),
            text => Err(text.to_owned()),
        });
    }
}

#[test]
fn unregistering_a_topic_takes_its_channels_along() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER t c");
    client.order("REGISTER t d");
    client.order("UNREGISTER t");
    daemon.wait_logged(" unexpected UNREGISTER category:channel key:t subkey:d");
    let debug = daemon.json("/debug");
    assert_eq!(debug.as_object().unwrap().keys().collect::<Vec<_>>(), ["client::"]);
    assert_eq!(daemon.found("t"), (2, 0));
}
