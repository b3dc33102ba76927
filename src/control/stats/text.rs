//! `/stats` for the eye: NSQ's text, column by column.

use super::Moment;
use super::memory::Memory;
use super::snapshot::Snapshot;
use crate::broker::admin::{ChannelStats, SessionStats, TopicStats};
use crate::broker::latency::Latencies;
use crate::options::{duration, split_host_port, version_text};
use jiff::tz::TimeZone;
use std::fmt::{self, Write};
use std::time::Duration;

/// The whole text.
pub(super) fn render(snapshot: &Snapshot, memory: Option<Memory>, moment: &Moment) -> String {
    let mut text = String::new();
    write_all(&mut text, snapshot, memory, moment).expect("strings take all text");
    text
}

fn write_all(
    text: &mut String,
    snapshot: &Snapshot,
    memory: Option<Memory>,
    moment: &Moment,
) -> fmt::Result {
    writeln!(text, "{}", version_text())?;
    writeln!(text, "start_time {}", local_time(moment.started_at))?;
    writeln!(text, "uptime {}", duration::format(moment.uptime))?;
    writeln!(text, "\nHealth: {}", moment.health)?;
    if let Some(memory) = memory {
        writeln!(text, "\nMemory:")?;
        for (name, value) in memory.figures() {
            writeln!(text, "   {name:<25}\t{value}")?;
        }
    }
    let now_s = moment.now.as_second();
    let topics = snapshot.topics.as_deref().unwrap_or_default();
    text.push_str(if topics.is_empty() { "\nTopics: None\n" } else { "\nTopics:" });
    for topic in topics {
        write_topic(text, topic)?;
        for channel in &topic.channels {
            write_channel(text, channel)?;
            for session in snapshot.clients_of(topic.name, channel.name).into_iter().flatten() {
                text.push_str("        ");
                write_client(text, snapshot, session, now_s)?;
            }
        }
    }
    let mut producers = snapshot.producers().peekable();
    text.push_str(match producers.peek() {
        Some(_) => "\nProducers:\n",
        None => "\nProducers: None\n",
    });
    for session in producers {
        text.push_str("   ");
        write_client(text, snapshot, session, now_s)?;
    }
    Ok(())
}

fn write_topic(text: &mut String, topic: &TopicStats) -> fmt::Result {
    let mark = if topic.paused { "*P " } else { "   " };
    let TopicStats { depth, backend_depth, message_count, .. } = topic;
    let latencies = latencies(&topic.latencies);
    writeln!(
        text,
        "\n{mark}[{:<15}] depth: {depth:<5} be-depth: {backend_depth:<5} \
         msgs: {message_count:<8} e2e%: {latencies}",
        topic.name.as_str(),
    )
}

/// The values alone, as NSQ has it: `1.5ms, 20.0us`.
fn latencies(latencies: &Latencies) -> String {
    let texts: Vec<_> =
        latencies.quantiles.iter().map(|(_, value_ns)| short_time(*value_ns)).collect();
    texts.join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
fn short_time(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    let (unit, name) = units.into_iter().find(|(unit, _)| ns > *unit).unwrap_or((1, "ns"));
    format!("{:.1}{name}", ns as f64 / unit as f64)
}

fn write_channel(text: &mut String, channel: &ChannelStats) -> fmt::Result {
    let mark = if channel.paused { "   *P " } else { "      " };
    let ChannelStats { depth, backend_depth, in_flight_count, deferred_count, .. } = channel;
    let ChannelStats { requeue_count, timeout_count, message_count, .. } = channel;
    let latencies = latencies(&channel.latencies);
    writeln!(
        text,
        "{mark}[{:<25}] depth: {depth:<5} be-depth: {backend_depth:<5} \
         inflt: {in_flight_count:<4} def: {deferred_count:<4} re-q: {requeue_count:<5} \
         timeout: {timeout_count:<5} msgs: {message_count:<8} e2e%: {latencies}",
        channel.name.as_str(),
    )
}

fn write_client(
    text: &mut String,
    snapshot: &Snapshot,
    session: &SessionStats,
    now_s: i64,
) -> fmt::Result {
    let port = split_host_port(&session.remote_address).map_or("", |(_, port)| port);
    let identity = format!("{}:{port} {}", session.hostname, session.user_agent);
    let seconds = u64::try_from(now_s - session.connected_unix_s).unwrap_or_default();
    let connected = duration::format(Duration::from_secs(seconds));
    let counts: Vec<_> = snapshot.publish_counts(session).collect();
    if !counts.is_empty() {
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let topics: Vec<String> =
            counts.iter().map(|(topic, count)| format!("{topic}={count}")).collect();
        let topics = topics.join(",");
        return writeln!(
            text,
            "[V2 {identity:<21}] msgs: {total:<8} topics: {topics} connected: {connected}",
        );
    }
    let SessionStats { state, in_flight_count, ready_count, .. } = session;
    let SessionStats { finish_count, requeue_count, message_count, .. } = session;
    writeln!(
        text,
        "[V2 {identity:<21}] state: {state} inflt: {in_flight_count:<4} rdy: {ready_count:<4} \
         fin: {finish_count:<8} re-q: {requeue_count:<8} msgs: {message_count:<8} \
         connected: {connected}",
    )
}

/// RFC 3339 in local time, `Z` for UTC, as Go has it.
fn local_time(time: jiff::Timestamp) -> String {
    let time = time.to_zoned(TimeZone::system());
    if time.offset() == jiff::tz::Offset::UTC {
        return time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_they_exceed() {
        for (ns, text) in [
            (0, "0.0ns"),
            (1000, "1000.0ns"),
            (1001, "1.0us"),
            (1_500_000, "1.5ms"),
            (1_000_000_000, "1000.0ms"),
            (90_040_000_000, "90.0s"),
        ] {
            assert_eq!(short_time(ns), text);
        }
        let quantiles = vec![(1.0, 2_000_000_000), (0.5, 7)];
        assert_eq!(latencies(&Latencies { count: 2, quantiles }), "2.0s, 7.0ns");
        assert_eq!(latencies(&Latencies::default()), "");
    }
}
