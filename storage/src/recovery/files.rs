//! The files of a log while it is recovered: asked for one by one, read block by block where
//! a read fails.

use super::RecoveryError;
use crate::buffer::{AlignedBuffer, BLOCK_BYTES, align_up, to_usize};
use crate::request::{
    Completion, Disk, FileName, IoError, LogKey, Operation, Outcome, Purpose, Request, Ticket,
};
use std::ops::Range;

/// How much is read at once.
pub(super) const READ_BYTES: u64 = 1 << 20;

/// How often something that did not run is asked for again.
const RETRIES_MAX: u32 = 8;

pub(super) struct Files<'a, D> {
    key: LogKey,
    disk: &'a mut D,
    buffer: AlignedBuffer,
    open: Vec<FileName>,
    /// Part of what was read last could not be, and is zeros.
    is_partial: bool,
}

impl<'a, D: Disk> Files<'a, D> {
    pub(super) fn new(key: LogKey, disk: &'a mut D) -> Self {
        Self { key, disk, buffer: AlignedBuffer::none(), open: Vec::new(), is_partial: false }
    }

    pub(super) fn list(&mut self) -> Result<Vec<(String, u64)>, RecoveryError> {
        match self.run(None, Operation::List)? {
            Outcome::Listing(mut files) => {
                files.sort();
                Ok(files)
            }
            Outcome::Done | Outcome::Bytes(_) => Ok(Vec::new()),
        }
    }

    /// Executes what has no buffer.
    pub(super) fn run(
        &mut self,
        file: Option<FileName>,
        operation: Operation,
    ) -> Result<Outcome, RecoveryError> {
        self.execute(operation).result.map_err(|error| RecoveryError::Io { file, error })
    }

    pub(super) fn open_and_sync(&mut self, file: FileName) -> Result<(), RecoveryError> {
        self.run(Some(file), Operation::Open { file })?;
        self.open.push(file);
        self.run(Some(file), Operation::Sync { file })?;
        Ok(())
    }

    pub(super) fn close(&mut self, file: FileName) {
        self.open.retain(|open| *open != file);
        self.execute(Operation::Close { file });
    }

    pub(super) fn close_all(&mut self) {
        while let Some(file) = self.open.pop() {
            self.execute(Operation::Close { file });
        }
    }

    /// Reads a range that begins and ends at whole blocks, or at the end of the file; what cannot
    /// be read is zeros.
    pub(super) fn read(&mut self, file: FileName, range: Range<u64>) -> &[u8] {
        let bytes = to_usize(align_up(range.end - range.start));
        if self.buffer.capacity_bytes() < bytes {
            self.buffer = AlignedBuffer::zeroed(bytes);
        }
        self.is_partial = false;
        let mut filled = 0;
        let mut end = bytes;
        let mut retries = 0;
        while filled < bytes {
            let buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::none());
            let offset = range.start + filled as u64;
            let operation = Operation::Read { file, offset, buffer, range: filled..end };
            let Completion { result, buffer, .. } = self.request(operation);
            self.buffer = buffer.unwrap_or_else(|| AlignedBuffer::zeroed(bytes));
            let mut read_bytes = 0;
            match result {
                Ok(Outcome::Bytes(read)) if read >= BLOCK_BYTES => {
                    filled += read / BLOCK_BYTES * BLOCK_BYTES;
                    end = bytes;
                    continue;
                }
                Err(error) if error.is_transient() && retries < RETRIES_MAX => {
                    retries += 1;
                    continue;
                }
                Ok(Outcome::Bytes(read)) => read_bytes = read,
                _ => {}
            }
            if end - filled > BLOCK_BYTES {
                end = filled + BLOCK_BYTES;
                continue;
            }
            // Less than is there may be chance.
            if result.is_ok() && retries < RETRIES_MAX {
                retries += 1;
                continue;
            }
            let block = self.buffer.as_mut_bytes().get_mut(filled + read_bytes..end);
            block.unwrap_or_default().fill(0);
            self.is_partial = true;
            filled = end;
            end = bytes;
        }
        self.buffer.as_bytes().get(..bytes).unwrap_or_default()
    }

    /// Changes a range of whole blocks and syncs it; does nothing where they cannot be read, for
    /// that would make what is damaged lost. Whether it was done.
    pub(super) fn rewrite(
        &mut self,
        file: FileName,
        range: Range<u64>,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<bool, RecoveryError> {
        let bytes = self.read(file, range.clone()).len();
        if self.is_partial {
            return Ok(false);
        }
        change(self.buffer.as_mut_bytes().split_at_mut(bytes).0);
        let (mut done, mut retries) = (0, 0);
        while done < bytes {
            let buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::none());
            let offset = range.start + done as u64;
            let operation = Operation::Write { file, offset, buffer, range: done..bytes };
            let Completion { result, buffer, .. } = self.request(operation);
            self.buffer = buffer.unwrap_or_else(|| AlignedBuffer::zeroed(bytes));
            let written = if let Ok(Outcome::Bytes(written)) = result { written } else { 0 };
            done += written / BLOCK_BYTES * BLOCK_BYTES;
            retries += 1;
            let error = match result {
                Err(error) if !error.is_transient() => Some(error),
                Err(error) if retries > RETRIES_MAX => Some(error),
                Ok(_) if retries > RETRIES_MAX && done < bytes => Some(IoError::DEVICE),
                _ => None,
            };
            if let Some(error) = error {
                return Err(RecoveryError::Io { file: Some(file), error });
            }
        }
        self.run(Some(file), Operation::Sync { file })?;
        Ok(true)
    }

    /// Executes, and again while it did not run.
    fn execute(&mut self, operation: Operation) -> Completion {
        let again = repeat(&operation);
        let mut completion = self.request(operation);
        for _ in 0..RETRIES_MAX {
            let did_not_run = completion.result.as_ref().is_err_and(|e: &IoError| e.did_not_run());
            let Some(operation) = again.as_ref().and_then(repeat).filter(|_| did_not_run) else {
                break;
            };
            completion = self.request(operation);
        }
        completion
    }

    fn request(&mut self, operation: Operation) -> Completion {
        self.disk.execute(Request { log: self.key, ticket: Ticket(Purpose::Recover), operation })
    }
}

/// The same once more, for what has no buffer.
fn repeat(operation: &Operation) -> Option<Operation> {
    match operation {
        Operation::List => Some(Operation::List),
        Operation::SyncDirectory => Some(Operation::SyncDirectory),
        Operation::Open { file } => Some(Operation::Open { file: *file }),
        Operation::Sync { file } => Some(Operation::Sync { file: *file }),
        Operation::Rename { from, to } => Some(Operation::Rename { from: *from, to: *to }),
        Operation::Remove { file } => Some(Operation::Remove { file: *file }),
        _ => None,
    }
}
