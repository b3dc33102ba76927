//! Two reports side by side: the ratio of every figure both have, and whether one is worse.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::figures::{Spread, spread};
use crate::histogram::Timing;
use crate::report::{Document, number, write_json};

/// A ratio nearer to 1 than this is called neither better nor worse.
const NOTABLE: f64 = 0.01;

/// `nsq_bench compare`.
#[derive(Args)]
pub(crate) struct CompareFlags {
    /// The report that the other is measured by, as `--json` wrote it.
    #[arg(value_name = "A.json")]
    base: PathBuf,
    /// The report to judge.
    #[arg(value_name = "B.json")]
    new: PathBuf,
    /// End with status 1 when throughput, CPU per message, or a median or 99th percentile of B is
    /// worse than A's by more than this many per cent.
    #[arg(long, value_parser = parse_percent, value_name = "PERCENT")]
    threshold: Option<f64>,
    /// Write the ratios as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is better in a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    More,
    /// It only explains the others.
    Neither,
}

/// One figure of two reports. Ratios are of the second to the first.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) scenario: String,
    pub(crate) figure: String,
    pub(crate) base: Spread,
    pub(crate) new: Spread,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Runs of the side that has fewer.
    pub(crate) runs: usize,
}

/// Prints the ratios; the exit code says whether the threshold was passed.
pub(crate) fn compare(flags: &CompareFlags) -> Result<ExitCode> {
    let (base, new) = (Document::read_all(&flags.base)?, Document::read_all(&flags.new)?);
    let mut ratios = Vec::new();
    let mut text = String::new();
    for base in &base {
        let Some(new) = new.iter().find(|new| new.scenario == base.scenario) else { continue };
        let these = ratios_of(base, new);
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "A  {}\nB  {}", base.description, new.description);
        if base.parameters != new.parameters {
            text.push_str("! A and B were not given the same load\n");
        }
        if base.environment.cpu != new.environment.cpu {
            text.push_str("! A and B were measured on different machines\n");
        }
        text.push_str(&table(["A", "B", "B/A"], &these));
        ratios.extend(these);
    }
    ensure!(!ratios.is_empty(), "the two reports have no scenario with figures in common");
    let worse = flags.threshold.map_or(Vec::new(), |limit| worse_by(&ratios, limit));
    for (ratio, by) in &worse {
        let _ = writeln!(
            text,
            "! {}: {} is {:.1} % worse{}",
            ratio.scenario,
            ratio.figure.trim_start(),
            by * 100.0,
            if ratio.min <= 1.0 && ratio.max >= 1.0 {
                ", within the spread of the runs"
            } else {
                ""
            }
        );
    }
    write!(std::io::stdout(), "{text}")?;
    if let Some(path) = &flags.json {
        write_json(path, &ratios)?;
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The ratio of each figure that both reports have. The runs of two reports have nothing to do
/// with each other, so any may have met any: the bounds are those of the extremes.
fn ratios_of(base: &Document, new: &Document) -> Vec<Ratio> {
    let all = figures(new);
    let pair = |base_figure: Spread| {
        let new_figure = all.iter().find(|one| one.figure == base_figure.figure)?.clone();
        (base_figure.min > 0.0).then(|| Ratio {
            scenario: base.scenario.clone(),
            figure: base_figure.figure.clone(),
            median: new_figure.median / base_figure.median,
            min: new_figure.min / base_figure.max,
            max: new_figure.max / base_figure.min,
            base: base_figure,
            new: new_figure,
            runs: base.runs.len().min(new.runs.len()),
        })
    };
    figures(base).into_iter().filter_map(pair).collect()
}

/// The spread of everything measured: the main figures, then every percentile of each timing.
pub(crate) fn figures(report: &Document) -> Vec<Spread> {
    let is_latency = |figure: &str| {
        let first = figure.split(' ').next();
        Timing::ALL.iter().any(|timing| first == Some(timing.name()))
    };
    let main = report.summary.iter().filter(|spread| !is_latency(&spread.figure));
    let mut figures: Vec<Spread> = main.cloned().collect();
    let Some(first) = report.runs.first() else { return figures };
    for timing in Timing::ALL.map(Timing::name) {
        for (key, name) in percentile_keys(&first.figures, timing) {
            let values = report.runs.iter().map(|run| of_run(&run.figures, timing, &key));
            let values = values.collect::<Option<Vec<_>>>();
            let figure = format!("{timing} {name} µs");
            figures.extend(values.and_then(|values| spread(&figure, values)));
        }
    }
    figures
}

/// The percentiles that a run has of `timing`, in order: `p99_9_us` and `p99.9`; `max` at the end.
fn percentile_keys(figures: &Map<String, Value>, timing: &str) -> Vec<(String, String)> {
    let latency = figures.get("latency").and_then(|all| all.get(timing)?.as_object());
    let names = latency.into_iter().flat_map(Map::keys).filter_map(|key| {
        let name = key.strip_suffix("_us")?.replace('_', ".");
        let rank = match name.strip_prefix('p') {
            Some(percentile) => percentile.parse().ok()?,
            None if name == "max" => 100.0,
            None => return None,
        };
        Some((rank, key.clone(), name))
    });
    let mut names: Vec<(f64, String, String)> = names.collect();
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    names.into_iter().map(|(_, key, name)| (key, name)).collect()
}

fn of_run(figures: &Map<String, Value>, timing: &str, key: &str) -> Option<f64> {
    figures.get("latency")?.get(timing)?.get(key)?.as_f64()
}

/// The ratios as a table with these names for the two sides and for one over the other.
pub(crate) fn table(names: [&str; 3], ratios: &[Ratio]) -> String {
    let [base, new, over] = names;
    let mut out = format!("{:<28}{base:>12}{new:>12}{over:>12}{:>16}\n", "", "min to max");
    for ratio in ratios {
        let bounds = format!("{:.3}–{:.3}", ratio.min, ratio.max);
        let _ = writeln!(
            out,
            "{:<28}{:>12}{:>12}{:>12.3}{bounds:>16}  {}",
            ratio.figure,
            number(ratio.base.median),
            number(ratio.new.median),
            ratio.median,
            verdict(ratio)
        );
    }
    out
}

/// What the spread allows to say: `~` for nothing, and no word where one run has no spread.
pub(crate) fn verdict(ratio: &Ratio) -> &'static str {
    let apart = ratio.min > 1.0 || ratio.max < 1.0;
    let sure = apart && (ratio.median - 1.0).abs() >= NOTABLE;
    match better(&ratio.figure) {
        Better::Neither => "",
        _ if ratio.runs < 2 => "",
        _ if !sure => "~",
        Better::Less if ratio.median < 1.0 => "better",
        Better::More if ratio.median > 1.0 => "better",
        _ => "worse",
    }
}

