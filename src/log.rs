//! Log lines on standard error: NSQ's format, or one JSON object per line.
//!
//! Everybody logs through `tracing`'s macros; the message is what NSQ's line would say. A line
//! below the level in force is dropped at its call site. Writing happens on a thread of its own:
//! when standard error is not read fast enough lines are dropped and counted, and nobody waits.

mod file;
mod format;
#[cfg(test)]
mod tests;

pub use self::file::LogFile;

use self::format::{Json, Text};
use crate::limits::LOG_LINES_QUEUED_MAX;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};
use std::io::Write;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// The target that raises an `error!` to NSQ's level FATAL:
/// `tracing::error!(target: log::FATAL, "…")`.
pub const FATAL: &str = "fatal";

/// NSQ's levels, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For finding faults.
    Debug = 1,
    /// What happens in the course of things.
    Info,
    /// What an operator should know of.
    Warn,
    /// What went wrong.
    Error,
    /// Why the daemon ends.
    Fatal,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// NSQ's: `<prefix><date> <time> <LEVEL>: <message>`, local time.
    Text,
    /// `{"time":…,"level":…,"message":…}`.
    Json,
}

/// The running log: keeps its writer alive, changes its level, knows what was dropped.
#[derive(Debug)]
pub struct Log {
    filter: LogFilter,
    file: LogFile,
    dropped: ErrorCounter,
    /// Dropping it writes what is queued and ends the writer's thread.
    _writer: WorkerGuard,
}

/// Changes the level of a running log, from any thread.
#[derive(Debug, Clone)]
pub struct LogFilter(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// Reads a level's word in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_lowercase().as_str() {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }

    /// The word of a line.
    fn of(metadata: &tracing::Metadata<'_>) -> &'static str {
        match *metadata.level() {
            tracing::Level::ERROR if metadata.target() == FATAL => "FATAL",
            tracing::Level::ERROR => "ERROR",
            tracing::Level::WARN => "WARNING",
            tracing::Level::INFO => "INFO",
            _ => "DEBUG",
        }
    }

    /// What passes at this level. Libraries are heard from warnings on, however low the level.
    fn targets(self) -> Targets {
        let ours = match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
            Self::Fatal => LevelFilter::OFF,
        };
        Targets::new()
            .with_target("ringmain", ours)
            .with_target("nsqd", ours)
            .with_target(FATAL, LevelFilter::ERROR)
            .with_default(ours.min(LevelFilter::WARN))
    }
}

impl Serialize for LogLevel {
    /// The number `/config/log_level` answers with, 1 (debug) to 5 (fatal).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl Log {
    /// Begins logging to standard error, for the whole process.
    ///
    /// # Panics
    /// When it has been called before.
    pub fn start(level: LogLevel, format: LogFormat, prefix: &str) -> Self {
        let (writer, guard) = writer(std::io::stderr());
        let dropped = writer.error_counter();
        let (subscriber, filter) = subscriber(level, format, prefix, writer);
        tracing::subscriber::set_global_default(subscriber).expect("logging begins once");
        Self { filter, file: LogFile::of_standard_error(), dropped, _writer: guard }
    }

    /// A handle to change the level with.
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// The file that lines go to, if they go to one.
    pub fn file(&self) -> LogFile {
        self.file.clone()
    }

    /// Lines dropped since the start because standard error was not read fast enough.
    pub fn dropped_lines(&self) -> DroppedLines {
        DroppedLines(self.dropped.clone())
    }
}

impl LogFilter {
    /// Lets lines of this level and above pass from now on.
    pub fn set(&self, level: LogLevel) {
        // This fails only once the log itself is gone, and then there is nothing to filter.
        let _ = self.0.reload(level.targets());
    }
}

/// A count of dropped lines that any thread may read.
#[derive(Debug, Clone)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    /// Lines dropped since the start.
    pub fn count(&self) -> usize {
        self.0.dropped_lines()
    }
}

/// A line of level FATAL as it stands before logging has begun, line feed included.
pub fn fatal_line(prefix: &str, message: &str) -> String {
    let now = jiff::Timestamp::now().to_zoned(TimeZone::system());
    format!("{prefix}{} FATAL: {message}\n", format::local_time(&now))
}

/// A line without prefix and level, as Go's standard logger writes it, line feed included.
pub fn plain_line(message: &str) -> String {
    let now = jiff::Timestamp::now().to_zoned(TimeZone::system());
    format!("{} {message}\n", now.strftime("%Y/%m/%d %H:%M:%S"))
}

fn writer(output: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_QUEUED_MAX)
        .thread_name("log")
        .finish(output)
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    prefix: &str,
    writer: W,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, LogFilter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level.targets());
    let registry = Registry::default().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        LogFormat::Text => Box::new(registry.with(lines.event_format(Text::new(prefix)))),
        LogFormat::Json => Box::new(registry.with(lines.event_format(Json::new()))),
    };
    (subscriber, LogFilter(handle))
}
