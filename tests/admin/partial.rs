//! Clusters of which not all is well: dead, silent and hostile daemons.

use super::cluster::{Cluster, Program, is_original, text};
use super::fake::Fake;
use crate::support::wait::{Stopwatch, eventually};
use serde_json::json;
use std::time::Duration;

/// A document of `/nodes` that lists such nsqds.
fn nodes(ports: &[u16]) -> String {
    let node = |port: &u16| {
        json!({"remote_address": "127.0.0.1:9", "hostname": "h", "broadcast_address": "127.0.0.1",
            "tcp_port": port, "http_port": port, "version": "1.3.0", "tombstones": [false],
            "topics": ["t"]})
    };
    json!({"producers": ports.iter().map(node).collect::<Vec<_>>(), "channels": ["c"],
        "topics": ["t"]})
    .to_string()
}

/// An nsqlookupd that knows these nsqds, all of which have the topic `t`.
fn lookupd(ports: &[u16]) -> Fake {
    let document = nodes(ports);
    let paths = ["/nodes", "/lookup", "/topics", "/channels"];
    Fake::start(&paths.map(|path| (path, document.clone())))
}

fn admin_of(lookupds: &[&str], flags: &[&str]) -> Program {
    let lookupds = lookupds.iter().map(|address| format!("--lookupd-http-address={address}"));
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    Program::admin(&lookupds.chain(flags).collect::<Vec<_>>())
}

