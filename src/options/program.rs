//! Flags of the utilities: Go's syntax and texts, and no configuration file.

use super::{Exit, VERSION, argv};
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;

/// Reads the arguments that follow a program's name.
///
/// # Errors
/// An [`Exit`] when help was asked for, or a flag is wrong in form.
pub(crate) fn read_flags<F: CommandFactory + FromArgMatches>(
    arguments: impl Iterator<Item = OsString>,
) -> Result<F, Exit> {
    let command = F::command();
    let normalised = argv::normalise(&command, arguments);
    let name = command.get_name().to_owned();
    let all = std::iter::once(name).chain(normalised.flags);
    let matches = command.clone().try_get_matches_from(all);
    let matches = matches.map_err(|error| Exit::flag(&command, &error))?;
    match normalised.end {
        argv::End::Arguments => {}
        argv::End::Help => return Err(Exit::help(&command)),
        argv::End::BadSyntax(argument) => return Err(Exit::bad_syntax(&command, &argument)),
    }
    Ok(F::from_arg_matches(&matches).expect("the matches come from the same table"))
}

/// The end of a program that prints its version.
pub(crate) fn version_of(program: &str) -> Exit {
    Exit::success(format!("{program} v{VERSION}\n"))
}

/// The end of a program whose flags do not fit together: a line with the date, status 1.
pub(crate) fn refuse(message: &str) -> Exit {
    Exit::plain(message)
}
