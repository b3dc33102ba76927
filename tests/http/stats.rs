//! `/stats` as JSON and as text.

use crate::support::client::Client;
use crate::support::matrix::check;
use crate::support::wait::pass;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn d12_client_stats() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 1);
        client.expect_quiet();
        let count = |query: &str| {
            let stats = daemon.get(&format!("/stats?format=json&topic=t{query}")).json();
            let channel = &stats["topics"][0]["channels"][0];
            let clients = channel["clients"].as_array().map_or(0, Vec::len);
            assert_eq!(channel["client_count"], 1, "{query}");
            (clients, stats.get("memory").is_some())
        };
        assert_eq!(count(""), (1, true));
        assert_eq!(count("&include_clients=true"), (1, true));
        assert_eq!(count("&include_clients=1"), (1, true));
        assert_eq!(count("&include_clients=no"), (1, true));
        assert_eq!(count("&include_clients=false"), (0, true));
        assert_eq!(count("&include_clients=0"), (0, true));
        assert_eq!(count("&include_mem=true"), (1, true));
        assert_eq!(count("&include_mem=false"), (1, false));
        assert_eq!(count("&include_mem=0&include_clients=0"), (0, false));
    });
}

#[test]
fn d13_fresh_json() {
    check(&[], |daemon| {
        let reply = daemon.get("/stats?format=json");
        let text = reply.text();
        let start = r#"{"version":"1.3.0","health":"OK","start_time":"#;
        let rest = text.strip_prefix(start).unwrap_or_else(|| panic!("{text}"));
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(rest.starts_with(r#","topics":[],"memory":{"#), "{text}");
        assert!(rest.ends_with(r#"},"producers":null}"#), "{text}");
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
        let memory = &reply.json()["memory"];
        for key in [
            "heap_objects",
            "heap_idle_bytes",
            "heap_in_use_bytes",
            "heap_released_bytes",
            "gc_pause_usec_100",
            "gc_pause_usec_99",
            "gc_pause_usec_95",
            "next_gc_bytes",
            "gc_total_runs",
        ] {
            assert!(memory[key].is_u64(), "{key} in {memory}");
        }
    });
}

#[test]
fn d13_keys_of_topics_channels_and_clients() {
    check(&[], |daemon| {
        let mut client = Client::consumer(daemon, "t", "ch", 0);
        client.publish("t", b"body");
        let text = daemon.get("/stats?format=json").text();
        let topic = r#""topics":[{"topic_name":"t","channels":[{"channel_name":"ch","depth":"#;
        assert!(text.contains(topic), "{text}");
        daemon.wait_channel("t", "ch", &[("depth", 1), ("backend_depth", 0)]);
        let stats = daemon.stats();
        let topic = &stats["topics"][0];
        let latency = json!({"count": 0, "percentiles": null});
        assert_eq!(topic["e2e_processing_latency"], latency, "never absent: nsqadmin needs it");
        let channel = &topic["channels"][0];
        assert_eq!(channel["e2e_processing_latency"], latency);
        assert_eq!(channel["paused"], false);
        let client = &channel["clients"][0];
        for key in ["remote_address", "client_id", "hostname", "user_agent", "version"] {
            assert!(client[key].is_string(), "{key} in {client}");
        }
        for key in ["tls_cipher_suite", "tls_version", "tls_negotiated_protocol"] {
            assert_eq!(client[key], "", "{key}");
        }
        assert_eq!(client["tls_negotiated_protocol_is_mutual"], false);
        let connected = client["connect_ts"].as_i64().unwrap();
        assert!(connected >= stats["start_time"].as_i64().unwrap(), "{client}");
        assert_eq!(stats["producers"][0]["pub_counts"], json!([{"topic": "t", "count": 1}]));
    });
}

#[test]
fn d14_text() {
    check(&[], |daemon| {
        let fresh = daemon.get("/stats");
        assert_eq!(fresh.status, 200);
        let text = fresh.text();
        assert!(text.starts_with("nsqd v1.3.0 (built w/"), "{text}");
        for line in ["start_time ", "uptime ", "Health: OK", "Memory:", "Topics: None"] {
            assert!(text.lines().any(|l| l.starts_with(line)), "{line:?} in {text}");
        }
        assert!(text.lines().any(|l| l == "Producers: None"), "{text}");

        let mut client = Client::connect(daemon);
        client.identify(&json!({"hostname": "host", "client_id": "id", "user_agent": "agent"}));
        client.subscribe("t", "ch");
        daemon.post("/pub?topic=t", b"body");
        daemon.wait_channel("t", "ch", &[("depth", 1)]);
        daemon.order("/channel/pause?topic=t&channel=ch");
        let text = daemon.get("/stats?include_mem=false").text();
        let topic = "   [t              ] depth: 0     be-depth: 0     msgs: 1        e2e%: ";
        let channel = "   *P [ch                       ] depth: 1     be-depth: 0     \
                       inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 1        e2e%: ";
        for line in ["Topics:", topic, channel, "Producers: None"] {
            assert!(text.lines().any(|l| l == line), "{line:?} in {text}");
        }
        let state = " state: 3 inflt: 0    rdy: 0    fin: 0        re-q: 0        msgs: 0        ";
        assert!(text.contains(state), "{text}");
        assert!(!text.contains("Memory:"), "{text}");
    });
}

#[test]
fn l18_unknown_topics_and_channels() {
    check(&[], |daemon| {
        daemon.create_channel("t", "ch");
        let stats = |query: &str| daemon.get(&format!("/stats?format=json{query}")).json();
        assert_eq!(stats("&topic=unknown")["topics"], Value::Null);
        assert_eq!(stats("&topic=unknown")["producers"], Value::Null);
        assert_eq!(stats("&topic=t&channel=unknown")["topics"], json!([]));
        let seen = stats("&include_clients=false");
        assert_eq!(seen["topics"][0]["channels"][0]["clients"], Value::Null);
        assert_eq!(seen["producers"], Value::Null);
        assert_eq!(stats("")["topics"][0]["channels"][0]["clients"], json!([]));
        daemon.get("/stats?format=json&topic=%zz").expect_message(400, "INVALID_REQUEST");
    });
}

#[test]
fn topics_and_channels_are_sorted() {
    check(&[], |daemon| {
        for topic in ["b", "a.b", "B", "a", "ab"] {
            daemon.create_channel(topic, "2");
            daemon.create_channel(topic, "1");
        }
        let stats = daemon.stats();
        let names = |list: &Value, key: &str| -> Vec<String> {
            list.as_array().unwrap().iter().map(|t| t[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&stats["topics"], "topic_name"), ["B", "a", "a.b", "ab", "b"]);
        assert_eq!(names(&stats["topics"][0]["channels"], "channel_name"), ["1", "2"]);
    });
}

#[test]
fn processing_times_are_of_what_was_finished() {
    let flags =
        ["--e2e-processing-latency-percentile=0.5", "-e2e-processing-latency-percentile=1.0"];
    check(&flags, |daemon| {
        daemon.create_topic("none");
        daemon.create_channel("t", "idle");
        let mut client = Client::consumer(daemon, "t", "ch", 3);
        client.publish_batch("t", &[&b"body"[..]; 3]);
        let messages = client.messages(3);
        // Only what is finished counts, from the moment it was published.
        pass(Duration::from_millis(20));
        client.finish(&messages[0]);
        client.finish(&messages[1]);
        client.requeue(&messages[2], 600_000);
        client.expect_quiet();
        daemon.wait_channel("t", "ch", &[("in_flight_count", 0)]);
        let stats = daemon.stats();
        let topic = |name: &str| {
            let mut topics = stats["topics"].as_array().unwrap().iter();
            topics.find(|topic| topic["topic_name"] == name).unwrap()
        };
        let nothing = json!({"count": 0, "percentiles": null});
        assert_eq!(topic("none")["e2e_processing_latency"], nothing);
        let zeros = json!([{"quantile": 1, "value": 0}, {"quantile": 0.5, "value": 0}]);
        let channel = |name| daemon.channel("t", name).unwrap()["e2e_processing_latency"].clone();
        assert_eq!(channel("idle"), json!({"count": 0, "percentiles": zeros}));
        for latency in [&topic("t")["e2e_processing_latency"], &channel("ch")] {
            assert_eq!(latency["count"], 2, "{latency}");
            let shown = latency["percentiles"].as_array().unwrap();
            for (item, quantile) in shown.iter().zip([1.0, 0.5]) {
                assert_eq!(item["quantile"].as_f64(), Some(quantile), "{latency}");
                let value = item["value"].as_u64().expect("whole nanoseconds");
                assert!((19_800_000..20_000_000_000).contains(&value), "{latency}");
            }
        }
        let text = daemon.get("/stats?topic=t").text();
        let line = text.lines().find(|line| line.contains("[ch  ")).unwrap();
        let (_, shown) = line.split_once("e2e%: ").unwrap();
        let times: Vec<_> = shown.split(", ").collect();
        let is_time = |time: &&str| time.ends_with("ms") || time.ends_with('s');
        assert!(times.len() == 2 && times.iter().all(is_time), "{line}");
        if !daemon.is_original() {
            let text = daemon.get("/metrics").text();
            let series = "nsq_channel_e2e_processing_latency_seconds\
                          {topic=\"t\",channel=\"ch\",quantile=\"0.5\"} 0.";
            assert!(text.contains(series), "{text}");
            let count = "nsq_topic_e2e_processing_latency_count{topic=\"t\"} 2\n";
            assert!(text.contains(count), "{text}");
        }
    });
}