#[test]
fn a_dead_nsqlookupd_is_a_warning_and_all_of_them_a_failure() {
    let cluster = Cluster::start(1, 1);
    cluster.nsqds[0].create_topic("t");
    cluster.wait_registered("t", 1, &[]);
    let living = text(&cluster.lookupds[0].http);
    let admin = admin_of(&[&living, "127.0.0.1:1"], &[]);
    for target in ["/api/topics", "/api/topics/t", "/api/nodes"] {
        let document = admin.json(target);
        let message = document["message"].as_str().unwrap();
        assert!(message.starts_with("WARNING: Get \"http://127.0.0.1:1/"), "{message}");
    }
    let reply = admin.post("/api/topics/t", r#"{"action":"pause"}"#);
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("WARNING: "), "{}", reply.text());
    assert_eq!(cluster.nsqds[0].topic("t").unwrap()["paused"], true);
    let admin = admin_of(&["127.0.0.1:1"], &[]);
    let reply = admin.get("/api/topics");
    assert_eq!(reply.status, 502);
    let text = reply.text();
    let start = r#"{"message":"UPSTREAM_ERROR: failed to query any nsqlookupd: Get "#;
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn a_dead_nsqd_hides_nothing_of_the_others() {
    let cluster = Cluster::start(0, 1);
    cluster.nsqds[0].create_topic("t");
    let port: u16 = cluster.node(0).rsplit_once(':').unwrap().1.parse().unwrap();
    let lookupd = lookupd(&[port, 1]);
    let admin = admin_of(&[&lookupd.address], &[]);
    let topic = admin.json("/api/topics/t");
    assert_eq!(topic["nodes"].as_array().unwrap().len(), 1);
    let message = topic["message"].as_str().unwrap();
    assert!(message.contains("http://127.0.0.1:1/stats"), "{message}");
    let reply = admin.post("/api/topics/t", r#"{"action":"pause"}"#);
    assert!(reply.text().contains("Post \\\"http://127.0.0.1:1/topic/pause?topic=t"));
    assert_eq!(cluster.nsqds[0].topic("t").unwrap()["paused"], true);
    if !is_original() {
        let page = admin.get("/nodes").text();
        assert!(page.contains("no answer") && page.contains("is-down"), "{page}");
        assert!(page.contains(&format!("127.0.0.1:{port}")));
        let page = admin.get("/topics/t").text();
        assert!(page.contains("Not all of the cluster has answered"), "{page}");
    }
}

/// Pages wait a moment for an nsqd that does not answer, once, and requests never longer than they
/// are told to.
#[test]
fn silent_daemons_delay_nobody() {
    if is_original() {
        return;
    }
    let cluster = Cluster::start(0, 1);
    cluster.nsqds[0].create_topic("t");
    let port: u16 = cluster.node(0).rsplit_once(':').unwrap().1.parse().unwrap();
    let silent = Fake::silent();
    let lookupd = lookupd(&[port, silent.port()]);
    let timeouts = ["--http-client-connect-timeout=5s", "--http-client-request-timeout=5s"];
    let admin = admin_of(&[&lookupd.address], &timeouts);
    let page = admin.get("/topics/t").text();
    assert!(page.contains(&cluster.node(0)), "{page}");
    let page = admin.get("/nodes").text();
    // Once the request has failed it would say so.
    assert!(page.contains(">slow<"), "{page}");
    // The API says what it could not find out, when its time is over.
    let topic = admin.json("/api/topics/t");
    assert!(topic["message"].as_str().unwrap().contains("timeout"), "{topic}");
}

/// A name that would be a picture, if it were taken for HTML.
const EVIL: &str = "<img src=x onerror=alert(1)>\"'{n}";

/// An nsqd every text of which is hostile, and every number extreme; it has the topic `t`, too.
pub(super) fn hostile_nsqd() -> Fake {
    let client = json!({"hostname": EVIL, "client_id": EVIL, "user_agent": EVIL, "version": EVIL,
        "remote_address": EVIL, "connect_ts": i64::MIN, "authed": true, "auth_identity": EVIL,
        "auth_identity_url": "javascript:alert(1)", "tls": true, "tls_version": EVIL});
    let channel = json!({"channel_name": EVIL, "depth": i64::MAX, "clients": [client],
        "client_count": i64::MAX, "in_flight_count": i64::MAX, "message_count": i64::MIN});
    let topic = json!({"topic_name": EVIL, "depth": i64::MAX, "backend_depth": i64::MIN,
        "channels": [channel], "durability": EVIL, "log_bytes": u64::MAX});
    let plain = json!({"topic_name": "t", "channels": null, "e2e_processing_latency": null});
    let stats = json!({"health": EVIL, "start_time": i64::MAX, "topics": [topic, plain]});
    Fake::start(&[("/stats", stats.to_string())])
}

/// An nsqlookupd that lists nsqds at these ports, with hostile names, and hostile topics.
pub(super) fn hostile_lookupd(ports: &[u16]) -> Fake {
    let node = |port: &u16| {
        json!({"remote_address": EVIL, "hostname": EVIL, "broadcast_address": "127.0.0.1",
            "http_port": port, "tcp_port": port, "version": EVIL, "topics": [EVIL, "t"],
            "tombstones": [], "topology_region": EVIL, "topology_zone": EVIL})
    };
    let nodes: Vec<_> = ports.iter().map(node).collect();
    let document = json!({"producers": nodes, "topics": [EVIL, "t"], "channels": [EVIL],
        "version": EVIL});
    let paths = ["/nodes", "/lookup", "/topics", "/channels", "/info"];
    Fake::start(&paths.map(|path| (path, document.to_string())))
}

/// What a daemon says is text, whatever it looks like.
#[test]
fn hostile_answers_stay_text() {
    if is_original() {
        return;
    }
    let nsqd = hostile_nsqd();
    let lookupd = hostile_lookupd(&[nsqd.port()]);
    let admin = admin_of(&[&lookupd.address], &[]);
    let name = "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%22%27%7Bn%7D";
    let node = format!("/nodes/127.0.0.1:{}", nsqd.port());
    let pages = ["/", "/nodes", "/lookup", "/counter", "/topics/t", &node];
    let named = [format!("/topics/{name}"), format!("/topics/{name}/{name}")];
    for page in pages.into_iter().chain(named.iter().map(String::as_str)) {
        let reply = admin.get(page);
        let text = reply.text();
        assert_eq!(reply.status, 200, "{page}: {text}");
        assert!(!text.contains("<img"), "{page}: {text}");
        assert!(!text.contains("href=\"javascript:"), "{page}: {text}");
        assert!(!text.contains(" style=") && !text.contains(" onerror=\""), "{page}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    }
    let text = admin.get(&format!("/api/topics/{name}")).text();
    assert!(text.contains("\\u003cimg") && !text.contains("<img"), "{text}");
    assert!(admin.get(&named[0]).text().contains("&lt;img src=x"));
}

#[test]
fn nonsense_of_an_nsqd_is_its_own_fault() {
    let cluster = Cluster::start(0, 1);
    cluster.nsqds[0].create_topic("t");
    let port: u16 = cluster.node(0).rsplit_once(':').unwrap().1.parse().unwrap();
    for nonsense in ["", "null", "[]", "{\"topics\":7}", "<html>", "{\"topics\":[{\"depth\":1.5}]}"]
    {
        let fake = Fake::start(&[("/stats", nonsense.to_owned())]);
        let lookupd = lookupd(&[port, fake.port()]);
        let admin = admin_of(&[&lookupd.address], &[]);
        let topic = admin.json("/api/topics/t");
        assert_eq!(topic["nodes"].as_array().unwrap().len(), 1, "{nonsense}");
        if !is_original() {
            assert_eq!(admin.get("/topics/t").status, 200);
        }
    }
}

/// What watchers get: every row at first, then what has changed.
#[test]
fn live_numbers_follow_the_cluster() {
    if is_original() {
        return;
    }
    let cluster = Cluster::start(1, 1);
    cluster.nsqds[0].create_channel("t", "c");
    cluster.wait_registered("t", 1, &["c"]);
    let admin = cluster.admin(&[]);
    let mut events = super::events::Events::open(&admin.http, "/live?topic=t");
    let first = events.next();
    assert_eq!(first["rows"]["c:c"]["depth"], "0", "{first}");
    assert_eq!((&first["count"], &first["paused"]["total"]), (&json!(2), &json!(false)));
    cluster.nsqds[0].post("/pub?topic=t", b"x").expect(200, "OK");
    let event = eventually(|| {
        let event = events.next();
        if event["rows"]["c:c"]["depth"] == "1" { Ok(event) } else { Err(event.to_string()) }
    });
    assert_eq!(event["rows"]["total"]["backlog"], "1", "{event}");
    assert!(event["rows"]["c:c"].get("in_flight").is_none(), "nothing has changed there: {event}");
    admin.get("/live").expect_message(400, "INVALID_ARG_PAGE");
}

#[test]
fn watchers_do_not_hold_up_a_stop() {
    if is_original() {
        return;
    }
    let cluster = Cluster::start(1, 0);
    let mut admin = cluster.admin(&[]);
    let mut events = super::events::Events::open(&admin.http, "/live?page=topics");
    events.next();
    let watch = Stopwatch::start();
    assert_eq!(admin.terminate("TERM").code(), Some(0));
    assert!(watch.elapsed() < Duration::from_secs(4), "{:?}", watch.elapsed());
}
