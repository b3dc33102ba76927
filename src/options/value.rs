//! The values flags take, and how Go's `flag` package reads each, its error texts included.

use super::duration;
use crate::log::{LogFormat, LogLevel};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// `--tls-required`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRequired {
    /// Clients may connect in the clear.
    No,
    /// TLS on TCP; plain HTTP stays open.
    ExceptHttp,
    /// TLS everywhere.
    Yes,
}

/// `--tls-min-version`: the number TLS itself uses for a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TlsVersion(pub u16);

/// `--io`: which driver moves the shards' bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IoDriver {
    /// The best the kernel allows; today that is io_uring.
    Auto,
    /// io_uring or nothing.
    Uring,
}

/// NSQ's name of the only version below 1.1, and its default.
pub(super) const TLS_VERSIONS: [(&str, TlsVersion); 4] = [
    ("tls1.0", TlsVersion(769)),
    ("tls1.1", TlsVersion(770)),
    ("tls1.2", TlsVersion(771)),
    ("tls1.3", TlsVersion(772)),
];

impl Serialize for TlsRequired {
    /// The number `/config/tls_required` answers with.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            Self::No => 0,
            Self::ExceptHttp => 1,
            Self::Yes => 2,
        })
    }
}

/// Reads one of Go's spellings of a boolean.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("parse error".to_owned()),
    }
}

/// Reads an integer in Go's syntax: signed, with `0x`, `0o`, `0b` or a leading `0` for other
/// bases, and underscores between digits.
pub(crate) fn integer<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let prefixed = digits.len() < lower.len();
    let underscores_fit =
        !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'));
    let digits = digits.replace('_', "");
    let valid = digits.chars().all(|c| c.is_digit(base)) && !digits.is_empty();
    if !valid || !underscores_fit {
        return Err("parse error".to_owned());
    }
    i128::from_str_radix(&digits, base)
        .ok()
        .map(|value| if negative { -value } else { value })
        .and_then(|value| i64::try_from(value).ok())
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| "value out of range".to_owned())
}

/// Reads a duration. Go lets a time limit be negative; nothing here can honour one.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let nanoseconds = duration::parse_nanoseconds(text).ok_or("parse error")?;
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| "a negative duration makes no sense here".to_owned())
}

/// Reads one percentile.
pub(super) fn percentile(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("Could not parse: {text}"))
}

/// Reads a level's word.
pub(crate) fn log_level(text: &str) -> Result<LogLevel, String> {
    LogLevel::parse(text)
        .ok_or_else(|| format!("invalid log level '{text}' (debug, info, warn, error, fatal)"))
}

/// Reads `text` or `json`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("invalid log format '{text}' (text, json)")),
    }
}

/// Reads a boolean or `tcp-https`.
pub(super) fn tls_required(text: &str) -> Result<TlsRequired, String> {
    let text = text.to_lowercase();
    if text == "tcp-https" {
        return Ok(TlsRequired::ExceptHttp);
    }
    match boolean(&text) {
        Ok(true) => Ok(TlsRequired::Yes),
        Ok(false) => Ok(TlsRequired::No),
        Err(_) => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Reads a TLS version's word; the empty word is the default.
pub(super) fn tls_min_version(text: &str) -> Result<TlsVersion, String> {
    let text = text.to_lowercase();
    if text.is_empty() {
        return Ok(TLS_VERSIONS[0].1);
    }
    let known = TLS_VERSIONS.iter().find(|(name, _)| *name == text);
    known.map(|(_, version)| *version).ok_or(format!("unknown tlsVersionOption {text:?}"))
}

/// Reads the driver's name.
pub(super) fn io_driver(text: &str) -> Result<IoDriver, String> {
    match text {
        "auto" => Ok(IoDriver::Auto),
        "uring" => Ok(IoDriver::Uring),
        "epoll" => Err("this version has no epoll driver; it needs io_uring \
                        (kernel.io_uring_disabled=0, and a container profile that allows it)"
            .to_owned()),
        _ => Err(format!("unknown driver '{text}' (auto, uring)")),
    }
}

/// Durations leave as integer nanoseconds, as `/config` answers them.
pub(super) fn as_nanoseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_go_reads_them() {
        let malformed = Err("parse error".to_owned());
        let outside = Err("value out of range".to_owned());
        let cases: &[(&str, Result<u16, String>)] = &[
            ("0", Ok(0)),
            ("+7", Ok(7)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0b11", Ok(3)),
            ("0o17", Ok(15)),
            ("0x_f_f", Ok(255)),
            ("65535", Ok(65535)),
            ("65536", outside.clone()),
            ("-1", outside.clone()),
            ("99999999999999999999", outside),
            ("1_000", Ok(1000)),
            ("_1", malformed.clone()),
            ("1__0", malformed.clone()),
            ("08", malformed.clone()),
            ("", malformed.clone()),
            ("-", malformed.clone()),
            ("0x", malformed.clone()),
            ("5s", malformed.clone()),
            (" 5", malformed),
        ];
        for (text, expected) in cases {
            assert_eq!(&integer::<u16>(text), expected, "{text}");
        }
    }
}
