//! The I/O vocabulary: what a log asks for and what it is told, whoever executes it: the shard's
//! ring, plain files, or a simulated disk.
//!
//! A request is a value. Buffers move into it and come back with its completion, so nothing
//! borrows memory the kernel may write to. All names are relative to the log's own directory.

use crate::buffer::AlignedBuffer;
use crate::segment::SegmentId;
use std::fmt;
use std::ops::Range;

/// Which log of a shard a request belongs to; chosen by whoever opens the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey(pub u32);

/// One thing to be done on behalf of a log.
#[derive(Debug)]
pub struct Request {
    /// The log that asks.
    pub log: LogKey,
    /// To be returned with the completion.
    pub ticket: Ticket,
    /// What to do.
    pub operation: Operation,
}

/// What a request asks for. Requests of one log that are outstanding at the same time are
/// independent and may be executed in any order.
#[derive(Debug)]
pub enum Operation {
    /// Make the log's directory unless it is there, and make its entry durable.
    MakeDirectory,
    /// Name everything in the log's directory; no directory is an empty one.
    List,
    /// Make all changes of names in the log's directory durable.
    SyncDirectory,
    /// Make a file that was not there, and open it for reading and writing.
    Create {
        /// Its name.
        file: FileName,
    },
    /// Open a file that is there for reading and writing.
    Open {
        /// Its name.
        file: FileName,
    },
    /// Forget an open file.
    Close {
        /// Its name.
        file: FileName,
    },
    /// Reserve space, so that writing within it cannot fail for want of it. Never shrinks a file.
    Preallocate {
        /// An open file.
        file: FileName,
        /// The size it shall have.
        bytes: u64,
    },
    /// Write part of a buffer; offset and range are multiples of a block.
    Write {
        /// An open file.
        file: FileName,
        /// Where in the file the range goes.
        offset: u64,
        /// Comes back with the completion.
        buffer: AlignedBuffer,
        /// The part to be written.
        range: Range<usize>,
    },
    /// Fill part of a buffer; offset and range are multiples of a block.
    Read {
        /// An open file.
        file: FileName,
        /// Where in the file the range comes from.
        offset: u64,
        /// Comes back with the completion.
        buffer: AlignedBuffer,
        /// The part to be filled.
        range: Range<usize>,
    },
    /// Make all completed writes of a file durable, with its size.
    Sync {
        /// An open file.
        file: FileName,
    },
    /// Give a file another name; an open file stays open under the new one.
    Rename {
        /// The name it has.
        from: FileName,
        /// The name it gets; nothing has it.
        to: FileName,
    },
    /// Remove a file that is not open.
    Remove {
        /// Its name.
        file: FileName,
    },
}

/// Tells a log which of its requests a completion answers. Only the log looks inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(crate) Purpose);

impl Ticket {
    /// For requests that are made without a log; none may be told of their completion. The number
    /// tells them apart.
    pub fn without_log(number: usize) -> Self {
        Self(Purpose::Read(number))
    }
}

/// Why a log asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The group commit's next step.
    Commit,
    /// The next segment's preparation.
    Prepare,
    /// The checkpoint's next step.
    Checkpoint,
    /// The reclaiming of one segment.
    Reclaim,
    /// A segment is opened for reading.
    Open(SegmentId),
    /// A read-ahead block, by its place among the outstanding reads.
    Read(usize),
    /// A segment's file is closed.
    Close(SegmentId),
    /// Recovery, which waits for each answer.
    Recover,
}

/// The answer to a request. Every request gets exactly one.
#[derive(Debug)]
pub struct Completion {
    /// The request's.
    pub ticket: Ticket,
    /// What came of it.
    pub result: Result<Outcome, IoError>,
    /// The buffer of a read or write.
    pub buffer: Option<AlignedBuffer>,
}

/// What a successful request brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// How much was read or written; fewer than asked for is not an error, and the log asks again.
    Bytes(usize),
    /// Names and sizes of all files in the directory.
    Listing(Vec<(String, u64)>),
}

