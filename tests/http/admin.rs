//! Creating, deleting, emptying and pausing topics and channels; routing; `/ping` and `/info`.

use crate::support::client::Client;
use crate::support::daemon::{Daemon, program};
use crate::support::http::request;
use crate::support::matrix::check;
use crate::support::wait::eventually;
use std::process::Command;

#[test]
fn d11_topics_and_channels() {
    check(&[], |daemon| {
        let create = "/channel/create?topic=t&channel=ch";
        daemon.post(create, b"").expect_message(404, "TOPIC_NOT_FOUND");
        for target in ["/topic/create?topic=t", create] {
            let reply = daemon.post(target, b"");
            reply.expect(200, "");
            assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
            assert_eq!(reply.header("content-length"), Some("0"));
        }
        for verb in ["pause", "unpause"] {
            let target = format!("/topic/{verb}");
            daemon.post(&target, b"").expect_message(400, "MISSING_ARG_TOPIC");
            let unknown = format!("{target}?topic=unknown");
            daemon.post(&unknown, b"").expect_message(404, "TOPIC_NOT_FOUND");
            for _ in 0..2 {
                daemon.order(&format!("{target}?topic=t"));
                assert_eq!(daemon.topic("t").unwrap()["paused"], verb == "pause");
                daemon.order(&format!("/channel/{verb}?topic=t&channel=ch"));
                assert_eq!(daemon.channel("t", "ch").unwrap()["paused"], verb == "pause");
            }
        }
        daemon.order("/channel/delete?topic=t&channel=ch");
        assert!(daemon.channel("t", "ch").is_none());
        daemon.order("/topic/delete?topic=t");
        assert!(daemon.topic("t").is_none());
    });
}

#[test]
fn d16_unknown_paths_and_methods() {
    check(&[], |daemon| {
        let reply = daemon.post("/stats", b"");
        reply.expect_message(405, "METHOD_NOT_ALLOWED");
        assert_eq!(reply.header("allow"), Some("GET, OPTIONS"));
        let reply = daemon.get("/not_found");
        reply.expect_message(404, "NOT_FOUND");
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        let reply = daemon.get("/topic/create?topic=t");
        reply.expect_message(405, "METHOD_NOT_ALLOWED");
        assert_eq!(reply.header("allow"), Some("OPTIONS, POST"));
        // The names of before 1.0 are gone.
        for path in ["/put", "/mput", "/create_topic", "/delete_topic", "/empty_topic"] {
            daemon.post(&format!("{path}?topic=t"), b"x").expect_message(404, "NOT_FOUND");
        }
    });
}

#[test]
fn d17_topic_delete() {
    check(&[], |daemon| {
        daemon.post("/topic/delete", b"").expect_message(400, "MISSING_ARG_TOPIC");
        let reply = daemon.post("/topic/delete?topic=unknown", b"");
        reply.expect_message(404, "TOPIC_NOT_FOUND");
        // The name is not checked.
        let reply = daemon.post("/topic/delete?topic=name%24", b"");
        reply.expect_message(404, "TOPIC_NOT_FOUND");
        daemon.create_topic("t");
        daemon.order("/topic/delete?topic=t");
        assert!(daemon.topic("t").is_none());
    });
}

#[test]
fn d18_topic_empty() {
    check(&[], |daemon| {
        daemon.post("/topic/empty", b"").expect_message(400, "MISSING_ARG_TOPIC");
        daemon.post("/topic/empty?topic=name%24", b"").expect_message(400, "INVALID_TOPIC");
        let reply = daemon.post("/topic/empty?topic=unknown", b"");
        reply.expect_message(404, "TOPIC_NOT_FOUND");
        Client::connect(daemon).publish("t", b"body");
        daemon.order("/topic/empty?topic=t");
        daemon.wait_topic("t", &[("depth", 0)]);
    });
}

#[test]
fn topic_create() {
    check(&[], |daemon| {
        daemon.post("/topic/create", b"").expect_message(400, "MISSING_ARG_TOPIC");
        daemon.post("/topic/create?topic=name%24", b"").expect_message(400, "INVALID_TOPIC");
        // Parameters come from the query alone.
        daemon.post("/topic/create", b"topic=t").expect_message(400, "MISSING_ARG_TOPIC");
        daemon.order("/topic/create?topic=t%23ephemeral");
        daemon.wait_topic("t#ephemeral", &[("depth", 0)]);
    });
}

/// The checks all channel endpoints share, in their order.
fn refuses_bad_arguments(daemon: &Daemon, path: &str) {
    let refused = |query: &str, status, text| {
        daemon.post(&format!("{path}{query}"), b"").expect_message(status, text);
    };
    refused("", 400, "MISSING_ARG_TOPIC");
    refused("?channel=ch", 400, "MISSING_ARG_TOPIC");
    refused("?topic=name%24", 400, "INVALID_ARG_TOPIC");
    refused("?topic=unknown", 400, "MISSING_ARG_CHANNEL");
    refused("?topic=unknown&channel=ch%24", 400, "INVALID_ARG_CHANNEL");
    refused("?topic=unknown&channel=ch", 404, "TOPIC_NOT_FOUND");
}

