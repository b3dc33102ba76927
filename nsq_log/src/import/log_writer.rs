//! Writes a new log with its cursors, through the page cache and synced at the end.

use anyhow::{Context, Result, bail, ensure};
use ringmain_storage::blocking::BlockingDisk;
use ringmain_storage::cursors::{CursorId, Retry};
use ringmain_storage::log::{AppendError, Io, Log, LogOptions, State};
use ringmain_storage::message::EntryHead;
use ringmain_storage::request::{Disk as _, LogKey};
use ringmain_storage::segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

/// The most memory a log may take for writing; a checkpoint takes what it needs of it at once.
const BUFFER_BYTES_MAX: usize = 4 << 30;

/// The first sequence of a log.
const FIRST_SEQUENCE: u64 = 1;

/// Bytes of a segment that are not for records, and room for the first record.
const SEGMENT_OVERHEAD_BYTES: u64 = 64 << 10;

/// A log being written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Log,
    disk: BlockingDisk,
    io: Io,
    cursors: Vec<CursorId>,
}

impl LogWriter {
    /// A new log in a directory that is not there yet, with cursors of these names; it is to take
    /// records of that many bytes at most, the largest with that payload.
    pub(crate) fn new(
        directory: PathBuf,
        cursors: Vec<&[u8]>,
        total_bytes: u64,
        largest_bytes: usize,
    ) -> Self {
        let seed = RandomState::new().hash_one(0);
        let mut log = Log::new(LogKey(0), options(total_bytes, largest_bytes), seed);
        let mut io = Io::new(BUFFER_BYTES_MAX);
        let create = |name: &[u8]| log.create_cursor(name, FIRST_SEQUENCE, &mut io);
        let cursors = cursors.into_iter().map(create).collect();
        Self { log, disk: BlockingDisk::new(directory), io, cursors }
    }

    /// Appends one message; gives its sequence.
    pub(crate) fn append(&mut self, head: &EntryHead, body: &[u8]) -> Result<u64> {
        let head = head.encode();
        loop {
            match self.log.append_message(&[&head, body], &mut self.io) {
                Ok(sequence) => return Ok(sequence),
                Err(AppendError::Busy) => ensure!(self.drain() > 0, "the log makes no progress"),
                Err(error) => bail!("{error}"),
            }
        }
    }

    /// Notes that a cursor does not need a message.
    pub(crate) fn finish(&mut self, cursor: u32, sequence: u64) {
        let id = self.cursor(cursor);
        self.log.cursor_mut(id).expect("no cursor is deleted").finish(sequence);
    }

    /// Notes how often a message was delivered.
    pub(crate) fn set_attempts(&mut self, cursor: u32, sequence: u64, attempts: u16) {
        if attempts > 0 {
            let id = self.cursor(cursor);
            let retry = Retry { attempts, deliver_at_ns: 0 };
            self.log.cursor_mut(id).expect("no cursor is deleted").set_retry(sequence, retry);
        }
    }

    /// Makes everything durable.
    pub(crate) fn close(mut self) -> Result<()> {
        self.log.close(&mut self.io);
        self.drain();
        match self.log.state() {
            State::Blocked(error) | State::Failed(error) => Err(error).context("not written"),
            State::Healthy => {
                let (reports, _) = self.log.take_reports();
                ensure!(self.log.is_closed() && reports.is_empty(), "not written: {reports:?}");
                Ok(())
            }
        }
    }

    fn cursor(&self, number: u32) -> CursorId {
        self.cursors[number as usize]
    }

    /// Executes what the log asks for, and what it asks for then; gives how much that was.
    fn drain(&mut self) -> usize {
        let mut count = 0;
        while let Some(request) = self.io.requests.pop() {
            self.log.complete(self.disk.execute(request), &mut self.io);
            count += 1;
        }
        count
    }
}

/// A small log gets one small segment, of which no more than half is filled, so that no second one
/// is made; large messages get segments that hold two of them.
fn options(total_bytes: u64, largest_bytes: usize) -> LogOptions {
    let usual = LogOptions::default();
    let small = (2 * total_bytes + SEGMENT_OVERHEAD_BYTES).min(usual.segment_bytes_first);
    let large = 2 * largest_bytes as u64 + SEGMENT_OVERHEAD_BYTES;
    let first = small.max(large).next_multiple_of(4096);
    let segment_bytes_first = first.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let segment_bytes_max = usual.segment_bytes_max.max(segment_bytes_first);
    LogOptions { segment_bytes_first, segment_bytes_max, ..usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fit_what_they_are_for() {
        assert_eq!(options(0, 0).segment_bytes_first, 64 << 10);
        let small = options(1 << 20, 1000);
        assert_eq!(small.segment_bytes_first, (2 << 20) + (64 << 10));
        assert_eq!(options(1 << 40, 1000).segment_bytes_first, 16 << 20);
        for largest in [1, 1 << 20, 20 << 20, (1 << 30) - (1 << 17)] {
            assert!(options(1 << 40, largest).payload_bytes_max() >= largest, "{largest}");
        }
    }
}
