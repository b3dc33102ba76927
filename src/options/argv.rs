//! Go's flag syntax, rewritten into the one form that clap is given: `--name=value`.
//!
//! `-name` and `--name` are the same; a value follows after `=` or as the next argument, but a
//! boolean takes one only after `=`; the first argument that is not a flag, or `--`, ends the
//! flags, and the daemon ignores the rest.

use clap::builder::ValueParser;
use std::any::TypeId;
use std::ffi::OsString;

use super::value::TlsRequired;

/// The arguments up to where Go's reading of them ends, and why it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normalised {
    /// `--name=value` each; the last may be a bare `--name` that clap will refuse, either
    /// because nobody knows it or because its value is missing.
    pub(super) flags: Vec<String>,
    /// What stands after `flags`. Errors in `flags` come first, as they do in Go.
    pub(super) end: End,
}

/// Why the flags ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No more flags.
    Arguments,
    /// `-h` or `-help`.
    Help,
    /// An argument that starts like a flag and is not one, such as `---x` or `-=x`.
    BadSyntax(String),
}

/// Rewrites the arguments that follow the program's name.
pub(super) fn normalise(
    command: &clap::Command,
    arguments: impl Iterator<Item = OsString>,
) -> Normalised {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let mut flags = Vec::new();
    while let Some(argument) = arguments.next() {
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else { break };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() {
            break; // `--`
        }
        if body.starts_with(['-', '=']) {
            return Normalised { flags, end: End::BadSyntax(argument) };
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let known = command.get_arguments().find(|known| known.get_long() == Some(name));
        let Some(known) = known else {
            if matches!(name, "h" | "help") {
                return Normalised { flags, end: End::Help };
            }
            flags.push(format!("--{name}"));
            break;
        };
        let value = value.or_else(|| match is_boolean(known.get_value_parser()) {
            true => Some("true".to_owned()),
            false => arguments.next(),
        });
        let Some(value) = value else {
            flags.push(format!("--{name}"));
            break;
        };
        flags.push(format!("--{name}={value}"));
    }
    Normalised { flags, end: End::Arguments }
}

/// Whether a flag may stand without a value.
pub(super) fn is_boolean(parser: &ValueParser) -> bool {
    parser.type_id() == TypeId::of::<bool>() || parser.type_id() == TypeId::of::<TlsRequired>()
}
