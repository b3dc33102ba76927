//! The configuration file: TOML with flat keys, turned into flags.

use super::exit::{Exit, FlagFault};
use super::value::{TlsRequired, TlsVersion};
use super::{matches, name_of, value};
use crate::log::LogLevel;
use clap::{Arg, ArgAction};
use std::any::TypeId;
use std::time::Duration;
use toml::Value;

/// Options that only the command line has.
const COMMAND_LINE_ONLY: [&str; 4] = ["config", "version", "verbose", "worker_id"];

/// Reads a file.
///
/// # Errors
/// An [`Exit`] that names the file.
pub(super) fn read(command: &clap::Command, path: &str) -> Result<toml::Table, Exit> {
    let text = super::read_file(path).map_err(|reason| unreadable(command, path, &reason))?;
    text.parse()
        .map_err(|error: toml::de::Error| unreadable(command, path, error.to_string().trim_end()))
}

/// A file that cannot be used.
pub(super) fn unreadable(command: &clap::Command, path: &str, reason: &str) -> Exit {
    let message = format!("failed to load config file {path} - {reason}");
    Exit::fatal(command.get_name(), &message)
}

/// What a file says, as `--name=value` flags, each of which clap will accept. Unknown keys are
/// ignored, as NSQ does.
///
/// # Errors
/// An [`Exit`] that names the key and what is wrong with its value.
pub(super) fn flags(command: &clap::Command, file: &toml::Table) -> Result<Vec<String>, Exit> {
    let program = command.get_name();
    let mut flags = Vec::new();
    for (key, value) in file {
        let known = command.get_arguments().find(|known| known.get_id() == key.as_str());
        let Some(known) = known.filter(|_| !COMMAND_LINE_ONLY.contains(&key.as_str())) else {
            continue;
        };
        let name = known.get_long().expect("every argument is a flag");
        let values = coerce(known, value)
            .map_err(|reason| refusal(program, known, value, &reason))?
            .into_iter()
            .map(|value| format!("--{name}={value}"))
            .collect::<Vec<_>>();
        matches(command, &values).map_err(|error| {
            refusal(program, known, value, &FlagFault::of(command, &error).reason)
        })?;
        flags.extend(values);
    }
    debug_assert!(flags.iter().all(|flag| name_of(flag).starts_with("--")));
    Ok(flags)
}

/// A value of the file in the text that the flag takes; several for a list.
fn coerce(flag: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let is = |kind: TypeId| flag.get_value_parser().type_id() == kind;
    if matches!(flag.get_action(), ArgAction::Append) {
        return coerce_list(is(TypeId::of::<f64>()), value);
    }
    let text = if is(TypeId::of::<Duration>()) {
        coerce_duration(value)
    } else if is(TypeId::of::<bool>()) {
        coerce_boolean(value)
    } else if is_word(flag) {
        Ok(word(value))
    } else if is(TypeId::of::<String>()) {
        text(value).map(str::to_owned)
    } else if [TypeId::of::<i64>(), TypeId::of::<u64>(), TypeId::of::<u16>(), TypeId::of::<usize>()]
        .into_iter()
        .any(is)
    {
        coerce_integer(value)
    } else {
        text(value).map(str::to_owned)
    };
    text.map(|text| vec![text])
}

/// Duration: Go's syntax, or an integer of milliseconds.
fn coerce_duration(value: &Value) -> Result<String, String> {
    match value {
        Value::Integer(milliseconds) => Ok(format!("{milliseconds}ms")),
        _ => text(value).map(str::to_owned),
    }
}

/// Integer: an integer, or the same in decimal as a string.
fn coerce_integer(value: &Value) -> Result<String, String> {
    match value {
        Value::Integer(integer) => Ok(integer.to_string()),
        _ => {
            let text = text(value)?;
            text.parse::<i64>()
                .map(|integer| integer.to_string())
                .map_err(|error| error.to_string())
        }
    }
}

/// Boolean: a boolean, or one of Go's spellings as a string. NSQ takes an integer with inverted
/// meaning (0 is true); that is refused rather than repeated.
fn coerce_boolean(value: &Value) -> Result<String, String> {
    match value {
        Value::Boolean(boolean) => Ok(boolean.to_string()),
        _ => {
            let text = text(value)?;
            value::boolean(text).map(|boolean| boolean.to_string())
        }
    }
}

/// List: an array of the right type, or one string with commas.
fn coerce_list(floats: bool, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(text.split(',').map(str::to_owned).collect()),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::Float(float) if floats => Ok(float.to_string()),
                Value::String(text) if !floats => Ok(text.clone()),
                _ => Err(format!("a list item is of type {}", item.type_str())),
            })
            .collect(),
        _ => Err(format!("invalid list value type {}", value.type_str())),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("invalid value type {}", value.type_str()))
}

/// Whether NSQ checks this key before all others, and words its errors apart.
fn is_word(flag: &Arg) -> bool {
    let kinds = [TypeId::of::<LogLevel>(), TypeId::of::<TlsRequired>(), TypeId::of::<TlsVersion>()];
    kinds.into_iter().any(|kind| flag.get_value_parser().type_id() == kind)
}

/// A value as it reads, without the quotes of a string.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn refusal(program: &str, flag: &Arg, value: &Value, reason: &str) -> Exit {
    let (key, value) = (flag.get_id(), word(value));
    if is_word(flag) {
        return Exit::fatal(program, &format!("failed parsing {key} {value}"));
    }
    Exit::plain(&format!("ERROR: Resolve failed to coerce value {value} for {key} - {reason}"))
}
