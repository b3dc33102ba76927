//! What a connection gives the reactor to send: bytes of its own, with parts shared by others
//! inserted between them.

use std::ops::Range;
use std::ptr;
use std::rc::Rc;

use crate::limits::SEND_PIECES_MAX;
use crate::protocol::output::Output;

/// Bytes to send. Small things are appended to `bytes`; large ones that live elsewhere are
/// inserted at the current end of `bytes` without a copy by [`push_shared`](Self::push_shared).
///
/// Cleared and used again it allocates nothing.
#[derive(Default)]
pub struct SendBuffer {
    /// The buffer's own bytes. Do not shorten it below where a shared part was inserted: the part
    /// would be sent at the new end.
    pub bytes: Vec<u8>,
    scatter: Option<Box<Scatter>>,
}

/// The parts of a buffer that has shared ones, and the arrays the kernel reads them through.
struct Scatter {
    parts: Vec<SharedPart>,
    shared_bytes: usize,
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

struct SharedPart {
    /// Bytes of the owner's `bytes` that go before this part.
    position: usize,
    body: Rc<Vec<u8>>,
    range: Range<usize>,
}

/// What is left to send, as the kernel wants it told.
pub(super) enum Remaining {
    /// One piece.
    Plain(*const u8, u32),
    /// Several: valid until the buffer is next touched. The array holds what fits one call.
    Scattered(*const libc::msghdr),
}

impl SendBuffer {
    /// An empty buffer that has allocated nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts `range` of `body` at the current end of `bytes`. The body is kept alive, and
    /// nobody can change it, until the buffer is cleared or dropped.
    ///
    /// # Panics
    ///
    /// When `range` is not within `body`.
    pub fn push_shared(&mut self, body: Rc<Vec<u8>>, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= body.len(), "range outside of the body");
        let scatter = self.scatter.get_or_insert_with(|| Box::new(Scatter::new()));
        scatter.shared_bytes += range.len();
        scatter.parts.push(SharedPart { position: self.bytes.len(), body, range });
    }

    /// Bytes to send, shared parts included.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.scatter.as_ref().map_or(0, |scatter| scatter.shared_bytes)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of shared parts.
    pub fn shared_parts(&self) -> usize {
        self.scatter.as_ref().map_or(0, |scatter| scatter.parts.len())
    }

    /// Forgets the bytes and lets go of shared parts; keeps the memory for the next use.
    pub fn clear(&mut self) {
        self.bytes.clear();
        if let Some(scatter) = &mut self.scatter {
            scatter.parts.clear();
            scatter.pieces.clear();
            scatter.shared_bytes = 0;
        }
    }

    /// Says where everything after the first `sent` bytes lies. The pointers stay valid while the
    /// buffer is neither changed nor dropped; moving it is fine, since they point into its heap.
    pub(super) fn remaining(&mut self, sent: usize) -> Remaining {
        match &mut self.scatter {
            Some(scatter) if !scatter.parts.is_empty() => {
                Remaining::Scattered(scatter.prepare(&self.bytes, sent))
            }
            _ => {
                let rest = &self.bytes[sent..];
                // The result of a send is an i32; a longer rest is continued as a short send.
                let length = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(i32::MAX as u32);
                Remaining::Plain(rest.as_ptr(), length)
            }
        }
    }
}

impl From<Output> for SendBuffer {
    fn from(output: Output) -> Self {
        if output.shared_count() == 0 {
            return Self { bytes: output.bytes, scatter: None };
        }
        let mut buffer = Self::new();
        let mut from = 0;
        for (at, slab, range) in output.shared_parts() {
            buffer.bytes.extend_from_slice(&output.bytes[from..at]);
            buffer.push_shared(slab, range);
            from = at;
        }
        buffer.bytes.extend_from_slice(&output.bytes[from..]);
        buffer
    }
}

impl std::fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.shared_parts();
        write!(f, "SendBuffer {{ {} bytes, {parts} shared parts }}", self.len())
    }
}

impl Scatter {
    fn new() -> Self {
        let header = libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Self { parts: Vec::new(), shared_bytes: 0, pieces: Vec::new(), header }
    }

    /// Lists the pieces after the first `skip` bytes, as many as one call takes.
    fn prepare(&mut self, own: &[u8], skip: usize) -> *const libc::msghdr {
        self.pieces.clear();
        let mut pieces = Pieces { list: &mut self.pieces, skip };
        let mut own_from = 0;
        for part in &self.parts {
            let position = part.position.clamp(own_from, own.len());
            pieces.push(&own[own_from..position]);
            pieces.push(&part.body[part.range.clone()]);
            own_from = position;
            if pieces.is_full() {
                break;
            }
        }
        pieces.push(&own[own_from..]);
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len();
        &raw const self.header
    }
}

struct Pieces<'a> {
    list: &'a mut Vec<libc::iovec>,
    skip: usize,
}

impl Pieces<'_> {
    fn is_full(&self) -> bool {
        self.list.len() == SEND_PIECES_MAX
    }

    fn push(&mut self, piece: &[u8]) {
        let skipped = self.skip.min(piece.len());
        self.skip -= skipped;
        let piece = &piece[skipped..];
        if piece.is_empty() || self.is_full() {
            return;
        }
        self.list.push(libc::iovec {
            // The kernel only reads through this pointer: it is a send.
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        });
    }
}
