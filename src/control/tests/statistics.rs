//! `/stats` in both forms, with its filters.

use super::*;
use crate::broker::admin::SessionStats;
use crate::broker::upgrade::Layers;
use crate::protocol::name::{ChannelName, TopicName};

fn topic(name: &str) -> TopicName {
    TopicName::parse(name.as_bytes()).unwrap()
}

fn session(port: u16) -> SessionStats {
    SessionStats {
        client_id: "id".to_owned(),
        hostname: "host".to_owned(),
        user_agent: "agent<1>".to_owned(),
        remote_address: format!("127.0.0.1:{port}"),
        state: 3,
        ready_count: 2,
        in_flight_count: 1,
        message_count: 5,
        finish_count: 4,
        requeue_count: 0,
        connected_unix_s: jiff::Timestamp::now().as_second() - 61,
        layers: Layers::default(),
        authed: false,
        auth_identity: String::new(),
        auth_identity_url: String::new(),
        sample_rate: 0,
        topology_zone: String::new(),
        topology_region: String::new(),
        subscription: None,
        publish_counts: Vec::new(),
    }
}

/// Topics `b` (paused) and `a` with channels `d` and `c`, a consumer of a/c and one of a/d that
/// also publishes, and a producer.
fn populated() -> Daemon {
    let daemon = Daemon::start(&[]);
    for name in ["b", "a"] {
        daemon.post(&format!("/topic/create?topic={name}"), "").is("");
    }
    daemon.post("/topic/pause?topic=b", "").is("");
    daemon.post("/pub?topic=a", "12345").is("OK");
    for name in ["d", "c"] {
        daemon.post(&format!("/channel/create?topic=a&channel={name}"), "").is("");
    }
    daemon.post("/channel/pause?topic=a&channel=d", "").is("");
    daemon.look(|model| {
        let consumes =
            |name: &str| Some((topic("a"), ChannelName::parse(name.as_bytes()).unwrap()));
        let both = vec![(topic("b"), 2)];
        let counts = vec![(topic("a"), 1), (topic("b"), 20)];
        model.channel("a", "c").client_count = 1;
        model.channel("a", "d").client_count = 1;
        model.sessions = vec![
            SessionStats { subscription: consumes("c"), ..session(1001) },
            SessionStats { subscription: consumes("d"), publish_counts: both, ..session(1002) },
            SessionStats { publish_counts: counts, state: 0, ..session(1003) },
            SessionStats { state: 0, ..session(1004) },
        ];
    });
    daemon
}

/// The names of topics, each with those of its channels and the ports of their clients.
fn outline(answer: &Answer) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let clients = |value: &serde_json::Value| match value.as_array() {
        None => "null".to_owned(),
        Some(clients) => {
            let ports =
                clients.iter().map(|client| text(&client["remote_address"])[10..].to_owned());
            ports.collect::<Vec<_>>().join("+")
        }
    };
    let json = answer.json();
    let topics = json["topics"].as_array().map(|topics| {
        let topics = topics.iter().map(|topic| {
            let channels = topic["channels"].as_array().unwrap().iter().map(|channel| {
                format!("{}:{}", text(&channel["channel_name"]), clients(&channel["clients"]))
            });
            format!("{}({})", text(&topic["topic_name"]), channels.collect::<Vec<_>>().join(" "))
        });
        topics.collect::<Vec<_>>().join(" ")
    });
    format!("{} | {}", topics.unwrap_or("null".to_owned()), clients(&json["producers"]))
}

#[test]
fn d12_e1_filters() {
    let daemon = populated();
    let cases = [
        ("", "a(c:1001 d:1002) b() | 1003+1002"),
        ("&topic=&channel=", "a(c:1001 d:1002) b() | 1003+1002"),
        ("&include_clients=true", "a(c:1001 d:1002) b() | 1003+1002"),
        ("&include_clients=nonsense", "a(c:1001 d:1002) b() | 1003+1002"),
        ("&include_clients=0", "a(c:null d:null) b() | null"),
        ("&topic=a", "a(c:1001 d:1002) | 1003+1002"),
        ("&topic=a&channel=c", "a(c:1001) | 1003+1002"),
        ("&channel=d", "a(d:1002) | 1003+1002"),
        ("&topic=a&channel=unknown", " | 1003+1002"),
        ("&topic=a&channel=c$", " | 1003+1002"),
        ("&topic=unknown", "null | null"),
        ("&topic=a$", "null | null"),
    ];
    for (query, expected) in cases {
        let answer = daemon.get(&format!("/stats?format=json{query}"));
        assert_eq!(sorted_producers(&outline(&answer)), sorted_producers(expected), "{query}");
    }
    let memory = |query: &str| {
        let json = daemon.get(&format!("/stats?format=json{query}")).json();
        json.get("memory").map(|memory| memory["heap_in_use_bytes"].as_u64().unwrap())
    };
    assert!(memory("&include_mem=true") > Some(0));
    assert_eq!(memory("&include_mem=false"), None);
    daemon.get("/stats?topic=%").fails(400, "INVALID_REQUEST");
    let json = daemon.get("/stats?format=json&include_clients=false").json();
    assert_eq!(json["topics"][0]["channels"][0]["client_count"], 1);
}

