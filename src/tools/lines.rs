//! Lines of utilities on standard error: `<date> <time> <message>`, or with a prefix and a level
//! for those that log; and those of the client library with their level in front.

use crate::log::LogLevel;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// The target that raises an error to NSQ's level FATAL.
pub(super) const FATAL: &str = "ringmain::tools::fatal";

/// How a utility's own lines look.
#[derive(Debug, Clone)]
pub(super) enum Style {
    /// `<date> <time> <message>`
    Plain,
    /// `<prefix><date> <time> <LEVEL>: <message>`, from this level on.
    Leveled { prefix: String, level: LogLevel },
}

/// Begins to write lines, for the whole process; a second call changes nothing.
pub(super) fn start(style: Style) {
    let own = match &style {
        Style::Plain => LevelFilter::INFO,
        Style::Leveled { level, .. } => match level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Fatal => LevelFilter::OFF,
        },
    };
    let ours = Targets::new()
        .with_target("ringmain::client", LevelFilter::INFO)
        .with_target("ringmain::tools", own)
        .with_target(FATAL, LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = lines.event_format(Lines { style, zone: TimeZone::system() });
    let subscriber = tracing_subscriber::registry().with(ours).with(lines);
    // Whoever has begun before, a test among others, keeps it.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
    style: Style,
    zone: TimeZone,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let metadata = event.metadata();
        match &self.style {
            _ if metadata.target().starts_with("ringmain::client") => {
                let level = level(*metadata.level());
                write!(line, "{} {level:<4}", now.strftime("%Y/%m/%d %H:%M:%S"))?;
            }
            Style::Plain => write!(line, "{}", now.strftime("%Y/%m/%d %H:%M:%S"))?,
            Style::Leveled { prefix, .. } => {
                let level = own_level(metadata);
                let time = now.strftime("%Y/%m/%d %H:%M:%S%.6f");
                write!(line, "{prefix}{time} {level}:")?;
            }
        }
        let mut message = Message { line, result: Ok(()) };
        event.record(&mut message);
        message.result?;
        message.line.write_char('\n')
    }
}

/// The client library's words for levels.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        _ => "DBG",
    }
}

/// NSQ's words for levels.
fn own_level(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => "FATAL",
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Writes an event's message and nothing else.
struct Message<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.result = write!(self.line, " {value:?}");
        }
    }
}
