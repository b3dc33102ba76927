//! The numbers of a row, and how they are written: once here, for pages and for what updates them.

use super::model::{ChannelStats, Latency, TopicStats};
use serde::Serialize;

/// What there is to know of a topic, a channel or an nsqd at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) depth: i64,
    pub(super) backend_depth: i64,
    /// Depth of a topic and all its channels, together; of a channel, its own.
    pub(super) backlog: i64,
    /// The part of it on disk.
    pub(super) backlog_disk: i64,
    pub(super) in_flight: i64,
    pub(super) deferred: i64,
    pub(super) messages: i64,
    pub(super) requeues: i64,
    pub(super) timeouts: i64,
    pub(super) clients: i64,
    pub(super) channels: i64,
    /// Messages each second; `None` until two pictures can be compared.
    pub(super) rate: Option<f64>,
    pub(super) timeout_rate: Option<f64>,
    /// Of the highest percentile nsqd is told to measure, in nanoseconds: the average over nsqds.
    pub(super) latency_ns: Option<f64>,
    /// Only Ringmain's nsqd tells.
    pub(super) log_bytes: Option<u64>,
    pub(super) paused: bool,
}

/// What counts without end, to take rates of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) messages: i64,
    pub(super) timeouts: i64,
}

impl Figures {
    pub(super) fn of_topic(topic: &TopicStats) -> Self {
        let mut figures = Self {
            depth: topic.depth,
            backend_depth: topic.backend_depth,
            backlog: topic.depth,
            backlog_disk: topic.backend_depth,
            messages: topic.message_count,
            latency_ns: latency_ns(topic.e2e_processing_latency.as_ref()),
            log_bytes: topic.log_bytes,
            paused: topic.paused,
            ..Self::default()
        };
        for channel in topic.channels.iter().flatten() {
            figures.channels += 1;
            figures.take_channel(&Self::of_channel(channel));
        }
        figures
    }

    pub(super) fn of_channel(channel: &ChannelStats) -> Self {
        Self {
            depth: channel.depth,
            backend_depth: channel.backend_depth,
            backlog: channel.depth,
            backlog_disk: channel.backend_depth,
            in_flight: channel.in_flight_count,
            deferred: channel.deferred_count,
            messages: channel.message_count,
            requeues: channel.requeue_count,
            timeouts: channel.timeout_count,
            clients: channel.client_count,
            latency_ns: latency_ns(channel.e2e_processing_latency.as_ref()),
            paused: channel.paused,
            ..Self::default()
        }
    }

    /// Adds what a topic does not count itself.
    fn take_channel(&mut self, channel: &Self) {
        add(&mut self.backlog, channel.backlog);
        add(&mut self.backlog_disk, channel.backlog_disk);
        add(&mut self.in_flight, channel.in_flight);
        add(&mut self.deferred, channel.deferred);
        add(&mut self.requeues, channel.requeues);
        add(&mut self.timeouts, channel.timeouts);
        add(&mut self.clients, channel.clients);
    }

    /// Adds the same of another nsqd, or of another topic.
    pub(super) fn add(&mut self, other: &Self) {
        add(&mut self.depth, other.depth);
        add(&mut self.backend_depth, other.backend_depth);
        add(&mut self.messages, other.messages);
        self.take_channel(other);
        if let Some(bytes) = other.log_bytes {
            self.log_bytes = Some(self.log_bytes.unwrap_or_default().saturating_add(bytes));
        }
        self.latency_ns = match (self.latency_ns, other.latency_ns) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        self.paused |= other.paused;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { messages: self.messages, timeouts: self.timeouts }
    }

    /// Whatever is waiting here: what an end would lose.
    pub(super) fn waiting(&self) -> i64 {
        self.backlog.saturating_add(self.in_flight).saturating_add(self.deferred)
    }