/// Shards answer in any order, so producers come in any order.
fn sorted_producers(outline: &str) -> (String, Vec<&str>) {
    let (topics, producers) = outline.split_once(" | ").unwrap();
    let mut producers: Vec<&str> = producers.split('+').collect();
    producers.sort_unstable();
    (topics.to_owned(), producers)
}

#[test]
fn d13_json_has_the_keys_of_nsq_in_their_order() {
    let daemon = Daemon::start(&[]);
    let answer = daemon.get("/stats?format=json");
    let started = answer.json()["start_time"].as_i64().unwrap();
    let beginning = format!(
        "{{\"version\":\"1.3.0\",\"health\":\"OK\",\"start_time\":{started},\"topics\":[],\
         \"memory\":{{\"heap_objects\":0,\"heap_idle_bytes\":0,\"heap_in_use_bytes\":"
    );
    assert!(answer.text().starts_with(&beginning), "{}", answer.text());
    assert!(answer.text().ends_with(
        ",\"heap_released_bytes\":0,\"gc_pause_usec_100\":0,\"gc_pause_usec_99\":0,\
         \"gc_pause_usec_95\":0,\"next_gc_bytes\":0,\"gc_total_runs\":0},\"producers\":null}"
    ));

    let daemon = populated();
    let answer = daemon.get("/stats?format=json&include_mem=0&topic=a&channel=c");
    let connected = answer.json()["producers"][0]["connect_ts"].as_i64().unwrap();
    let client = |port: u16, state: u8, counts: &str| {
        format!(
            "{{\"client_id\":\"id\",\"hostname\":\"host\",\"version\":\"V2\",\
             \"remote_address\":\"127.0.0.1:{port}\",\"state\":{state},\"ready_count\":2,\
             \"in_flight_count\":1,\"message_count\":5,\"finish_count\":4,\"requeue_count\":0,\
             \"connect_ts\":{connected},\"sample_rate\":0,\"deflate\":false,\"snappy\":false,\
             \"user_agent\":\"agent\\u003c1\\u003e\",\"topology_zone\":\"\",\
             \"topology_region\":\"\",{counts}\"tls\":false,\"tls_cipher_suite\":\"\",\
             \"tls_version\":\"\",\"tls_negotiated_protocol\":\"\",\
             \"tls_negotiated_protocol_is_mutual\":false}}"
        )
    };
    let latency = "\"e2e_processing_latency\":{\"count\":0,\"percentiles\":null}";
    let expected = format!(
        "\"topics\":[{{\"topic_name\":\"a\",\"channels\":[{{\"channel_name\":\"c\",\"depth\":0,\
         \"backend_depth\":0,\"in_flight_count\":0,\"deferred_count\":0,\"message_count\":0,\
         \"requeue_count\":0,\"timeout_count\":0,\"client_count\":1,\"clients\":[{}],\
         \"paused\":false,{latency}}}],\"depth\":1,\"backend_depth\":0,\"message_count\":1,\
         \"message_bytes\":5,\"paused\":false,{latency},\"durability\":\"overflow\",\
         \"log_bytes\":0}}],\"producers\":[",
        client(1001, 3, "")
    );
    assert!(answer.text().contains(&expected), "{}", answer.text());
    // With a topic filter, producers of other topics stay and show no counts.
    let counts = "\"pub_counts\":[{\"topic\":\"a\",\"count\":1}],";
    assert!(answer.text().contains(&client(1003, 0, counts)), "{}", answer.text());
    assert!(answer.text().contains(&client(1002, 3, "")), "{}", answer.text());
}

