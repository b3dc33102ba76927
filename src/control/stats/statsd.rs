//! Pushes to statsd: every interval one snapshot as lines, packed into datagrams.

use super::memory::Memory;
use super::snapshot::{self, Wanted};
use crate::broker::admin::{ChannelStats, TopicStats};
use crate::broker::latency::Latencies;
use crate::control::state::Control;
use crate::limits::STATSD_RESOLVE_TIME_MAX;
use crate::options::Options;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// What is pushed, and how; fixed at start, as NSQ has it.
struct Pusher {
    address: String,
    interval: Duration,
    memory: bool,
    shape: Shape,
    packet_bytes_max: usize,
    /// What was pushed last, by name; counters carry the increase since.
    before: Vec<TopicStats>,
}

/// What decides which lines there are.
struct Shape {
    prefix: String,
    exclude_ephemeral: bool,
}

/// Pushes until told to stop; returns at once when there is no statsd to push to.
pub(in crate::control) async fn push(control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    let pusher = Pusher::new(&control.options.borrow());
    let Some(mut pusher) = pusher else { return };
    let mut ticks = interval(pusher.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now; the first push comes an interval later.
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            _ = ticks.tick() => pusher.push(&control, &mut stop).await,
        }
    }
    tracing::info!("STATSD: closing");
}

/// Waits for the order to stop; a sender that is gone counts as one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The prefix with `%s` replaced by this host's key, and the dot that names follow.
pub(in crate::control) fn prefix(options: &Options) -> String {
    if options.statsd_prefix.is_empty() {
        return String::new();
    }
    let host = &options.broadcast_address;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let key = format!("{host}:{}", options.broadcast_http_port).replace(['.', ':'], "_");
    let prefix = options.statsd_prefix.replace("%s", &key);
    if prefix.ends_with('.') { prefix } else { prefix + "." }
}

impl Pusher {
    fn new(options: &Options) -> Option<Self> {
        (!options.statsd_address.is_empty()).then(|| Self {
            address: options.statsd_address.clone(),
            interval: options.statsd_interval,
            memory: options.statsd_mem_stats,
            shape: Shape {
                prefix: options.statsd_prefix.clone(),
                exclude_ephemeral: options.statsd_exclude_ephemeral,
            },
            packet_bytes_max: options.statsd_udp_packet_size,
            before: Vec::new(),
        })
    }

    async fn push(&mut self, control: &Control, stop: &mut watch::Receiver<bool>) {
        let address = &self.address;
        let Some(socket) = connect(address).await else {
            return tracing::error!("failed to create UDP socket to statsd({address})");
        };
        tracing::info!("STATSD: pushing stats to {address}");
        let wanted = Wanted { topic: None, channel: None, clients: false };
        let turn = control.stats_turns.acquire().await.expect("the semaphore is never closed");
        let Ok(snapshot) = snapshot::take(&control.shards, &wanted).await else {
            return tracing::error!("STATSD: a shard does not answer");
        };
        let topics = snapshot.topics.unwrap_or_default();
        let mut text = self.shape.lines(&topics, &self.before);
        self.before = topics;
        drop(turn);
        if self.memory {
            self.shape.memory_lines(&mut text);
        }
        // So that a server's buffer does not overflow, the datagrams are spread over the interval.
        let packets: Vec<_> = packets(&text, self.packet_bytes_max).collect();
        let spread = self.interval.saturating_sub(Duration::from_secs(1));
        let pause = spread / u32::try_from(packets.len().max(1)).unwrap_or(u32::MAX);
        for packet in packets {
            // A server that is not there is no concern of ours; the next datagram may reach it.
            let _ = socket.send(packet.as_bytes()).await;
            // At the end of the daemon the rest is sent without pauses.
            let _ = timeout(pause, stopped(stop)).await;
        }
    }
}

impl Shape {
    fn lines(&self, topics: &[TopicStats], before: &[TopicStats]) -> String {
        let mut text = String::new();
        for topic in topics.iter().filter(|topic| self.shows(topic.name.is_ephemeral())) {
            let known = before.binary_search_by_key(&topic.name, |known| known.name);
            let known = known.ok().and_then(|index| before.get(index));
            self.topic_lines(&mut text, topic, known);
        }
        text
    }

    fn shows(&self, is_ephemeral: bool) -> bool {
        !(self.exclude_ephemeral && is_ephemeral)
    }

