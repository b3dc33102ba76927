//! `nsq_to_http`.

use super::endpoint::Endpoint;
use super::nsq_to_file::drained;
use super::program::{Program, refuses, run, tcp};
use crate::support::daemon::{Daemon, Options};

const NSQ_TO_HTTP: &str = env!("CARGO_BIN_EXE_nsq_to_http");

/// Failures are tried again at once.
const QUICK: [&str; 3] = [
    "-consumer-opt=default_requeue_delay,0",
    "-consumer-opt=max_backoff_duration,0",
    "-consumer-opt=max_attempts,0",
];

fn daemon() -> Daemon {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    daemon
}

fn start(daemon: &Daemon, flags: &[&str]) -> Program {
    let address = format!("-nsqd-tcp-address={}", tcp(daemon));
    let fixed = [address.as_str(), "-topic=t", "-channel=c"];
    let flags: Vec<&str> = fixed.into_iter().chain(QUICK).chain(flags.iter().copied()).collect();
    Program::start(NSQ_TO_HTTP, &flags)
}

#[test]
fn messages_are_posted_and_finished() {
    let daemon = daemon();
    // An answer may be longer than anybody wants to keep.
    let endpoint = Endpoint::start(|_| Some(("201 x".to_owned(), 17 << 20)));
    let url = format!("-post=http://me:secret@{}/in", endpoint.address);
    let flags = [&url, "-header=X-A: b", "-header=x-c:d", "-content-type=a/b", "-status-every=2"];
    let program = start(&daemon, &flags);
    daemon.post("/mpub?topic=t", b"one\ntwo");
    let mut requests = endpoint.requests(2);
    requests.sort_by_key(|request| request.body.clone());
    for (request, body) in requests.iter().zip(["one", "two"]) {
        assert_eq!((request.line.as_str(), request.body.as_str()), ("POST /in", body));
        for header in [
            "content-type: a/b",
            "user-agent: nsq_to_http v1.3.0",
            "x-a: b",
            "x-c: d",
            "authorization: Basic bWU6c2VjcmV0",
        ] {
            assert!(request.has_header(header), "{header}: {request:?}");
        }
    }
    drained(&daemon);
    program.signal("TERM");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(" [aggregate]: finished 2 - 99th: "), "{ended:?}");
    assert!(!ended.stderr.contains("in]: finished"), "{ended:?}");
}

#[test]
fn a_get_has_the_message_in_its_url_and_is_good_with_200_alone() {
    let daemon = daemon();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |_| {
        let is_first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        Some((if is_first { "204 x" } else { "200 x" }.to_owned(), 0))
    });
    let program = start(&daemon, &[&format!("-get={}", endpoint.url("/in?m=%s&n=1"))]);
    daemon.post("/pub?topic=t", "a b&c/\u{e9}".as_bytes());
    for request in endpoint.requests(2) {
        assert_eq!(request.line, "GET /in?m=a+b%26c%2F%C3%A9&n=1");
    }
    drained(&daemon);
    program.signal("INT");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    let text = " ERR    1 [t/c] Handler returned error (got status code 204) for msg ";
    assert!(ended.stderr.contains(text), "{ended:?}");
}

#[test]
fn endpoints_that_are_dead_slow_or_faulty_hold_nothing_up() {
    let daemon = daemon();
    let (good, faulty) = (Endpoint::with_status(200), Endpoint::with_status(500));
    let slow = Endpoint::start(|_| None);
    for mode in ["hostpool", "epsilon-greedy", "round-robin"] {
        let posts = [&faulty, &slow, &good].map(|endpoint| format!("-post={}", endpoint.url("/")));
        let mode = format!("-mode={mode}");
        let flags =
            [&mode, "-http-client-request-timeout=300ms", "-n=3", "-post=http://127.0.0.1:1/"];
        let posts = posts.iter().map(String::as_str);
        let program = start(&daemon, &flags.into_iter().chain(posts).collect::<Vec<_>>());
        daemon.post("/mpub?topic=t", b"1\n2\n3\n4\n5\n6");
        assert_eq!(good.bodies(6), ["1", "2", "3", "4", "5", "6"], "{mode}");
        drained(&daemon);
        drop(program);
    }
}

