//! Bytes on their way to one client: frames in order, large bodies shared instead of copied.
//!
//! Small frames are appended to one vector; a large body stays in the slab it was received into
//! and takes its place between two stretches of that vector. Whoever sends walks
//! [`Output::pieces`], typically into an array of I/O vectors.

use std::ops::Range;
use std::rc::Rc;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Output {
    /// Frames, without the shared bodies.
    pub bytes: Vec<u8>,
    shared: Vec<Shared>,
    shared_bytes: usize,
}

/// A body that stays in its slab.
#[derive(Debug)]
struct Shared {
    /// It follows `bytes[..at]`.
    at: usize,
    slab: Rc<Vec<u8>>,
    range: Range<usize>,
}

impl Output {
    /// Total bytes, shared bodies included.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// How many bodies are shared; 0 means that `bytes` is all there is.
    pub fn shared_count(&self) -> usize {
        self.shared.len()
    }

    /// Appends a part of a slab without copying it.
    ///
    /// # Panics
    /// When the range is not within the slab.
    pub fn push_shared(&mut self, slab: Rc<Vec<u8>>, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= slab.len());
        self.shared_bytes += range.len();
        self.shared.push(Shared { at: self.bytes.len(), slab, range });
    }

    /// The bytes to send, in order; empty pieces are left out.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        let parts = self.shared.iter().flat_map(move |shared| {
            let own = self.bytes.get(start..shared.at).unwrap_or_default();
            start = shared.at;
            [own, shared.slab.get(shared.range.clone()).unwrap_or_default()]
        });
        let rest_at = self.shared.last().map_or(0, |shared| shared.at);
        let rest = self.bytes.get(rest_at..).unwrap_or_default();
        parts.chain([rest]).filter(|piece| !piece.is_empty())
    }

    /// Empties it, keeping the memory of its own bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_count_up() {
        let slab = Rc::new(b"0123456789".to_vec());
        let mut output = Output::default();
        output.push_shared(Rc::clone(&slab), 0..2);
        output.bytes.extend_from_slice(b"ab");
        output.push_shared(Rc::clone(&slab), 4..7);
        output.push_shared(slab, 9..10);
        output.bytes.extend_from_slice(b"cd");
        let all: Vec<u8> = output.pieces().flatten().copied().collect();
        assert_eq!(all, b"01ab4569cd");
        assert_eq!(output.len(), all.len());
        output.clear();
        assert!(output.is_empty());
        assert_eq!(output.pieces().count(), 0);
    }
}