#[test]
fn d14_text_has_the_columns_of_nsq() {
    let daemon = populated();
    let answer = daemon.get("/stats?include_mem=false");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    let text = answer.text();
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut head = head.lines();
    assert_eq!(head.next(), Some(options::version_text().as_str()));
    let started = head.next().unwrap().strip_prefix("start_time ").unwrap();
    assert!(started.parse::<jiff::Timestamp>().is_ok(), "{started}");
    assert!(head.next().unwrap().starts_with("uptime "));
    // Two seconds may pass between the two readings of the clock, not more than one minute.
    let body: Vec<&str> =
        body.lines().map(|line| line.split("connected: 1m").next().unwrap()).collect();
    let (lines, producers) = body.split_at(body.len() - 2);
    assert_eq!(
        lines,
        [
            "Health: OK",
            "",
            "Topics:",
            "   [a              ] depth: 1     be-depth: 0     msgs: 1        e2e%: ",
            "      [c                        ] depth: 0     be-depth: 0     inflt: 0    def: 0    \
         re-q: 0     timeout: 0     msgs: 0        e2e%: ",
            "        [V2 host:1001 agent<1>   ] state: 3 inflt: 1    rdy: 2    fin: 4        \
         re-q: 0        msgs: 5        ",
            "   *P [d                        ] depth: 0     be-depth: 0     inflt: 0    def: 0    \
         re-q: 0     timeout: 0     msgs: 0        e2e%: ",
            "        [V2 host:1002 agent<1>   ] msgs: 2        topics: b=2 ",
            "",
            "*P [b              ] depth: 0     be-depth: 0     msgs: 0        e2e%: ",
            "",
            "Producers:",
        ]
    );
    let mut producers = producers.to_vec();
    producers.sort_unstable();
    assert_eq!(
        producers,
        [
            "   [V2 host:1002 agent<1>   ] msgs: 2        topics: b=2 ",
            "   [V2 host:1003 agent<1>   ] msgs: 21       topics: a=1,b=20 ",
        ]
    );
    let text = daemon.get("/stats?topic=unknown").text().to_owned();
    assert!(text.contains("\n\nMemory:\n   heap_objects             \t0\n"), "{text}");
    assert!(text.ends_with("\n\nTopics: None\n\nProducers: None\n"), "{text}");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let daemon = populated();
    let answer = daemon.get("/metrics");
    assert_eq!(answer.status, 200);
    let content_type = answer.header("Content-Type");
    assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "# TYPE nsq_topic_depth gauge",
        "# TYPE nsq_topic_messages_total counter",
        r#"nsq_topic_depth{topic="a",paused="false"} 1"#,
        r#"nsq_topic_channel_count{topic="a",paused="false"} 2"#,
        r#"nsq_topic_messages_total{topic="a"} 1"#,
        r#"nsq_topic_message_bytes_total{topic="a"} 5"#,
        r#"nsq_topic_paused{topic="b"} 1"#,
        r#"nsq_topic_depth{topic="b",paused="true"} 0"#,
        r#"nsq_channel_client_count{topic="a",channel="c",paused="false"} 1"#,
        r#"nsq_channel_depth{topic="a",channel="d",paused="true"} 0"#,
        r#"nsq_channel_timeouts_total{topic="a",channel="c"} 0"#,
        r#"nsqd_shard_messages{shard="0"} 10"#,
        r#"nsqd_shard_messages{shard="1"} 11"#,
        "nsqd_log_lines_dropped_total 0",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("nsqd_build_info{version=\"1.3.0\",ringmain=\""), "{text}");
    assert!(!text.contains("nsq_client_"), "a series per client only where asked for");
    let labels = r#"client_id="id",hostname="host",version="V2",remote_address="127.0.0.1:1001""#;
    let line = format!("nsq_client_ready_count{{topic=\"a\",channel=\"c\",{labels}}} 2\n");
    let text = daemon.get("/metrics?include_clients=true");
    assert!(text.text().contains(&line), "{line} is not in\n{}", text.text());
}

#[test]
fn a_topic_that_is_gone_has_no_series() {
    let daemon = populated();
    assert!(daemon.get("/metrics").text().contains("topic=\"b\""));
    daemon.post("/topic/delete?topic=b", "").is("");
    assert!(!daemon.get("/metrics").text().contains("topic=\"b\""));
}
