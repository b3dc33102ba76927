//! One open connection: commands to send, frames that came, and the layers between them and the
//! socket. It is polled by the task that owns it, and writes once per turn, whatever the turn
//! brought.

use super::compression::Packing;
use super::frames::FrameBuffer;
use bytes::BytesMut;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Buffers grown beyond this by a large message are given back when they are empty.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;

/// TCP, a unix socket, or TLS over either.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection whose handshake is over, or under way.
pub(super) struct Link {
    /// As it was given, for texts.
    pub(super) address: Arc<str>,
    /// Commands not yet sent; append to it, then [`poll_flush`](Self::poll_flush).
    pub(super) out: Vec<u8>,
    /// Frames that came.
    pub(super) frames: FrameBuffer,
    stream: Box<dyn Stream>,
    packing: Option<Packing>,
    /// The packer may have more to give without a read.
    unpacking: bool,
    /// Packed output.
    wire: Vec<u8>,
    /// How much of `wire`, or of `out` without a packer, the socket has taken.
    sent_bytes: usize,
    /// The stream may hold back bytes it has taken.
    unflushed: bool,
}

impl Link {
    pub(super) fn new(address: Arc<str>, stream: Box<dyn Stream>, frame_bytes_max: usize) -> Self {
        Self {
            address,
            out: Vec::new(),
            frames: FrameBuffer::new(frame_bytes_max),
            stream,
            packing: None,
            unpacking: false,
            wire: Vec::new(),
            sent_bytes: 0,
            unflushed: false,
        }
    }

    /// Puts compression on. What came behind the frame that granted it is compressed already.
    pub(super) fn wrap(&mut self, mut packing: Packing) {
        packing.received = self.frames.take_rest();
        self.unpacking = !packing.received.is_empty();
        self.packing = Some(packing);
    }

    /// The bare stream, for a layer of its own; this link is of no more use.
    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// Bytes that still have to go out.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len() + self.wire.len() - self.sent_bytes
    }

    /// Receives more; frames may be complete afterwards.
    ///
    /// # Errors
    /// The end of the connection, by its peer's will, the network's, or a fault in its bytes.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if !self.unpacking {
            let space = match &mut self.packing {
                Some(packing) => {
                    packing.received.reserve(super::frames::READ_BYTES_MIN);
                    &mut packing.received
                }
                None => self.frames.space(),
            };
            ready!(poll_read(&mut self.stream, space, cx)).map_err(|error| error.to_string())?;
        }
        if let Some(packing) = &mut self.packing {
            let unpacked = packing.unpack(self.frames.space());
            self.unpacking = unpacked.map_err(|error| error.to_string())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is there, as far as the socket takes it. Ready when nothing is left.
    ///
    /// # Errors
    /// The end of the connection.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(packing) = &mut self.packing
                && !self.out.is_empty()
                && self.wire.is_empty()
            {
                packing.pack(&self.out, &mut self.wire);
                empty(&mut self.out);
            }
            let bytes = if self.packing.is_some() { &mut self.wire } else { &mut self.out };
            if bytes.is_empty() {
                break;
            }
            while self.sent_bytes < bytes.len() {
                let rest = &bytes[self.sent_bytes..];
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sent_bytes += written;
                self.unflushed = true;
            }
            empty(bytes);
            self.sent_bytes = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Empties a buffer and keeps its memory, unless that is a lot.
fn empty(bytes: &mut Vec<u8>) {
    bytes.clear();
    if bytes.capacity() > BUFFER_BYTES_KEPT {
        *bytes = Vec::new();
    }
}

fn poll_read(
    stream: &mut Box<dyn Stream>,
    space: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // Reading into a buffer holds no state between polls, so the future can be made anew.
    match ready!(pin!(stream.read_buf(space)).poll(cx))? {
        0 => Poll::Ready(Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "nsqd closed the connection",
        ))),
        _ => Poll::Ready(Ok(())),
    }
}
