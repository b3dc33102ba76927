//! Makes the next segment ready before it is needed: a spare file or a new one, both headers
//! written and synced, and only then given its name.
//!
//! A file with a segment's name therefore always has a good header, whenever the power goes.

use crate::buffer::{AlignedBuffer, BLOCK_BYTES, BufferPool};
use crate::request::{FileName, IoError, Operation, Outcome};
use crate::segment::Identity;

/// How far the preparation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    MakeDirectory,
    Create,
    OpenSpare,
    Preallocate,
    WriteHeader,
    WriteCopy,
    Sync,
    Rename,
    SyncDirectory,
    /// There was no space for it: what it took meanwhile is given back.
    CloseBegun,
    RemoveBegun,
}

/// What a completion meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The next step is to be asked for.
    Next,
    /// The segment is ready and open.
    Ready,
    /// It cannot go on now; asking for the same step again later may help.
    Blocked(IoError),
    /// A sync failed: nothing may be trusted any more.
    Failed(IoError),
}

/// One segment being made.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) identity: Identity,
    /// The spare's name until the last steps.
    file: FileName,
    step: Step,
    buffer: Option<AlignedBuffer>,
    retries: u32,
    pub(crate) blocked: Option<IoError>,
    /// Why the file that was begun is being removed.
    no_space: Option<IoError>,
}

/// How often a step that did not run is asked for again at once.
const RETRIES_MAX: u32 = 8;

impl Preparation {
    /// Begins with a spare file or, without one, with a new file, in a directory that may not be
    /// there yet.
    pub(crate) fn new(
        identity: Identity,
        spare: Option<FileName>,
        has_directory: bool,
        pool: &mut BufferPool,
    ) -> Option<Self> {
        let mut buffer = pool.take(BLOCK_BYTES)?;
        identity.write(&mut buffer);
        let step = match spare {
            Some(_) => Step::OpenSpare,
            None if has_directory => Step::Create,
            None => Step::MakeDirectory,
        };
        Some(Self {
            identity,
            file: spare.unwrap_or(FileName::Spare(identity.id)),
            step,
            buffer: Some(buffer),
            retries: 0,
            blocked: None,
            no_space: None,
        })
    }

    /// Whether it waits for space, and nothing was begun: it could be of another size.
    pub(crate) fn is_without_space(&self) -> bool {
        self.step == Step::Create && self.blocked.is_some_and(IoError::is_no_space)
    }

    /// Goes on with another size, or with a spare of that size, while it is without space.
    pub(crate) fn resize(&mut self, bytes: u64, spare: Option<FileName>) {
        self.identity.bytes = bytes;
        if let Some(buffer) = &mut self.buffer {
            self.identity.write(buffer);
        }
        if let Some(file) = spare {
            (self.file, self.step) = (file, Step::OpenSpare);
        }
    }

    /// The current step as an operation.
    pub(crate) fn operation(&mut self) -> Operation {
        self.blocked = None;
        let (file, segment) = (self.file, FileName::Segment(self.identity.id));
        match self.step {
            Step::MakeDirectory => Operation::MakeDirectory,
            Step::Create => Operation::Create { file },
            Step::OpenSpare => Operation::Open { file },
            Step::Preallocate => Operation::Preallocate { file, bytes: self.identity.bytes },
            Step::WriteHeader => self.write(0),
            Step::WriteCopy => self.write(self.identity.copy_offset()),
            Step::Sync => Operation::Sync { file },
            Step::Rename => Operation::Rename { from: file, to: segment },
            Step::SyncDirectory => Operation::SyncDirectory,
            Step::CloseBegun => Operation::Close { file },
            Step::RemoveBegun => Operation::Remove { file },
        }
    }

    /// Takes the answer to [`Self::operation`].
    pub(crate) fn complete(
        &mut self,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
        pool: &mut BufferPool,
    ) -> Progress {
        self.buffer = buffer.or(self.buffer.take());
        match result {
            Ok(Outcome::Bytes(bytes)) if *bytes < BLOCK_BYTES => self.retry(IoError::NO_SPACE),
            Ok(_) => self.advance(pool),
            Err(error) if self.is_sync() && !error.did_not_run() => Progress::Failed(*error),
            Err(error) if error.is_transient() => self.retry(*error),
            // A filesystem may keep what it allocated before it found that there is not enough.
            Err(error) if self.step == Step::Preallocate && error.is_no_space() => {
                self.no_space = Some(*error);
                self.step = Step::CloseBegun;
                Progress::Next
            }
            // What cannot be removed is a spare at the next start.
            Err(_) if matches!(self.step, Step::CloseBegun | Step::RemoveBegun) => {
                self.advance(pool)
            }
            Err(error) => self.block(*error),
        }
    }

    /// Gives up; the file stays a spare, or an empty segment.
    pub(crate) fn abandon(self, pool: &mut BufferPool) {
        if let Some(buffer) = self.buffer {
            pool.give(buffer);
        }
    }

    fn is_sync(&self) -> bool {
        matches!(self.step, Step::Sync | Step::SyncDirectory)
    }

    fn retry(&mut self, error: IoError) -> Progress {
        self.retries += 1;
        if self.retries > RETRIES_MAX { self.block(error) } else { Progress::Next }
    }

    fn block(&mut self, error: IoError) -> Progress {
        self.retries = 0;
        self.blocked = Some(error);
        if self.step == Step::Create && error.lacks_directory() {
            // What has the directory's name is no directory, or it was removed.
            self.step = Step::MakeDirectory;
        }
        Progress::Blocked(error)
    }

    fn advance(&mut self, pool: &mut BufferPool) -> Progress {
        self.retries = 0;
        self.step = match self.step {
            Step::MakeDirectory => Step::Create,
            Step::Create => Step::Preallocate,
            Step::OpenSpare | Step::Preallocate => Step::WriteHeader,
            Step::WriteHeader => Step::WriteCopy,
            Step::WriteCopy => Step::Sync,
            Step::Sync => Step::Rename,
            Step::Rename => Step::SyncDirectory,
            Step::CloseBegun => Step::RemoveBegun,
            Step::RemoveBegun => {
                self.step = Step::Create;
                let error = self.no_space.take().unwrap_or(IoError::NO_SPACE);
                return self.block(error);
            }
            Step::SyncDirectory => {
                pool.give(self.buffer.take().expect("it came back with the last write"));
                return Progress::Ready;
            }
        };
        Progress::Next
    }

    fn write(&mut self, offset: u64) -> Operation {
        let buffer = self.buffer.take().expect("it is here between writes");
        Operation::Write { file: self.file, offset, buffer, range: 0..BLOCK_BYTES }
    }
}
