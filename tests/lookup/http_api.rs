//! The HTTP API beside F9: exact documents, wildcards, routing, metrics.

use super::daemon::{Daemon, is_original};
use crate::support::http::request;
use crate::support::wait::eventually;
use serde_json::json;

#[test]
fn documents_have_their_keys_in_order() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify_as(&json!({
        "broadcast_address": "<b>", "hostname": "h", "http_port": 1, "tcp_port": 2, "version": "v",
        "topology_zone": "z", "topology_region": "r",
    }));
    client.order("REGISTER t c");
    let nodes = daemon.nodes();
    let remote = nodes[0]["remote_address"].as_str().unwrap();
    let peer = format!(
        "\"remote_address\":\"{remote}\",\"hostname\":\"h\",\
         \"broadcast_address\":\"\\u003cb\\u003e\",\"tcp_port\":2,\"http_port\":1,\
         \"version\":\"v\",\"topology_zone\":\"z\",\"topology_region\":\"r\""
    );
    let reply = daemon.get("/lookup?topic=t");
    reply.expect(200, &format!(r#"{{"channels":["c"],"producers":[{{{peer}}}]}}"#));
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
    let node = format!(r#"{{{peer},"tombstones":[false],"topics":["t"]}}"#);
    daemon.get("/nodes").expect(200, &format!(r#"{{"producers":[{node}]}}"#));

    let debug = daemon.json("/debug");
    let entry = &debug["topic:t:"][0];
    let update = entry["last_update"].as_i64().unwrap();
    let expected = |tombstone: &str| {
        format!(
            "[{{\"broadcast_address\":\"\\u003cb\\u003e\",\"hostname\":\"h\",\"http_port\":1,\
             \"id\":\"{remote}\",\"last_update\":{update},\"tcp_port\":2,{tombstone},\
             \"topology_region\":\"r\",\"topology_zone\":\"z\",\"version\":\"v\"}}]"
        )
    };
    let entry = expected("\"tombstoned\":false,\"tombstoned_at\":-6795364578871345152");
    let keys = ["channel:t:c", "client::", "topic:t:"];
    let document = keys.map(|key| format!("\"{key}\":{entry}")).join(",");
    daemon.get("/debug").expect(200, &format!("{{{document}}}"));
}

#[test]
fn empty_documents_are_no_nulls() {
    let daemon = Daemon::start(&[]);
    daemon.get("/topics").expect(200, r#"{"topics":[]}"#);
    daemon.get("/nodes").expect(200, r#"{"producers":[]}"#);
    daemon.get("/debug").expect(200, "{}");
    let mut client = daemon.connect();
    client.identify();
    let nodes = daemon.nodes();
    assert_eq!((&nodes[0]["topics"], &nodes[0]["tombstones"]), (&json!([]), &json!([])));
}

#[test]
fn lookups_are_refused_as_they_should_be() {
    let daemon = Daemon::start(&[]);
    daemon.get("/lookup").expect_message(400, "MISSING_ARG_TOPIC");
    for topic in ["unknown", "x$", "*", ""] {
        let reply = daemon.get(&format!("/lookup?topic={topic}"));
        reply.expect_message(404, "TOPIC_NOT_FOUND");
    }
    daemon.get("/channels?topic=x$").expect(200, r#"{"channels":[]}"#);
    for target in ["/lookup?topic=%zz", "/channels?a;b"] {
        daemon.get(target).expect_message(400, "INVALID_REQUEST");
    }
    daemon.post("/topic/tombstone").expect_message(400, "MISSING_ARG_TOPIC");
    daemon.post("/topic/tombstone?topic=t").expect_message(400, "MISSING_ARG_NODE");
    daemon.post("/topic/tombstone?topic=t&node=n:1").expect(200, "");
    daemon.post("/topic/delete?topic=x$").expect(200, "");
}

#[test]
fn a_wildcard_finds_everything_and_destroys_nothing() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER a x");
    client.order("REGISTER b y");
    assert_eq!(daemon.found("*"), (2, 1));
    let channels = daemon.json("/channels?topic=*")["channels"].as_array().unwrap().len();
    assert_eq!(channels, 2);
    if !is_original() {
        daemon.post("/topic/delete?topic=*").expect_message(400, "INVALID_ARG_TOPIC");
        let target = "/topic/tombstone?topic=*&node=ip.address:5555";
        daemon.post(target).expect_message(400, "INVALID_ARG_TOPIC");
        assert_eq!(daemon.found("*"), (2, 1));
    }
}

#[test]
fn nodes_with_an_ipv6_address_can_be_tombstoned() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify_as(&json!({
        "broadcast_address": "fd4a::1", "http_port": 4151, "tcp_port": 4150, "version": "v",
    }));
    client.order("REGISTER t");
    client.order("REGISTER u");
    daemon.post("/topic/tombstone?topic=t&node=fd4a::1:4151").expect(200, "");
    assert_eq!(daemon.found("t"), (0, 0));
    if !is_original() {
        // As nsqadmin sends it.
        daemon.post("/topic/tombstone?topic=u&node=[fd4a::1]:4151").expect(200, "");
        assert_eq!(daemon.found("u"), (0, 0));
    }
}

#[test]
fn unknown_paths_and_methods() {
    let daemon = Daemon::start(&[]);
    let reply = daemon.post("/lookup?topic=t");
    reply.expect_message(405, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), Some("GET, OPTIONS"));
    daemon.get("/topic/create?topic=t").expect_message(405, "METHOD_NOT_ALLOWED");
    assert_eq!(request(&daemon.http, "HEAD", "/ping", b"").status, 405);
    for path in ["/create_topic", "/delete_channel", "/put", "/stats"] {
        daemon.get(path).expect_message(404, "NOT_FOUND");
    }
    let reply = daemon.get("/Lookup/?topic=t");
    assert_eq!((reply.status, reply.header("location")), (301, Some("/lookup?topic=t")));
    if !is_original() {
        // There is no Go runtime to profile.
        daemon.get("/debug/pprof").expect_message(404, "NOT_FOUND");
    }
    // Parameters come from the query alone.
    let reply = request(&daemon.http, "POST", "/topic/create", b"topic=t");
    reply.expect_message(400, "MISSING_ARG_TOPIC");
    daemon.wait_logged("405 POST /lookup?topic=t (127.0.0.1:");
}

#[test]
fn metrics_count_what_there_is() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&["--tombstone-lifetime=1h"]);
    let mut client = daemon.connect();
    client.identify();
    client.order("REGISTER t c");
    client.order("REGISTER u");
    client.order("PING");
    daemon.post("/topic/create?topic=empty").expect(200, "");
    daemon.post("/topic/tombstone?topic=u&node=ip.address:5555").expect(200, "");
    let mut faulty = daemon.connect();
    faulty.send(b"WHAT\n");
    faulty.expect_last("E_INVALID invalid command WHAT");
    let reply = eventually(|| {
        let reply = daemon.get("/metrics");
        let one = reply.text().contains("\nnsqlookupd_connections 1\n");
        if one { Ok(reply) } else { Err(reply.text()) }
    });
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = reply.text();
    for line in [
        "# TYPE nsqlookupd_topics gauge",
        "nsqlookupd_build_info{version=\"1.3.0\"} 1",
        "nsqlookupd_topics 3",
        "nsqlookupd_topics_without_producers 2",
        "nsqlookupd_channels 1",
        "nsqlookupd_producers{state=\"active\"} 1",
        "nsqlookupd_producers{state=\"inactive\"} 0",
        "nsqlookupd_registrations 3",
        "nsqlookupd_tombstones 1",
        "nsqlookupd_commands_total{command=\"IDENTIFY\"} 1",
        "nsqlookupd_commands_total{command=\"REGISTER\"} 2",
        "nsqlookupd_commands_total{command=\"PING\"} 1",
        "nsqlookupd_commands_refused_total 1",
        "nsqlookupd_log_lines_dropped_total 0",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} in\n{text}");
    }
}
