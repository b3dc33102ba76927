//! The report for a terminal.

use std::fmt::Write as _;

use crate::figures::Spread;
use crate::report::{Document, LatencyDocument};

/// Width of the first column.
const NAME: usize = 28;

impl Document {
    /// What was done and where, the main figures, the latencies, and what is wrong with them.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{}\n", self.description);
        let _ = writeln!(out, "{}\n", self.place());
        let runs = match self.runs.len() {
            1 => "1 run".to_owned(),
            runs => format!("{runs} runs"),
        };
        let _ = writeln!(out, "{runs:<NAME$}{:>14}{:>14}{:>14}", "median", "min", "max");
        for Spread { figure, median, min, max } in &self.summary {
            let [median, min, max] = [median, min, max].map(|value| number(*value));
            let _ = writeln!(out, "{figure:<NAME$}{median:>14}{min:>14}{max:>14}");
        }
        self.latency_table(&mut out);
        for (run, warning) in self.warnings() {
            let _ = writeln!(out, "! run {run}: {warning}");
        }
        out
    }

    /// The daemon and the machine in a line.
    fn place(&self) -> String {
        let here = &self.environment;
        let daemon = match here.daemon_version.as_str() {
            "" => "a daemon without a version".to_owned(),
            version => format!("nsqd {version}"),
        };
        let cores = if here.cores == 1 { "core" } else { "cores" };
        format!("{daemon} at {}; {} {cores}, {}", self.address, here.cores, here.kernel)
    }

    fn latency_table(&self, out: &mut String) {
        if self.latency.is_empty() {
            return;
        }
        let closed = if self.loop_kind == "closed" { ", closed loop" } else { "" };
        let _ = write!(out, "\n{:<NAME$}", format!("µs, all runs{closed}"));
        for column in ["samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            let _ = write!(out, "{column:>11}");
        }
        out.push('\n');
        for LatencyDocument { timing, percentiles: at, .. } in &self.latency {
            let _ = write!(out, "{:<NAME$}{:>11}", timing.name(), at.samples);
            for figure in [at.p50_us, at.p90_us, at.p99_us, at.p99_9_us, at.p99_99_us] {
                let _ = write!(out, "{:>11}", figure.map_or("-".to_owned(), number));
            }
            let _ = writeln!(out, "{:>11}", number(at.max_us));
        }
    }
}

/// Four significant digits for small numbers, none after the point for large ones.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The same with narrow spaces between groups of three digits.
pub(crate) fn thousands(value: f64) -> String {
    let text = number(value);
    let whole = text.find('.').unwrap_or(text.len());
    let sign = usize::from(text.starts_with('-'));
    let mut out = String::new();
    for (index, letter) in text.char_indices() {
        if index > sign && index < whole && (whole - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_are_sure() {
        assert_eq!(number(123_456.7), "123457");
        assert_eq!(number(72.25), "72.2");
        assert_eq!(number(0.0712), "0.071");
        assert_eq!(thousands(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(thousands(-123.0), "-123.0");
        assert_eq!(thousands(0.5), "0.500");
    }
}
