//! Publishing, topics, channels, configuration: the cases of NSQ's own tests, and the order in
//! which errors are found.

use super::*;

fn batch(count: i32, bodies: &[&[u8]]) -> Vec<u8> {
    let sized = |body: &&[u8]| [&i32::try_from(body.len()).unwrap().to_be_bytes(), *body].concat();
    [count.to_be_bytes().to_vec(), bodies.iter().flat_map(sized).collect()].concat()
}

#[test]
fn d1_pub() {
    let daemon = Daemon::start(&[]);
    daemon.post("/pub?topic=t", "test message").is("OK");
    assert_eq!(daemon.messages("t"), [b"test message"]);
    daemon.client.send_chunked("POST", "/pub?topic=t", &[7; 5000]).is("OK");
    assert_eq!(daemon.messages("t")[1], vec![7; 5000]);
}

#[test]
fn d2_pub_empty() {
    let daemon = Daemon::start(&[]);
    daemon.post("/pub?topic=t", "").fails(400, "MSG_EMPTY");
    assert!(daemon.look(|model| model.topics.is_empty()));
}

#[test]
fn pub_finds_errors_in_the_order_of_nsq() {
    let daemon = Daemon::start(&["-max-msg-size=10", "-max-req-timeout=1s"]);
    let cases = [
        ("/pub?topic=%zz&defer=x", "01234567890", 413, "MSG_TOO_BIG"),
        ("/pub?topic=%zz&defer=x", "", 400, "MSG_EMPTY"),
        ("/pub?topic=%zz&defer=x", "a", 400, "INVALID_REQUEST"),
        ("/pub?defer=x", "a", 400, "MISSING_ARG_TOPIC"),
        ("/pub?topic=a$&defer=x", "a", 400, "INVALID_TOPIC"),
    ];
    for (target, body, status, message) in cases {
        daemon.post(target, body).fails(status, message);
    }
    assert!(daemon.look(|model| model.topics.is_empty()));
    let too_long = daemon.client.send_chunked("POST", "/pub?topic=t", &[0; 11]);
    too_long.fails(413, "MSG_TOO_BIG");
    for defer in ["x", "", "-1", "1001", "1.0", "99999999999999999999"] {
        daemon.post(&format!("/pub?topic=t&defer={defer}"), "a").fails(400, "INVALID_DEFER");
    }
    assert!(daemon.messages("t").is_empty(), "the topic stays, the message does not");
    daemon.post("/pub?topic=t&defer=1000", "0123456789").is("OK");
    daemon.post("/pub?topic=t&topic=u", "the first").is("OK");
    assert_eq!(daemon.messages("t").len(), 2);
}

#[test]
fn d3_d4_mpub_of_lines() {
    let daemon = Daemon::start(&[]);
    daemon.post("/mpub?topic=t", "a\nb\r\n\n\nc\nd").is("OK");
    assert_eq!(daemon.messages("t"), [&b"a"[..], b"b\r", b"c", b"d"]);
    daemon.post("/mpub?topic=t&binary=false", "a\nb\nc\nd\n").is("OK");
    assert_eq!(daemon.messages("t").len(), 8);
    daemon.post("/mpub?topic=t&binary=0", "\n\n").is("OK");
    daemon.post("/mpub?topic=t", "").is("OK");
    assert_eq!(daemon.messages("t").len(), 8);
}

#[test]
fn d5_d6_mpub_binary() {
    let daemon = Daemon::start(&[]);
    let body = batch(5, &[&[b'x'; 100][..]; 5]);
    daemon.post("/mpub?topic=t&binary=true", &body).is("OK");
    daemon.post("/mpub?topic=t&binary=non_normalized_binary_param", &body).is("OK");
    daemon.post("/mpub?topic=t&binary=", [&body[..], b"left over"].concat()).is("OK");
    assert_eq!(daemon.messages("t"), vec![vec![b'x'; 100]; 15]);
}

