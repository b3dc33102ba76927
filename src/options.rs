//! What a program is told: command line and configuration file, read as NSQ reads them.
//!
//! A flag wins over the file, the file over the default. The command line is brought from Go's
//! syntax into clap's ([`argv`]), the file's values into flags ([`config_file`]); from there on
//! both go through the one table of flags ([`flags`]).

mod address;
mod argv;
mod config_file;
mod declared;
mod defaults;
pub mod duration;
mod exit;
mod flags;
mod program;
mod roots;
mod tls;
mod validate;
pub(crate) mod value;

pub use address::{ListenAddress, join_host_port, split_host_port};
pub use declared::{Declared, DeclaredTopic, POLICY_FIELDS, set_policy};
pub use defaults::hostname;
pub use exit::Exit;
pub use flags::Options;
pub(crate) use program::{read_flags, refuse, version_of};
pub use roots::{native_roots, read_roots};
pub use tls::{server_tls, version_note};
pub use validate::by_name;
pub use value::{IoDriver, TlsRequired, TlsVersion};

use crate::protocol::command::CommandLimits;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;

/// The NSQ version whose behaviour this daemon has, as clients and dashboards see it.
pub const VERSION: &str = "1.3.0";

/// The flags of one program: a table that clap derives, with what all programs have in common.
pub trait Flags: CommandFactory + FromArgMatches {
    /// The configuration file; empty for none.
    fn config(&self) -> &str;

    /// Whether the version was asked for.
    fn version(&self) -> bool;

    /// Takes what the file says beside flags.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn declare(&mut self, _file: &toml::Table) -> Result<(), String> {
        Ok(())
    }
}

impl Flags for Options {
    fn config(&self) -> &str {
        &self.config
    }

    fn version(&self) -> bool {
        self.version
    }

    fn declare(&mut self, file: &toml::Table) -> Result<(), String> {
        self.declared = Declared::read(file)?;
        Ok(())
    }
}

/// What nsqd's `--version` prints, and what begins the text form of `/stats`.
pub fn version_text() -> String {
    version_text_of("nsqd")
}

/// What `--version` prints, and what a daemon logs first.
pub fn version_text_of(program: &str) -> String {
    format!("{program} v{VERSION} (built w/rust{})", env!("RINGMAIN_RUSTC_VERSION"))
}

/// Reads the arguments that follow the program's name, and the configuration file they name, and
/// checks them.
///
/// # Errors
/// As [`read`] and [`check`].
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, Exit> {
    check(read(arguments)?)
}

/// Checks that a daemon can run with these options, and completes them.
///
/// # Errors
/// An [`Exit`] with the first thing that is wrong.
pub fn check(options: Options) -> Result<Options, Exit> {
    validate::validate(options)
}

/// Reads the arguments that follow the program's name, and the configuration file they name. What
/// they say has a form, but is not checked yet: nsqd locks the data directory before that.
///
/// # Errors
/// An [`Exit`] when there is nothing to run: the version or help was asked for, or something is
/// wrong with the form.
pub fn read<F: Flags>(arguments: impl Iterator<Item = OsString>) -> Result<F, Exit> {
    let command = F::command();
    let normalised = argv::normalise(&command, arguments);
    let given =
        matches(&command, &normalised.flags).map_err(|error| Exit::flag(&command, &error))?;
    match normalised.end {
        argv::End::Arguments => {}
        argv::End::Help => return Err(Exit::help(&command)),
        argv::End::BadSyntax(argument) => return Err(Exit::bad_syntax(&command, &argument)),
    }
    let given: F = options_of(&given);
    if given.version() {
        return Err(Exit::success(format!("{}\n", version_text_of(command.get_name()))));
    }

    let path = given.config();
    let file = if path.is_empty() { None } else { Some(config_file::read(&command, path)?) };
    let mut flags = match &file {
        None => Vec::new(),
        Some(file) => config_file::flags(&command, file)?,
    };
    // A repeated flag replaces the file's list; of single values the last one counts anyway.
    flags.retain(|from_file| {
        !normalised.flags.iter().any(|flag| name_of(flag) == name_of(from_file))
    });
    flags.extend(normalised.flags);
    let all = matches(&command, &flags).map_err(|error| Exit::flag(&command, &error))?;
    let mut options: F = options_of(&all);
    if let Some(file) = &file {
        let declared = options.declare(file);
        declared.map_err(|reason| config_file::unreadable(&command, path, &reason))?;
    }
    Ok(options)
}

impl Options {
    /// What limits single commands, over TCP and over HTTP.
    pub fn command_limits(&self) -> CommandLimits {
        let req_timeout_ms = self.max_req_timeout.as_millis();
        CommandLimits {
            max_msg_size: self.max_msg_size,
            max_body_size: self.max_body_size,
            max_rdy_count: self.max_rdy_count,
            max_req_timeout_ms: u64::try_from(req_timeout_ms).unwrap_or(u64::MAX),
        }
    }
}

impl Default for Options {
    /// What an empty command line gives.
    fn default() -> Self {
        defaults_of()
    }
}

/// What an empty command line gives.
pub(crate) fn defaults_of<F: Flags>() -> F {
    options_of(&matches(&F::command(), &[]).expect("every flag has a valid default"))
}

fn matches(command: &clap::Command, flags: &[String]) -> Result<clap::ArgMatches, clap::Error> {
    let name = command.get_name().to_owned();
    command.clone().try_get_matches_from(std::iter::once(name).chain(flags.iter().cloned()))
}

fn options_of<F: Flags>(matches: &clap::ArgMatches) -> F {
    F::from_arg_matches(matches).expect("the matches come from the same table")
}

/// A file's text; an error as Go words it.
fn read_file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open {path}: {reason}")
    })
}

/// `--name` of `--name=value`.
fn name_of(flag: &str) -> &str {
    flag.split_once('=').map_or(flag, |(name, _)| name)
}

#[cfg(test)]
mod tests;
