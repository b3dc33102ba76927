//! A log's directory that recovery may change as it likes: the changes are kept in memory, and
//! the files stay as they are. A tool so sees a log exactly as the daemon would after a start.

use crate::files::Patch;
use ringmain_storage::request::{Completion, Disk, FileName, IoError, Operation, Outcome, Request};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What an operation is told that no recovery asks for (EROFS).
const READ_ONLY: i32 = 30;

/// One log's directory, read-only.
#[derive(Debug)]
pub(crate) struct Overlay {
    directory: PathBuf,
    /// By the name recovery has given them.
    files: BTreeMap<FileName, Seen>,
}

/// A file as recovery sees it.
#[derive(Debug, Default)]
struct Seen {
    file: Option<File>,
    patches: Vec<Patch>,
}

impl Overlay {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, files: BTreeMap::new() }
    }

    /// What recovery has written to a file.
    pub(crate) fn patches(&self, file: FileName) -> Vec<Patch> {
        self.files.get(&file).map(|seen| seen.patches.clone()).unwrap_or_default()
    }

    fn perform(&mut self, operation: &mut Operation) -> io::Result<Outcome> {
        match operation {
            Operation::List => return self.list(),
            Operation::Open { file } => {
                let opened = File::open(self.directory.join(file.to_string()))?;
                self.files.entry(*file).or_default().file = Some(opened);
            }
            Operation::Close { file } => {
                if let Some(seen) = self.files.get_mut(file) {
                    seen.file = None;
                }
            }
            Operation::Read { file, offset, buffer, range } => {
                let seen = self.files.get(file).and_then(|seen| seen.file.as_ref());
                let bytes = buffer.as_mut_bytes().get_mut(range.clone()).unwrap_or_default();
                let file = seen.ok_or_else(|| io::Error::from_raw_os_error(READ_ONLY))?;
                return file.read_at(bytes, *offset).map(Outcome::Bytes);
            }
            Operation::Write { file, offset, buffer, range } => {
                let bytes = buffer.as_bytes().get(range.clone()).unwrap_or_default().to_vec();
                let length = bytes.len();
                self.files.entry(*file).or_default().patches.push((*offset, bytes));
                return Ok(Outcome::Bytes(length));
            }
            // Nothing becomes durable, and names stay: who goes by the new ones asks the log.
            Operation::SyncDirectory
            | Operation::Sync { .. }
            | Operation::Rename { .. }
            | Operation::Remove { .. } => {}
            Operation::MakeDirectory | Operation::Create { .. } | Operation::Preallocate { .. } => {
                return Err(io::Error::from_raw_os_error(READ_ONLY));
            }
        }
        Ok(Outcome::Done)
    }

    fn list(&self) -> io::Result<Outcome> {
        let mut listing = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let bytes = entry.metadata()?.len();
            listing.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
        Ok(Outcome::Listing(listing))
    }
}

impl Disk for Overlay {
    fn execute(&mut self, request: Request) -> Completion {
        let Request { ticket, mut operation, .. } = request;
        let result = self.perform(&mut operation).map_err(|error| IoError {
            errno: error.raw_os_error().unwrap_or(IoError::DEVICE.errno),
        });
        let buffer = match operation {
            Operation::Write { buffer, .. } | Operation::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        Completion { ticket, result, buffer }
    }
}
