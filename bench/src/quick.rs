//! `nsq_bench quick`: what this machine does with the daemon, in 15 seconds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::environment::Environment;
use crate::fresh::{self, Fresh};
use crate::histogram::{Percentiles, Timing};
use crate::html::Page;
use crate::report::{Document, SCHEMA_VERSION, number, thousands, write_json, write_text};

/// Messages the daemon may keep in memory: more than any step publishes.
const MEMORY_QUEUE_SIZE: u64 = 10_000_000;

/// `nsq_bench quick`.
#[derive(Args)]
pub(crate) struct QuickFlags {
    /// The daemon to start: else the `nsqd` beside this program, else the one in PATH.
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// More arguments for the daemon, split at spaces.
    #[arg(long, value_name = "ARGUMENTS", default_value = "", hide_default_value = true)]
    daemon_args: String,
    /// Write the report as a page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write all reports as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A scenario, what it shows, and how it is kept short.
struct Step {
    scenario: &'static str,
    shows: &'static str,
    load: &'static [&'static str],
}

const STEPS: [Step; 5] = [
    Step {
        scenario: "pub-64",
        shows: "64 clients, each publishes one message and waits for its OK",
        load: &["--duration", "2s", "--warm-up", "300ms"],
    },
    Step {
        scenario: "through",
        shows: "batches of 200 in, 2 consumers out at the same time",
        load: &["--duration", "2s", "--warm-up", "300ms"],
    },
    Step {
        scenario: "drain",
        shows: "a backlog of 300 000 is consumed, with a FIN for each message",
        load: &["--backlog", "300000"],
    },
    Step {
        scenario: "latency",
        shows: "5 000 messages/s in and out: how long a message takes under light load",
        load: &["--rate", "5000", "--duration", "3s", "--warm-up", "500ms"],
    },
    Step {
        scenario: "latency-quiet",
        shows: "100 messages/s on one connection: how long when nothing else happens",
        load: &["--rate", "100", "--duration", "2s", "--warm-up", "300ms"],
    },
];

/// All steps' reports, as `--json` writes them.
#[derive(Serialize)]
struct Reports<'a> {
    schema_version: u32,
    reports: &'a [Document],
}

