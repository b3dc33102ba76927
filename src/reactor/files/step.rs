//! The steps of a request, each one operation of the ring.
#![expect(unsafe_code, reason = "descriptors are taken from completions here")]

use std::ffi::{CStr, CString};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use ringmain_storage::buffer::{AlignedBuffer, BLOCK_BYTES};
use ringmain_storage::request::{FileName, IoError, LogKey, Outcome, Ticket};

use super::table::{Loan, Paths};
use crate::limits;

const FILE_MODE: libc::mode_t = 0o600;
const DIRECTORY_MODE: libc::mode_t = 0o700;

/// A link in a log's place is not followed: nothing of a log is ever one.
const OPEN_FLAGS: i32 = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOFOLLOW;
const CREATE_FLAGS: i32 = OPEN_FLAGS | libc::O_CREAT | libc::O_EXCL;
const DIRECTORY_FLAGS: i32 = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY;

/// A request under way.
pub(super) struct Running {
    pub(super) log: LogKey,
    /// `None` when nobody waits for the answer.
    pub(super) ticket: Option<Ticket>,
    pub(super) step: Step,
    pub(super) retries: u8,
}

/// What the kernel has been asked for, with all memory it may touch.
pub(super) enum Step {
    /// Nothing. A close that waits for other operations on its descriptor, or a step being changed.
    None,
    /// Make a log's directory.
    MakeDirectory(Rc<Paths>),
    /// Open the directory it was made in.
    OpenParent(Rc<Paths>),
    /// Make its entry durable.
    SyncParent(OwnedFd),
    /// Open a log's directory, for what is then to be done in it.
    OpenDirectory(Rc<Paths>, InDirectory),
    /// An operation on names.
    InDirectory(InDirectory, Loan),
    /// Reserve space from the beginning of a file.
    Preallocate(u64, Loan),
    /// Make writes durable.
    Sync(Loan),
    /// Read or write.
    Transfer(Transfer, Loan),
    /// Close a descriptor that has left the tables.
    Close(RawFd),
}

/// An operation relative to a log's directory.
pub(super) enum InDirectory {
    Sync,
    Open { file: FileName, name: CString, creates: bool },
    Rename { from: FileName, to: FileName, names: [CString; 2], replaces: bool },
    Remove { file: FileName, name: CString },
}

/// A read or write and how far it has come.
pub(super) struct Transfer {
    pub(super) writes: bool,
    pub(super) offset: u64,
    pub(super) buffer: AlignedBuffer,
    pub(super) range: Range<usize>,
    pub(super) done: usize,
}

/// The name as the kernel reads it.
pub(super) fn c_name(file: FileName) -> CString {
    CString::new(file.to_string()).expect("a log's names have no NUL")
}

/// The descriptor that the completion of an open brought. To be called once per completion.
pub(super) fn opened(result: i32) -> Option<OwnedFd> {
    // SAFETY: the kernel has made this descriptor for us and told nobody else; a completion is
    // popped once.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}

/// The descriptor of a close that did not run.
pub(super) fn not_closed(raw: RawFd) -> OwnedFd {
    // SAFETY: it was given up for the ring to close; as that did not happen, nobody has it now.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

impl Running {
    /// Whether a step that ended so is to be repeated as it was, at most
    /// [`limits::FILE_RETRIES_MAX`] times.
    pub(super) fn tries_again(&mut self, result: i32) -> bool {
        let repeats = match -result {
            libc::EAGAIN => self.step.runs_again(),
            libc::EINTR => self.step.runs_again() && self.step.is_repeatable(),
            _ => false,
        };
        let repeats = repeats && self.retries < limits::FILE_RETRIES_MAX;
        self.retries += u8::from(repeats);
        repeats
    }
}

impl Step {
    /// A sync that failed must never be asked for again by anyone but the log, which knows what it
    /// means; a descriptor is closed however its close ended.
    fn runs_again(&self) -> bool {
        !matches!(
            self,
            Self::Sync(_)
                | Self::SyncParent(_)
                | Self::InDirectory(InDirectory::Sync, _)
                | Self::Close(_)
        )
    }

    /// Whether doing it twice is like doing it once: the first may have happened.
    fn is_repeatable(&self) -> bool {
        !matches!(
            self,
            Self::InDirectory(
                InDirectory::Open { creates: true, .. }
                    | InDirectory::Rename { .. }
                    | InDirectory::Remove { .. },
                _
            )
        )
    }

    /// The operation of the ring. What it points to is in `self`, on the heap, and stays there
    /// unchanged until its completion.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::None => opcode::Nop::new().build(),
            Self::MakeDirectory(paths) => {
                opcode::MkDirAt::new(Fd(libc::AT_FDCWD), paths.directory().as_ptr())
                    .mode(DIRECTORY_MODE)
                    .build()
            }
            Self::OpenParent(paths) => open_directory(paths.parent()),
            Self::OpenDirectory(paths, _) => open_directory(paths.directory()),
            Self::SyncParent(parent) => opcode::Fsync::new(Fd(parent.as_raw_fd())).build(),
            Self::InDirectory(what, directory) => what.entry(Fd(directory.raw)),
            Self::Preallocate(bytes, file) => opcode::Fallocate::new(Fd(file.raw), *bytes).build(),
            Self::Sync(file) => {
                opcode::Fsync::new(Fd(file.raw)).flags(FsyncFlags::DATASYNC).build()
            }
            Self::Transfer(transfer, file) => transfer.entry(Fd(file.raw)),
            // By a worker of the kernel: if the file has been removed, its space is freed here.
            Self::Close(raw) => opcode::Close::new(Fd(*raw)).build().flags(squeue::Flags::ASYNC),
        }
    }
}

