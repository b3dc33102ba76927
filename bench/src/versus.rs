//! `nsq_bench versus`: two daemons in turn, so that what the machine does otherwise meets both.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, CommandFactory as _};
use serde::Serialize;

use crate::compare::{Ratio, figures, is_judged, table, verdict};
use crate::environment::Environment;
use crate::figures::{Spread, spread};
use crate::flags::{Flags, parse_duration};
use crate::fresh::{self, Fresh};
use crate::html::Page;
use crate::report::{Document, SCHEMA_VERSION, thousands, write_json, write_text};

/// Sub-commands that are no scenarios.
const NO_SCENARIOS: [&str; 4] = ["compare", "versus", "quick", "help"];

/// `nsq_bench versus`.
#[derive(Args)]
pub(crate) struct VersusFlags {
    /// The daemon to judge.
    #[arg(long, value_name = "PATH")]
    ours: PathBuf,
    /// The daemon it is measured by.
    #[arg(long, value_name = "PATH")]
    other: PathBuf,
    /// More arguments for each, split at spaces.
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    ours_args: String,
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    other_args: String,
    /// What is run, in this order.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pub-1,pub-64,pub-64x16,mpub,drain,through,latency,latency-quiet"
    )]
    scenarios: Vec<String>,
    /// Runs of each daemon in each scenario.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Length of a run; each scenario's own if not given.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// More flags of the scenarios, split at spaces.
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    load_args: String,
    /// What both daemons are told to keep in memory, in messages for each topic and channel.
    #[arg(long, default_value_t = 10_000_000)]
    mem_queue_size: u64,
    /// Leave daemons and generator on all cores. Else `taskset` keeps the daemon on core 0 and the
    /// generator stays on core 1, where there are two.
    #[arg(long)]
    no_pin: bool,
    /// Write everything as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A whole comparison.
#[derive(Serialize)]
struct Versus {
    schema_version: u32,
    ours: String,
    other: String,
    pinned: bool,
    scenarios: Vec<Duel>,
}

/// One scenario; the runs of both are in the order they were made, ours first.
#[derive(Serialize)]
struct Duel {
    scenario: String,
    description: String,
    /// Of ours to the other, over pairs of runs that were made one after the other.
    ratios: Vec<Ratio>,
    ours: Vec<Document>,
    other: Vec<Document>,
}

