//! Section G, by number: one nsqlookupd and one nsqd, or what a case says.

use super::cluster::{Cluster, Program, admin_command, is_original};
use crate::support::wait::eventually;
use serde_json::json;

#[track_caller]
fn zeros(document: &serde_json::Value, keys: &[&str]) {
    for key in keys {
        assert_eq!(document[key], 0, "{key} of {document}");
    }
}

const TOPIC_COUNTS: [&str; 4] = ["depth", "memory_depth", "backend_depth", "message_count"];

const CHANNEL_COUNTS: [&str; 9] = [
    "depth",
    "memory_depth",
    "backend_depth",
    "message_count",
    "in_flight_count",
    "deferred_count",
    "requeue_count",
    "timeout_count",
    "client_count",
];

#[test]
fn g1_to_g6_what_there_is() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    let reply = admin.get("/ping");
    reply.expect(200, "OK");
    assert_eq!(reply.header("x-nsq-content-type"), None);

    let nodes = admin.json("/api/nodes");
    let node = &nodes["nodes"][0];
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(node["broadcast_address"], "127.0.0.1");
    assert_eq!(node["version"], "1.3.0");
    let port: u64 = cluster.node(0).rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(node["http_port"], port);
    assert!(!node["hostname"].as_str().unwrap().is_empty());
    assert!(node["tcp_port"].as_u64().unwrap() > 0);
    assert_eq!((&node["topics"], &node["out_of_date"]), (&json!(null), &json!(false)));
    assert_eq!(node["remote_addresses"].as_array().unwrap().len(), 1);

    cluster.nsqds[0].create_channel("t", "ch");
    cluster.wait_registered("t", 1, &["ch"]);
    admin.get("/api/topics").expect(200, r#"{"topics":["t"],"message":""}"#);

    let topic = admin.json("/api/topics/t");
    zeros(&topic, &TOPIC_COUNTS);
    assert_eq!((&topic["topic_name"], &topic["paused"]), (&json!("t"), &json!(false)));
    assert_eq!((&topic["node"], &topic["message"]), (&json!("*"), &json!("")));
    assert_eq!(topic["nodes"][0]["node"], cluster.node(0));

    let channel = admin.json("/api/topics/t/ch");
    zeros(&channel, &CHANNEL_COUNTS);
    assert_eq!((&channel["topic_name"], &channel["channel_name"]), (&json!("t"), &json!("ch")));
    assert_eq!((&channel["paused"], &channel["clients"]), (&json!(false), &json!(null)));

    let node = admin.json(&format!("/api/nodes/{}", cluster.node(0)));
    assert_eq!(node["node"], cluster.node(0));
    assert_eq!(node["topics"].as_array().unwrap().len(), 1);
    zeros(&node["topics"][0], &TOPIC_COUNTS);
    zeros(&node, &["total_messages", "total_clients"]);
}

