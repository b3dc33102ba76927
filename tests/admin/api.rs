//! The API beside section G: several nsqds taken together, exact documents, other paths.

use super::cluster::{Cluster, Program, is_original};
use super::fake::Fake;
use crate::support::client::Client;
use serde_json::{Value, json};

#[test]
fn several_nsqds_are_taken_together() {
    let cluster = Cluster::start(2, 2);
    let admin = cluster.admin(&[]);
    for (nsqd, count) in cluster.nsqds.iter().zip([2, 3]) {
        nsqd.create_channel("t", "c");
        for _ in 0..count {
            nsqd.post("/pub?topic=t", b"body").expect(200, "OK");
        }
    }
    cluster.nsqds[1].create_channel("t", "alone");
    cluster.wait_registered("t", 2, &["alone", "c"]);
    let topic = admin.wait_json("/api/topics/t", |topic| topic["message_count"] == 5);
    assert_eq!(topic["nodes"].as_array().unwrap().len(), 2);
    let channels = topic["channels"].as_array().unwrap();
    let named = |name: &str| channels.iter().find(|c| c["channel_name"] == name).unwrap();
    assert_eq!((&named("c")["node"], &named("c")["depth"]), (&json!("*"), &json!(5)));
    assert_eq!(
        (&named("alone")["node"], &named("alone")["nodes"]),
        (&json!(cluster.node(1)), &json!(null))
    );
    if !is_original() {
        // There the first nsqd is missing.
        assert_eq!(named("c")["nodes"].as_array().unwrap().len(), 2);
        for (index, depth) in [(0, 2), (1, 3)] {
            let nodes = topic["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|node| node["node"] == cluster.node(index)).unwrap();
            let channels = node["channels"].as_array().unwrap();
            let c = channels.iter().find(|channel| channel["channel_name"] == "c").unwrap();
            assert_eq!(c["depth"], depth, "{topic}");
        }
    }

    let consumers: Vec<_> =
        cluster.nsqds.iter().map(|nsqd| Client::consumer(nsqd, "t", "c", 0)).collect();
    let channel = admin.wait_json("/api/topics/t/c", |channel| channel["client_count"] == 2);
    assert_eq!((&channel["node"], &channel["depth"]), (&json!("*"), &json!(5)));
    let clients = channel["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 2);
    assert!(clients.iter().all(|client| client["node"].as_str().unwrap().starts_with("127.")));
    let node = admin.json(&format!("/api/nodes/{}", cluster.node(1)));
    assert_eq!((&node["total_messages"], &node["total_clients"]), (&json!(3), &json!(1)));
    drop(consumers);

    let counter = admin.json("/api/counter");
    let key = format!("t:c:{}", cluster.node(0));
    let expected = json!({"node": cluster.node(0), "topic_name": "t", "channel_name": "c",
        "message_count": 2});
    assert_eq!(counter["stats"][key.as_str()], expected);
    let nodes = admin.json("/api/nodes");
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!(node["remote_addresses"].as_array().unwrap().len(), 2);
        assert_eq!(node["topics"], json!([{"topic": "t", "tombstoned": false}]));
    }
}

#[test]
fn inactive_topics_are_those_without_an_nsqd() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    cluster.nsqds[0].create_channel("active", "c");
    cluster.wait_registered("active", 1, &["c"]);
    cluster.lookupds[0].post("/topic/create?topic=bare", "").expect(200, "");
    cluster.lookupds[0].post("/channel/create?topic=gone&channel=x", "").expect(200, "");
    let expected = r#"{"topics":{"bare":null,"gone":["x"]},"message":""}"#;
    admin.get("/api/topics?inactive=true").expect(200, expected);
    admin
        .get("/api/topics?inactive=1")
        .expect(200, r#"{"topics":["active","bare","gone"],"message":""}"#);
    if !is_original() {
        admin.get("/api/topics/active/unknown").expect_message(404, "CHANNEL_NOT_FOUND");
    }
    let unknown = admin.get("/api/topics/unknown");
    assert_eq!(unknown.status, 502);
    assert!(
        unknown
            .text()
            .starts_with(r#"{"message":"UPSTREAM_ERROR: failed to query any nsqlookupd: "#)
    );
    admin.get("/api/nodes/127.0.0.1:1").expect_message(404, "NODE_NOT_FOUND");
}

#[test]
fn without_nsqlookupds_nsqds_are_asked() {
    let cluster = Cluster::start(0, 2);
    let admin = cluster.admin(&[]);
    admin.get("/api/topics").expect(200, r#"{"topics":null,"message":""}"#);
    cluster.nsqds[1].create_channel("t", "c");
    admin.get("/api/topics").expect(200, r#"{"topics":["t"],"message":""}"#);
    assert_eq!(admin.json("/api/topics/t")["nodes"].as_array().unwrap().len(), 1);
    let nodes = admin.json("/api/nodes");
    let nodes = nodes["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| node["remote_addresses"].is_null()));
    admin.post("/api/topics", r#"{"topic":"x"}"#).expect(200, r#"{"message":""}"#);
    let reply = admin.post("/api/topics", r#"{"topic":"x","channel":"c"}"#);
    reply.expect_message(502, "UPSTREAM_ERROR: failed to query any nsqlookupd: ");
    admin.post("/api/topics/t/c", r#"{"action":"pause"}"#).expect(200, r#"{"message":""}"#);
    assert_eq!(admin.json("/api/topics/t/c")["paused"], true);
    admin.delete("/api/topics/t", "").expect(200, r#"{"message":""}"#);
    cluster.nsqds[1].wait_no_topic("t");
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    for (body, text) in [
        (r#"{"topic":"a b"}"#, "INVALID_TOPIC"),
        ("{}", "INVALID_TOPIC"),
        (r#"{"topic":"t","channel":"a/b"}"#, "INVALID_CHANNEL"),
        ("", "EOF"),
    ] {
        admin.post("/api/topics", body).expect_message(400, text);
    }
    assert_eq!(admin.post("/api/topics", "{").status, 400);
    admin.post("/api/topics/t", r#"{"action":"explode"}"#).expect_message(400, "INVALID_ACTION");
    admin.post("/api/topics/t/c", "{}").expect_message(400, "INVALID_ACTION");
    let node = format!("/api/nodes/{}", cluster.node(0));
    admin.delete(&node, "x").expect_message(400, "INVALID_BODY");
    admin.delete(&node, r#"{"topic":"$"}"#).expect_message(400, "INVALID_TOPIC");
    if !is_original() {
        // Nothing but an address comes into a URL.
        let reply = admin.delete("/api/nodes/u%40127.0.0.1:1%3Fx", r#"{"topic":"t"}"#);
        assert_eq!(reply.status, 502);
        assert!(reply.text().contains("it is no address"), "{}", reply.text());
    }
    let reply = admin.post("/api/counter", "");
    reply.expect_message(405, "METHOD_NOT_ALLOWED");
    admin.get("/api/nothing").expect_message(404, "NOT_FOUND");
}

#[test]
fn answers_are_compressed_for_those_who_want_it() {
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&[]);
    let target = "/config/acl_http_header";
    for (header, encoding) in [
        ("Accept-Encoding: gzip", Some("gzip")),
        ("Accept-Encoding: deflate", Some("deflate")),
        ("Accept-Encoding: identity", None),
    ] {
        let target = if is_original() { target } else { "/" };
        let reply = admin.with_headers("GET", target, &[header], "");
        assert_eq!(reply.header("content-encoding"), encoding, "{header}");
    }
    let reply = admin.get("/api/topics");
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
}

/// Percentiles of several nsqds: weighted averages, extremes, whole numbers as Go writes them.
#[test]
fn percentiles_are_merged() {
    let stats = |count: u32, value: f64| {
        let e2e = json!({"count": count, "percentiles": [{"quantile": 0.99, "value": value},
            {"quantile": 1.0, "value": value * 2.0}]});
        json!({"version": "1.3.0", "health": "OK", "start_time": 1, "topics": [{
            "topic_name": "t", "depth": 5, "backend_depth": 2, "message_count": 7, "paused": false,
            "channels": [], "e2e_processing_latency": e2e}]})
    };
    let info = |port: u16| {
        json!({"version": "1.3.0", "broadcast_address": "127.0.0.1", "hostname": "h",
            "http_port": port, "tcp_port": 1})
    };
    let nsqd = |count, value| {
        // Its own port is known only once it listens, and must be in its answer.
        let stats = stats(count, value).to_string();
        let inner = Fake::start(&[("/stats", stats.clone())]);
        let outer = Fake::start(&[("/info", info(inner.port()).to_string()), ("/stats", stats)]);
        (outer, inner)
    };
    let (a, b) = (nsqd(10, 100.0), nsqd(30, 500.0));
    let flags = [&a.0, &b.0].map(|fake| format!("--nsqd-http-address={}", fake.address));
    let admin = Program::admin(&flags);
    let topic = admin.json("/api/topics/t");
    assert_eq!((&topic["depth"], &topic["memory_depth"]), (&json!(10), &json!(6)));
    let e2e = &topic["e2e_processing_latency"];
    assert_eq!(
        (&e2e["count"], &e2e["topic"], &e2e["host"]),
        (&json!(40), &json!("t"), &json!("*"))
    );
    if !is_original() {
        let expected =
            json!({"average": 400, "count": 40, "max": 500, "min": 100, "quantile": 0.99});
        assert_eq!(e2e["percentiles"][0], expected);
        let text = admin.get("/api/topics/t").text();
        assert!(text.contains(r#"{"average":400,"count":40,"max":500,"min":100,"quantile":0.99}"#));
    }
    if !is_original() {
        let page = admin.get("/topics/t").text();
        assert!(page.contains("100\u{202f}ns – 500\u{202f}ns"), "{page}");
        assert!(page.contains("99 %") && page.contains("400\u{202f}ns"), "{page}");
    }
    let alone: &Value = &topic["nodes"][0]["e2e_processing_latency"]["percentiles"][1];
    assert_eq!(alone["value"], alone["average"]);
}

#[test]
fn graphite_is_asked_and_proxied() {
    let series = r#"[{"target":"x","datapoints":[[123.4,1],[5,2]]}]"#.to_owned();
    let graphite = Fake::start(&[("/render", series.clone())]);
    let cluster = Cluster::start(1, 0);
    let url = format!("--graphite-url=http://u:p@{}", graphite.address);
    let admin = cluster.admin(&[&url, "--proxy-graphite", "--statsd-interval=10s"]);
    let reply = admin.get("/render?target=a%20b&width=3");
    reply.expect(200, &series);
    let seen = graphite.request();
    assert!(seen.starts_with("GET /render?target=a%20b&width=3 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_lowercase().contains("authorization: basic dtpw"), "{seen}");
    admin.get("/api/graphite?metric=rate").expect_message(400, "INVALID_ARG_TARGET");
    admin.get("/api/graphite?target=x").expect_message(400, "INVALID_ARG_METRIC");

    let plain = format!("--graphite-url=http://{}", graphite.address);
    let admin = cluster.admin(&[&plain, "--statsd-interval=10s"]);
    admin.get("/api/graphite?metric=rate&target=sum(a,b)").expect(200, r#"{"rate":"12.34"}"#);
    let seen = graphite.request();
    let line = "GET /render?format=json&from=-20sec&target=sum%28a%2Cb%29&until=-10sec HTTP";
    assert!(seen.starts_with(line), "{seen}");
    assert_eq!(admin.get("/render").status, 404, "only with --proxy-graphite");
}

#[test]
fn changes_are_told_to_the_notification_endpoint() {
    let endpoint = Fake::start(&[("/hook", String::new())]);
    let cluster = Cluster::start(1, 1);
    let url = format!("--notification-http-endpoint=http://{}/hook", endpoint.address);
    let admin = cluster.admin(&[&url]);
    cluster.nsqds[0].create_channel("t", "c");
    cluster.wait_registered("t", 1, &["c"]);
    let headers = ["Authorization: Basic b3BzOng=", "User-Agent: probe", "X-Scheme: https"];
    let order = r#"{"action":"pause"}"#;
    assert_eq!(admin.with_headers("POST", "/api/topics/t/c", &headers, order).status, 200);
    let told: Value =
        serde_json::from_str(endpoint.request().split_once("\r\n\r\n").unwrap().1).unwrap();
    let keys = ["action", "topic", "channel", "user", "user_agent", "url"];
    let expected = ["pause_channel", "t", "c", "ops", "probe", "https://nsqadmin/api/topics/t/c"];
    for (key, expected) in keys.into_iter().zip(expected) {
        assert_eq!(told[key], expected, "{told}");
    }
    assert!(told["timestamp"].as_i64().unwrap() > 1_600_000_000, "{told}");
    assert!(told["remote_ip"].as_str().unwrap().starts_with("127.0.0.1:"), "{told}");
    assert!(told["node"].is_null() && told["via"].is_string(), "{told}");
    admin.delete("/api/topics/t", "").expect(200, r#"{"message":""}"#);
    assert!(endpoint.request().contains(r#""action":"delete_topic""#));
}

#[test]
fn a_notification_that_cannot_be_posted_is_logged() {
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&["--notification-http-endpoint=http://127.0.0.1:1/"]);
    admin.post("/api/topics", r#"{"topic":"t"}"#).expect(200, r#"{"message":""}"#);
    admin.wait_logged(" ERROR: failed to POST notification - ");
    if !is_original() {
        admin.get("/ping").expect(200, "OK");
    }
}
