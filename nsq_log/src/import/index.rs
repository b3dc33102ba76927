//! The messages of a topic's queues in order of their ids, whatever their number: sorted in pieces,
//! the pieces on disk, merged as they are read.
//!
//! Messages of different queues are one when id, timestamp and body are equal. The body is compared
//! by its length and 64 bits of hash.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::PathBuf;

/// How many entries are sorted in memory: about 16 MB of them.
pub(crate) const PIECE_ENTRIES: usize = 1 << 18;

const ENTRY_BYTES: usize = 16 + 8 + 8 + 4 + 4 + 4 + 8 + 2;

/// What makes a message the same in several queues. Ids rise with time, so their order is that of
/// publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sameness {
    pub(crate) id: [u8; 16],
    pub(crate) timestamp_ns: i64,
    pub(crate) body_bytes: u32,
    body_hash: u64,
}

/// One message in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IndexEntry {
    pub(crate) message: Sameness,
    /// Which queue holds it.
    pub(crate) queue: u32,
    /// Which part of that queue.
    pub(crate) part: u32,
    /// Where its timestamp begins in that part's file.
    pub(crate) offset: u64,
    pub(crate) attempts: u16,
}

impl Sameness {
    pub(crate) fn of(id: [u8; 16], timestamp_ns: i64, body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Self { id, timestamp_ns, body_bytes, body_hash: hasher.finish() }
    }
}

/// Entries on their way into order.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    directory: PathBuf,
    piece_entries: usize,
    entries: Vec<IndexEntry>,
    pieces: Vec<PathBuf>,
    count: u64,
}

/// All entries, to be read in order as often as needed.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
    pieces: Vec<PathBuf>,
    count: u64,
}

impl IndexBuilder {
    /// Keeps its pieces in a directory that is there.
    pub(crate) fn new(directory: PathBuf, piece_entries: usize) -> Self {
        Self { directory, piece_entries, entries: Vec::new(), pieces: Vec::new(), count: 0 }
    }

    pub(crate) fn push(&mut self, entry: IndexEntry) -> io::Result<()> {
        self.entries.push(entry);
        self.count += 1;
        if self.entries.len() >= self.piece_entries { self.spill() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Index {
        self.entries.sort_unstable();
        Index { entries: self.entries, pieces: self.pieces, count: self.count }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.entries.sort_unstable();
        let path = self.directory.join(format!("index.{}", self.pieces.len()));
        let mut out = BufWriter::new(File::create(&path)?);
        for entry in self.entries.drain(..) {
            out.write_all(&entry.encode())?;
        }
        out.flush()?;
        self.pieces.push(path);
        Ok(())
    }
}

impl Index {
    /// How many entries there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> io::Result<Merge<'_>> {
        let mut heap = BinaryHeap::new();
        let files =
            self.pieces.iter().map(|path| Ok(Piece::File(BufReader::new(File::open(path)?))));
        let pieces = files.chain([Ok(Piece::Memory(self.entries.iter()))]);
        for piece in pieces.collect::<io::Result<Vec<_>>>()? {
            let mut piece = piece;
            if let Some(entry) = piece.next()? {
                heap.push(Reverse(Head { entry, piece }));
            }
        }
        Ok(Merge { heap })
    }

    /// Removes its pieces.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.pieces.into_iter().try_for_each(fs::remove_file)
    }
}

/// Goes through all entries in order.
pub(crate) struct Merge<'a> {
    heap: BinaryHeap<Reverse<Head<'a>>>,
}

struct Head<'a> {
    entry: IndexEntry,
    piece: Piece<'a>,
}

enum Piece<'a> {
    File(BufReader<File>),
    Memory(std::slice::Iter<'a, IndexEntry>),
}

impl Merge<'_> {
    pub(crate) fn next(&mut self) -> io::Result<Option<IndexEntry>> {
        let Some(mut head) = self.heap.peek_mut() else { return Ok(None) };
        let entry = head.0.entry;
        match head.0.piece.next()? {
            Some(next) => head.0.entry = next,
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(entry))
    }

    /// The entries of the next message, into a list that is used again. `false` after the last.
    pub(crate) fn next_message(&mut self, entries: &mut Vec<IndexEntry>) -> io::Result<bool> {
        entries.clear();
        while let Some(Reverse(head)) = self.heap.peek() {
            if entries.first().is_some_and(|first| first.message != head.entry.message) {
                break;
            }
            entries.extend(self.next()?);
        }
        Ok(!entries.is_empty())
    }
}