#[test]
fn g7_g8_topics_and_channels_are_created() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    admin.post("/api/topics", r#"{"topic":"t"}"#).expect(200, r#"{"message":""}"#);
    cluster.wait_registered("t", 0, &[]);
    cluster.nsqds[0].create_topic("t");
    cluster.wait_registered("t", 1, &[]);
    let order = r#"{"topic":"t","channel":"ch"}"#;
    admin.post("/api/topics", order).expect(200, r#"{"message":""}"#);
    cluster.nsqds[0].wait_channel("t", "ch", &[("depth", 0)]);
    cluster.wait_registered("t", 1, &["ch"]);
}

#[test]
fn g9_a_node_is_tombstoned() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    cluster.nsqds[0].create_topic("t");
    cluster.wait_registered("t", 1, &[]);
    let target = format!("/api/nodes/{}", cluster.node(0));
    admin.delete(&target, r#"{"topic":"t"}"#).expect(200, r#"{"message":""}"#);
    cluster.nsqds[0].wait_no_topic("t");
    cluster.wait_registered("t", 0, &[]);
}

#[test]
fn g10_g11_topics_and_channels_are_deleted() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    cluster.nsqds[0].create_channel("t", "ch");
    cluster.wait_registered("t", 1, &["ch"]);
    admin.delete("/api/topics/t/ch", "").expect(200, r#"{"message":""}"#);
    cluster.nsqds[0].wait_no_channel("t", "ch");
    cluster.wait_registered("t", 1, &[]);
    admin.delete("/api/topics/t", "").expect(200, r#"{"message":""}"#);
    cluster.nsqds[0].wait_no_topic("t");
    admin.get("/api/topics").expect(200, r#"{"topics":null,"message":""}"#);
}

#[test]
fn g12_to_g15_pause_unpause_empty() {
    let cluster = Cluster::start(1, 1);
    let admin = cluster.admin(&[]);
    let nsqd = &cluster.nsqds[0];
    nsqd.create_topic("t");
    nsqd.create_channel("u", "ch");
    cluster.wait_registered("t", 1, &[]);
    cluster.wait_registered("u", 1, &["ch"]);
    let order = |target: &str, action: &str| {
        let order = format!("{{\"action\":\"{action}\"}}");
        admin.post(target, &order).expect(200, r#"{"message":""}"#);
    };
    for target in ["/api/topics/t", "/api/topics/u/ch"] {
        order(target, "pause");
        assert_eq!(admin.json(target)["paused"], true);
        order(target, "unpause");
        assert_eq!(admin.json(target)["paused"], false);
    }
    for (topic, target) in [("t", "/api/topics/t"), ("u", "/api/topics/u/ch")] {
        nsqd.post(&format!("/pub?topic={topic}"), b"x").expect(200, "OK");
        admin.wait_json(target, |document| document["depth"] == 1);
        order(target, "empty");
        admin.wait_json(target, |document| document["depth"] == 0);
    }
}

#[test]
fn g16_options_are_read_and_changed() {
    let cluster = Cluster::start(2, 0);
    let admin = cluster.admin(&[]);
    let addresses = |count: usize| {
        let lookupds = cluster.lookupds[..count].iter();
        let list: Vec<_> = lookupds.map(|lookupd| super::cluster::text(&lookupd.http)).collect();
        serde_json::to_string(&list).unwrap()
    };
    let target = "/config/nsqlookupd_http_addresses";
    admin.get(target).expect(200, &addresses(2));
    admin.put(target, &addresses(1)).expect(200, &addresses(1));
    admin.get(target).expect(200, &addresses(1));
    admin.put(target, "x").expect_message(400, "INVALID_VALUE");
    admin.put("/config/log_level", "fatal").expect(200, "5");
    admin.get("/ping?silent").expect(200, "OK");
    admin.put("/config/log_level", "info").expect(200, "2");
    admin.get("/ping?heard").expect(200, "OK");
    admin.wait_logged("GET /ping?heard");
    assert!(!admin.log().contains("/ping?silent"), "nothing is logged at that level");
    admin.put("/config/log_level", "bad").expect_message(400, "INVALID_VALUE");
    admin.put("/config/log_level", "").expect_message(413, "INVALID_VALUE");
    admin.put("/config/graphite_url", "x").expect_message(400, "INVALID_OPTION");
    admin.get("/config/nothing").expect_message(400, "INVALID_OPTION");
    admin.get("/config/acl_http_header").expect(200, "X-Forwarded-User");
}

#[test]
fn g17_options_are_for_some_addresses() {
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&["--allow-config-from-cidr=10.0.0.0/8"]);
    admin.get("/config/log_level").expect_message(403, "FORBIDDEN");
    admin.put("/config/log_level", "info").expect_message(403, "FORBIDDEN");
    let open = cluster.admin(&["--allow-config-from-cidr="]);
    open.get("/config/log_level").expect(200, "2");
}

#[test]
fn g18_g19_one_kind_of_address() {
    let both = ["--nsqd-http-address=127.0.0.1:1", "--lookupd-http-address=127.0.0.1:2"];
    let required = "--nsqd-http-address or --lookupd-http-address required";
    let not_both = "use --nsqd-http-address or --lookupd-http-address not both";
    for (flags, expected) in [(&[][..], required), (&both, not_both)] {
        let output = admin_command().args(flags).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        let line = format!("FATAL: failed to instantiate nsqadmin - {expected}\n");
        assert!(stderr.starts_with("[nsqadmin] ") && stderr.ends_with(&line), "{stderr}");
    }
}

#[test]
fn l25_an_empty_cluster_other_paths_and_users() {
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&["--base-path=adm", "--admin-user=ops"]);
    admin.get("/adm/api/topics").expect(200, r#"{"topics":null,"message":""}"#);
    admin.get("/adm/api/nodes").expect(200, r#"{"nodes":null,"message":""}"#);
    admin.get("/adm/api/topics?inactive=true").expect(200, r#"{"topics":{},"message":""}"#);
    assert_eq!(admin.get("/").status, 404);
    assert_eq!(admin.get("/ping").status, 404);
    admin.get("/adm/ping").expect(200, "OK");
    let reply = admin.get("/adm/");
    assert_eq!((reply.status, reply.header("location")), (301, Some("/adm")));
    let (target, order) = ("/adm/api/topics", r#"{"topic":"t"}"#);
    admin.post(target, order).expect_message(403, "FORBIDDEN");
    for (header, status) in [("X-Forwarded-User: ops", 200), ("X-Forwarded-User: op", 403)] {
        assert_eq!(admin.with_headers("POST", target, &[header], order).status, status);
    }
    if !is_original() {
        let reply = admin.get("/adm/api/counter");
        reply.expect_message(502, "UPSTREAM_ERROR: failed to query any nsqd: ");
    }
}

#[test]
fn a_stop_is_orderly() {
    let cluster = Cluster::start(1, 0);
    for signal in ["TERM", "INT"] {
        let mut admin: Program = cluster.admin(&[]);
        assert_eq!(admin.terminate(signal).code(), Some(0));
        eventually(|| match admin.log().contains(" INFO: HTTP: closing 127.0.0.1:") {
            true => Ok(()),
            false => Err(admin.log()),
        });
    }
}
