//! `/metrics`, as Prometheus scrapes it from a running daemon.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use crate::support::wait::eventually;

/// The value of a series, by its name and labels.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

/// The sum of a series over all shards.
fn over_shards(text: &str, name: &str) -> f64 {
    let start = format!("{name}{{shard=");
    let lines = text.lines().filter(|line| line.starts_with(&start));
    lines
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number"))
        .sum()
}

fn scrape(daemon: &Daemon) -> String {
    daemon.get("/metrics").text()
}

#[test]
fn a_scrape_shows_topics_channels_and_shards() {
    check(&[], |daemon| {
        if daemon.is_original() {
            return; // It has no such thing.
        }
        daemon.create_channel("t", "c");
        let mut client = Client::consumer(daemon, "t", "c", 1);
        client.publish("t", b"12345");
        client.message_with(b"12345");
        client.publish("t", b"6");
        daemon.wait_channel("t", "c", &[("in_flight_count", 1), ("depth", 1)]);
        let text = scrape(daemon);
        for (series, expected) in [
            ("nsq_topic_messages_total{topic=\"t\"}", 2.0),
            ("nsq_topic_message_bytes_total{topic=\"t\"}", 6.0),
            ("nsq_topic_depth{topic=\"t\",paused=\"false\"}", 0.0),
            ("nsq_channel_depth{topic=\"t\",channel=\"c\",paused=\"false\"}", 1.0),
            ("nsq_channel_in_flight_count{topic=\"t\",channel=\"c\",paused=\"false\"}", 1.0),
            ("nsq_channel_client_count{topic=\"t\",channel=\"c\",paused=\"false\"}", 1.0),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
        }
        assert_eq!(over_shards(&text, "nsqd_shard_messages"), 2.0);
        assert_eq!(over_shards(&text, "nsqd_shard_connections"), 1.0);
        assert_eq!(over_shards(&text, "nsqd_shard_topics"), 1.0);
        let before = over_shards(&text, "nsqd_shard_received_bytes_total");
        assert!(before > 20.0, "{text}");
        client.publish("t", b"7");
        eventually(|| {
            let after = over_shards(&scrape(daemon), "nsqd_shard_received_bytes_total");
            if after > before { Ok(()) } else { Err(format!("{before} {after}")) }
        });
        assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    });
}
