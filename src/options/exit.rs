//! The end of the program before it has begun: texts and exit codes, worded as Go and NSQ do.

use super::argv::is_boolean;
use crate::log;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::fmt::Write as _;

/// What to print, and the status to leave with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0 after `-version` and `-help`, 1 for what cannot run, 2 for faulty flags.
    pub code: u8,
    /// For standard output, line feed included.
    pub stdout: String,
    /// For standard error, line feed included.
    pub stderr: String,
}

impl Exit {
    /// `FATAL: failed to instantiate nsqd - …`, status 1.
    pub fn instantiate(reason: &str) -> Self {
        Self::fatal("nsqd", &format!("failed to instantiate nsqd - {reason}"))
    }

    /// A line of level FATAL that begins with the program's name, whatever prefix it has been
    /// told; status 1.
    pub(crate) fn fatal(program: &str, message: &str) -> Self {
        Self::failure(log::fatal_line(&format!("[{program}] "), message))
    }

    /// A line of Go's standard logger: a date and the message, status 1.
    pub(super) fn plain(message: &str) -> Self {
        Self::failure(log::plain_line(message))
    }

    pub(super) fn success(stdout: String) -> Self {
        Self { code: 0, stdout, stderr: String::new() }
    }

    pub(super) fn help(command: &clap::Command) -> Self {
        Self { code: 0, stdout: String::new(), stderr: usage(command) }
    }

    pub(super) fn bad_syntax(command: &clap::Command, argument: &str) -> Self {
        Self::usage(command, &format!("bad flag syntax: {argument}"))
    }

    /// What clap found wrong with a flag, in Go's words.
    pub(super) fn flag(command: &clap::Command, error: &clap::Error) -> Self {
        let fault = FlagFault::of(command, error);
        if fault.name == "e2e-processing-latency-percentile" {
            return Self::plain(&fault.reason);
        }
        let FlagFault { name, value, reason, boolean, nearest } = fault;
        let nearest = nearest.map(|flag| format!("\ndid you mean -{flag}?")).unwrap_or_default();
        Self::usage(
            command,
            &match error.kind() {
                ErrorKind::UnknownArgument => {
                    format!("flag provided but not defined: -{name}{nearest}")
                }
                ErrorKind::InvalidValue if reason.is_empty() => {
                    format!("flag needs an argument: -{name}")
                }
                _ if boolean => format!("invalid boolean value \"{value}\" for -{name}: {reason}"),
                _ => format!("invalid value \"{value}\" for flag -{name}: {reason}"),
            },
        )
    }

    fn failure(stderr: String) -> Self {
        Self { code: 1, stdout: String::new(), stderr }
    }

    fn usage(command: &clap::Command, fault: &str) -> Self {
        let stderr = format!("{fault}\n{}", usage(command));
        Self { code: 2, stdout: String::new(), stderr }
    }
}

/// The parts of a clap error that Go's texts are made of.
pub(super) struct FlagFault {
    /// The flag, without dashes.
    pub(super) name: String,
    /// The value as it was given.
    pub(super) value: String,
    /// What the value's reader said; empty when there was no value.
    pub(super) reason: String,
    /// Whether Go words this flag's errors as a boolean's.
    boolean: bool,
    /// The flag that an unknown one resembles, if there is one.
    nearest: Option<String>,
}

impl FlagFault {
    pub(super) fn of(command: &clap::Command, error: &clap::Error) -> Self {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            _ => String::new(),
        };
        // Clap names the flag as its usage shows it: `--name <VALUE>`.
        let shown = text(ContextKind::InvalidArg);
        let name = shown.split_whitespace().next().unwrap_or_default();
        let name = name.trim_start_matches('-').to_owned();
        let known = command.get_arguments().find(|known| known.get_long() == Some(name.as_str()));
        Self {
            boolean: known.is_some_and(|known| is_boolean(known.get_value_parser())),
            value: text(ContextKind::InvalidValue),
            nearest: match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(flag)) => {
                    Some(flag.trim_start_matches('-').split(' ').next().unwrap_or_default().into())
                }
                _ => None,
            },
            reason: std::error::Error::source(error).map(ToString::to_string).unwrap_or_default(),
            name,
        }
    }
}

/// The usage text, laid out as Go's `flag` package does; what is not nsqd's comes last.
fn usage(command: &clap::Command) -> String {
    let mut text = format!("Usage of {}:\n", command.get_name());
    let mut flags: Vec<_> = command.get_arguments().collect();
    flags.sort_by_key(|flag| (flag.get_help_heading(), flag.get_long()));
    let mut heading = None;
    for flag in flags {
        if let Some(next) = flag.get_help_heading().filter(|next| heading != Some(*next)) {
            writeln!(text, "{next}:").expect("strings take all text");
            heading = Some(next);
        }
        let name = flag.get_long().expect("every argument is a flag");
        let value = if is_boolean(flag.get_value_parser()) { "" } else { " value" };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let default = flag.get_default_values().iter().map(|value| value.to_string_lossy());
        let default = default.filter(|value| !matches!(value.as_ref(), "" | "0" | "false"));
        let default = default.map(|value| format!(" (default {value})")).collect::<String>();
        writeln!(text, "  -{name}{value}\n    \t{help}{default}").expect("strings take all text");
    }
    text
}
