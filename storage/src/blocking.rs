//! Executes requests with plain files, one at a time: for tools, for start-up, and for tests.
//!
//! The only file of this package that touches anything outside. Writes go through the page cache;
//! who needs direct I/O or must not wait executes the same requests on a ring.

use crate::request::{Completion, Disk, FileName, IoError, Operation, Outcome, Request};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// How much is written at once when a file is made longer.
const FILL_BYTES: usize = 1 << 20;

/// What is not open has no file descriptor to fail on.
const NOT_OPEN: IoError = IoError { errno: 9 };

/// One log's directory.
#[derive(Debug)]
pub struct BlockingDisk {
    directory: PathBuf,
    files: BTreeMap<FileName, File>,
}

impl BlockingDisk {
    /// Of a directory that need not be there yet; its parent has to be.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), files: BTreeMap::new() }
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.directory.join(file.to_string())
    }

    fn file(&self, file: FileName) -> Result<&File, io::Error> {
        self.files.get(&file).ok_or_else(|| io::Error::from_raw_os_error(NOT_OPEN.errno))
    }

    fn perform(&mut self, operation: &mut Operation) -> io::Result<Outcome> {
        match operation {
            Operation::MakeDirectory => {
                fs::create_dir_all(&self.directory)?;
                let parent = self.directory.parent().filter(|p| !p.as_os_str().is_empty());
                File::open(parent.unwrap_or_else(|| ".".as_ref()))?.sync_all()?;
            }
            Operation::List => return self.list(),
            Operation::SyncDirectory => File::open(&self.directory)?.sync_all()?,
            Operation::Create { file } => {
                let path = self.path(*file);
                let opened =
                    OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
                self.files.insert(*file, opened);
            }
            Operation::Open { file } => {
                let opened = OpenOptions::new().read(true).write(true).open(self.path(*file))?;
                self.files.insert(*file, opened);
            }
            Operation::Close { file } => {
                self.file(*file)?;
                self.files.remove(file);
            }
            Operation::Preallocate { file, bytes } => preallocate(self.file(*file)?, *bytes)?,
            Operation::Write { file, offset, buffer, range } => {
                let bytes = buffer.as_bytes().get(range.clone()).unwrap_or_default();
                return self.file(*file)?.write_at(bytes, *offset).map(Outcome::Bytes);
            }
            Operation::Read { file, offset, buffer, range } => {
                let bytes = buffer.as_mut_bytes().get_mut(range.clone()).unwrap_or_default();
                return self.file(*file)?.read_at(bytes, *offset).map(Outcome::Bytes);
            }
            Operation::Sync { file } => self.file(*file)?.sync_data()?,
            Operation::Rename { from, to } => {
                fs::rename(self.path(*from), self.path(*to))?;
                if let Some(open) = self.files.remove(from) {
                    self.files.insert(*to, open);
                }
            }
            Operation::Remove { file } => fs::remove_file(self.path(*file))?,
        }
        Ok(Outcome::Done)
    }

    fn list(&self) -> io::Result<Outcome> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Outcome::Listing(Vec::new()));
            }
            entries => entries?,
        };
        let mut listing = Vec::new();
        for entry in entries {
            let entry = entry?;
            let bytes = entry.metadata()?.len();
            listing.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
        Ok(Outcome::Listing(listing))
    }
}

impl Disk for BlockingDisk {
    fn execute(&mut self, request: Request) -> Completion {
        let Request { ticket, mut operation, .. } = request;
        let result = self.perform(&mut operation).map_err(|error| {
            // Errors that no system call made are a broken rule of ours, not the device's.
            error.raw_os_error().map_or(NOT_OPEN, |errno| IoError { errno })
        });
        let buffer = match operation {
            Operation::Write { buffer, .. } | Operation::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        Completion { ticket, result, buffer }
    }
}

/// Makes a file that long by writing zeros: slower than asking for extents, once in a file's life,
/// and every write later costs no change of the file system's own data.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut at = file.metadata()?.len();
    while at < bytes {
        let part = usize::try_from(bytes - at).map_or(FILL_BYTES, |rest| rest.min(FILL_BYTES));
        let written = file.write_at(zeros.get(..part).unwrap_or_default(), at)?;
        if written == 0 {
            return Err(io::Error::from_raw_os_error(IoError::NO_SPACE.errno));
        }
        at += written as u64;
    }
    Ok(())
}