#[test]
fn d19_channel_empty() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        refuses_bad_arguments(daemon, "/channel/create");
        for verb in ["empty", "delete", "pause", "unpause"] {
            let path = format!("/channel/{verb}");
            refuses_bad_arguments(daemon, &path);
            let reply = daemon.post(&format!("{path}?topic=t&channel=unknown"), b"");
            reply.expect_message(404, "CHANNEL_NOT_FOUND");
        }
        Client::connect(daemon).publish("t", b"body");
        daemon.wait_channel("t", "ch", &[("depth", 1)]);
        daemon.order("/channel/empty?topic=t&channel=ch");
        daemon.wait_channel("t", "ch", &[("depth", 0)]);
    });
}

#[test]
fn d20_info() {
    check(&["--broadcast-address=somewhere"], |daemon| {
        let info = daemon.get("/info").json();
        let printed = Command::new(program()).arg("--version").output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let version = info["version"].as_str().unwrap();
        assert!(printed.starts_with(&format!("nsqd v{version} (built w/")), "{printed}");
        assert_eq!(info["broadcast_address"], "somewhere");
        assert_eq!(info["max_heartbeat_interval"], 60_000_000_000_u64);
        assert_eq!(info["max_output_buffer_size"], 65536);
        assert_eq!(info["max_output_buffer_timeout"], 30_000_000_000_u64);
        assert_eq!(info["max_deflate_level"], 6);
        assert_eq!((&info["topology_zone"], &info["topology_region"]), (&"".into(), &"".into()));
        assert!(!info["hostname"].as_str().unwrap().is_empty());
        assert_eq!(info["start_time"], daemon.stats()["start_time"]);
        for (key, address) in [("tcp_port", &daemon.tcp), ("http_port", &daemon.http)] {
            use crate::support::stream::Address::{Tcp, Unix};
            let port = match address {
                Tcp(address) => address.rsplit(':').next().unwrap().parse().unwrap(),
                Unix(_) => -1,
            };
            assert_eq!(info[key], port, "{key}");
        }
    });
}

#[test]
fn l19_methods_and_paths_are_exact() {
    check(&[], |daemon| {
        let reply = daemon.get("/ping");
        reply.expect(200, "OK");
        assert_eq!(reply.header("x-nsq-content-type"), None, "plain, unlike the rest");
        assert_eq!(request(&daemon.http, "HEAD", "/ping", b"").status, 405);
        for (method, target, status, location) in [
            ("GET", "/PING", 301, "/ping"),
            ("GET", "/ping/", 301, "/ping"),
            ("POST", "/topic/create/?topic=t", 307, "/topic/create?topic=t"),
            ("POST", "/Topic/Create?topic=t", 307, "/topic/create?topic=t"),
        ] {
            let reply = request(&daemon.http, method, target, b"");
            assert_eq!(reply.status, status, "{method} {target}");
            assert_eq!(reply.header("location"), Some(location), "{method} {target}");
        }
        let reply = request(&daemon.http, "OPTIONS", "/stats", b"");
        reply.expect(200, "");
        assert_eq!(reply.header("allow"), Some("GET, OPTIONS"));
    });
}

#[test]
fn d15_config() {
    check(&[], |daemon| {
        let put = |name: &str, value: &str| {
            request(&daemon.http, "PUT", &format!("/config/{name}"), value.as_bytes())
        };
        let addresses = "nsqlookupd_tcp_addresses";
        daemon.get("/config/nsqlookupd_tcp_addresses").expect(200, "[]");
        let two = "[\"127.0.0.1:1\",\"127.0.0.1:2\"]";
        put(addresses, two).expect(200, two);
        daemon.get("/config/nsqlookupd_tcp_addresses").expect(200, two);
        put(addresses, "[]").expect(200, "[]");
        put("log_level", "bad").expect_message(400, "INVALID_VALUE");
        put("mem_queue_size", "1").expect_message(400, "INVALID_OPTION");
        // The change is in force with its answer: nothing below FATAL is logged from here on.
        assert_eq!(put("log_level", "fatal").status, 200);
        daemon.create_topic("unheard");
        assert_eq!(put("log_level", "info").status, 200);
        daemon.create_topic("heard");
        eventually(|| {
            let log = daemon.log();
            if log.contains("TOPIC(heard): created") { Ok(()) } else { Err(log) }
        });
        assert!(!daemon.log().contains("TOPIC(unheard)"), "{}", daemon.log());
    });
}

#[test]
fn debugging() {
    check(&[], |daemon| {
        let put = |target: &str| request(&daemon.http, "PUT", target, b"");
        for rate in ["", "?rate=", "?rate=x"] {
            let text = rate.strip_prefix("?rate=").unwrap_or_default();
            let syntax = format!("strconv.Atoi: parsing \"{text}\": invalid syntax");
            let reply = put(&format!("/debug/setblockrate{rate}"));
            reply.expect(400, &format!("invalid block rate : {syntax}"));
        }
        let command_line = daemon.get("/debug/pprof/cmdline").text();
        assert!(command_line.contains("\0--data-path="), "{command_line:?}");
        if daemon.is_original() {
            return; // It answers 500 to both, though it carries them out; and it has profiles.
        }
        daemon.post("/debug/freememory", b"").expect(200, "");
        let profiles = ["", "profile", "heap", "goroutine", "block", "threadcreate", "symbol"];
        let profiles = profiles.map(|name| daemon.get(&format!("/debug/pprof/{name}")));
        let others = [put("/debug/setblockrate?rate=1"), daemon.post("/debug/pprof/symbol", b"")];
        for reply in profiles.iter().chain(&others) {
            assert_eq!(reply.status, 501);
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with("NO_PROFILER: use perf"), "{message}");
        }
    });
}
