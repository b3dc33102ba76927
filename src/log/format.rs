//! How one event becomes one line.

use super::LogLevel;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// NSQ's lines.
pub(super) struct Text {
    prefix: String,
    zone: TimeZone,
}

/// One JSON object per line.
pub(super) struct Json {
    zone: TimeZone,
}

impl Text {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), zone: TimeZone::system() }
    }
}

impl Json {
    pub(super) fn new() -> Self {
        Self { zone: TimeZone::system() }
    }
}

impl<S, N> FormatEvent<S, N> for Text
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
        let level = LogLevel::of(event.metadata());
        write!(line, "{}{} {level}: ", self.prefix, local_time(&now))?;
        let mut fields = TextFields { line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.line.write_char('\n')
    }
}

impl<S, N> FormatEvent<S, N> for Json
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
        let mut object = JsonFields(serde_json::Map::new());
        object.insert("time", now.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string());
        object.insert("level", LogLevel::of(event.metadata()).to_owned());
        event.record(&mut object);
        writeln!(line, "{}", serde_json::Value::Object(object.0))
    }
}

/// `2026/11/22 12:43:47.321078`.
pub(super) fn local_time(now: &Zoned) -> impl fmt::Display + '_ {
    now.strftime("%Y/%m/%d %H:%M:%S%.6f")
}

/// Writes the message as it is, and other fields behind it as ` name=value`.
struct TextFields<'w> {
    line: Writer<'w>,
    result: fmt::Result,
}

impl Visit for TextFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_err() {
            return;
        }
        let mut line = OneLine(&mut self.line);
        self.result = match field.name() {
            "message" => write!(line, "{value:?}"),
            name => write!(line, " {name}={value:?}"),
        };
    }
}

/// Escapes control characters: what a peer sends may be in a message, and must not be able to
/// forge a line or drive a terminal.
struct OneLine<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (plain, from) = rest.split_at(at);
            let control = from.chars().next().ok_or(fmt::Error)?;
            self.0.write_str(plain)?;
            write!(self.0, "{}", control.escape_default())?;
            rest = from.get(control.len_utf8()..).ok_or(fmt::Error)?;
        }
        self.0.write_str(rest)
    }
}

/// Gathers an event's fields.
struct JsonFields(serde_json::Map<String, serde_json::Value>);

impl JsonFields {
    fn insert(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value);
    }
}