#[test]
fn mpub_finds_errors_in_the_order_of_nsq() {
    let daemon = Daemon::start(&["-max-msg-size=10", "-max-body-size=64"]);
    daemon.post("/mpub?topic=%zz", [b'a'; 65]).fails(413, "BODY_TOO_BIG");
    daemon.post("/mpub?topic=%zz", "").fails(400, "INVALID_REQUEST");
    daemon.post("/mpub", "").fails(400, "MISSING_ARG_TOPIC");
    daemon.post("/mpub?topic=a$", "").fails(400, "INVALID_TOPIC");
    assert!(daemon.look(|model| model.topics.is_empty()));
    daemon.post("/mpub?topic=t", "01234567890").fails(413, "MSG_TOO_BIG");
    let too_long = daemon.client.send_chunked("POST", "/mpub?topic=t", &[b'\n'; 65]);
    too_long.fails(413, "BODY_TOO_BIG");
    let bodies: &[(Vec<u8>, &str)] = &[
        (vec![], "BAD_BODY"),
        (vec![0, 0, 0], "BAD_BODY"),
        (batch(0, &[]), "BAD_BODY"),
        (batch(-1, &[b"a"]), "BAD_BODY"),
        (batch(13, &[b"a"]), "BAD_BODY"),
        (batch(12, &[b"a"]), "BAD_MESSAGE"),
        (batch(1, &[b""]), "BAD_MESSAGE"),
        (batch(1, &[b"01234567890"]), "BAD_MESSAGE"),
        (batch(1, &[b"0123456789"])[..17].to_vec(), "BAD_MESSAGE"),
        ([&batch(1, &[b"a"])[..4], &[0xff; 8]].concat(), "BAD_MESSAGE"),
    ];
    for (body, message) in bodies {
        daemon.post("/mpub?topic=t&binary=1", body).fails(413, message);
    }
    assert!(daemon.messages("t").is_empty());
    daemon.post("/mpub?topic=t&binary=1", batch(1, &[b"0123456789"])).is("OK");
}

#[test]
fn d7_pub_deferred() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create?topic=t", "").is("");
    daemon.post("/channel/create?topic=t&channel=ch", "").is("");
    daemon.post("/pub?topic=t&defer=1000", "a").is("OK");
    assert_eq!(daemon.look(|model| model.channel("t", "ch").deferred_count), 1);
}

#[test]
fn d11_topic_and_channel() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create?topic=t", "ignored").is("");
    daemon.post("/topic/create?topic=t", "").is("");
    daemon.post("/channel/create?topic=t&channel=ch", "").is("");
    for action in ["pause", "unpause"] {
        daemon.post(&format!("/topic/{action}"), "").fails(400, "MISSING_ARG_TOPIC");
        daemon.post(&format!("/topic/{action}?topic=u"), "").fails(404, "TOPIC_NOT_FOUND");
        daemon.post(&format!("/topic/{action}?topic=u$"), "").fails(404, "TOPIC_NOT_FOUND");
        daemon.post(&format!("/topic/{action}?topic=t"), "").is("");
        let paused = action == "pause";
        assert_eq!(daemon.look(|model| model.topic("t").paused), paused);
        daemon.post(&format!("/channel/{action}?topic=t&channel=ch"), "").is("");
        assert_eq!(daemon.look(|model| model.channel("t", "ch").paused), paused);
    }
    daemon.post("/channel/delete?topic=t&channel=ch", "").is("");
    assert!(daemon.look(|model| model.topic("t").channels.is_empty()));
    daemon.post("/topic/delete?topic=t", "").is("");
    assert!(daemon.look(|model| model.topics.is_empty()));
}