/// Runs every step on a fresh daemon and shows what came of it.
pub(crate) fn quick(flags: &QuickFlags) -> Result<ExitCode> {
    let fresh = Fresh {
        program: find_daemon(flags)?,
        arguments: flags.daemon_args.clone(),
        memory_queue_size: MEMORY_QUEUE_SIZE,
        pinned: false,
    };
    let mut reports = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        if std::io::stderr().is_terminal() {
            let (number, of) = (index + 1, STEPS.len());
            // `\x1b[2K` clears what the step before left of its line.
            write!(
                std::io::stderr(),
                "\r\x1b[2K[{number}/{of}] {}: {}",
                step.scenario,
                step.shows
            )?;
        }
        let load: Vec<_> = step.load.iter().map(|&word| word.to_owned()).collect();
        reports.push(fresh.measure(step.scenario, &load)?);
    }
    if std::io::stderr().is_terminal() {
        write!(std::io::stderr(), "\r\x1b[2K")?;
    }
    write!(std::io::stdout(), "{}", table(&reports))?;
    if let Some(path) = &flags.json {
        write_json(path, &Reports { schema_version: SCHEMA_VERSION, reports: &reports })?;
    }
    if let Some(path) = &flags.html {
        write_text(path, &page(&reports))?;
        writeln!(std::io::stdout(), "\nThe plots are in {}", path.display())?;
    } else {
        writeln!(std::io::stdout(), "\nWith --html FILE the plots are in that file.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The daemon that was named, is beside this program, can be built beside it, or is in PATH.
fn find_daemon(flags: &QuickFlags) -> Result<PathBuf> {
    if let Some(path) = &flags.daemon {
        return fresh::program(path);
    }
    let own = std::env::current_exe().context("where is nsq_bench?")?;
    let beside = own.with_file_name("nsqd");
    if beside.is_file() || build_beside(&beside)? {
        return Ok(beside);
    }
    fresh::in_path("nsqd").with_context(|| {
        format!(
            "there is no nsqd at {} and none in PATH. Build it first:\n\n    cargo build{RELEASE}\
             \n\nor name one with --daemon PATH.",
            beside.display()
        )
    })
}

/// Under `cargo run` of this package alone the daemon may not be built yet: cargo builds it, where
/// it built this program. Returns whether it is there then.
fn build_beside(beside: &Path) -> Result<bool> {
    let manifest = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let target = beside.parent().and_then(Path::parent);
    let (Some(cargo), Some(target)) = (std::env::var_os("CARGO"), target) else {
        return Ok(false);
    };
    if !manifest.is_file() {
        return Ok(false);
    }
    let arguments = format!("build{RELEASE} --package ringmain --bin nsqd");
    writeln!(std::io::stderr(), "nsqd is not built yet: cargo {arguments}")?;
    let status = Command::new(cargo)
        .args(arguments.split_whitespace())
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .context("cannot run cargo to build nsqd")?;
    Ok(status.success() && beside.is_file())
}

/// The flag that builds what this program was built as.
const RELEASE: &str = if cfg!(debug_assertions) { "" } else { " --release" };

/// A line for each step.
fn table(reports: &[Document]) -> String {
    let mut out = String::new();
    if let Some(first) = reports.first() {
        let here = &first.environment;
        let _ = writeln!(
            out,
            "nsqd {} on {} × {}, Linux {}\n{}\n",
            here.daemon_version, here.cores, here.cpu, here.kernel, here.durability
        );
    }
    let _ = writeln!(
        out,
        "{:<15}{:>12}{:>14}{:>11}{:>11}{:>11}  latency",
        "", "messages/s", "CPU µs/msg", "p50 µs", "p99 µs", "max µs"
    );
    for report in reports {
        let figure =
            |name: &str| report.figure(name).map_or("-".to_owned(), |spread| number(spread.median));
        let (latency, name) = main_latency(report);
        let at = |value: fn(&Percentiles) -> Option<f64>| {
            latency.and_then(value).map_or("-".to_owned(), number)
        };
        let _ = writeln!(
            out,
            "{:<15}{:>12}{:>14}{:>11}{:>11}{:>11}  {name}",
            report.scenario,
            figure("messages/s"),
            figure("server CPU µs/message"),
            at(|at| at.p50_us),
            at(|at| at.p99_us),
            at(|at| Some(at.max_us)),
        );
    }
    out.push('\n');
    for step in STEPS {
        let _ = writeln!(out, "{:<15}{}", step.scenario, step.shows);
    }
    for (scenarios, warning) in warnings(reports) {
        let _ = writeln!(out, "! {}: {warning}", scenarios.join(", "));
    }
    out
}

/// The warnings, each once with the scenarios that have it; numbers in them may differ.
fn warnings(reports: &[Document]) -> Vec<(Vec<&str>, &str)> {
    let mut known: Vec<(Vec<&str>, &str)> = Vec::new();
    let words = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    for report in reports {
        for (_, warning) in report.warnings() {
            match known.iter_mut().find(|(_, other)| words(other) == words(warning)) {
                Some((scenarios, _)) => scenarios.push(&report.scenario),
                None => known.push((vec![&report.scenario], warning)),
            }
        }
    }
    known
}

/// The latency that users of such a load would feel, and what it is.
fn main_latency(report: &Document) -> (Option<&Percentiles>, &'static str) {
    let find = |timing| report.latency.iter().find(|one| one.timing == timing);
    let names = [
        (Timing::EndToEnd, "publish to delivery"),
        (Timing::Response, "publish to OK"),
        (Timing::Service, "send to OK"),
    ];
    let mut known = names.into_iter();
    let found = known.find_map(|(timing, name)| Some((&find(timing)?.percentiles, name)));
    found.map_or((None, ""), |(percentiles, name)| (Some(percentiles), name))
}

fn page(reports: &[Document]) -> String {
    let mut page = Page::new("nsq_bench quick");
    let seconds = "A short look at one daemon on this machine. Each scenario ran once, for a few \
                   seconds, on a daemon started for it.";
    page.text(seconds);
    let columns = ["", "messages/s", "CPU µs/message", "p50 µs", "p99 µs", "max µs", "latency of"];
    let rows: Vec<_> = reports
        .iter()
        .map(|report| {
            let figure = |name: &str| {
                report.figure(name).map_or("–".to_owned(), |spread| thousands(spread.median))
            };
            let (latency, name) = main_latency(report);
            let at = |value: fn(&Percentiles) -> Option<f64>| {
                latency.and_then(value).map_or("–".to_owned(), thousands)
            };
            vec![
                report.scenario.clone(),
                figure("messages/s"),
                figure("server CPU µs/message"),
                at(|at| at.p50_us),
                at(|at| at.p99_us),
                at(|at| Some(at.max_us)),
                name.to_owned(),
            ]
        })
        .collect();
    page.table(&columns, &rows);
    reports.iter().for_each(|report| page.scenario(report));
    // The daemon and the machine are the same; the command to show is this one's.
    if let Some(first) = reports.first() {
        let command = std::env::args().collect();
        page.environment(&Environment { command, ..first.environment.clone() });
    }
    page.finish()
}
