//! Bodies, fetched from where the index says they lie. Queues are nearly in order of their ids, so
//! each has a window that moves forward; what lies elsewhere is fetched alone, and a second one
//! next to it moves the window there.

use super::index::IndexEntry;
use super::queue::{HEAD_BYTES, Part};
use crate::files::{Backend, SourceFile, to_usize};
use crate::progress::Progress;
use crate::window::Window;
use std::io;

/// How far ahead of the last fetch a window is moved.
const NEAR_BYTES: u64 = 1 << 20;

/// The bodies of one topic's messages.
pub(crate) struct Bodies {
    backend: Backend,
    queues: Vec<Queue>,
    /// The queue the last body came from.
    last: u32,
    body: Vec<u8>,
}

struct Queue {
    parts: Vec<Part>,
    window: Option<(u32, Window)>,
    /// Where the window was last, or the last fetch beside it.
    window_at: u64,
    aside: Option<(u32, u64)>,
    open: Option<(u32, SourceFile)>,
}

impl Bodies {
    /// Of the queues with these parts.
    pub(crate) fn new(backend: Backend, parts: Vec<Vec<Part>>) -> Self {
        let queue = |parts| Queue { parts, window: None, window_at: 0, aside: None, open: None };
        let queues = parts.into_iter().map(queue).collect();
        Self { backend, queues, last: 0, body: Vec::new() }
    }

    /// The body of a message, from one of the places it is in.
    pub(crate) async fn read(&mut self, places: &[IndexEntry]) -> io::Result<&[u8]> {
        let same = places.iter().find(|place| place.queue == self.last);
        let place = same.unwrap_or(&places[0]);
        self.last = place.queue;
        let queue = &mut self.queues[place.queue as usize];
        let (offset, count) = (place.offset + HEAD_BYTES, u64::from(place.message.body_bytes));
        self.body.clear();
        queue.read(self.backend, place.part, offset, count, &mut self.body).await?;
        if self.body.len() as u64 != count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.body)
    }
}

impl Queue {
    async fn read(
        &mut self,
        backend: Backend,
        part: u32,
        offset: u64,
        count: u64,
        body: &mut Vec<u8>,
    ) -> io::Result<()> {
        let is_near = |at: u64| (at..at + NEAR_BYTES).contains(&offset);
        let in_window = self.window.as_ref().is_some_and(|(number, _)| *number == part)
            && is_near(self.window_at);
        let is_next = self.aside.is_some_and(|(number, at)| number == part && is_near(at));
        if in_window || is_next || self.window.is_none() {
            let is_there = self.window.as_ref().is_some_and(|(number, _)| *number == part);
            if !is_there {
                let file = self.file(backend, part).await?;
                self.window = Some((part, Window::new(file, Progress::none())));
            }
            self.window_at = offset;
            if let Some((_, window)) = &mut self.window {
                let bytes = window.bytes(offset, count).await;
                body.extend_from_slice(&bytes[..bytes.len().min(to_usize(count))]);
            }
            return Ok(());
        }
        self.aside = Some((part, offset));
        let file = self.file(backend, part).await?;
        let start = offset / 4096 * 4096;
        let blocks = file.read_blocks(start..(offset + count).next_multiple_of(4096)).await;
        let from = to_usize(offset - start);
        let bytes = blocks.chunk.get(from..from + to_usize(count)).unwrap_or_default();
        body.extend_from_slice(bytes);
        Ok(())
    }

    async fn file(&mut self, backend: Backend, part: u32) -> io::Result<SourceFile> {
        if let Some((number, file)) = &self.open
            && *number == part
        {
            return Ok(file.clone());
        }
        let file = SourceFile::open(backend, &self.parts[part as usize].path).await?;
        self.open = Some((part, file.clone()));
        Ok(file)
    }
}