#[test]
fn d15_config() {
    let daemon = Daemon::start(&["-topology-zone=<&>", "-max-deflate-level=3"]);
    let json = |name: &str| {
        let answer = daemon.get(&format!("/config/{name}"));
        assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
        answer.text().to_owned()
    };
    assert_eq!(json("nsqlookupd_tcp_addresses"), "[]");
    assert_eq!(json("log_level"), "2");
    assert_eq!(json("msg_timeout"), "60000000000");
    assert_eq!(json("deflate"), "true");
    assert_eq!(json("tls_required"), "0");
    assert_eq!(json("tls_min_version"), "769");
    assert_eq!(json("max_deflate_level"), "3");
    daemon.get("/config/log_prefix").is("[nsqd] ");
    daemon.get("/config/topology_zone").is("<&>");
    daemon.get("/config/topology_region").is("");
    for name in ["config", "verbose", "warnings", "LOG_LEVEL", "node_id"] {
        daemon.get(&format!("/config/{name}")).fails(400, "INVALID_OPTION");
    }
    let put = |name: &str, value: &str| {
        daemon.client.send("PUT", &format!("/config/{name}"), value.as_bytes())
    };
    let addresses = r#"["127.0.0.1:4160","127.0.0.2:4160"]"#;
    assert_eq!(put("nsqlookupd_tcp_addresses", addresses).text(), addresses);
    assert_eq!(json("nsqlookupd_tcp_addresses"), addresses);
    assert_eq!(put("log_level", "FATAL").text(), "5");
    assert_eq!(json("log_level"), "5");
    put("log_level", "bad").fails(400, "INVALID_VALUE");
    put("nsqlookupd_tcp_addresses", "a:1").fails(400, "INVALID_VALUE");
    put("msg_timeout", "5").fails(400, "INVALID_OPTION");
    put("nonsense", "").fails(413, "INVALID_VALUE");
}

#[test]
fn d17_topic_delete() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/delete", "").fails(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/delete?topic=t", "").fails(404, "TOPIC_NOT_FOUND");
    daemon.post("/topic/delete?topic=t$", "").fails(404, "TOPIC_NOT_FOUND");
    daemon.post("/topic/create?topic=t", "").is("");
    daemon.post("/topic/delete?topic=t", "").is("");
}

#[test]
fn d18_topic_empty() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/empty", "").fails(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/empty?topic=name$", "").fails(400, "INVALID_TOPIC");
    daemon.post("/topic/empty?topic=t", "").fails(404, "TOPIC_NOT_FOUND");
    daemon.post("/pub?topic=t", "a").is("OK");
    daemon.post("/topic/empty?topic=t", "").is("");
    assert!(daemon.messages("t").is_empty());
}

#[test]
fn d19_channel_empty_and_the_others() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create?topic=known", "").is("");
    daemon.post("/topic/create", "").fails(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/create?topic=a$", "").fails(400, "INVALID_TOPIC");
    for action in ["create", "empty", "pause", "unpause", "delete"] {
        let post = |query: &str| daemon.post(&format!("/channel/{action}{query}"), "");
        post("?channel=%1").fails(400, "INVALID_REQUEST");
        post("?channel=c$").fails(400, "MISSING_ARG_TOPIC");
        post("?topic=a$").fails(400, "INVALID_ARG_TOPIC");
        post("?topic=t").fails(400, "MISSING_ARG_CHANNEL");
        post("?topic=t&channel=c$").fails(400, "INVALID_ARG_CHANNEL");
        post("?topic=t&channel=c").fails(404, "TOPIC_NOT_FOUND");
        if action != "create" {
            post("?topic=known&channel=other").fails(404, "CHANNEL_NOT_FOUND");
        }
        post("?topic=known&channel=c").is("");
    }
}

#[test]
fn a_home_that_was_remembered_and_is_wrong_is_asked_for_again() {
    let daemon = Daemon::start(&[]);
    daemon.post("/pub?topic=t", "a").is("OK");
    daemon.post("/pub?topic=t", "b").is("OK");
    assert_eq!(daemon.look(|model| model.resolved), 1, "the second goes straight home");
    daemon.look(|model| model.topics.clear());
    daemon.post("/pub?topic=t", "c").is("OK");
    assert_eq!(daemon.messages("t"), [b"c"]);
    daemon.look(|model| model.topics.clear());
    daemon.post("/topic/empty?topic=t", "").fails(404, "TOPIC_NOT_FOUND");
}
