//! nsqlookupd: what it is told, when, and what it is asked.

use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::http::request;
use crate::support::lookupd::FakeLookupd;
use crate::support::stream::Address;
use crate::support::wait::eventually;

const TARGET: &str = "/config/nsqlookupd_tcp_addresses";

fn start(lookups: &[&FakeLookupd], shards: u16, flags: &[&str]) -> Daemon {
    let lookups: Vec<_> =
        lookups.iter().map(|lookup| format!("--lookupd-tcp-address={}", lookup.address)).collect();
    let flags: Vec<_> = lookups.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    Daemon::start(&Options { shards, flags: &flags, ..Options::default() })
}

fn port(address: &Address) -> u16 {
    let Address::Tcp(address) = address else { panic!("{address:?}") };
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn wait_log(daemon: &Daemon, text: &str) {
    eventually(|| if daemon.log().contains(text) { Ok(()) } else { Err(format!("no {text}")) });
}

#[test]
fn c5_a_lookup_knows_topics_and_channels() {
    for shards in [1, 2] {
        let lookup = FakeLookupd::start(&[]);
        let flags = ["--broadcast-address=me", "--topology-zone=z", "--topology-region=r"];
        let daemon = start(&[&lookup], shards, &flags);
        lookup.wait(|seen| seen.identities.len() == 1);
        let identity: serde_json::Value =
            serde_json::from_str(&lookup.seen().identities[0]).unwrap();
        assert_eq!(identity["broadcast_address"], "me");
        assert_eq!(identity["tcp_port"], port(&daemon.tcp));
        assert_eq!(identity["http_port"], port(&daemon.http));
        let info = daemon.get("/info").json();
        for key in ["version", "hostname"] {
            assert_eq!(identity[key], info[key]);
        }
        if !daemon.is_original() {
            assert_eq!(identity["topology_zone"], "z");
            assert_eq!(identity["topology_region"], "r");
        }
        daemon.create_channel("t", "c");
        lookup.wait_registered(&["t", "t c"]);
        // Ephemeral ones too, and those that clients bring about.
        let consumer = Client::consumer(&daemon, "u#ephemeral", "d#ephemeral", 1);
        let all = ["t", "t c", "u#ephemeral", "u#ephemeral d#ephemeral"];
        lookup.wait_registered(&all);
        drop(consumer);
        lookup.wait_registered(&["t", "t c"]);
        daemon.order("/channel/delete?topic=t&channel=c");
        lookup.wait_registered(&["t"]);
        daemon.order("/topic/delete?topic=t");
        lookup.wait_registered(&[]);
        assert_eq!(lookup.seen().identities.len(), 1, "all on one connection");
    }
}

#[test]
fn c4_lookups_are_exchanged_at_run_time() {
    let [a, b, c] = [(); 3].map(|()| FakeLookupd::start(&[]));
    let daemon = start(&[], 2, &[]);
    daemon.create_channel("t", "c");
    let put = |addresses: &[&FakeLookupd]| {
        let addresses: Vec<_> = addresses.iter().map(|lookup| &lookup.address).collect();
        let body = serde_json::to_string(&addresses).unwrap();
        request(&daemon.http, "PUT", TARGET, body.as_bytes()).expect(200, &body);
        daemon.get(TARGET).expect(200, &body);
    };
    put(&[&a]);
    a.wait_registered(&["t", "t c"]);
    put(&[&b, &c, &b]);
    for lookup in [&b, &c] {
        lookup.wait_registered(&["t", "t c"]);
    }
    a.wait(|seen| seen.open == 0);
    // Who stays is not connected anew, and is kept up to date.
    put(&[&c]);
    b.wait(|seen| seen.open == 0);
    daemon.create_topic("u");
    c.wait_registered(&["t", "t c", "u"]);
    assert_eq!(c.seen().identities.len(), 1);
    for (address, word) in [(&a, "adding"), (&a, "removing"), (&b, "removing"), (&c, "adding")] {
        wait_log(&daemon, &format!("INFO: LOOKUP({}): {word} peer\n", address.address));
    }
    for bad in ["", "x", "{}", "[1]"] {
        let reply = request(&daemon.http, "PUT", TARGET, bad.as_bytes());
        reply.expect_message(if bad.is_empty() { 413 } else { 400 }, "INVALID_VALUE");
    }
}

#[test]
fn a_lookup_that_comes_back_is_told_everything() {
    let lookup = FakeLookupd::start(&[]);
    let daemon = start(&[&lookup], 2, &[]);
    daemon.create_channel("t", "c");
    daemon.create_topic("u");
    lookup.wait_registered(&["t", "t c", "u"]);
    lookup.hang_up();
    lookup.wait(|seen| seen.identities.len() == 2);
    lookup.wait_registered(&["t", "t c", "u"]);
    // What was created meanwhile is no exception.
    lookup.hang_up();
    daemon.order("/topic/delete?topic=u");
    daemon.create_channel("v", "d");
    lookup.wait_registered(&["t", "t c", "v", "v d"]);
}

#[test]
fn a_lookup_that_is_away_delays_no_other() {
    let lookup = FakeLookupd::start(&[]);
    // A socket that listens and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let flags = [
        format!("--lookupd-tcp-address={silent}"),
        "--lookupd-tcp-address=127.0.0.1:1".to_owned(),
        "--lookupd-tcp-address=no.such.host.invalid:4160".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let daemon = start(&[&lookup], 2, &flags);
    daemon.create_channel("t", "c");
    lookup.wait_registered(&["t", "t c"]);
    if !daemon.is_original() {
        let refused = "LOOKUPD(127.0.0.1:1): dial tcp 127.0.0.1:1: connection refused; connecting";
        wait_log(&daemon, refused);
        wait_log(&daemon, "LOOKUPD(no.such.host.invalid:4160): dial tcp ");
    }
}

#[test]
fn many_topics_are_registered_at_once() {
    let lookup = FakeLookupd::start(&[]);
    let daemon = start(&[], 2, &[]);
    for n in 0..1000 {
        daemon.create_topic(&format!("t{n}"));
    }
    let body = format!("[\"{}\"]", lookup.address);
    request(&daemon.http, "PUT", TARGET, body.as_bytes()).expect(200, &body);
    lookup.wait(|seen| seen.registered.len() == 1000);
    assert_eq!(lookup.seen().identities.len(), 1);
}

#[test]
fn a_quiet_lookup_is_pinged() {
    let lookup = FakeLookupd::start(&[]);
    let _daemon = start(&[&lookup], 1, &[]);
    lookup.wait(|seen| seen.pings > 0);
    assert_eq!(lookup.seen().identities.len(), 1);
}

#[test]
fn a_new_topic_gets_the_channels_it_has_elsewhere() {
    for shards in [1, 2] {
        let lookups = [
            FakeLookupd::start(&["b", "a", "e#ephemeral"]),
            FakeLookupd::start(&["b", "c", "no name"]),
        ];
        let daemon = start(&[&lookups[0], &lookups[1]], shards, &[]);
        for lookup in &lookups {
            lookup.wait(|seen| seen.identities.len() == 1);
        }
        wait_registered_nothing(&daemon, 2);
        let mut client = Client::connect(&daemon);
        client.publish("t", b"first");
        for channel in ["a", "b", "c"] {
            daemon.wait_channel("t", channel, &[("message_count", 1), ("depth", 1)]);
        }
        let topic = daemon.topic("t").unwrap();
        let count = if daemon.is_original() { 4 } else { 3 };
        assert_eq!(topic["channels"].as_array().unwrap().len(), count, "{topic}");
        assert_eq!(topic["depth"], 0);
        // The name is escaped; an ephemeral topic is asked about like any other.
        client.publish("e#ephemeral", b"first");
        daemon.wait_channel("e#ephemeral", "a", &[("depth", 1)]);
        for lookup in &lookups {
            lookup.wait(|seen| seen.questions == ["t", "e%23ephemeral"]);
        }
    }
}

/// Waits until so many lookups are known to the daemon and have been told of no topic.
fn wait_registered_nothing(daemon: &Daemon, lookups: usize) {
    eventually(|| {
        let count = daemon.log().matches("): peer info ").count();
        if count == lookups { Ok(()) } else { Err(format!("{count} peers")) }
    });
}

#[test]
fn a_message_waits_for_the_answer_of_the_lookup() {
    let lookup = FakeLookupd::start(&[]);
    let daemon = start(&[&lookup], 2, &[]);
    wait_registered_nothing(&daemon, 1);
    if daemon.is_original() {
        return; // It makes the publisher wait instead of the message.
    }
    lookup.answer(None);
    // Neither publishers nor consumers of the new topic wait, nor do other topics.
    Client::connect(&daemon).publish("t", b"first");
    let mut consumer = Client::consumer(&daemon, "t", "own", 1);
    daemon.wait_topic("t", &[("depth", 1), ("message_count", 1)]);
    lookup.wait(|seen| seen.questions == ["t"]);
    assert_eq!(daemon.channel("t", "own").unwrap()["message_count"], 0);
    lookup.answer(Some(&["elsewhere"]));
    consumer.message_with(b"first");
    daemon.wait_channel("t", "elsewhere", &[("depth", 1)]);
    // From then on it is a topic like any other.
    Client::connect(&daemon).publish("t", b"second");
    daemon.wait_channel("t", "elsewhere", &[("depth", 2)]);
}

#[test]
fn without_an_answer_a_topic_starts_all_the_same() {
    let lookup = FakeLookupd::start(&["never"]);
    lookup.answer(None);
    let flags = ["--http-client-request-timeout=100ms"];
    let daemon = start(&[&lookup], 2, &flags);
    wait_registered_nothing(&daemon, 1);
    let mut consumer = Client::consumer(&daemon, "t", "own", 1);
    Client::connect(&daemon).publish("t", b"first");
    consumer.message_with(b"first");
    wait_log(
        &daemon,
        "WARNING: failed to query nsqlookupd for channels to pre-create for topic t - failed to \
         query any nsqlookupd: ",
    );
}

#[test]
fn lookups_that_never_came_are_complained_of() {
    let daemon = start(&[], 2, &["--lookupd-tcp-address=127.0.0.1:1"]);
    let mut consumer = Client::consumer(&daemon, "t", "own", 1);
    Client::connect(&daemon).publish("t", b"first");
    consumer.message_with(b"first");
    let text = "no available nsqlookupd to query for channels to pre-create for topic t";
    wait_log(&daemon, &format!("ERROR: {text}\n"));
}

#[test]
fn topics_that_come_back_at_start_are_registered_and_not_asked_about() {
    let lookup = FakeLookupd::start(&["elsewhere"]);
    let mut first = start(&[], 2, &[]);
    first.create_channel("t", "c");
    assert!(first.terminate("TERM").success());
    let flag = format!("--lookupd-tcp-address={}", lookup.address);
    let second = first.start_again(&Options { flags: &[&flag], ..Options::default() });
    lookup.wait_registered(&["t", "t c"]);
    assert!(lookup.seen().questions.is_empty());
    drop(second);
}

#[test]
fn a_daemon_that_stops_is_forgotten() {
    let lookup = FakeLookupd::start(&[]);
    let mut daemon = start(&[&lookup], 2, &[]);
    daemon.create_topic("t");
    lookup.wait_registered(&["t"]);
    assert!(daemon.terminate("TERM").success());
    lookup.wait(|seen| seen.open == 0);
    assert!(daemon.log().contains(" INFO: LOOKUP: closing\n"), "{}", daemon.log());
}
