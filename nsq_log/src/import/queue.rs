//! Reading one queue of nsqd: which bytes of which files hold messages that nobody has taken yet,
//! and the records in them.
//!
//! A record is a big-endian length and that many bytes: timestamp, attempts, id, body. There is no
//! checksum. What can be told of a record is whether it ends within its file and whether its id is
//! 16 hexadecimal digits; where that is not so, the search goes on byte by byte for the next place
//! that looks like a record and is followed by another one, or by the end of the file.

use super::source::{QueueFiles, file_name};
use crate::files::{Backend, SourceFile, to_usize};
use crate::progress::Progress;
use crate::window::Window;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the length before each record.
const LENGTH_BYTES: u64 = 4;

/// Bytes of a message before its body: timestamp, attempts, id.
pub(crate) const HEAD_BYTES: u64 = 26;

/// The largest record: two of them fit the largest segment of a log. nsqd's own limit is a flag
/// that its files say nothing of.
const RECORD_BYTES_MAX: u64 = (1 << 30) - (1 << 17);

/// A record up to this size is brought together with the head of the next one; a larger one may
/// be no record at all, and is looked at from both ends first.
const HELD_BYTES_MAX: u64 = 8 << 20;

/// How much of a damaged stretch is looked through at once.
const SEARCH_BYTES: u64 = 1 << 16;

/// What is said about one queue at most; more is counted.
const REMARKS_MAX: usize = 50;

/// Where nsqd had read and written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Positions {
    depth: i64,
    read: (u64, u64),
    write: (u64, u64),
}

/// One segment's file and the part of it to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) from: u64,
}

/// What is to be read of a queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    /// How many messages nsqd counted, if it says so.
    pub(crate) depth: Option<u64>,
    pub(crate) remarks: Remarks,
}

/// What someone should know, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    pub(crate) lines: Vec<String>,
    pub(crate) more: u64,
    /// Whether messages may be lost.
    pub(crate) is_damaged: bool,
}

/// One message of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedMessage<'a> {
    /// Where its timestamp begins, in its file.
    pub(crate) offset: u64,
    pub(crate) timestamp_ns: i64,
    pub(crate) attempts: u16,
    pub(crate) id: [u8; 16],
    pub(crate) body: &'a [u8],
}

impl Remarks {
    pub(crate) fn add(&mut self, text: String) {
        if self.lines.len() < REMARKS_MAX {
            self.lines.push(text);
        } else {
            self.more += 1;
        }
    }

    fn damage(&mut self, text: String) {
        self.is_damaged = true;
        self.add(text);
    }
}

impl Positions {
    /// Reads `<depth>\n<file>,<offset>\n<file>,<offset>\n`.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let depth = lines.next()?.parse().ok()?;
        let mut pair = || {
            let (file, offset) = lines.next()?.split_once(',')?;
            Some((file.parse().ok()?, offset.parse().ok()?))
        };
        Some(Self { depth, read: pair()?, write: pair()? })
    }
}

/// Finds out what of a queue's files is to be read.
pub(crate) fn plan(queue: &QueueFiles) -> io::Result<Plan> {
    let mut plan = Plan::default();
    for name in &queue.bad {
        plan.remarks.add(format!("{name}: set aside as damaged by nsqd itself, not read"));
    }
    let positions = match &queue.meta {
        None if queue.segments.is_empty() => return Ok(plan),
        None => None,
        Some(path) => {
            let positions = Positions::parse(&String::from_utf8_lossy(&fs::read(path)?));
            if positions.is_none() {
                let name = file_name(path);
                plan.remarks.damage(format!("{name}: does not say where messages begin"));
            }
            positions
        }
    };
    let Some(positions) = positions else {
        if !queue.segments.is_empty() {
            let text = "everything there is read, and some of it may have been finished";
            plan.remarks.damage(format!("without good positions: {text}"));
        }
        plan.parts = queue.segments.values().map(|path| Part::whole(path)).collect();
        return Ok(plan);
    };
    plan.depth = u64::try_from(positions.depth).ok();
    let ((read_file, read_offset), (write_file, _)) = (positions.read, positions.write);
    for (number, path) in &queue.segments {
        let name = file_name(path);
        if *number < read_file {
            plan.remarks.add(format!("{name}: read to its end by nsqd, passed over"));
        } else if *number == read_file {
            plan.parts.push(Part { path: path.clone(), from: read_offset });
        } else {
            if *number > write_file {
                plan.remarks.add(format!("{name}: newer than nsqd's positions, read as well"));
            }
            plan.parts.push(Part::whole(path));
        }
    }
    plan.note_missing(&queue.segments, &positions);
    Ok(plan)
}

impl Plan {
    /// Notes segments that ought to be there.
    fn note_missing(&mut self, segments: &BTreeMap<u64, PathBuf>, positions: &Positions) {
        let (first, last) = (positions.read.0, positions.write.0);
        // The segment being written is made with its first record.
        let is_last_empty = positions.write.1 == 0;
        let end = if is_last_empty { last } else { last.saturating_add(1) };
        let there = segments.range(first..end.max(first)).count() as u64;
        let missing = end.saturating_sub(first).saturating_sub(there);
        if missing > 0 {
            let text = format!("{missing} of the segments {first} to {last} are missing");
            self.remarks.damage(text);
        }
    }
}

