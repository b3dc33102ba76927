//! Files of the logs: what the storage package asks for, as operations of the ring.
//!
//! This is the machine between the two: requests go in, entries for the ring come out, the results
//! of the kernel go in, completions come out. It makes no system call that can wait but for
//! [`Operation::List`](ringmain_storage::request::Operation::List), which is for start-up.
//!
//! Every request is one [`Running`], at one [`Step`] at a time, which owns every path and buffer
//! the kernel may touch: they come back, or are freed, only with the completion of that step.

mod begin;
mod end;
mod step;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use io_uring::squeue;
use ringmain_storage::buffer::AlignedBuffer;
use ringmain_storage::request::{Completion, FileName, IoError, LogKey, Outcome, Request, Ticket};
use slab::Slab;

use super::Counters;
use crate::limits;
use step::{InDirectory, Running, Step, not_closed, opened};
use table::{Descriptors, Loan, Log, Logs, Paths};

const BAD_FILE: IoError = IoError { errno: libc::EBADF };
const NO_LOG: IoError = IoError { errno: libc::ENOENT };

/// Logs, their open files, and requests under way.
#[derive(Default)]
pub(super) struct Files {
    logs: Logs,
    descriptors: Descriptors,
    running: Slab<Running>,
    /// Places in `running` whose step is to be given to the ring.
    due: VecDeque<usize>,
    /// Requests beyond [`limits::FILE_REQUESTS_MAX`], oldest first.
    waiting: VecDeque<Request>,
    finished: VecDeque<(LogKey, Completion)>,
    /// The first log found on a filesystem without direct I/O, until its caller is told.
    buffered: Option<LogKey>,
    has_buffered: bool,
}

impl Files {
    pub(super) fn open_log(&mut self, log: LogKey, directory: &Path) -> io::Result<()> {
        if self.logs.contains_key(&log) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let paths = Rc::new(Paths::new(directory)?);
        self.logs.insert(log, Log { paths, directory: None, files: BTreeMap::new() });
        Ok(())
    }

    pub(super) fn close_log(&mut self, log: LogKey) {
        let Some(Log { directory, files, .. }) = self.logs.remove(&log) else { return };
        for place in files.into_values().chain(directory) {
            self.close(log, None, place);
        }
    }

    /// Takes a request; its answer will be among the finished, perhaps at once.
    pub(super) fn submit(&mut self, request: Request) {
        if self.running.len() < limits::FILE_REQUESTS_MAX && self.waiting.is_empty() {
            self.start(request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// The next operation for the ring, and what its completion is to be given back with.
    pub(super) fn next_entry(&mut self) -> Option<(u32, squeue::Entry)> {
        let index = self.due.pop_front()?;
        let running = self.running.get_mut(index).expect("what is due is running");
        let index = u32::try_from(index).expect("as few as FILE_REQUESTS_MAX, and closes");
        Some((index, running.step.entry()))
    }

    /// The next answer.
    pub(super) fn next_finished(&mut self) -> Option<(LogKey, Completion)> {
        self.finished.pop_front()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.finished.is_empty() || self.buffered.is_some()
    }

    /// The log on whose account the caller is to be told that direct I/O is not to be had.
    pub(super) fn next_buffered(&mut self) -> Option<LogKey> {
        self.buffered.take()
    }

    /// Takes the kernel's answer to an entry.
    pub(super) fn complete(&mut self, index: u32, result: i32, counters: &mut Counters) {
        let index = index as usize;
        let Some(running) = self.running.get_mut(index) else {
            debug_assert!(false, "a completion nobody asked for");
            return;
        };
        if running.tries_again(result) {
            counters.file_retries += 1;
            self.due.push_back(index);
            return;
        }
        let step = mem::replace(&mut running.step, Step::None);
        self.step_ended(index, step, result, counters);
        while self.running.len() < limits::FILE_REQUESTS_MAX
            && let Some(request) = self.waiting.pop_front()
        {
            self.start(request);
        }
    }

    /// Takes the kernel's last answer to an entry when nothing is to follow.
    pub(super) fn discard(&mut self, index: u32, result: i32) {
        let Some(running) = self.running.try_remove(index as usize) else { return };
        match running.step {
            Step::OpenParent(_)
            | Step::OpenDirectory(..)
            | Step::InDirectory(InDirectory::Open { .. }, _) => drop(opened(result)),
            Step::Close(raw) if result == -libc::ECANCELED => drop(not_closed(raw)),
            _ => {}
        }
    }

    fn run(&mut self, log: LogKey, ticket: Option<Ticket>, step: Step) {
        let index = self.running.insert(Running { log, ticket, step, retries: 0 });
        self.due.push_back(index);
    }

    fn go_on(&mut self, index: usize, step: Step) {
        let running = &mut self.running[index];
        running.step = step;
        running.retries = 0;
        self.due.push_back(index);
    }

    fn finish(
        &mut self,
        index: usize,
        result: Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
    ) {
        let Running { log, ticket, .. } = self.running.remove(index);
        if let Some(ticket) = ticket {
            self.finished.push_back((log, Completion { ticket, result, buffer }));
        }
    }

    /// Closes a descriptor that has left the names, once nobody uses it any more.
    fn close(&mut self, log: LogKey, ticket: Option<Ticket>, place: usize) {
        let index = self.running.insert(Running { log, ticket, step: Step::None, retries: 0 });
        if let Some(descriptor) = self.descriptors.close(place, index) {
            self.go_on(index, Step::Close(descriptor.into_raw_fd()));
        }
    }

    /// Closes a descriptor that nobody knows.
    fn dismiss(&mut self, descriptor: OwnedFd) {
        // The log does not matter: nothing is looked up when nobody waits.
        self.run(LogKey(0), None, Step::Close(descriptor.into_raw_fd()));
    }

    fn take_back(&mut self, loan: Loan) {
        if let Some((closer, descriptor)) = self.descriptors.take_back(loan) {
            self.go_on(closer, Step::Close(descriptor.into_raw_fd()));
        }
    }

    fn place(&self, log: LogKey, file: FileName) -> Result<usize, IoError> {
        let log = self.logs.get(&log).ok_or(NO_LOG)?;
        log.files.get(&file).copied().ok_or(BAD_FILE)
    }

    /// Gives an open file a name. One that had the name is closed.
    fn know(&mut self, log: LogKey, file: FileName, place: usize) {
        let files = self.logs.get_mut(&log).map(|log| &mut log.files);
        let before = files.and_then(|files| files.insert(file, place));
        if let Some(before) = before {
            self.close(log, None, before);
        }
    }

    fn forget(&mut self, log: LogKey, file: FileName) -> Option<usize> {
        self.logs.get_mut(&log)?.files.remove(&file)
    }
}