    /// One cell.
    pub(super) fn cell(&self, name: &str) -> String {
        let mut cells = self.cells().into_iter();
        cells.find(|(known, _)| *known == name).map_or_else(String::new, |(_, text)| text)
    }

    /// All cells, by the name that pages give them.
    pub(super) fn cells(&self) -> [(&'static str, String); 16] {
        let memory = self.depth.saturating_sub(self.backend_depth);
        [
            ("depth", count(self.depth)),
            ("memory", count(memory)),
            ("disk", count(self.backend_depth)),
            ("backlog", count(self.backlog)),
            ("backlog_disk", count(self.backlog_disk)),
            ("in_flight", count(self.in_flight)),
            ("deferred", count(self.deferred)),
            ("messages", count(self.messages)),
            ("requeues", count(self.requeues)),
            ("timeouts", count(self.timeouts)),
            ("clients", count(self.clients)),
            ("channels", count(self.channels)),
            ("rate", rate(self.rate)),
            ("timeout_rate", rate(self.timeout_rate)),
            ("latency", self.latency_ns.map_or_else(|| NONE.to_owned(), time_ns)),
            ("log", self.log_bytes.map_or_else(|| NONE.to_owned(), bytes)),
        ]
    }
}

/// What stands where there is no value.
pub(super) const NONE: &str = "–";

fn add(total: &mut i64, part: i64) {
    *total = total.saturating_add(part);
}

/// The highest percentile's value.
fn latency_ns(latency: Option<&Latency>) -> Option<f64> {
    let latency = latency.filter(|latency| latency.count > 0)?;
    let percentiles = latency.percentiles.as_ref()?;
    let highest = percentiles.iter().max_by(|a, b| a.quantile.total_cmp(&b.quantile))?;
    Some(highest.average)
}

/// A whole number with its thousands apart: `12 345` (with narrow spaces).
pub(super) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "−".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A rate: with a decimal while that says something.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => NONE.to_owned(),
        Some(rate) if rate < 0.05 => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        #[expect(clippy::cast_possible_truncation, reason = "rates are far below 2^63")]
        Some(rate) => count(rate.round() as i64),
    }
}

/// Bytes with a binary unit: `1.5 GiB`.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Nanoseconds with a unit: `1.5 ms`.
pub(super) fn time_ns(ns: f64) -> String {
    if ns >= 60e9 {
        return duration_s(ns / 1e9);
    }
    scaled(ns, 1000.0, &["ns", "µs", "ms", "s"])
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && number < 99.95);
    format!("{number:.digits$}\u{202f}{}", units[unit])
}

/// Seconds as somebody would say them: `3 d 4 h`, `12 min`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
pub(super) fn duration_s(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}\u{202f}s"),
        (0, 0, _) => format!("{minutes}\u{202f}min"),
        (0, ..) => format!("{hours}\u{202f}h {minutes}\u{202f}min"),
        _ => format!("{days}\u{202f}d {hours}\u{202f}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_to_be_read() {
        let plain = |text: String| text.replace('\u{202f}', " ");
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1 000"), (-1234567, "−1 234 567")]
        {
            assert_eq!(plain(count(number)), expected);
        }
        for (number, expected) in
            [(None, "–"), (Some(0.01), "0"), (Some(1.25), "1.2"), (Some(12345.6), "12 346")]
        {
            assert_eq!(plain(rate(number)), expected);
        }
        for (number, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(plain(bytes(number)), expected);
        }
        for (number, expected) in [(950.0, "950 ns"), (1.5e6, "1.5 ms"), (125e9, "2 min")] {
            assert_eq!(plain(time_ns(number)), expected);
        }
        for (number, expected) in [(5.0, "5 s"), (3700.0, "1 h 1 min"), (90000.0, "1 d 1 h")] {
            assert_eq!(plain(duration_s(number)), expected);
        }
        assert_eq!(plain(count(i64::MIN)), "−9 223 372 036 854 775 808");
    }
}
