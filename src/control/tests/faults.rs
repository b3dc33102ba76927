//! Requests that fit no endpoint, clients and shards that misbehave, and the end of it all.

use super::*;

#[test]
fn d16_wrong_methods_and_unknown_paths() {
    let daemon = Daemon::start(&[]);
    daemon.post("/stats", "").fails(405, "METHOD_NOT_ALLOWED");
    daemon.get("/not_found").fails(404, "NOT_FOUND");
    for path in ["/", "/PUB", "/pub/", "/config/", "/config", "/config/a/b", "/put", "/topic"] {
        let answer = daemon.get(path);
        // `/pub` is not to be got, and neither is anything spelled like it.
        answer.fails(404, "NOT_FOUND");
    }
    let allowed = [
        ("POST", "/ping", "GET, OPTIONS"),
        ("DELETE", "/config/x", "GET, OPTIONS, PUT"),
        ("GET", "/topic/create", "OPTIONS, POST"),
        ("PATCH", "/mpub?topic=a", "OPTIONS, POST"),
    ];
    for (method, target, allow) in allowed {
        let answer = daemon.client.send(method, target, b"");
        answer.fails(405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("Allow"), Some(allow));
        let answer = daemon.client.send("OPTIONS", target, b"");
        assert_eq!((answer.status, answer.text()), (200, ""));
        assert_eq!(answer.header("Allow"), Some(allow));
        assert_eq!(answer.header("Content-Length"), Some("0"));
    }
    let answer = daemon.client.send("OPTIONS", "*", b"");
    assert_eq!((answer.status, answer.header("Allow")), (200, None));
    let head = daemon.client.send("HEAD", "/ping", b"");
    assert_eq!((head.status, head.text()), (405, ""));
    assert_eq!(head.header("Content-Length"), Some("32"));
}

#[test]
fn other_spellings_are_redirected() {
    let daemon = Daemon::start(&[]);
    let cases = [
        ("GET", "/PING", 301, "/ping"),
        ("GET", "/ping/?a=b", 301, "/ping?a=b"),
        ("GET", "//ping", 301, "/ping"),
        ("GET", "/a/../ping", 301, "/ping"),
        ("GET", "/CONFIG/log_level", 301, "/config/log_level"),
        ("GET", "/config/x/", 301, "/config/x"),
        ("POST", "/topic/create/", 307, "/topic/create"),
        ("POST", "/Topic/Create?topic=t", 307, "/topic/create?topic=t"),
    ];
    for (method, target, status, location) in cases {
        let answer = daemon.client.send(method, target, b"");
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("Location"), Some(location));
        let page = format!("<a href=\"{location}\">Moved Permanently</a>.\n\n");
        assert_eq!(answer.text(), if status == 301 { page.as_str() } else { "" });
    }
    let answer = daemon.get("/p%69ng");
    assert_eq!((answer.status, answer.text()), (200, "OK"));
}

#[test]
fn ping_is_plain() {
    let daemon = Daemon::start(&[]);
    let answer = daemon.get("/ping");
    assert_eq!((answer.status, answer.text()), (200, "OK"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("X-Nsq-Content-Type"), None);
}

#[test]
fn d20_info() {
    let daemon = Daemon::start(&["-broadcast-address=<b>"]);
    let Client::Tcp(address) = daemon.client else { panic!("listens on TCP") };
    let answer = daemon.get("/info");
    let started = answer.json()["start_time"].as_i64().unwrap();
    let hostname = options::hostname();
    let expected = format!(
        "{{\"version\":\"1.3.0\",\"broadcast_address\":\"\\u003cb\\u003e\",\
         \"hostname\":\"{hostname}\",\"http_port\":{},\"tcp_port\":4150,\"start_time\":{started},\
         \"max_heartbeat_interval\":60000000000,\"max_output_buffer_size\":65536,\
         \"max_output_buffer_timeout\":30000000000,\"max_deflate_level\":6,\
         \"topology_zone\":\"\",\"topology_region\":\"\"}}",
        address.port()
    );
    assert_eq!(answer.text(), expected);
}

#[test]
fn http_works_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("ringmain-{}.sock", std::process::id()));
    let daemon = Daemon::listen(&[&format!("-http-address={}", path.display())]);
    daemon.post("/pub?topic=t", "a").is("OK");
    assert_eq!(daemon.get("/info").json()["http_port"], -1);
    let taken = HttpListener::bind(path.to_str().unwrap()).unwrap_err();
    assert!(taken.starts_with(&format!("listen ({}) failed - ", path.display())), "{taken}");
    daemon.thread.stop();
    assert!(!path.exists());
}