impl Piece<'_> {
    fn next(&mut self) -> io::Result<Option<IndexEntry>> {
        match self {
            Self::Memory(entries) => Ok(entries.next().copied()),
            Self::File(file) => {
                let mut bytes = [0; ENTRY_BYTES];
                match file.read_exact(&mut bytes) {
                    Ok(()) => Ok(Some(IndexEntry::decode(&bytes))),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

impl IndexEntry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let mut rest = &mut bytes[..];
        let message = &self.message;
        let mut put = |part: &[u8]| {
            let (front, back) = std::mem::take(&mut rest).split_at_mut(part.len());
            front.copy_from_slice(part);
            rest = back;
        };
        put(&message.id);
        put(&message.timestamp_ns.to_le_bytes());
        put(&message.body_bytes.to_le_bytes());
        put(&message.body_hash.to_le_bytes());
        put(&self.queue.to_le_bytes());
        put(&self.part.to_le_bytes());
        put(&self.offset.to_le_bytes());
        put(&self.attempts.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let mut rest = &bytes[..];
        Self {
            message: Sameness {
                id: take(&mut rest),
                timestamp_ns: i64::from_le_bytes(take(&mut rest)),
                body_bytes: u32::from_le_bytes(take(&mut rest)),
                body_hash: u64::from_le_bytes(take(&mut rest)),
            },
            queue: u32::from_le_bytes(take(&mut rest)),
            part: u32::from_le_bytes(take(&mut rest)),
            offset: u64::from_le_bytes(take(&mut rest)),
            attempts: u16::from_le_bytes(take(&mut rest)),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (front, back) = bytes.split_first_chunk().expect("an entry has a fixed length");
    *bytes = back;
    *front
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.entry.cmp(&other.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, queue: u32) -> IndexEntry {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        let id = format!("{mixed:016x}").into_bytes().try_into().unwrap();
        let message = Sameness::of(id, -5, &mixed.to_le_bytes());
        let attempts = u16::try_from(number % 7).unwrap();
        IndexEntry { message, queue, part: 3, offset: number << 33, attempts }
    }

    #[test]
    fn pieces_come_back_in_order_as_often_as_asked() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = IndexBuilder::new(directory.path().to_owned(), 64);
        let mut expected: Vec<_> =
            (0..1000).map(|number| entry(number / 2, (number % 2) as u32)).collect();
        for entry in &expected {
            builder.push(*entry).unwrap();
        }
        let index = builder.finish();
        assert_eq!((index.count(), index.pieces.len(), index.entries.len()), (1000, 15, 40));
        expected.sort();
        for _ in 0..2 {
            let mut merge = index.iter().unwrap();
            let all = std::iter::from_fn(|| merge.next().unwrap());
            assert!(all.eq(expected.iter().copied()));
            let (mut merge, mut entries) = (index.iter().unwrap(), Vec::new());
            while merge.next_message(&mut entries).unwrap() {
                let queues: Vec<_> = entries.iter().map(|entry| entry.queue).collect();
                assert!(entries.iter().all(|entry| entry.message == entries[0].message));
                assert!(queues.len() % 2 == 0 && queues.is_sorted());
            }
        }
        index.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_differs_in_anything_is_another_message() {
        let one = Sameness::of([b'0'; 16], 1, b"body");
        assert_eq!(one, Sameness::of([b'0'; 16], 1, b"body"));
        let others = [
            Sameness::of([b'1'; 16], 1, b"body"),
            Sameness::of([b'0'; 16], 2, b"body"),
            Sameness::of([b'0'; 16], 1, b"bodz"),
            Sameness::of([b'0'; 16], 1, b"bod"),
        ];
        assert!(others.iter().all(|other| *other != one));
    }
}