    fn topic_lines(&self, text: &mut String, topic: &TopicStats, before: Option<&TopicStats>) {
        let name = format!("topic.{}", topic.name);
        let was = |count: fn(&TopicStats) -> u64| before.map_or(0, count);
        let messages = increase(topic.message_count, was(|topic| topic.message_count));
        let bytes = increase(topic.message_bytes, was(|topic| topic.message_bytes));
        self.line(text, &name, "message_count", messages, 'c');
        self.line(text, &name, "message_bytes", bytes, 'c');
        self.line(text, &name, "depth", topic.depth, 'g');
        self.line(text, &name, "backend_depth", topic.backend_depth, 'g');
        self.latency_lines(text, &name, &topic.latencies);
        let known = before.map(|topic| topic.channels.as_slice()).unwrap_or_default();
        for channel in topic.channels.iter().filter(|c| self.shows(c.name.is_ephemeral())) {
            let index = known.binary_search_by_key(&channel.name, |known| known.name);
            let known = index.ok().and_then(|index| known.get(index));
            self.channel_lines(text, &name, channel, known);
        }
    }

    fn channel_lines(
        &self,
        text: &mut String,
        topic: &str,
        channel: &ChannelStats,
        before: Option<&ChannelStats>,
    ) {
        let name = format!("{topic}.channel.{}", channel.name);
        let was = |count: fn(&ChannelStats) -> u64| before.map_or(0, count);
        let messages = increase(channel.message_count, was(|channel| channel.message_count));
        let requeues = increase(channel.requeue_count, was(|channel| channel.requeue_count));
        let timeouts = increase(channel.timeout_count, was(|channel| channel.timeout_count));
        for (what, value, kind) in [
            ("message_count", messages, 'c'),
            ("depth", channel.depth, 'g'),
            ("backend_depth", channel.backend_depth, 'g'),
            ("in_flight_count", channel.in_flight_count, 'g'),
            ("deferred_count", channel.deferred_count, 'g'),
            ("requeue_count", requeues, 'c'),
            ("timeout_count", timeouts, 'c'),
            ("clients", channel.client_count, 'g'),
        ] {
            self.line(text, &name, what, value, kind);
        }
        self.latency_lines(text, &name, &channel.latencies);
    }

    /// The quantile is rounded to a percentile, so that two may have the same name, as in NSQ.
    fn latency_lines(&self, text: &mut String, of: &str, latencies: &Latencies) {
        for (quantile, value) in &latencies.quantiles {
            let what = format!("e2e_processing_latency_{:.0}", quantile * 100.0);
            self.line(text, of, &what, *value, 'g');
        }
    }

    fn memory_lines(&self, text: &mut String) {
        for (what, value) in Memory::measure().figures() {
            // There is no collector here, so the number of its runs never rises.
            let (what, kind) = if what == "gc_total_runs" { ("gc_runs", 'c') } else { (what, 'g') };
            self.line(text, "mem", what, value, kind);
        }
    }

    fn line(&self, text: &mut String, of: &str, what: &str, value: u64, kind: char) {
        let prefix = &self.prefix;
        writeln!(text, "{prefix}{of}.{what}:{value}|{kind}").expect("strings take all text");
    }
}

/// What a counter has gained. One that is lower than before belongs to a new topic or channel of
/// the same name, and counts from its start.
fn increase(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// Cuts text into pieces of whole lines, none larger than so many bytes unless a single line is.
fn packets(text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            if end > 0 && end + line.len() > bytes_max {
                break;
            }
            end += line.len();
        }
        let (packet, after) = rest.split_at(end);
        rest = after;
        (!packet.is_empty()).then_some(packet)
    })
}

