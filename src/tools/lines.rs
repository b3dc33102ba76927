//! Lines of utilities on standard error: `<date> <time> <message>`, and those of the client
//! library with their level in front.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Begins to write lines, for the whole process; a second call changes nothing.
pub(super) fn start() {
    let ours = Targets::new().with_target("ringmain", LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = lines.event_format(Lines { zone: TimeZone::system() });
    let subscriber = tracing_subscriber::registry().with(ours).with(lines);
    // Whoever has begun before, a test among others, keeps it.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
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
        write!(line, "{}", now.strftime("%Y/%m/%d %H:%M:%S"))?;
        if event.metadata().target().starts_with("ringmain::client") {
            write!(line, " {:<4}", level(*event.metadata().level()))?;
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
