//! The report as it is written to JSON and read back: everything that tables, pages and
//! comparisons show, without the histograms of single seconds.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::environment::Environment;
use crate::figures::{Spread, spreads};
use crate::flags::LoadFlags;
use crate::histogram::{Percentiles, Timing, Timings};
use crate::report::MeasuredRun;
use crate::scenario::Plan;
use crate::sweep::Sweep;
use crate::timeline::Interval;

/// Raised whenever a field of the JSON report changes its meaning or goes away.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// Points of a curve between two halvings of what is beyond them.
const CURVE_STEPS: u32 = 5;

/// A finished measurement of one scenario. `docs/BENCHMARKING.md` describes the fields.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    pub(crate) scenario: String,
    /// What was done, in a line.
    pub(crate) description: String,
    pub(crate) address: String,
    /// `open` or `closed`. In closed loops, latencies are service times and tell nothing about
    /// users' waiting.
    pub(crate) loop_kind: String,
    pub(crate) spin: bool,
    pub(crate) remark: String,
    pub(crate) environment: Environment,
    pub(crate) parameters: Value,
    /// What the server's CPU time was read from.
    pub(crate) server_cpu_source: String,
    pub(crate) runs: Vec<RunDocument>,
    /// The main figures over all runs.
    pub(crate) summary: Vec<Spread>,
    /// Of all runs together.
    pub(crate) latency: Vec<LatencyDocument>,
    /// The rates that were tried to find the one that is reported.
    #[serde(default)]
    pub(crate) sweep: Option<Sweep>,
}

/// One run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RunDocument {
    /// The fields of `RunFigures`.
    #[serde(flatten)]
    pub(crate) figures: Map<String, Value>,
    pub(crate) timeline: Vec<Interval>,
}

/// One distribution, of all runs together.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LatencyDocument {
    pub(crate) timing: Timing,
    #[serde(flatten)]
    pub(crate) percentiles: Percentiles,
    /// Pairs of a quantile and its microseconds.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Document {
    /// The document of `runs`, whose histograms are merged in `timings`.
    pub(crate) fn new(
        plan: &Plan,
        flags: &LoadFlags,
        environment: Environment,
        runs: &[MeasuredRun],
        timings: &Timings,
    ) -> Result<Self> {
        let figures: Vec<_> = runs.iter().map(|run| run.figures.clone()).collect();
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            scenario: plan.name.to_owned(),
            description: plan.describe(),
            address: flags.address.clone(),
            loop_kind: if plan.is_open_loop() { "open" } else { "closed" }.to_owned(),
            spin: flags.spin,
            remark: flags.outputs.remark.clone(),
            environment,
            parameters: json!(plan),
            server_cpu_source: "/proc/PID/task/*/schedstat, split by utime and stime".to_owned(),
            runs: runs.iter().map(RunDocument::new).collect::<Result<_>>()?,
            summary: spreads(&figures),
            latency: timings
                .percentiles()
                .into_iter()
                .map(|(timing, percentiles)| LatencyDocument {
                    timing,
                    percentiles,
                    curve: curve(timings.of(timing).histogram()),
                })
                .collect(),
            sweep: None,
        })
    }

    /// Reads the reports that `--json` wrote: one of a scenario, several of `quick`.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut found: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        let version = found["schema_version"].as_u64();
        ensure!(
            version == Some(u64::from(SCHEMA_VERSION)),
            "{} has schema version {}, this nsq_bench reads {SCHEMA_VERSION}",
            path.display(),
            version.map_or("none".to_owned(), |version| version.to_string()),
        );
        let reports = match found["reports"].take() {
            Value::Array(reports) => reports,
            _ => vec![found],
        };
        let read = |report| {
            serde_json::from_value(report)
                .with_context(|| format!("{} has no report of a scenario", path.display()))
        };
        reports.into_iter().map(read).collect()
    }

    /// The reasons why the figures may not be what they seem, with the number of the run.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.runs.iter().enumerate().flat_map(|(index, run)| {
            let texts = run.figures.get("warnings").and_then(Value::as_array);
            texts.into_iter().flatten().filter_map(move |text| Some((index + 1, text.as_str()?)))
        })
    }

    /// Whether a run was not the load that it names.
    pub(crate) fn is_invalid(&self) -> bool {
        let reasons = |run: &RunDocument| run.figures.get("invalid")?.as_array().map(Vec::len);
        self.runs.iter().any(|run| reasons(run).is_some_and(|reasons| reasons > 0))
    }

    /// The spread of a main figure.
    pub(crate) fn figure(&self, name: &str) -> Option<&Spread> {
        self.summary.iter().find(|spread| spread.figure == name)
    }
}

impl RunDocument {
    fn new(run: &MeasuredRun) -> Result<Self> {
        let figures = match serde_json::to_value(&run.figures)? {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Ok(Self { figures, timeline: run.timeline.intervals.clone() })
    }
}

/// The shape of a distribution in as few points as a plot needs.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = histogram.iter_quantiles(CURVE_STEPS);
    steps
        .map(|step| (step.quantile_iterated_to(), microseconds(step.value_iterated_to())))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds is far below 2^53")]
fn microseconds(duration_ns: u64) -> f64 {
    duration_ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_the_median_to_the_longest() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=10_000u64).for_each(|number| histogram.record(number * 1000).unwrap());
        let curve = curve(&histogram);
        assert!(curve.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{curve:?}");
        let median = curve.iter().find(|(quantile, _)| *quantile >= 0.5).unwrap();
        assert!((median.1 - 5000.0).abs() < 10.0);
        let last = curve.last().unwrap();
        assert!((last.1 - 10_000.0).abs() < 10.0 && (20..200).contains(&curve.len()));
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            format!("{:#}", Document::read_all(file.path()).err().unwrap())
        };
        assert!(error("x").contains("is not JSON"));
        assert!(error(r#"{"schema_version": 99}"#).contains("has schema version 99"));
        assert!(error("{}").contains("schema version none"));
        assert!(error(r#"{"schema_version": 1}"#).contains("no report of a scenario"));
    }
}