/// Runs all scenarios on both daemons and shows the ratios.
pub(crate) fn versus(flags: &VersusFlags) -> Result<ExitCode> {
    ensure!(flags.runs > 0, "--runs must be at least 1");
    let command = Flags::command();
    for scenario in &flags.scenarios {
        let known = command.find_subcommand(scenario).is_some();
        ensure!(
            known && !NO_SCENARIOS.contains(&scenario.as_str()),
            "there is no scenario {scenario:?}: see nsq_bench --help"
        );
    }
    let pinned = !flags.no_pin && fresh::can_pin();
    let fresh = |program: &PathBuf, arguments: &String| -> Result<Fresh> {
        Ok(Fresh {
            program: fresh::program(program)?,
            arguments: arguments.clone(),
            memory_queue_size: flags.mem_queue_size,
            pinned,
        })
    };
    let ours = fresh(&flags.ours, &flags.ours_args)?;
    let other = fresh(&flags.other, &flags.other_args)?;
    let mut scenarios = Vec::new();
    for scenario in &flags.scenarios {
        let duel = fight(flags, scenario, &ours, &other)?;
        write!(std::io::stdout(), "{}", duel.table())?;
        std::io::stdout().flush()?;
        scenarios.push(duel);
    }
    let name = |daemon: &Fresh| format!("{} {}", daemon.program.display(), daemon.arguments);
    let all = Versus {
        schema_version: SCHEMA_VERSION,
        ours: name(&ours).trim_end().to_owned(),
        other: name(&other).trim_end().to_owned(),
        pinned,
        scenarios,
    };
    if let Some(path) = &flags.json {
        write_json(path, &all)?;
    }
    if let Some(path) = &flags.html {
        write_text(path, &all.page())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One scenario: ours, the other, ours, the other …
fn fight(flags: &VersusFlags, scenario: &str, ours: &Fresh, other: &Fresh) -> Result<Duel> {
    let mut load: Vec<String> = flags.load_args.split_whitespace().map(str::to_owned).collect();
    if let Some(duration) = flags.duration {
        load.extend(["--duration".to_owned(), format!("{}ms", duration.as_millis())]);
    }
    let (mut of_ours, mut of_other) = (Vec::new(), Vec::new());
    for run in 0..flags.runs {
        let sides = [("ours", ours, &mut of_ours), ("other", other, &mut of_other)];
        for (side, daemon, reports) in sides {
            if std::io::stderr().is_terminal() {
                let (number, of) = (run + 1, flags.runs);
                write!(std::io::stderr(), "\r\x1b[2K{scenario} {number}/{of}: {side}")?;
            }
            reports.push(daemon.measure(scenario, &load)?);
        }
    }
    if std::io::stderr().is_terminal() {
        write!(std::io::stderr(), "\r\x1b[2K")?;
    }
    Ok(Duel {
        scenario: scenario.to_owned(),
        description: of_ours.first().map_or(String::new(), |first| first.description.clone()),
        ratios: ratios(scenario, &of_ours, &of_other),
        ours: of_ours,
        other: of_other,
    })
}

/// The ratios of ours to the other, pair by pair.
fn ratios(scenario: &str, ours: &[Document], other: &[Document]) -> Vec<Ratio> {
    let of = |reports: &[Document]| reports.iter().map(figures).collect::<Vec<_>>();
    let (ours, other) = (of(ours), of(other));
    let values = |reports: &[Vec<Spread>], figure: &str| -> Option<Vec<f64>> {
        let find = |report: &Vec<Spread>| {
            report.iter().find(|one| one.figure == figure).map(|one| one.median)
        };
        reports.iter().map(find).collect()
    };
    let ratio = |figure: &str| {
        let (ours, other) = (values(&ours, figure)?, values(&other, figure)?);
        let runs = ours.len();
        let positive = other.iter().all(|value| *value > 0.0);
        let pairs = ours.iter().zip(&other).map(|(ours, other)| ours / other).collect();
        let pairs = positive.then(|| spread(figure, pairs))??;
        Some(Ratio {
            scenario: scenario.to_owned(),
            figure: figure.to_owned(),
            base: spread(figure, other)?,
            new: spread(figure, ours)?,
            median: pairs.median,
            min: pairs.min,
            max: pairs.max,
            runs,
        })
    };
    let first = ours.first().into_iter().flatten();
    first.filter_map(|one| ratio(&one.figure)).collect()
}

impl Duel {
    fn table(&self) -> String {
        let names = ["other", "ours", "ours/other"];
        let mut out = format!("{}\n{}", self.description, table(names, &self.ratios));
        for (side, reports) in [("ours", &self.ours), ("other", &self.other)] {
            for (run, report) in reports.iter().enumerate() {
                for (_, warning) in report.warnings() {
                    let _ = writeln!(out, "! {side}, run {}: {warning}", run + 1);
                }
            }
        }
        out.push('\n');
        out
    }
}

impl Versus {
    fn page(&self) -> String {
        let mut page = Page::new("nsq_bench versus");
        page.text(&format!("Ours: {}", self.ours));
        page.text(&format!("Other: {}", self.other));
        let cores = match self.pinned {
            true => "Each daemon ran on one core, the generator on another.",
            false => "Daemon and generator shared all cores.",
        };
        page.text(&format!(
            "{cores} Every run had a daemon of its own; ours and the other took turns. A ratio is \
             ours to the other, the median of the pairs with the least and the most: for CPU and \
             latency less than 1 is better, for messages/s more."
        ));
        let columns = ["", "other", "ours", "ours/other", "least", "most", "verdict"];
        let main: Vec<_> = self
            .scenarios
            .iter()
            .flat_map(|duel| duel.ratios.iter().filter(|ratio| is_judged(&ratio.figure)))
            .map(row)
            .collect();
        page.table(&columns, &main);
        for duel in &self.scenarios {
            let rows: Vec<_> = duel.ratios.iter().map(row).collect();
            page.duel(&duel.description, &duel.ours, &duel.other, (&columns, &rows));
        }
        if let Some(first) = self.scenarios.first().and_then(|duel| duel.ours.first()) {
            let command = std::env::args().collect();
            page.environment(&Environment { command, ..first.environment.clone() });
        }
        page.finish()
    }
}

fn row(ratio: &Ratio) -> Vec<String> {
    let three = |value: f64| format!("{value:.3}");
    vec![
        format!("{} · {}", ratio.scenario, ratio.figure.trim_start()),
        thousands(ratio.base.median),
        thousands(ratio.new.median),
        three(ratio.median),
        three(ratio.min),
        three(ratio.max),
        verdict(ratio).to_owned(),
    ]
}