#[test]
fn round_robin_takes_turns_and_any_other_word_means_all() {
    let daemon = daemon();
    let endpoints = [Endpoint::with_status(200), Endpoint::with_status(200)];
    let posts = endpoints.each_ref().map(|endpoint| format!("-post={}", endpoint.url("/")));
    let [left, right] = posts.each_ref().map(String::as_str);
    let program = start(&daemon, &["-mode=round-robin", "-n=1", "-status-every=2", left, right]);
    daemon.post("/mpub?topic=t", b"1\n2\n3\n4");
    // The second one is first, as with the original.
    assert_eq!(
        (endpoints[1].bodies(2), endpoints[0].bodies(2)),
        (vec!["1".to_owned(), "3".to_owned()], vec!["2".to_owned(), "4".to_owned()],)
    );
    drained(&daemon);
    program.signal("TERM");
    let stderr = program.end().stderr;
    for prefix in [endpoints[0].url("/"), endpoints[1].url("/")] {
        assert!(stderr.contains(&format!(" [{prefix}]: finished 2 - 99th: ")), "{stderr}");
    }

    let _program = start(&daemon, &["-mode=everyone", left, right]);
    daemon.post("/mpub?topic=t", b"5\n6");
    for endpoint in &endpoints {
        assert_eq!(endpoint.bodies(2), ["5", "6"]);
    }
    drained(&daemon);
}

#[test]
fn what_is_sampled_out_is_finished_unsent() {
    let daemon = daemon();
    let endpoint = Endpoint::with_status(200);
    let _program = start(&daemon, &[&format!("-post={}", endpoint.url("/")), "-sample=0"]);
    daemon.post("/mpub?topic=t", b"1\n2\n3\n4");
    daemon.wait_channel("t", "c", &[("depth", 0), ("in_flight_count", 0), ("client_count", 1)]);
    assert!(endpoint.is_quiet());
}

#[test]
fn redirects_are_followed() {
    let daemon = daemon();
    let endpoint = Endpoint::start(|request| {
        let answer = match request.line.split('/').next_back() {
            Some("found") => "302 x\r\nLocation: /a/seen",
            Some("moved") => "307 x\r\nLocation: kept",
            Some("loop") => "302 x\r\nLocation: loop",
            Some("nowhere") => "301 x",
            _ => "200 x",
        };
        Some((answer.to_owned(), 3))
    });
    for (path, requests) in [
        ("/a/found", &[("POST /a/found", "1"), ("GET /a/seen", "")][..]),
        ("/a/moved", &[("POST /a/moved", "1"), ("POST /a/kept", "1")]),
    ] {
        let _program = start(&daemon, &[&format!("-post={}", endpoint.url(path))]);
        daemon.post("/pub?topic=t", b"1");
        for (request, expected) in endpoint.requests(2).iter().zip(requests) {
            assert_eq!((request.line.as_str(), request.body.as_str()), *expected);
        }
        drained(&daemon);
    }
    for (path, text) in [
        ("/loop", "(stopped after 10 redirects) for msg "),
        ("/nowhere", "(got status code 301) for msg "),
    ] {
        daemon.post("/pub?topic=t", b"1");
        let url = format!("-post={}", endpoint.url(path));
        let program = start(&daemon, &[&url, "-consumer-opt=default_requeue_delay,1h"]);
        daemon.wait_channel("t", "c", &[("deferred_count", 1)]);
        program.signal("TERM");
        let ended = program.end();
        assert!(ended.stderr.contains(text), "{ended:?}");
        daemon.order("/channel/empty?topic=t&channel=c");
    }
}

#[test]
fn failures_are_told() {
    let (topic, nsqd, post) = ("-topic=t", "-nsqd-tcp-address=127.0.0.1:1", "-post=http://a/");
    for (flags, text) in [
        (&["-header=header1:"][..], "--header value format should be 'key=value'"),
        (&[], "--topic and --channel are required"),
        (&[topic, "-content-type=a/b"], "--content-type only used with --post"),
        (&[topic, post, "-content-type="], "--content-type requires a value when used"),
        (&[topic], "--nsqd-tcp-address or --lookupd-http-address required"),
        (&[topic, nsqd], "--get or --post required"),
        (&[topic, nsqd, post, "-get=http://a/%s"], "use --get or --post not both"),
        (&[topic, nsqd, "-get=http://a/"], "invalid GET address - must be a printf string"),
        (&[topic, nsqd, "-get=http://a/%s/%s"], "invalid GET address - must be a printf string"),
        (&[topic, nsqd, post, "-sample=1.1"], "ERROR: --sample must be between 0.0 and 1.0"),
        (&[topic, nsqd, "-post=a"], "invalid address a - must be an http or https URL"),
    ] {
        refuses(NSQ_TO_HTTP, flags, text);
    }
    assert_eq!(run(NSQ_TO_HTTP, &["-version"]).stdout, "nsq_to_http v1.3.0\n");
}
