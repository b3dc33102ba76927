//! The first step of every request.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use ringmain_storage::buffer::AlignedBuffer;
use ringmain_storage::request::{
    Completion, FileName, IoError, LogKey, Operation, Outcome, Request,
};

use super::step::{InDirectory, Step, Transfer, c_name};
use super::table::{Loan, Paths};
use super::{Files, NO_LOG};

const INVALID: IoError = IoError { errno: libc::EINVAL };

/// How a request begins.
enum First {
    /// With an operation of the ring.
    Step(Step),
    /// With closing a descriptor that has left the names.
    Close(usize),
}

/// The answer to a request for which the kernel need not be asked.
struct Answer {
    result: Result<Outcome, IoError>,
    buffer: Option<AlignedBuffer>,
}

impl From<Result<Outcome, IoError>> for Answer {
    fn from(result: Result<Outcome, IoError>) -> Self {
        Self { result, buffer: None }
    }
}

impl From<IoError> for Answer {
    fn from(error: IoError) -> Self {
        Err(error).into()
    }
}

impl Files {
    /// Begins with a request, or answers it when there is nothing to do.
    pub(super) fn start(&mut self, Request { log, ticket, operation }: Request) {
        match self.first_step(log, operation) {
            Ok(First::Step(step)) => self.run(log, Some(ticket), step),
            Ok(First::Close(place)) => self.close(log, Some(ticket), place),
            Err(Answer { result, buffer }) => {
                self.finished.push_back((log, Completion { ticket, result, buffer }));
            }
        }
    }

    fn first_step(&mut self, log: LogKey, operation: Operation) -> Result<First, Answer> {
        let step = match operation {
            Operation::MakeDirectory => Step::MakeDirectory(self.paths(log)?),
            Operation::List => return Err(list(&self.paths(log)?.directory).into()),
            Operation::SyncDirectory => self.in_directory(log, InDirectory::Sync)?,
            Operation::Create { file } => {
                let what = InDirectory::Open { file, name: c_name(file), creates: true };
                self.in_directory(log, what)?
            }
            Operation::Open { file } => {
                if self.place(log, file).is_ok() {
                    return Err(Ok(Outcome::Done).into());
                }
                let what = InDirectory::Open { file, name: c_name(file), creates: false };
                self.in_directory(log, what)?
            }
            Operation::Close { file } => {
                let place = self.place(log, file)?;
                self.forget(log, file);
                return Ok(First::Close(place));
            }
            Operation::Preallocate { file, bytes } => {
                Step::Preallocate(bytes, self.lend(log, file)?)
            }
            Operation::Write { file, offset, buffer, range } => {
                let transfer = Transfer { writes: true, offset, buffer, range, done: 0 };
                self.transfer(log, file, transfer)?
            }
            Operation::Read { file, offset, buffer, range } => {
                let transfer = Transfer { writes: false, offset, buffer, range, done: 0 };
                self.transfer(log, file, transfer)?
            }
            Operation::Sync { file } => Step::Sync(self.lend(log, file)?),
            Operation::Rename { from, to } => {
                let names = [c_name(from), c_name(to)];
                self.in_directory(log, InDirectory::Rename { from, to, names, replaces: false })?
            }
            Operation::Remove { file } => {
                self.in_directory(log, InDirectory::Remove { file, name: c_name(file) })?
            }
        };
        Ok(First::Step(step))
    }

    fn transfer(
        &mut self,
        log: LogKey,
        file: FileName,
        transfer: Transfer,
    ) -> Result<Step, Answer> {
        if !transfer.is_valid() {
            return Err(Answer { result: Err(INVALID), buffer: Some(transfer.buffer) });
        }
        match self.lend(log, file) {
            Ok(loan) => Ok(Step::Transfer(transfer, loan)),
            Err(error) => Err(Answer { result: Err(error), buffer: Some(transfer.buffer) }),
        }
    }

    /// What is to be done in a log's directory, which is opened by the first to need it.
    fn in_directory(&mut self, log: LogKey, what: InDirectory) -> Result<Step, IoError> {
        let log = self.logs.get(&log).ok_or(NO_LOG)?;
        Ok(match log.directory {
            Some(place) => Step::InDirectory(what, self.descriptors.lend(place)),
            None => Step::OpenDirectory(Rc::clone(&log.paths), what),
        })
    }

    fn paths(&self, log: LogKey) -> Result<Rc<Paths>, IoError> {
        Ok(Rc::clone(&self.logs.get(&log).ok_or(NO_LOG)?.paths))
    }

    fn lend(&mut self, log: LogKey, file: FileName) -> Result<Loan, IoError> {
        let place = self.place(log, file)?;
        Ok(self.descriptors.lend(place))
    }
}

/// Names and sizes of the files in a directory. It waits for the disk.
fn list(directory: &Path) -> Result<Outcome, IoError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Outcome::Listing(Vec::new()));
        }
        entries => entries,
    };
    let listing = entries.and_then(|entries| {
        let mut listing = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                // A name that is no text is none of a log's.
                listing.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        Ok(listing)
    });
    let listing = listing.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
    listing.map(Outcome::Listing).map_err(|errno| IoError { errno })
}
