//! Requests for files of the logs, carried out on the ring.
#![expect(unsafe_code, reason = "operations are given to the kernel here")]

use std::io;
use std::path::Path;

use io_uring::cqueue;
use ringmain_storage::request::{LogKey, Request};

use super::super::Completion;
use super::super::files::Files;
use super::Uring;
use super::user_data::{Operation, UserData};

/// Takes the last answer to an operation on a file when nothing is to follow.
pub(super) fn discard(files: &mut Files, entry: &cqueue::Entry) {
    let user_data = UserData::unpack(entry.user_data());
    if let Some(UserData { operation: Operation::File, index, .. }) = user_data {
        files.discard(index, entry.result());
    }
}

impl Uring {
    /// Says where a log lies: all its files are in `directory`, which need not be there yet, but
    /// whose parent must be when it is made. Opens nothing by itself.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when the log is open, `InvalidInput` for a path with a NUL in it.
    pub fn open_log(&mut self, log: LogKey, directory: &Path) -> io::Result<()> {
        self.files.open_log(log, directory)
    }

    /// Closes whatever is open of a log, as soon as its outstanding requests have ended; they are
    /// answered as ever, and new ones with `ENOENT`. The key may be used again after that.
    pub fn close_log(&mut self, log: LogKey) {
        self.files.close_log(log);
        self.push_files();
    }

    /// Asks for something to be done with a file of a log. The answer is a
    /// [`Completion::File`], at the earliest with the next call of [`next`](Self::next).
    ///
    /// Nothing waits for the disk here but for the request to list a directory, which the ring
    /// does not have: it is for start-up. Files are opened for direct I/O where there is such a
    /// thing, else see [`Completion::FilesBuffered`]. A request is answered with the system's error
    /// number if it fails; with `EBADF` when its file is not open, `ENOENT` when its log is not,
    /// and `EINVAL` when offset or range are not whole blocks of the buffer. An operation that was
    /// interrupted or did not run is tried again a few times, but never a sync.
    pub fn submit_file(&mut self, request: Request) {
        self.files.submit(request);
        self.push_files();
    }

    /// Takes the kernel's answer to one step of a request.
    pub(super) fn file_step_ended(&mut self, index: u32, result: i32) {
        self.files.complete(index, result, &mut self.counters);
        self.push_files();
    }

    /// The next answer to a request.
    pub(super) fn next_file(&mut self) -> Option<Completion> {
        if let Some(log) = self.files.next_buffered() {
            return Some(Completion::FilesBuffered { log });
        }
        let (log, completion) = self.files.next_finished()?;
        Some(Completion::File { log, completion })
    }

    fn push_files(&mut self) {
        while let Some((index, entry)) = self.files.next_entry() {
            self.counters.file_operations += 1;
            let user_data = UserData::of_reactor(Operation::File, index).pack();
            // SAFETY: hazard 1. Paths and buffers are the request's, which stays among those under
            // way, with this step unchanged, until the completion of this operation.
            unsafe { self.queue.push(entry.user_data(user_data)) };
        }
    }
}