impl Part {
    fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), from: 0 }
    }
}

/// Shows every message in one segment's part, in order; what was damaged is remarked.
///
/// # Errors
/// When the file cannot be opened, or `visit` fails.
pub(crate) async fn read_part(
    backend: Backend,
    part: &Part,
    progress: &Progress,
    remarks: &mut Remarks,
    mut visit: impl FnMut(QueuedMessage<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let file = SourceFile::open(backend, &part.path).await?;
    let name = file_name(&part.path);
    let end = file.bytes();
    let mut window = Window::new(file, progress.clone());
    let mut at = part.from;
    if at > end {
        let text = format!("{name}: ends at byte {end}, before nsqd's position {at}");
        remarks.damage(text);
    }
    while at < end {
        if let Some(length) = window.record(at).await {
            let next = at + LENGTH_BYTES + length;
            if length <= HELD_BYTES_MAX {
                // Brings the record with the head of the next, so that the window need not go back.
                window.bytes(at, 2 * LENGTH_BYTES + length + HEAD_BYTES).await;
            }
            // A length that leads nowhere may be wrong itself: then a good record lies within.
            let is_followed = next == end || window.record(next).await.is_some();
            let within = at + 1..next;
            let hidden = if is_followed { None } else { window.search(within).await };
            if hidden.is_none() {
                let bytes = window.bytes(at, LENGTH_BYTES + length).await;
                visit(QueuedMessage::parse(at, &bytes[..to_usize(LENGTH_BYTES + length)]))?;
                at = next;
                continue;
            }
        }
        let found = window.search(at + 1..end).await;
        let next = found.unwrap_or(end);
        let length = window.length(at).await;
        let is_cut = found.is_none() && length.is_none_or(|length| at + 4 + length > end);
        let what = if is_cut && length.is_none_or(|length| length >= HEAD_BYTES) {
            "the last record is cut off"
        } else {
            "damaged"
        };
        remarks.damage(format!("{name}: bytes {at} to {}: {what}", next - 1));
        at = next;
    }
    for range in window.unreadable() {
        let text = format!("{name}: bytes {} to {} cannot be read", range.start, range.end - 1);
        remarks.damage(text);
    }
    Ok(())
}

impl<'a> QueuedMessage<'a> {
    /// Takes a record apart that was found to be long enough.
    fn parse(at: u64, record: &'a [u8]) -> Self {
        let message = &record[to_usize(LENGTH_BYTES)..];
        let (timestamp, rest) = message.split_first_chunk().expect("a record has a timestamp");
        let (attempts, rest) = rest.split_first_chunk().expect("a record has attempts");
        let (id, body) = rest.split_first_chunk().expect("a record has an id");
        Self {
            offset: at + LENGTH_BYTES,
            timestamp_ns: i64::from_be_bytes(*timestamp),
            attempts: u16::from_be_bytes(*attempts),
            id: *id,
            body,
        }
    }
}

impl Window {
    /// What the length of a record at a place says.
    async fn length(&mut self, at: u64) -> Option<u64> {
        let bytes = self.bytes(at, LENGTH_BYTES).await.first_chunk()?;
        Some(u64::from(u32::from_be_bytes(*bytes)))
    }

    /// The length of the record that may well begin at a place.
    async fn record(&mut self, at: u64) -> Option<u64> {
        let end = self.file_bytes();
        let length = record_length(self.bytes(at, LENGTH_BYTES + HEAD_BYTES).await)?;
        (at + LENGTH_BYTES + length <= end).then_some(length)
    }

    /// The first place in a range where a record may well begin, and another one behind it.
    async fn search(&mut self, range: std::ops::Range<u64>) -> Option<u64> {
        let mut at = range.start;
        while at < range.end {
            let bytes = self.bytes(at, SEARCH_BYTES + LENGTH_BYTES + HEAD_BYTES).await;
            let places = to_usize((range.end - at).min(SEARCH_BYTES));
            let candidate = (0..places).find(|&place| {
                bytes.get(place..).is_some_and(|rest| record_length(rest).is_some())
            });
            let Some(candidate) = candidate else {
                at += places as u64;
                continue;
            };
            at += candidate as u64;
            if let Some(length) = self.record(at).await {
                let next = at + LENGTH_BYTES + length;
                if next == self.file_bytes() || self.record(next).await.is_some() {
                    return Some(at);
                }
            }
            at += 1;
        }
        None
    }
}

/// The length of the record that bytes begin with, if its id looks like one.
fn record_length(bytes: &[u8]) -> Option<u64> {
    let length = u64::from(u32::from_be_bytes(*bytes.first_chunk()?));
    let id = bytes.get(14..to_usize(LENGTH_BYTES + HEAD_BYTES))?;
    let is_id = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ((HEAD_BYTES..=RECORD_BYTES_MAX).contains(&length) && is_id).then_some(length)
}

#[cfg(test)]
mod tests;