/// Executes requests one by one and waits for each: real files for tools and start-up, simulated
/// ones for tests.
pub trait Disk {
    /// Executes one request.
    fn execute(&mut self, request: Request) -> Completion;
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoError {
    /// The system's error number.
    pub errno: i32,
}

/// Error numbers the log tells apart (Linux, all architectures).
const ENOENT: i32 = 2;
const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOTDIR: i32 = 20;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const ECANCELED: i32 = 125;

impl IoError {
    /// The device failed.
    pub const DEVICE: Self = Self { errno: EIO };
    /// No space is left.
    pub const NO_SPACE: Self = Self { errno: ENOSPC };
    /// A signal came first.
    pub const INTERRUPTED: Self = Self { errno: EINTR };
    /// Not now.
    pub const AGAIN: Self = Self { errno: EAGAIN };
    /// An operation it was linked to failed.
    pub const CANCELED: Self = Self { errno: ECANCELED };

    /// Whether space, or the right to it, ran out.
    pub fn is_no_space(self) -> bool {
        matches!(self.errno, ENOSPC | EDQUOT)
    }

    /// Whether there is no directory to work in.
    pub(crate) fn lacks_directory(self) -> bool {
        matches!(self.errno, ENOENT | ENOTDIR)
    }

    /// Whether the operation may simply be asked for again.
    pub(crate) fn is_transient(self) -> bool {
        matches!(self.errno, EINTR | EAGAIN | ECANCELED)
    }

    /// Whether the operation certainly did not run. For a sync nothing less will do: one that
    /// ran and failed must never be tried again.
    pub(crate) fn did_not_run(self) -> bool {
        matches!(self.errno, EAGAIN | ECANCELED)
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.errno).fmt(f)
    }
}

impl std::error::Error for IoError {}

/// One of the two places a checkpoint is written to in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// `checkpoint.a`
    A,
    /// `checkpoint.b`
    B,
}

impl Slot {
    /// The one to use after this one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A file in a log's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// `0000000000000007.segment`: part of the log.
    Segment(SegmentId),
    /// `0000000000000007.spare`: holds nothing anyone needs; becomes a segment.
    Spare(SegmentId),
    /// `0000000000000007.damaged`: was part of the log, every cursor has passed it, and it is kept
    /// because some of it could not be read.
    Damaged(SegmentId),
    /// `checkpoint.a` or `checkpoint.b`.
    Checkpoint(Slot),
}

impl FileName {
    /// The file of that name; `None` for names a log never gives.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "checkpoint.a" => return Some(Self::Checkpoint(Slot::A)),
            "checkpoint.b" => return Some(Self::Checkpoint(Slot::B)),
            _ => {}
        }
        let (digits, kind) = name.split_once('.')?;
        let is_number = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit());
        let id = SegmentId(digits.parse().ok().filter(|_| is_number)?);
        match kind {
            "segment" => Some(Self::Segment(id)),
            "spare" => Some(Self::Spare(id)),
            "damaged" => Some(Self::Damaged(id)),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(SegmentId(id)) => write!(f, "{id:016}.segment"),
            Self::Spare(SegmentId(id)) => write!(f, "{id:016}.spare"),
            Self::Damaged(SegmentId(id)) => write!(f, "{id:016}.damaged"),
            Self::Checkpoint(Slot::A) => f.write_str("checkpoint.a"),
            Self::Checkpoint(Slot::B) => f.write_str("checkpoint.b"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_go_there_and_back() {
        let id = SegmentId(42);
        let names = [
            (FileName::Segment(id), "0000000000000042.segment"),
            (FileName::Spare(id), "0000000000000042.spare"),
            (FileName::Damaged(id), "0000000000000042.damaged"),
            (FileName::Checkpoint(Slot::A), "checkpoint.a"),
            (FileName::Checkpoint(Slot::B), "checkpoint.b"),
        ];
        for (file, name) in names {
            assert_eq!(file.to_string(), name);
            assert_eq!(FileName::parse(name), Some(file));
        }
        let strange = ["", "42.segment", "+000000000000042.segment", "0000000000000042.seg", "x.y"];
        for name in strange {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
