//! What the user gets: a table on the terminal, and on request the same with everything behind it
//! as files. `document` is the report itself; the other parts are forms of it.

mod csv;
mod document;
mod hgrm;
mod hlog;
mod live;
mod table;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

pub(crate) use self::document::{Document, LatencyDocument, SCHEMA_VERSION};
pub(crate) use self::live::LiveLine;
pub(crate) use self::table::{number, thousands};

use crate::clock::{now_ns, unix_time_s};
use crate::environment::Environment;
use crate::figures::RunFigures;
use crate::flags::LoadFlags;
use crate::histogram::{Timing, Timings};
use crate::html::Page;
use crate::scenario::Plan;
use crate::sweep::Sweep;
use crate::timeline::Timeline;

/// The files a report can be written to.
#[derive(Args, Clone, Default)]
pub(crate) struct OutputFlags {
    /// Write the whole report as JSON to this file: what `compare` reads.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as a page with plots to this file; it needs no other file and no network.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the timeline to this file, a line for each second (or quarter of one, in short runs).
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write percentile tables of HdrHistogram, in milliseconds; `x.hgrm` becomes
    /// `x.service.hgrm` and so on, one for each timing.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write the histograms of the timeline as an HdrHistogram log to this file, tagged with what
    /// they time.
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// A remark that goes into the report.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) remark: String,
}

/// One run, measured.
pub(crate) struct MeasuredRun {
    pub(crate) figures: RunFigures,
    pub(crate) timings: Timings,
    pub(crate) timeline: Timeline,
}

/// A finished measurement.
pub(crate) struct Report {
    document: Document,
    /// Of all runs together.
    timings: Timings,
    timelines: Vec<Timeline>,
}

impl Report {
    /// The report of `runs`.
    pub(crate) fn new(
        plan: &Plan,
        flags: &LoadFlags,
        environment: Environment,
        sweep: Option<Sweep>,
        runs: Vec<MeasuredRun>,
    ) -> Result<Self> {
        let mut timings = Timings::new();
        runs.iter().for_each(|run| timings.merge(&run.timings));
        let mut document = Document::new(plan, flags, environment, &runs, &timings)?;
        document.sweep = sweep;
        let timelines = runs.into_iter().map(|run| run.timeline).collect();
        Ok(Self { document, timings, timelines })
    }

    /// Prints the table and writes the files asked for.
    pub(crate) fn deliver(&self, outputs: &OutputFlags) -> Result<()> {
        if let Some(sweep) = &self.document.sweep {
            write!(std::io::stdout(), "{}", sweep.table())?;
        }
        write!(std::io::stdout(), "{}", self.document.table())?;
        if let Some(path) = &outputs.json {
            write_json(path, &self.document)?;
        }
        if let Some(path) = &outputs.csv {
            write_text(path, &csv::timeline(&self.timelines))?;
        }
        if let Some(path) = &outputs.hgrm {
            for (timing, latencies) in self.timings.iter() {
                if !latencies.histogram().is_empty() {
                    write_text(&tagged(path, timing), &hgrm::percentiles(latencies.histogram()))?;
                }
            }
        }
        if let Some(path) = &outputs.hlog {
            let file = File::create(path).with_context(|| cannot_write(path))?;
            let epoch_s = unix_time_s() - seconds(now_ns());
            hlog::write(BufWriter::new(file), epoch_s, &self.document.scenario, &self.timelines)
                .with_context(|| cannot_write(path))?;
        }
        if let Some(path) = &outputs.html {
            let mut page = Page::new(&format!("nsq_bench {}", self.document.scenario));
            page.scenario(&self.document);
            page.environment(&self.document.environment);
            write_text(path, &page.finish())?;
        }
        Ok(())
    }
}

/// Writes `report` as JSON to `path`.
pub(crate) fn write_json(path: &Path, report: &impl serde::Serialize) -> Result<()> {
    write_text(path, &(serde_json::to_string_pretty(report)? + "\n"))
}

/// Writes a file, or says which could not be.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// `x.hgrm` as `x.service.hgrm`.
fn tagged(path: &Path, timing: Timing) -> PathBuf {
    let extension = path.extension().map_or("hgrm".into(), |own| own.to_string_lossy());
    path.with_extension(format!("{}.{extension}", timing.name()))
}

#[expect(clippy::cast_precision_loss, reason = "an uptime in nanoseconds is below 2^53 for months")]
fn seconds(duration_ns: u64) -> f64 {
    duration_ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timing_has_a_file_of_its_own() {
        let of = |path: &str| tagged(Path::new(path), Timing::SendDelay);
        assert_eq!(of("a/x.hgrm"), Path::new("a/x.send_delay.hgrm"));
        assert_eq!(of("x"), Path::new("x.send_delay.hgrm"));
    }
}