/// A socket to the server, whose name is resolved anew for each push.
async fn connect(address: &str) -> Option<UdpSocket> {
    let resolved = timeout(STATSD_RESOLVE_TIME_MAX, lookup_host(address)).await.ok()?.ok()?;
    for candidate in resolved {
        let local: SocketAddr = match candidate {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        if let Ok(socket) = UdpSocket::bind(local).await
            && socket.connect(candidate).await.is_ok()
        {
            return Some(socket);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;
    use crate::protocol::name::{ChannelName, TopicName};
    use proptest::prelude::*;

    fn channel(name: &str, count: u64) -> ChannelStats {
        ChannelStats {
            name: ChannelName::parse(name.as_bytes()).unwrap(),
            depth: 2,
            backend_depth: 3,
            in_flight_count: 4,
            deferred_count: 5,
            message_count: count,
            requeue_count: count + 1,
            timeout_count: count + 2,
            delivery_counts: [0; 3],
            latencies: Latencies::default(),
            client_count: 6,
            paused: false,
            governed: None,
        }
    }

    fn topic(name: &str, count: u64, channels: Vec<ChannelStats>) -> TopicStats {
        TopicStats {
            durability: crate::broker::durability::Durability::Overflow,
            has_own_durability: false,
            log_bytes: 0,
            name: TopicName::parse(name.as_bytes()).unwrap(),
            depth: 7,
            backend_depth: 8,
            message_count: count,
            message_bytes: 10 * count,
            paused: false,
            starting: false,
            governed: None,
            latencies: Latencies::default(),
            channels,
        }
    }

    fn shape(prefix: &str, exclude_ephemeral: bool) -> Shape {
        Shape { prefix: prefix.to_owned(), exclude_ephemeral }
    }

    #[test]
    fn the_lines_are_nsqs() {
        let topics = [topic("t", 9, vec![channel("c", 20)])];
        let expected = "\
            p.topic.t.message_count:9|c\n\
            p.topic.t.message_bytes:90|c\n\
            p.topic.t.depth:7|g\n\
            p.topic.t.backend_depth:8|g\n\
            p.topic.t.channel.c.message_count:20|c\n\
            p.topic.t.channel.c.depth:2|g\n\
            p.topic.t.channel.c.backend_depth:3|g\n\
            p.topic.t.channel.c.in_flight_count:4|g\n\
            p.topic.t.channel.c.deferred_count:5|g\n\
            p.topic.t.channel.c.requeue_count:21|c\n\
            p.topic.t.channel.c.timeout_count:22|c\n\
            p.topic.t.channel.c.clients:6|g\n";
        assert_eq!(shape("p.", false).lines(&topics, &[]), expected);
        // Counters carry the increase, gauges the value.
        let later = [topic("a", 1, vec![]), topic("t", 12, vec![channel("c", 25)])];
        let text = shape("", false).lines(&later, &topics);
        for line in [
            "topic.a.message_count:1|c",
            "topic.t.message_count:3|c",
            "topic.t.message_bytes:30|c",
            "topic.t.depth:7|g",
            "topic.t.channel.c.message_count:5|c",
            "topic.t.channel.c.timeout_count:5|c",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
        // A topic that was deleted and made again starts anew.
        let again = [topic("t", 2, vec![])];
        let text = shape("", false).lines(&again, &later);
        assert!(text.starts_with("topic.t.message_count:2|c\n"), "{text}");
    }

    #[test]
    fn what_is_ephemeral_may_be_left_out() {
        let topics = [
            topic("e#ephemeral", 1, vec![channel("c", 1)]),
            topic("t", 1, vec![channel("c", 1), channel("e#ephemeral", 1)]),
        ];
        assert!(shape("", false).lines(&topics, &[]).contains("#ephemeral"));
        let text = shape("", true).lines(&topics, &[]);
        assert!(!text.contains("#ephemeral") && text.contains("channel.c."), "{text}");
    }

    #[test]
    fn memory_is_nsqs_nine_figures() {
        let mut text = String::new();
        shape("p.", false).memory_lines(&mut text);
        let names: Vec<_> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
        let expected = [
            "p.mem.heap_objects",
            "p.mem.heap_idle_bytes",
            "p.mem.heap_in_use_bytes",
            "p.mem.heap_released_bytes",
            "p.mem.gc_pause_usec_100",
            "p.mem.gc_pause_usec_99",
            "p.mem.gc_pause_usec_95",
            "p.mem.next_gc_bytes",
            "p.mem.gc_runs",
        ];
        assert_eq!(names, expected);
        assert!(text.ends_with("p.mem.gc_runs:0|c\n"), "{text}");
    }

    #[test]
    fn prefixes_name_the_host() {
        let cases = [
            ("nsq.%s", "127.0.0.1", "nsq.127_0_0_1_4151."),
            ("nsq.%s.", "host.name", "nsq.host_name_4151."),
            ("%s.%s", "h", "h_4151.h_4151."),
            ("plain", "h", "plain."),
            ("%s", "::1", "[__1]_4151."),
            ("", "h", ""),
        ];
        for (given, host, expected) in cases {
            let flags = [
                format!("-statsd-prefix={given}"),
                format!("-broadcast-address={host}"),
                "-broadcast-http-port=4151".to_owned(),
            ];
            let options = options::parse(flags.iter().map(Into::into)).unwrap();
            assert_eq!(prefix(&options), expected, "{given} {host}");
        }
    }

    proptest! {
        #[test]
        fn packets_are_whole_lines_within_the_limit(
            lines in prop::collection::vec("[a-z]{0,30}", 0..60),
            bytes_max in 1_usize..100,
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let cut: Vec<_> = packets(&text, bytes_max).collect();
            prop_assert_eq!(cut.concat(), text.as_str());
            for (index, packet) in cut.iter().enumerate() {
                prop_assert!(packet.ends_with('\n'));
                let is_single = packet.matches('\n').count() == 1;
                prop_assert!(packet.len() <= bytes_max || is_single);
                // No packet could have held the next line too.
                if let Some(next) = cut.get(index + 1) {
                    let line = next.split_inclusive('\n').next().unwrap();
                    prop_assert!(packet.len() + line.len() > bytes_max);
                }
            }
        }
    }
}