#[test]
fn connections_are_kept_between_requests() {
    let daemon = Daemon::start(&[]);
    let mut stream = daemon.client.connect();
    let request =
        b"POST /topic/create?topic=a$ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..3 {
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"{\"message\":\"INVALID_TOPIC\"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let daemon = Daemon::start(&[]);
    let head = b"POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\
                 Expect: 100-continue\r\n\r\n";
    let answer = daemon.client.raw(&[head]);
    answer.fails(413, "MSG_TOO_BIG");
    assert_eq!(answer.reason, "Request Entity Too Large");
}

/// Sends some bytes and nothing more, and returns all that comes back before the end. The clock
/// is a test's: it runs ahead as soon as everybody waits.
async fn stalled(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let http = HttpListener::bind("127.0.0.1:0").unwrap().unwrap();
    let HttpListener::Tcp(listener) = &http else { panic!("listens on TCP") };
    let address = listener.local_addr().unwrap();
    let (_shards, ports) = FakeShards::start();
    let ports_told = state::Ports { tcp: 0, http: 0, https: 0 };
    let (_keeper, persist) = Keeper::new(MetadataFile::of(""), MetadataChanged::default());
    let control = Control::new(
        Options::default(),
        ports,
        ports_told,
        (None, None),
        persist,
        health::Health::default(),
        || {},
    );
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(connections::serve(http, routes::router(Arc::new(control), None), stopped));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let hour = std::time::Duration::from_secs(3600);
    let end = tokio::time::timeout(hour, stream.read_to_end(&mut answer)).await;
    end.expect("the server ends it").unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn clients_that_stall_are_cut_off() {
    assert_eq!(stalled(b"").await, b"");
    assert_eq!(stalled(b"GET /ping HTTP/1.1\r\nHo").await, b"");
    let head = "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc";
    Answer::of(&stalled(head.as_bytes()).await).fails(500, "INTERNAL_ERROR");
    let answer = stalled(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(Answer::of(&answer).text(), "OK", "then the idle connection is closed");
}

#[test]
fn a_refused_publish_is_exiting() {
    let daemon = Daemon::start(&[]);
    daemon.look(|model| model.refusal = Some("the memory budget is used up".to_owned()));
    daemon.post("/pub?topic=t", "a").fails(503, "EXITING");
    daemon.post("/mpub?topic=t", "a\nb").fails(503, "EXITING");
}

#[test]
fn a_shard_that_sleeps_delays_only_those_who_ask_it() {
    let daemon = Daemon::start(&[]);
    daemon.look(|model| model.asleep = true);
    let mut waiting = daemon.client.connect();
    waiting.write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = daemon.get("/ping");
    assert_eq!((answer.status, answer.text()), (200, "OK"));
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_gone_full_or_silent_are_unavailable() {
    use crate::broker::admin::{AdminRequest, ShardIndex};
    let page = || AdminRequest::SessionsPage { from: 0 };
    let port = |mail| ShardPort { mail, wake: Arc::new(|| {}) };
    let (gone, _) = mpsc::sync_channel(1);
    let (full, _full_inbox) = mpsc::sync_channel(0);
    let (silent, _silent_inbox) = mpsc::sync_channel(1);
    let shards = Shards::new(vec![port(gone), port(full), port(silent)]);
    for shard in shards.indexes() {
        assert_eq!(shards.ask(shard, page()).await.unwrap_err(), Unavailable);
    }
    assert_eq!(shards.ask(ShardIndex(3), page()).await.unwrap_err(), Unavailable);
}

#[test]
fn signals_are_passed_on_and_stopping_ends_the_thread() {
    let daemon = Daemon::start(&[]);
    let process = std::process::id().to_string();
    let status = std::process::Command::new("kill").args(["-TERM", &process]).status();
    assert!(status.unwrap().success());
    let signal = daemon.signals.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(signal, Ok(StopSignal::Terminate));
    assert_eq!(daemon.get("/ping").text(), "OK", "it serves until it is told to stop");
    // An idle connection does not hold up the end.
    let idle = daemon.client.connect();
    daemon.thread.stop();
    drop(idle);
    let Client::Tcp(address) = daemon.client else { panic!("listens on TCP") };
    assert!(std::net::TcpStream::connect(address).is_err());
}