fn open_directory(path: &CStr) -> squeue::Entry {
    opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(DIRECTORY_FLAGS).build()
}

impl InDirectory {
    fn entry(&self, directory: Fd) -> squeue::Entry {
        match self {
            Self::Sync => opcode::Fsync::new(directory).build(),
            Self::Open { name, creates, .. } => opcode::OpenAt::new(directory, name.as_ptr())
                .flags(if *creates { CREATE_FLAGS } else { OPEN_FLAGS })
                .mode(FILE_MODE)
                .build(),
            Self::Rename { names: [from, to], replaces, .. } => {
                opcode::RenameAt::new(directory, from.as_ptr(), directory, to.as_ptr())
                    .flags(if *replaces { 0 } else { libc::RENAME_NOREPLACE })
                    .build()
            }
            Self::Remove { name, .. } => opcode::UnlinkAt::new(directory, name.as_ptr()).build(),
        }
    }
}

impl Transfer {
    /// Whether direct I/O can carry it out, and the buffer holds it.
    pub(super) fn is_valid(&self) -> bool {
        let Range { start, end } = self.range;
        start <= end
            && end <= self.buffer.capacity_bytes()
            && start.is_multiple_of(BLOCK_BYTES)
            && end.is_multiple_of(BLOCK_BYTES)
            && self.offset.is_multiple_of(BLOCK_BYTES as u64)
            && self.offset <= i64::MAX as u64 - end as u64
    }

    /// Bytes asked for.
    pub(super) fn wanted(&self) -> usize {
        self.range.len()
    }

    fn entry(&mut self, file: Fd) -> squeue::Entry {
        let offset = self.offset + self.done as u64;
        let at = self.range.start + self.done;
        let length = (self.range.end - at).min(limits::FILE_TRANSFER_BYTES_MAX);
        let bytes = &mut self.buffer.as_mut_bytes()[at..at + length];
        let length = u32::try_from(length).expect("bounded by the line above");
        if self.writes {
            opcode::Write::new(file, bytes.as_ptr(), length).offset(offset).build()
        } else {
            opcode::Read::new(file, bytes.as_mut_ptr(), length).offset(offset).build()
        }
    }

    /// Notes what was transferred; true when there is more to ask for.
    ///
    /// Direct I/O goes on at a whole block only. A write goes back to the beginning of a block that
    /// was written in part; a read that ends within one has found the end of the file.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        let is_whole = bytes.is_multiple_of(BLOCK_BYTES);
        self.done += if self.writes { bytes - bytes % BLOCK_BYTES } else { bytes };
        let goes_on = if self.writes { bytes >= BLOCK_BYTES } else { bytes > 0 && is_whole };
        goes_on && self.done < self.wanted()
    }
}

/// A result of the kernel as the vocabulary has it.
pub(super) fn checked(result: i32) -> Result<Outcome, IoError> {
    if result < 0 { Err(IoError { errno: -result }) } else { Ok(Outcome::Done) }
}
