//! Datagrams to statsd, as a server gets them.

use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::PATIENCE;
use std::collections::BTreeMap;
use std::net::UdpSocket;

/// Datagrams that a test waits for: those of ten pushes or more.
const PACKETS_MAX: usize = 100;

struct Server(UdpSocket);

impl Server {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(socket)
    }

    /// A daemon that pushes to it every 1.1 seconds, the least there is.
    fn daemon(&self, flags: &[&str]) -> Daemon {
        let address = format!("--statsd-address={}", self.0.local_addr().expect("bound"));
        let flags: Vec<_> = [address.as_str(), "--statsd-interval=1100ms"]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        Daemon::start(&Options { flags: &flags, ..Options::default() })
    }

    fn packet(&self) -> String {
        let mut buffer = [0; 65536];
        let bytes = self.0.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..bytes].to_vec()).expect("text")
    }

    /// Takes datagrams up to the one that ends a push which has this line.
    fn wait_line(&self, line: &str, last: &str) {
        let mut seen = String::new();
        for _ in 0..PACKETS_MAX {
            seen.push_str(&self.packet());
            if seen.ends_with('\n') && seen.lines().last().is_some_and(|l| l.starts_with(last)) {
                if seen.lines().any(|seen| seen == line) {
                    return;
                }
                seen.clear();
            }
        }
        panic!("{line} never came");
    }
}

#[test]
fn statsd_gets_what_nsqd_pushes() {
    let server = Server::start();
    let flags = ["--broadcast-address=some.host", "--broadcast-http-port=4151"];
    let daemon = server.daemon(&flags);
    daemon.create_channel("t", "c");
    let mut client = Client::connect(&daemon);
    client.publish("t", b"12345");
    client.publish("t", b"1234567");
    // Counters add up over pushes, whichever push they were in.
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut gauges: BTreeMap<String, u64> = BTreeMap::new();
    let complete = |gauges: &BTreeMap<String, u64>| {
        gauges.get("topic.t.channel.c.depth") == Some(&2)
            && gauges.contains_key("topic.t.channel.c.clients")
    };
    for _ in 0..PACKETS_MAX {
        if complete(&gauges) {
            break;
        }
        for line in server.packet().lines() {
            let line = line.strip_prefix("nsq.some_host_4151.").expect("the prefix");
            let (name, value) = line.split_once(':').expect("a line of statsd");
            let (value, kind) = value.split_once('|').expect("a line of statsd");
            let value: u64 = value.parse().expect("a number");
            match kind {
                "c" => *sums.entry(name.to_owned()).or_default() += value,
                "g" => drop(gauges.insert(name.to_owned(), value)),
                kind => panic!("{line}: {kind}"),
            }
        }
    }
    assert!(complete(&gauges), "{gauges:?}");
    assert_eq!((sums["topic.t.message_count"], sums["topic.t.message_bytes"]), (2, 12));
    assert_eq!(sums["topic.t.channel.c.message_count"], 2);
    assert_eq!((gauges["topic.t.depth"], gauges["topic.t.channel.c.clients"]), (0, 0));
    let prefix = "nsq.some_host_4151.";
    daemon.get("/config/statsd_prefix").expect(200, prefix);
    server
        .wait_line(&format!("{prefix}topic.t.message_count:0|c"), &format!("{prefix}mem.gc_runs"));
    let pushing = format!(" INFO: STATSD: pushing stats to {}\n", server.0.local_addr().unwrap());
    assert!(daemon.log().contains(&pushing), "{}", daemon.log());
}

#[test]
fn l26_datagrams_keep_to_their_size_and_cut_at_lines() {
    let server = Server::start();
    let flags = ["--statsd-udp-packet-size=200", "--statsd-mem-stats=false", "--statsd-prefix="];
    let daemon = server.daemon(&flags);
    for n in 0..5 {
        daemon.create_channel(&format!("topic{n}"), "channel");
    }
    for _ in 0..PACKETS_MAX {
        let packet = server.packet();
        assert!(packet.len() <= 200 && packet.ends_with('\n'), "{packet:?}");
        assert!(packet.lines().all(|line| line.starts_with("topic.")), "{packet:?}");
        if packet.contains("topic4.channel.channel.clients:0|g") {
            return;
        }
    }
    panic!("the last topic never came");
}

#[test]
fn a_daemon_with_statsd_stops_at_once() {
    let server = Server::start();
    let flags = ["--statsd-interval=1m"];
    let mut daemon = server.daemon(&flags);
    daemon.create_topic("t");
    assert!(daemon.terminate("TERM").success());
    assert!(daemon.log().contains(" INFO: STATSD: closing\n"), "{}", daemon.log());
}

#[test]
fn l26_processing_times_are_named_by_percentile() {
    let server = Server::start();
    let percentiles = "--e2e-processing-latency-percentile=0.5,0.999,1";
    let daemon = server.daemon(&[percentiles, "--statsd-prefix=", "--statsd-mem-stats=false"]);
    let mut client = Client::consumer(&daemon, "t", "c", 1);
    client.publish("t", b"body");
    let message = client.message();
    client.finish(&message);
    client.expect_quiet();
    let mut seen = String::new();
    for _ in 0..PACKETS_MAX {
        seen.push_str(&server.packet());
        let last = "topic.t.channel.c.e2e_processing_latency_50:";
        if seen.lines().any(|line| line.starts_with(last)) && seen.ends_with('\n') {
            break;
        }
    }
    for of in ["topic.t", "topic.t.channel.c"] {
        let named = |line: &&str, name: &str| {
            let value = line.strip_prefix(of).and_then(|rest| rest.strip_prefix(name));
            let value = value.and_then(|rest| rest.strip_suffix("|g"));
            value.is_some_and(|value| value.parse::<u64>().is_ok_and(|ns| ns > 0))
        };
        let count = |name| seen.lines().filter(|line| named(line, name)).count();
        let hundred = count(".e2e_processing_latency_100:");
        assert!(hundred >= 2, "0.999 is named as 1 is: {seen}");
        assert!(count(".e2e_processing_latency_50:") >= 1, "{seen}");
    }
}
