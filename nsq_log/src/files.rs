//! Files that are read, never written: directly and asynchronously by glommio, or plainly where
//! that is denied.

use glommio::io::{DmaFile, ReadResult};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Reads begin and end at multiples of this; direct I/O asks for it.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The glommio executor of this thread.
    Direct,
    /// This thread itself, through the page cache.
    Plain,
}

/// Bytes that differ from what a file holds: where, and which.
pub(crate) type Patch = (u64, Vec<u8>);

/// An open file, and how it is read.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    opened: Opened,
    bytes: u64,
    /// Seen instead of what is in the file.
    patches: Rc<[Patch]>,
}

#[derive(Debug, Clone)]
enum Opened {
    Direct(Rc<DmaFile>),
    Plain(Rc<File>),
}

/// What a read brought.
pub(crate) enum Chunk {
    Direct(ReadResult, usize),
    Plain(Vec<u8>),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Direct(read, bytes) => read.get(..*bytes).unwrap_or_default(),
            Self::Plain(bytes) => bytes,
        }
    }
}

impl SourceFile {
    /// Opens a file as long as it is now.
    pub(crate) async fn open(backend: Backend, path: &Path) -> io::Result<Self> {
        let plain = File::open(path)?;
        let bytes = plain.metadata()?.len();
        let mut opened = Opened::Plain(Rc::new(plain));
        // A file system without direct I/O is read plainly.
        if backend == Backend::Direct
            && let Ok(file) = DmaFile::open(path).await
        {
            opened = Opened::Direct(Rc::new(file));
        }
        Ok(Self { opened, bytes, patches: Rc::new([]) })
    }

    /// Sees these instead of what is in the file.
    pub(crate) fn patched(self, patches: Vec<Patch>) -> Self {
        Self { patches: patches.into(), ..self }
    }

    /// How long it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether reading ahead is this program's business and not the kernel's.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.opened, Opened::Direct(_))
    }

    /// Reads whole blocks, fewer at the end of the file; what cannot be read comes as zeros.
    pub(crate) async fn read_blocks(&self, blocks: Range<u64>) -> Blocks {
        let range = blocks.start..blocks.end.min(self.bytes).max(blocks.start);
        match self.read(range.clone()).await {
            Ok(chunk) if chunk.len() as u64 == range.end - range.start && !self.hits(&range) => {
                Blocks { chunk, unreadable: Vec::new() }
            }
            Ok(chunk) if chunk.len() as u64 == range.end - range.start => {
                let mut bytes = chunk.to_vec();
                self.patch(&range, &mut bytes);
                Blocks { chunk: Chunk::Plain(bytes), unreadable: Vec::new() }
            }
            _ => self.read_one_by_one(range).await,
        }
    }

    async fn read_one_by_one(&self, range: Range<u64>) -> Blocks {
        let (mut bytes, mut unreadable) = (Vec::new(), Vec::<Range<u64>>::new());
        let mut at = range.start;
        while at < range.end {
            let block = at..range.end.min(at + BLOCK_BYTES);
            let length = to_usize(block.end - at);
            let start = bytes.len();
            let read = self.read(block.clone()).await;
            let read = read.ok().filter(|chunk| chunk.len() == length);
            match read {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => {
                    bytes.resize(start + length, 0);
                    match unreadable.last_mut() {
                        Some(last) if last.end == at => last.end = block.end,
                        _ => unreadable.push(block.clone()),
                    }
                }
            }
            at = block.end;
        }
        self.patch(&range, &mut bytes);
        Blocks { chunk: Chunk::Plain(bytes), unreadable }
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Chunk> {
        let length = to_usize(range.end - range.start);
        match &self.opened {
            Opened::Direct(file) => {
                let whole = length.next_multiple_of(to_usize(BLOCK_BYTES));
                let read = file.read_at_aligned(range.start, whole).await;
                let read = read.map_err(io::Error::from)?;
                let length = read.len().min(length);
                Ok(Chunk::Direct(read, length))
            }
            Opened::Plain(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok(Chunk::Plain(bytes))
            }
        }
    }

    fn hits(&self, range: &Range<u64>) -> bool {
        self.patches
            .iter()
            .any(|(at, bytes)| *at < range.end && range.start < at + bytes.len() as u64)
    }

    fn patch(&self, range: &Range<u64>, bytes: &mut [u8]) {
        for (at, patch) in self.patches.iter() {
            let start = (*at).max(range.start);
            let end = (at + patch.len() as u64).min(range.end);
            if start < end {
                let from = to_usize(start - at)..to_usize(end - at);
                let into = to_usize(start - range.start)..to_usize(end - range.start);
                bytes[into].copy_from_slice(&patch[from]);
            }
        }
    }
}

/// Whole blocks of a file.
pub(crate) struct Blocks {
    /// Their bytes.
    pub(crate) chunk: Chunk,
    /// Where they could not be read, and are zeros.
    pub(crate) unreadable: Vec<Range<u64>>,
}

/// A distance within memory.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("what is held in memory fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::at_once;

    #[test]
    fn patches_are_seen_instead_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; 10_000]).unwrap();
        let file = at_once(SourceFile::open(Backend::Plain, &path)).unwrap();
        let file = file.patched(vec![(4090, vec![2; 10]), (9999, vec![3; 5])]);
        let read = |range| at_once(file.read_blocks(range)).chunk.to_vec();
        let first = read(0..4096);
        assert_eq!((first[4089], first[4090], first[4095]), (1, 2, 2));
        let rest = read(4096..12_288);
        assert_eq!(rest.len(), 10_000 - 4096);
        assert_eq!((rest[3], rest[4], rest[5902], rest[5903]), (2, 1, 1, 3));
        assert!(read(12_288..16_384).is_empty());
    }
}
