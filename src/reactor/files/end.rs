//! What follows each step, and the outcome of every request.

use ringmain_storage::request::{FileName, IoError, LogKey, Outcome};
use rustix::fs::{OFlags, fcntl_setfl};

use super::super::Counters;
use super::step::{InDirectory, Step, Transfer, checked, opened};
use super::table::Loan;
use super::{Files, NO_LOG};

impl Files {
    /// What follows a step.
    pub(super) fn step_ended(
        &mut self,
        index: usize,
        step: Step,
        result: i32,
        counters: &mut Counters,
    ) {
        match step {
            Step::None => debug_assert!(false, "an answer without a question"),
            Step::MakeDirectory(paths) if result >= 0 || result == -libc::EEXIST => {
                self.go_on(index, Step::OpenParent(paths));
            }
            Step::MakeDirectory(_) => self.finish(index, checked(result), None),
            Step::OpenParent(_) => match opened(result) {
                Some(parent) => self.go_on(index, Step::SyncParent(parent)),
                None => self.finish(index, checked(result), None),
            },
            Step::SyncParent(parent) => {
                self.dismiss(parent);
                self.finish(index, checked(result), None);
            }
            Step::OpenDirectory(_, what) => match self.directory_opened(index, result) {
                Ok(loan) => self.go_on(index, Step::InDirectory(what, loan)),
                Err(error) => self.finish(index, Err(error), None),
            },
            Step::InDirectory(what, loan) => self.in_directory_ended(index, what, loan, result),
            Step::Preallocate(_, loan) | Step::Sync(loan) => {
                self.take_back(loan);
                self.finish(index, checked(result), None);
            }
            Step::Transfer(transfer, loan) => {
                self.transferred(index, transfer, loan, result, counters);
            }
            // It did not run.
            Step::Close(raw) if result == -libc::ECANCELED => self.go_on(index, Step::Close(raw)),
            // Linux has closed it whatever it says.
            Step::Close(_) if result == -libc::EINTR => self.finish(index, checked(0), None),
            Step::Close(_) => self.finish(index, checked(result), None),
        }
    }

    /// Keeps a log's directory, unless another request has opened it meanwhile.
    fn directory_opened(&mut self, index: usize, result: i32) -> Result<Loan, IoError> {
        let Some(descriptor) = opened(result) else { return Err(IoError { errno: -result }) };
        let log = self.running.get(index).and_then(|running| self.logs.get_mut(&running.log));
        let Some(log) = log else {
            self.dismiss(descriptor);
            return Err(NO_LOG);
        };
        if let Some(place) = log.directory {
            self.dismiss(descriptor);
            return Ok(self.descriptors.lend(place));
        }
        let place = self.descriptors.insert(descriptor);
        log.directory = Some(place);
        Ok(self.descriptors.lend(place))
    }

    fn in_directory_ended(&mut self, index: usize, what: InDirectory, loan: Loan, result: i32) {
        let log = self.running[index].log;
        let what = match what {
            // Some filesystems cannot check that the new name is free; the log has seen to it.
            InDirectory::Rename { from, to, names, replaces: false } if result == -libc::EINVAL => {
                let what = InDirectory::Rename { from, to, names, replaces: true };
                return self.go_on(index, Step::InDirectory(what, loan));
            }
            what => what,
        };
        self.take_back(loan);
        let outcome = match what {
            InDirectory::Open { file, .. } => self.file_opened(log, file, result),
            InDirectory::Rename { from, to, .. } if result >= 0 => {
                if let Some(place) = self.forget(log, from) {
                    self.know(log, to, place);
                }
                Ok(Outcome::Done)
            }
            InDirectory::Remove { file, .. } if result >= 0 => {
                if let Some(place) = self.forget(log, file) {
                    self.close(log, None, place);
                }
                Ok(Outcome::Done)
            }
            InDirectory::Sync | InDirectory::Rename { .. } | InDirectory::Remove { .. } => {
                checked(result)
            }
        };
        self.finish(index, outcome, None);
    }

    /// Keeps an open file, for direct I/O where the filesystem has it.
    fn file_opened(
        &mut self,
        log: LogKey,
        file: FileName,
        result: i32,
    ) -> Result<Outcome, IoError> {
        let Some(descriptor) = opened(result) else { return checked(result) };
        // Not with the open itself: where direct I/O is refused, a file would be left behind that
        // can then not be created. This changes a flag in memory and does not wait.
        match fcntl_setfl(&descriptor, OFlags::DIRECT) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => self.note_buffered(log),
            Err(errno) => {
                self.dismiss(descriptor);
                return Err(IoError { errno: errno.raw_os_error() });
            }
        }
        if !self.logs.contains_key(&log) {
            self.dismiss(descriptor);
            return Err(NO_LOG);
        }
        let place = self.descriptors.insert(descriptor);
        self.know(log, file, place);
        Ok(Outcome::Done)
    }

    fn note_buffered(&mut self, log: LogKey) {
        if !self.has_buffered {
            self.has_buffered = true;
            self.buffered = Some(log);
        }
    }

    fn transferred(
        &mut self,
        index: usize,
        mut transfer: Transfer,
        loan: Loan,
        result: i32,
        counters: &mut Counters,
    ) {
        let bytes = usize::try_from(result).unwrap_or(0);
        let total = if transfer.writes {
            &mut counters.file_written_bytes
        } else {
            &mut counters.file_read_bytes
        };
        *total += bytes as u64;
        if transfer.advance(bytes) {
            counters.file_continuations += 1;
            return self.go_on(index, Step::Transfer(transfer, loan));
        }
        self.take_back(loan);
        let outcome = match checked(result) {
            // What was written before space ran out is written; the log asks for the rest.
            Err(error) if !(error.is_no_space() && transfer.done > 0) => Err(error),
            _ => Ok(Outcome::Bytes(transfer.done)),
        };
        self.finish(index, outcome, Some(transfer.buffer));
    }
}
