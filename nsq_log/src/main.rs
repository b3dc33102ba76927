//! `nsq_log`: looks into the logs of a stopped nsqd, and imports the queues of another one.
//!
//! `executors` spreads the work over the cores; `files` and `window` read, directly where they may.
//! `logs` finds a log as the daemon's next start would, with `overlay` in the place of the disk, so
//! that nothing is changed; `walk` goes through its records for `verify` and `dump`.

mod dump;
mod executors;
mod files;
mod flags;
mod import;
mod logs;
mod overlay;
mod progress;
mod stat;
mod verify;
mod walk;
mod window;

use crate::dump::Choice;
use crate::executors::Executors;
use crate::flags::{Command, DumpFlags, Flags, LogFlags, StatFlags};
use crate::logs::{FoundLog, Lock, LogDirectory};
use crate::progress::Progress;
use anyhow::{Result, ensure};
use clap::Parser as _;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// The exit code when all was done and something is damaged.
const DAMAGED: u8 = 3;

/// How much output is gathered before it is written.
const OUTPUT_BYTES: usize = 1 << 18;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let executors = flags.executors();
    let done = match &flags.command {
        Command::Verify(flags) => verify(flags, executors),
        Command::Stat(flags) => stat(flags),
        Command::Dump(flags) => dump(flags, executors),
        Command::Import(flags) => import::run(&flags.source, flags.into.as_deref(), executors),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DAMAGED),
        // Whoever reads has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "nsq_log: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_error = error.root_cause().downcast_ref::<io::Error>();
    io_error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The logs asked for, and the lock that keeps them as they are.
fn open(flags: &LogFlags) -> Result<(Option<Lock>, Vec<LogDirectory>)> {
    let directory = logs::data_path(&flags.path);
    let lock = Lock::take(&directory)?;
    let path = directory.display();
    ensure!(
        lock.is_some() || flags.live,
        "{path} is in use by a running nsqd: stop it first, or use --live to look all the same"
    );
    Ok((lock, logs::find(&flags.path, &flags.topics)?))
}

fn verify(flags: &LogFlags, executors: Executors) -> Result<bool> {
    let (_lock, logs) = open(flags)?;
    let verdicts = verify::inspect(logs, executors)?;
    Ok(verify::report(&verdicts, &mut io::stdout().lock())?)
}

fn stat(flags: &StatFlags) -> Result<bool> {
    let (_lock, logs) = open(&flags.logs)?;
    let mut figures = Vec::new();
    let mut is_clean = true;
    for log in logs {
        let log = FoundLog::open(log)?;
        is_clean &= log.report.is_clean();
        figures.push(stat::TopicFigures::of(&log));
    }
    let out = &mut io::stdout().lock();
    if flags.json {
        stat::write_json(&figures, out)?
    } else {
        stat::write_text(&figures, out)?
    }
    if !is_clean {
        writeln!(io::stderr(), "nsq_log: something is damaged: `nsq_log verify` says what")?;
    }
    Ok(is_clean)
}

fn dump(flags: &DumpFlags, executors: Executors) -> Result<bool> {
    let (_lock, logs) = open(&flags.logs)?;
    let choice = Choice {
        channel: flags.channel.clone(),
        is_waiting: flags.waiting,
        from: flags.from,
        limit: flags.limit.unwrap_or(u64::MAX),
        raw_delimiter: flags.raw.then_some(if flags.null { b"\0" } else { b"\n" }),
    };
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock());
    let mut is_clean = true;
    for log in logs {
        let log = FoundLog::open(log)?;
        // Lines and a bar on one terminal would be in each other's way.
        let progress = if io::stdout().is_terminal() {
            Progress::none()
        } else {
            Progress::new("dumping", log.segments.iter().map(|s| s.outline.end_offset).sum())
        };
        let lost = dump::dump(&log, &choice, executors, &progress, &mut out)?;
        progress.finish();
        for line in &lost {
            writeln!(io::stderr(), "nsq_log: {line}")?;
        }
        is_clean &= lost.is_empty();
    }
    out.flush()?;
    Ok(is_clean)
}
