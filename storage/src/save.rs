//! Brings checkpoints to disk, into the two files in turn.

use crate::buffer::{AlignedBuffer, BLOCK_BYTES, BufferPool};
use crate::checkpoint::Picture;
use crate::request::{FileName, IoError, Operation, Outcome, Slot};

/// Checkpoint files are made this large at first, and doubled when the cursors need more.
const SLOT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;

/// How often a step that did not run is asked for again at once.
const RETRIES_MAX: u32 = 8;

/// What is known of one of the two files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotFile {
    /// Its size, if it is there.
    pub(crate) bytes: Option<u64>,
    pub(crate) is_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    SyncDirectory,
    Open,
    Preallocate,
    Write(usize),
    Sync,
}

/// What a completion meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The next step is to be asked for.
    Next,
    /// The checkpoint is durable.
    Saved,
    /// It could not be written; the one before stands, and another may be tried.
    Abandoned(IoError),
    /// A sync failed: nothing may be trusted any more.
    Failed(IoError),
}

#[derive(Debug)]
struct Running {
    step: Step,
    buffer: AlignedBuffer,
    /// How much of it is to be written, in whole blocks.
    bytes: usize,
    retries: u32,
    /// It is durable, and room for the next is being made.
    is_saved: bool,
}

/// The two files, and the checkpoint that is on its way.
#[derive(Debug)]
pub(crate) struct Saver {
    a: SlotFile,
    b: SlotFile,
    /// Where the next one goes: never where the good one is.
    slot: Slot,
    generation: u64,
    running: Option<Running>,
}

impl Saver {
    /// With the files as they were found; `good` holds the checkpoint of that generation.
    pub(crate) fn new(a: SlotFile, b: SlotFile, good: Option<(Slot, u64)>) -> Self {
        let (slot, generation) = good.map_or((Slot::A, 0), |(slot, n)| (slot.other(), n));
        Self { a, b, slot, generation, running: None }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What the next checkpoint's generation is.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Begins with a checkpoint; the first operation follows. Nothing happens without memory.
    pub(crate) fn start(&mut self, picture: &Picture, pool: &mut BufferPool) -> Option<()> {
        let encoded = picture.encode();
        let bytes = encoded.len().next_multiple_of(BLOCK_BYTES);
        let mut buffer = pool.take(bytes)?;
        let (front, rest) = buffer.as_mut_bytes().split_at_mut(encoded.len());
        front.copy_from_slice(&encoded);
        rest.fill(0);
        let file = self.file();
        let step = match file.bytes {
            None => Step::Create,
            Some(_) if !file.is_open => Step::Open,
            Some(size) => Self::write_step(size, bytes),
        };
        self.running = Some(Running { step, buffer, bytes, retries: 0, is_saved: false });
        Some(())
    }

    /// The current step as an operation.
    pub(crate) fn operation(&mut self) -> Operation {
        let file = FileName::Checkpoint(self.slot);
        let running = self.running.as_mut().expect("a checkpoint is on its way");
        match running.step {
            Step::Create => Operation::Create { file },
            Step::SyncDirectory => Operation::SyncDirectory,
            Step::Open => Operation::Open { file },
            Step::Preallocate => Operation::Preallocate { file, bytes: slot_bytes(running.bytes) },
            Step::Write(done) => {
                let buffer = std::mem::replace(&mut running.buffer, AlignedBuffer::none());
                Operation::Write { file, offset: done as u64, buffer, range: done..running.bytes }
            }
            Step::Sync => Operation::Sync { file },
        }
    }

    /// Takes the answer to [`Self::operation`].
    pub(crate) fn complete(
        &mut self,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
        pool: &mut BufferPool,
    ) -> Progress {
        let mut running = self.running.take().expect("a checkpoint is on its way");
        running.buffer = buffer.unwrap_or(running.buffer);
        let is_sync = matches!(running.step, Step::Sync | Step::SyncDirectory);
        let progress = match result {
            Ok(outcome) => self.advance(&mut running, outcome),
            Err(error) if is_sync && !error.did_not_run() => Progress::Failed(*error),
            Err(error) if error.is_transient() => retry(&mut running, *error),
            Err(error) => Progress::Abandoned(*error),
        };
        // Room for the next can be made with the next.
        let is_saved = running.is_saved && matches!(progress, Progress::Abandoned(_));
        let progress = if is_saved { Progress::Saved } else { progress };
        if progress == Progress::Next {
            self.running = Some(running);
        } else {
            pool.give(running.buffer);
        }
        progress
    }

    fn advance(&mut self, running: &mut Running, outcome: &Outcome) -> Progress {
        let bytes = running.bytes;
        let file = self.file_mut();
        running.step = match running.step {
            Step::Create => {
                *file = SlotFile { bytes: Some(0), is_open: true };
                Step::SyncDirectory
            }
            Step::Open => {
                file.is_open = true;
                Self::write_step(file.bytes.unwrap_or(0), bytes)
            }
            Step::SyncDirectory => Step::Preallocate,
            Step::Preallocate => {
                file.bytes = Some(slot_bytes(bytes));
                if running.is_saved {
                    return Progress::Saved;
                }
                Step::Write(0)
            }
            Step::Write(done) => {
                let written = if let Outcome::Bytes(written) = outcome { *written } else { 0 };
                let whole = written / BLOCK_BYTES * BLOCK_BYTES;
                if whole == 0 {
                    return retry(running, IoError::DEVICE);
                }
                if done + whole < bytes { Step::Write(done + whole) } else { Step::Sync }
            }
            Step::Sync => {
                self.slot = self.slot.other();
                self.generation += 1;
                if self.file().bytes.is_some() {
                    return Progress::Saved;
                }
                // With both files there, no full disk keeps a checkpoint from being written, and
                // with it the space from being given back.
                running.is_saved = true;
                running.retries = 0;
                Step::Create
            }
        };
        Progress::Next
    }

    fn write_step(size: u64, bytes: usize) -> Step {
        if size < bytes as u64 { Step::Preallocate } else { Step::Write(0) }
    }

    fn file(&self) -> SlotFile {
        match self.slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    fn file_mut(&mut self) -> &mut SlotFile {
        match self.slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }
}

fn retry(running: &mut Running, error: IoError) -> Progress {
    running.retries += 1;
    if running.retries > RETRIES_MAX { Progress::Abandoned(error) } else { Progress::Next }
}

/// The size of a file that holds a checkpoint of `bytes`.
fn slot_bytes(bytes: usize) -> u64 {
    (bytes as u64).next_power_of_two().max(SLOT_BYTES_MIN)
}
