//! Group commit: one block on its way to disk at a time. Everything appended meanwhile is the next.
//!
//! A write that finds no space keeps its block and waits. A write that fails otherwise, or any
//! sync that fails, ends the log: after a failed sync the kernel may call the same pages clean, so
//! that trying again would report success for data that is nowhere.

use crate::append::Staged;
use crate::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::request::{FileName, IoError, Operation, Outcome};
use crate::segment::SegmentId;

/// How often a step that did not run, or wrote nothing, is asked for again at once.
const RETRIES_MAX: u32 = 8;

/// What happens to a block.
#[derive(Debug)]
enum Phase {
    /// Its first bytes are written, as many as are said.
    Writing(usize),
    /// It waits for space.
    Blocked(usize, IoError),
    Syncing,
}

/// What a completion meant.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The current step is to be asked for (again).
    Next,
    /// The block is written.
    Written,
    /// Everything written is durable.
    Synced,
    /// No space; the block waits for [`Commit::operation`] to be asked for again.
    Blocked(IoError),
    /// The log has failed.
    Failed(IoError),
}

/// A commit, or a sync of what was committed before.
#[derive(Debug)]
pub(crate) struct Commit {
    segment: SegmentId,
    /// The block; its buffer is away during a write.
    staged: Option<Staged>,
    phase: Phase,
    retries: u32,
}

impl Commit {
    /// Writes a block.
    pub(crate) fn write(staged: Staged) -> Self {
        let segment = staged.identity.id;
        Self { segment, staged: Some(staged), phase: Phase::Writing(0), retries: 0 }
    }

    /// Only syncs a segment.
    pub(crate) fn sync(segment: SegmentId) -> Self {
        Self { segment, staged: None, phase: Phase::Syncing, retries: 0 }
    }

    /// Goes on to sync after the write. Gives back the block.
    pub(crate) fn then_sync(&mut self) -> Option<Staged> {
        self.phase = Phase::Syncing;
        self.retries = 0;
        self.staged.take()
    }

    /// Why it waits, if it does.
    pub(crate) fn blocked(&self) -> Option<IoError> {
        match self.phase {
            Phase::Blocked(_, error) => Some(error),
            Phase::Writing(_) | Phase::Syncing => None,
        }
    }

    /// The block of a commit that is over.
    pub(crate) fn into_staged(self) -> Option<Staged> {
        self.staged
    }

    /// The current step as an operation.
    pub(crate) fn operation(&mut self) -> Operation {
        let file = FileName::Segment(self.segment);
        let done = match self.phase {
            Phase::Syncing => return Operation::Sync { file },
            Phase::Writing(done) | Phase::Blocked(done, _) => done,
        };
        self.phase = Phase::Writing(done);
        let staged = self.staged.as_mut().expect("a write has a block");
        let range = done..staged.bytes.next_multiple_of(BLOCK_BYTES);
        let offset = staged.offset + done as u64;
        let buffer = std::mem::replace(&mut staged.buffer, AlignedBuffer::none());
        Operation::Write { file, offset, buffer, range }
    }

    /// Takes the answer to [`Self::operation`].
    pub(crate) fn complete(
        &mut self,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
    ) -> Progress {
        if let (Some(staged), Some(buffer)) = (&mut self.staged, buffer) {
            staged.buffer = buffer;
        }
        match (&mut self.phase, result) {
            (Phase::Writing(done), Ok(Outcome::Bytes(bytes))) => {
                // Direct I/O goes on at a whole block only.
                let whole = bytes / BLOCK_BYTES * BLOCK_BYTES;
                *done += whole;
                let end = self.staged.as_ref().map_or(0, |staged| staged.bytes);
                if *done >= end {
                    return Progress::Written;
                }
                self.retries = if whole == 0 { self.retries } else { 0 };
                self.retry(IoError::DEVICE)
            }
            (Phase::Syncing, Ok(_)) => Progress::Synced,
            (Phase::Syncing, Err(error)) if error.did_not_run() => self.retry(*error),
            (Phase::Writing(_), Err(error)) if error.is_transient() => self.retry(*error),
            (Phase::Writing(done), Err(error)) if error.is_no_space() => {
                self.phase = Phase::Blocked(*done, *error);
                Progress::Blocked(*error)
            }
            (_, Err(error)) => Progress::Failed(*error),
            (_, Ok(_)) => Progress::Failed(IoError::DEVICE),
        }
    }

    fn retry(&mut self, error: IoError) -> Progress {
        self.retries += 1;
        if self.retries > RETRIES_MAX { Progress::Failed(error) } else { Progress::Next }
    }
}
