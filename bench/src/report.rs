//! What the user gets: a table on the terminal, and the same with all parameters as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figures::{RunFigures, Spread, spreads};
use crate::histogram::{Percentiles, Timings};
use crate::process::Machine;
use crate::scenario::{Kind, Plan};

/// Raised whenever a field of the JSON report changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// A finished measurement.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    schema_version: u32,
    tool: &'static str,
    command: Vec<String>,
    scenario: &'static str,
    address: &'a str,
    parameters: &'a Plan,
    machine: Machine,
    /// Its command line, when its process is known.
    daemon: Option<String>,
    /// What the server's CPU time was read from.
    server_cpu_source: &'static str,
    /// In closed loops, latencies are service times and tell nothing about users' waiting.
    loop_kind: &'static str,
    spin: bool,
    runs: Vec<RunFigures>,
    summary: Vec<Spread>,
    /// Of all runs together.
    latency: Vec<MergedLatency>,
}

#[derive(Serialize)]
struct MergedLatency {
    timing: &'static str,
    #[serde(flatten)]
    percentiles: Percentiles,
}

impl<'a> Report<'a> {
    /// The report of `runs`, whose histograms are merged in `timings`.
    pub(crate) fn new(
        plan: &'a Plan,
        address: &'a str,
        daemon: Option<String>,
        spin: bool,
        runs: Vec<RunFigures>,
        timings: &Timings,
    ) -> Self {
        let merged = timings.percentiles().into_iter();
        Self {
            schema_version: SCHEMA_VERSION,
            tool: concat!("nsq_bench ", env!("CARGO_PKG_VERSION")),
            command: std::env::args().collect(),
            scenario: plan.name,
            address,
            parameters: plan,
            machine: Machine::here(),
            daemon,
            server_cpu_source: "/proc/PID/task/*/schedstat, split by utime and stime",
            loop_kind: if plan.kind == Kind::Latency { "open" } else { "closed" },
            spin,
            summary: spreads(&runs),
            runs,
            latency: merged
                .map(|(timing, percentiles)| MergedLatency { timing: timing.name(), percentiles })
                .collect(),
        }
    }

    /// Writes the report to `path`.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The report for a terminal.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{}\n", self.parameters.describe());
        let columns = ["", "median", "min", "max"];
        let _ = writeln!(
            out,
            "{:<28}{:>14}{:>14}{:>14}",
            columns[0], columns[1], columns[2], columns[3]
        );
        for Spread { figure, median, min, max } in &self.summary {
            let [median, min, max] = [median, min, max].map(|value| number(*value));
            let _ = writeln!(out, "{figure:<28}{median:>14}{min:>14}{max:>14}");
        }
        self.latency_table(&mut out);
        for (index, run) in self.runs.iter().enumerate() {
            for warning in &run.warnings {
                let _ = writeln!(out, "! run {}: {warning}", index + 1);
            }
        }
        out
    }

    fn latency_table(&self, out: &mut String) {
        if self.latency.is_empty() {
            return;
        }
        let closed = if self.loop_kind == "closed" { ", closed loop" } else { "" };
        let _ = write!(out, "{:<28}", format!("µs, all runs{closed}"));
        for column in ["samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            let _ = write!(out, "{column:>11}");
        }
        out.push('\n');
        for MergedLatency { timing, percentiles: at } in &self.latency {
            let _ = write!(out, "{timing:<28}{:>11}", at.samples);
            for figure in [at.p50_us, at.p90_us, at.p99_us, at.p99_9_us, at.p99_99_us] {
                let _ = write!(out, "{:>11}", figure.map_or("-".to_owned(), number));
            }
            let _ = writeln!(out, "{:>11}", number(at.max_us));
        }
    }
}

/// Four significant digits for small numbers, none after the point for large ones.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_are_sure() {
        assert_eq!(number(123_456.7), "123457");
        assert_eq!(number(72.25), "72.2");
        assert_eq!(number(0.0712), "0.071");
    }
}
