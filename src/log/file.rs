//! Standard error when it is a file: opened again after somebody has moved it away.

use rustix::stdio::dup2_stderr;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel says what standard error is.
const STANDARD_ERROR: &str = "/proc/self/fd/2";

/// The file that standard error was when logging began; none when it was a pipe or a terminal.
#[derive(Debug, Clone, Default)]
pub struct LogFile(Option<PathBuf>);

impl LogFile {
    /// Looks at what standard error is now.
    pub(super) fn of_standard_error() -> Self {
        let is_file = fs::metadata(STANDARD_ERROR).is_ok_and(|metadata| metadata.is_file());
        Self(is_file.then(|| fs::read_link(STANDARD_ERROR).ok()).flatten())
    }

    /// Its path.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Opens the path again, creating the file if it is not there, and goes on writing at its end.
    /// Without a file this does nothing.
    ///
    /// # Errors
    /// When it cannot be opened; lines then go where they went before.
    pub fn reopen(&self) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(dup2_stderr(&file)?)
    }
}
