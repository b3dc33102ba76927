//! A file seen through a window that moves forward: what is needed next is usually there, and the
//! chunks after it on their way.

use crate::files::{BLOCK_BYTES, Blocks, SourceFile, to_usize};
use crate::progress::Progress;
use glommio::Task;
use std::collections::VecDeque;
use std::ops::Range;

/// How much is read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// How many chunks are on their way while one is looked at.
const AHEAD_MAX: usize = 4;

/// Unreadable places told apart in one file; beyond that they count as damage all the same.
const UNREADABLE_MAX: usize = 1000;

/// Part of a file in memory.
pub(crate) struct Window {
    file: SourceFile,
    /// Where in the file `bytes` begins; a multiple of a block.
    origin: u64,
    bytes: Vec<u8>,
    /// The chunks after those, on their way, with their places.
    ahead: VecDeque<(u64, Task<Blocks>)>,
    unreadable: Vec<Range<u64>>,
    progress: Progress,
}

impl Window {
    /// At the start of a file.
    pub(crate) fn new(file: SourceFile, progress: Progress) -> Self {
        let (bytes, unreadable) = (Vec::new(), Vec::new());
        Self { file, origin: 0, bytes, ahead: VecDeque::new(), unreadable, progress }
    }

    /// How long the file is.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// What could not be read so far.
    pub(crate) fn unreadable(&self) -> &[Range<u64>] {
        &self.unreadable
    }

    /// Bytes from a place on: as many as asked for and perhaps more, fewer only at the end of the
    /// file.
    pub(crate) async fn bytes(&mut self, offset: u64, count: u64) -> &[u8] {
        let end = offset.saturating_add(count).min(self.file.bytes());
        if end > self.end() || offset < self.origin {
            self.move_to(offset);
            while self.end() < end {
                self.extend(end).await;
            }
        }
        let start = to_usize((offset - self.origin).min(self.bytes.len() as u64));
        &self.bytes[start..]
    }

    fn end(&self) -> u64 {
        self.origin + self.bytes.len() as u64
    }

    /// Lets go of what lies before a place.
    fn move_to(&mut self, offset: u64) {
        let origin = offset / BLOCK_BYTES * BLOCK_BYTES;
        if self.origin <= origin && origin <= self.end() {
            self.bytes.drain(..to_usize(origin - self.origin));
        } else {
            self.bytes.clear();
            self.ahead.clear();
        }
        self.origin = origin;
    }

    /// Brings the next chunk.
    async fn extend(&mut self, wanted: u64) {
        let at = self.end();
        let blocks = match self.ahead.pop_front() {
            Some((place, task)) => {
                debug_assert_eq!(place, at, "chunks are in order, and dropped by a jump");
                task.await
            }
            None => {
                let bytes = (wanted - at).next_multiple_of(BLOCK_BYTES).max(CHUNK_BYTES);
                self.file.read_blocks(at..at + bytes).await
            }
        };
        self.progress.advance(blocks.chunk.len() as u64);
        self.bytes.extend_from_slice(&blocks.chunk);
        for range in blocks.unreadable {
            if self.unreadable.len() < UNREADABLE_MAX && !self.unreadable.contains(&range) {
                self.unreadable.push(range);
            }
        }
        if self.file.is_direct() {
            self.read_ahead();
        }
    }

    fn read_ahead(&mut self) {
        let mut next = self.ahead.back().map_or(self.end(), |(place, _)| place + CHUNK_BYTES);
        while next < self.file.bytes() && self.ahead.len() < AHEAD_MAX {
            let file = self.file.clone();
            let read = async move { file.read_blocks(next..next + CHUNK_BYTES).await };
            self.ahead.push_back((next, glommio::spawn_local(read)));
            next += CHUNK_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::{Executors, at_once};
    use crate::files::Backend;
    use std::path::Path;

    async fn look(backend: Backend, path: &Path) {
        let file = SourceFile::open(backend, path).await.unwrap();
        let mut window = Window::new(file, Progress::none());
        let expected = content();
        let length = expected.len() as u64;
        let places =
            [0, 5, 4095, 70_000, 9 << 20, (1 << 20) - 3, 100, 13 << 20, length - 1, length];
        for count in [0, 1, 30, 5000, 3 << 20] {
            for offset in places {
                let bytes = window.bytes(offset, count).await;
                let rest = &expected[to_usize(offset)..];
                assert!(bytes.len() as u64 >= count.min(length - offset), "{offset} {count}");
                assert!(rest.starts_with(bytes), "{offset} {count}");
            }
        }
        assert!(window.bytes(length + 9000, 5).await.is_empty());
        assert!(window.unreadable().is_empty());
    }

    fn content() -> Vec<u8> {
        (0_u32..1 << 22).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
    }

    #[test]
    fn every_place_is_seen_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, content()).unwrap();
        at_once(look(Backend::Plain, &path));
        let executors = Executors { count: 1, is_plain: false };
        let done = executors.run(vec![path], async |backend, path| look(backend, &path).await);
        assert_eq!(done.len(), 1);
    }
}
