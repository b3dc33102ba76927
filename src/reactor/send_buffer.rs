//! What a connection gives the reactor to send: output, and the arrays the kernel reads it through
//! when it lies in several pieces.

use std::ptr;

use crate::limits::SEND_PIECES_MAX;
use crate::protocol::output::Output;

/// Output that belongs to the reactor until it is sent. Cleared and used again it allocates
/// nothing.
#[derive(Default)]
pub struct SendBuffer {
    /// What is sent: nobody can change it while the reactor has it.
    pub output: Output,
    scatter: Option<Box<Scatter>>,
}

/// The arrays of output in pieces.
struct Scatter {
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
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

    /// Bytes to send, shared parts included.
    pub fn len(&self) -> usize {
        self.output.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Forgets the bytes and lets go of shared parts; keeps the memory for the next use.
    pub fn clear(&mut self) {
        self.output.clear();
        if let Some(scatter) = &mut self.scatter {
            scatter.pieces.clear();
        }
    }

    /// Says where everything after the first `sent` bytes lies. The pointers stay valid while the
    /// buffer is neither changed nor dropped; moving it is fine, since they point into its heap.
    pub(super) fn remaining(&mut self, sent: usize) -> Remaining {
        if self.output.shared_count() > 0 {
            let scatter = self.scatter.get_or_insert_with(|| Box::new(Scatter::new()));
            return Remaining::Scattered(scatter.prepare(&self.output, sent));
        }
        let rest = &self.output.bytes[sent..];
        // The result of a send is an i32; a longer rest is continued as a short send.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(i32::MAX as u32);
        Remaining::Plain(rest.as_ptr(), length)
    }
}

impl From<Output> for SendBuffer {
    fn from(output: Output) -> Self {
        Self { output, scatter: None }
    }
}

impl std::fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.output.shared_count();
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
        Self { pieces: Vec::new(), header }
    }

    /// Lists the pieces after the first `skip` bytes, as many as one call takes.
    fn prepare(&mut self, output: &Output, mut skip: usize) -> *const libc::msghdr {
        self.pieces.clear();
        for piece in output.pieces() {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let piece = &piece[skipped..];
            if piece.is_empty() {
                continue;
            }
            if self.pieces.len() == SEND_PIECES_MAX {
                break;
            }
            self.pieces.push(libc::iovec {
                // The kernel only reads through this pointer: it is a send.
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            });
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len();
        &raw const self.header
    }
}