fn better(figure: &str) -> Better {
    // The figures of a phase before the measured one have its name in front.
    match figure.strip_prefix("fill: ").unwrap_or(figure) {
        "messages/s" => Better::More,
        "server cores busy" | "generator core busy" | "server context switches/s" => {
            Better::Neither
        }
        // The generator's own delay.
        figure if figure.starts_with(Timing::SendDelay.name()) => Better::Neither,
        _ => Better::Less,
    }
}

/// Whether the threshold applies: the extremes of a distribution vary too much from run to run.
pub(crate) fn is_judged(figure: &str) -> bool {
    let main = ["messages/s", "server CPU µs/message"].contains(&figure)
        || figure.ends_with(" p50 µs")
        || figure.ends_with(" p99 µs");
    main && better(figure) != Better::Neither
}

/// What is worse by more than `limit`, and by how much; both are shares of the base.
fn worse_by(ratios: &[Ratio], limit: f64) -> Vec<(&Ratio, f64)> {
    let by = |ratio: &Ratio| match better(&ratio.figure) {
        Better::Less => ratio.median - 1.0,
        Better::More => 1.0 - ratio.median,
        Better::Neither => 0.0,
    };
    let judged = ratios.iter().filter(|ratio| is_judged(&ratio.figure));
    judged.map(|ratio| (ratio, by(ratio))).filter(|(_, by)| *by > limit).collect()
}

/// `5` and `5%` as 0.05.
fn parse_percent(text: &str) -> Result<f64> {
    let number: f64 = text.trim_end_matches('%').trim().parse().context("not a percentage")?;
    ensure!(number >= 0.0, "it must not be negative");
    Ok(number / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(figure: &str, base: [f64; 3], new: [f64; 3]) -> Ratio {
        let spread = |values: [f64; 3]| spread(figure, values.to_vec()).unwrap();
        let (base, new) = (spread(base), spread(new));
        Ratio {
            scenario: "pub".to_owned(),
            figure: figure.to_owned(),
            median: new.median / base.median,
            min: new.min / base.max,
            max: new.max / base.min,
            base,
            new,
            runs: 3,
        }
    }

    #[test]
    fn worse_is_less_of_a_rate_and_more_of_a_time() {
        let ratios = [
            ratio("messages/s", [100.0, 110.0, 90.0], [80.0, 81.0, 79.0]),
            ratio("server CPU µs/message", [1.0; 3], [1.04; 3]),
            ratio("service p99 µs", [10.0; 3], [12.0; 3]),
            ratio("service max µs", [10.0; 3], [90.0; 3]),
            ratio("generator core busy", [0.1; 3], [0.9; 3]),
        ];
        let worse = |limit| -> Vec<String> {
            let found = worse_by(&ratios, limit).into_iter();
            found.map(|(ratio, by)| format!("{} {:.0}", ratio.figure, by * 100.0)).collect()
        };
        assert_eq!(worse(0.05), ["messages/s 20", "service p99 µs 20"]);
        assert_eq!(worse(0.03).len(), 3);
        assert!(worse(0.21).is_empty());
        let verdicts: Vec<_> = ratios.iter().map(verdict).collect();
        assert_eq!(verdicts, ["worse", "worse", "worse", "worse", ""]);
        assert_eq!(verdict(&ratio("messages/s", [90.0, 100.0, 110.0], [95.0; 3])), "~");
        assert_eq!(verdict(&ratio("fill: messages/s", [10.0; 3], [30.0; 3])), "better");
    }

    #[test]
    fn percentiles_come_in_order_with_the_longest_at_the_end() {
        let run = serde_json::json!({"latency": {"service": {
            "samples": 9, "mean_us": 1, "max_us": 2, "p99_9_us": 3, "p50_us": 4, "p99_us": 5}}});
        let keys = percentile_keys(run.as_object().unwrap(), "service");
        let names: Vec<_> = keys.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["p50", "p99", "p99.9", "max"]);
        assert!(percentile_keys(run.as_object().unwrap(), "response").is_empty());
    }

    #[test]
    fn percentages_are_read_with_and_without_the_sign() {
        assert!((parse_percent("5%").unwrap() - 0.05).abs() < 1e-12);
        assert!((parse_percent("12.5").unwrap() - 0.125).abs() < 1e-12);
        assert!(parse_percent("-1").is_err() && parse_percent("few").is_err());
    }
}
