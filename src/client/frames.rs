//! From received bytes to frames. Complete frames are cut off the buffer at once, as one shared
//! piece of memory, of which each message's body is a slice: nothing is copied or allocated per
//! message.

use super::error::Error;
use crate::limits::{CLIENT_FRAME_BYTES_MAX, CLIENT_READ_BYTES};
use crate::protocol::frame::{
    FRAME_TYPE_ERROR, FRAME_TYPE_MESSAGE, FRAME_TYPE_RESPONSE, FrameHeader, MessageHeader,
};
use bytes::{Bytes, BytesMut};
use zerocopy::FromBytes;

/// Least room for a read.
pub(super) const READ_BYTES_MIN: usize = CLIENT_READ_BYTES / 4;

/// What a frame's size looks like when an HTTP server answers: `HTTP` read as a number.
const HTTP_AS_SIZE: u32 = u32::from_be_bytes(*b"HTTP");

/// One frame. What it borrows is valid until the next one is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Response(&'a [u8]),
    Error(&'a [u8]),
    Message(Arrived),
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) timestamp_ns: i64,
    pub(super) attempts: u16,
    pub(super) id: [u8; 16],
    pub(super) body: Bytes,
}

/// Received bytes, and the frames in them.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    received: BytesMut,
    /// Complete frames, cut off `received`.
    frames: Bytes,
    /// How much of `frames` has been handed out.
    handed_out_bytes: usize,
    /// Largest frame that is taken.
    frame_bytes_max: usize,
}

impl FrameBuffer {
    /// `frame_bytes_max`: larger frames are refused; 0 stands for the library's own limit.
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        let frame_bytes_max = match frame_bytes_max {
            0 => CLIENT_FRAME_BYTES_MAX,
            given => given.min(CLIENT_FRAME_BYTES_MAX),
        };
        let received = BytesMut::new();
        Self { received, frames: Bytes::new(), handed_out_bytes: 0, frame_bytes_max }
    }

    /// Where received bytes go, with room for a read. For a large frame the room doubles with
    /// what has arrived, so that a size alone, which a peer may choose, costs nothing.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < READ_BYTES_MIN {
            // An error here is the next call's of `next`.
            let frame_bytes = self.size_at(0).ok().flatten().map_or(0, |size| size + 4);
            let missing = frame_bytes.saturating_sub(self.received.len());
            self.received.reserve(CLIENT_READ_BYTES.max(missing.min(self.received.len())));
        }
        &mut self.received
    }

    /// Takes out what was received behind the frames handed out so far.
    pub(super) fn take_rest(&mut self) -> BytesMut {
        let mut rest = BytesMut::from(&self.frames[self.handed_out_bytes..]);
        rest.unsplit(self.received.split());
        self.frames = Bytes::new();
        self.handed_out_bytes = 0;
        rest
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// What came is not NSQ's protocol: the connection is of no more use.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        if self.handed_out_bytes == self.frames.len() && !self.cut()? {
            return Ok(None);
        }
        let rest = &self.frames[self.handed_out_bytes..];
        let (header, content) = FrameHeader::read_from_prefix(rest).expect("`cut` has checked it");
        let content_bytes = header.size.get() as usize - 4;
        let start = self.handed_out_bytes + rest.len() - content.len();
        let end = start + content_bytes;
        self.handed_out_bytes = end;
        let content = &self.frames[start..end];
        match header.frame_type.get() {
            FRAME_TYPE_RESPONSE => Ok(Some(Frame::Response(content))),
            FRAME_TYPE_ERROR => Ok(Some(Frame::Error(content))),
            FRAME_TYPE_MESSAGE => {
                let Ok((message, body)) = MessageHeader::read_from_prefix(content) else {
                    return Err(broken("a message shorter than its header"));
                };
                let body = self.frames.slice(end - body.len()..end);
                Ok(Some(Frame::Message(Arrived {
                    timestamp_ns: message.timestamp_ns.get(),
                    attempts: message.attempts.get(),
                    id: message.id,
                    body,
                })))
            }
            unknown => Err(broken(&format!("frame type {unknown} is unknown"))),
        }
    }

    /// Cuts complete frames off what was received; `false` when there is none.
    fn cut(&mut self) -> Result<bool, Error> {
        // Given up first: without other holders the buffer's memory is used again.
        self.frames = Bytes::new();
        self.handed_out_bytes = 0;
        let mut end = 0;
        loop {
            let size = match self.size_at(end) {
                Ok(Some(size)) => size,
                Ok(None) => break,
                // What comes before is good, and may change how this is to be read.
                Err(_) if end > 0 => break,
                Err(error) => return Err(error),
            };
            if self.received.len() - end < size + 4 {
                break;
            }
            end += size + 4;
        }
        self.frames = self.received.split_to(end).freeze();
        Ok(end > 0)
    }

    /// The size field at `offset`, checked.
    fn size_at(&self, offset: usize) -> Result<Option<usize>, Error> {
        let Some(field) = self.received.get(offset..offset + 4) else { return Ok(None) };
        let size = u32::from_be_bytes(field.try_into().expect("four bytes"));
        if size == HTTP_AS_SIZE {
            return Err(broken("unexpected HTTP response, a nsqd TCP endpoint is required"));
        }
        if size < 4 {
            return Err(broken(&format!("a frame of size {size}")));
        }
        let size = size as usize;
        if size > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            return Err(broken(&format!("a frame of {size} bytes; at most {max} are taken")));
        }
        Ok(Some(size))
    }
}

fn broken(reason: &str) -> Error {
    Error::NotConnected(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{push_message_header, push_response};
    use proptest::prelude::*;

    /// Everything in the buffer, in a form that outlives it.
    fn drain(buffer: &mut FrameBuffer, seen: &mut Vec<(u8, Vec<u8>)>) {
        while let Some(frame) = buffer.next().unwrap() {
            seen.push(match frame {
                Frame::Response(bytes) => (0, bytes.to_vec()),
                Frame::Error(bytes) => (1, bytes.to_vec()),
                Frame::Message(message) => {
                    assert_eq!((message.timestamp_ns, message.attempts), (5, 6));
                    assert_eq!(&message.id, b"0000000000000007");
                    (2, message.body.to_vec())
                }
            });
        }
    }

    fn encode(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (kind, content) in frames {
            match kind {
                2 => {
                    push_message_header(&mut wire, 5, 6, 7, content.len());
                    wire.extend_from_slice(content);
                }
                kind => {
                    let at = wire.len();
                    push_response(&mut wire, content);
                    wire[at + 7] = *kind;
                }
            }
        }
        wire
    }

    proptest! {
        /// However the bytes are cut, the same frames come out.
        #[test]
        fn cuts_do_not_matter(
            frames in prop::collection::vec(
                (0..3_u8, prop::collection::vec(any::<u8>(), 0..300)),
                0..40,
            ),
            cuts in prop::collection::vec(1..200_usize, 1..100),
        ) {
            let wire = encode(&frames);
            let mut buffer = FrameBuffer::new(0);
            let (mut seen, mut rest) = (Vec::new(), &wire[..]);
            for cut in cuts.iter().cycle() {
                let (part, more) = rest.split_at(rest.len().min(*cut));
                buffer.space().extend_from_slice(part);
                drain(&mut buffer, &mut seen);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, frames);
        }

        /// Arbitrary bytes are frames or an error, never a panic.
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = FrameBuffer::new(100);
            buffer.space().extend_from_slice(&bytes);
            while let Ok(Some(_)) = buffer.next() {}
        }
    }

    #[test]
    fn bodies_outlive_the_buffer_and_share_its_memory() {
        let mut buffer = FrameBuffer::new(0);
        let wire = encode(&[(2, b"one".to_vec()), (2, b"two".to_vec())]);
        buffer.space().extend_from_slice(&wire);
        let mut bodies = Vec::new();
        while let Some(Frame::Message(message)) = buffer.next().unwrap() {
            bodies.push(message.body);
        }
        assert_eq!(bodies[1].as_ptr() as usize - bodies[0].as_ptr() as usize, wire.len() / 2);
        drop(buffer);
        assert_eq!(bodies, [&b"one"[..], b"two"]);
    }

    #[test]
    fn what_follows_a_frame_can_be_taken_out() {
        let mut buffer = FrameBuffer::new(0);
        let wire = encode(&[(0, b"{}".to_vec()), (0, b"x".to_vec())]);
        buffer.space().extend_from_slice(&wire);
        buffer.space().extend_from_slice(b"\xff\x06\0\0sNa");
        assert!(buffer.next().unwrap().is_some());
        assert_eq!(buffer.take_rest(), [&wire[10..], b"\xff\x06\0\0sNa"].concat());
        assert!(buffer.next().unwrap().is_none());
    }

    #[test]
    fn a_claimed_size_reserves_nothing() {
        let mut buffer = FrameBuffer::new(0);
        buffer.space().extend_from_slice(&(64_u32 << 20).to_be_bytes());
        assert!(buffer.next().unwrap().is_none());
        assert!(buffer.space().capacity() < 2 * CLIENT_READ_BYTES);
    }

    #[test]
    fn what_is_not_nsq_is_refused() {
        for (bytes, text) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "unexpected HTTP response"),
            (b"\0\0\0\x03abcd", "a frame of size 3"),
            (b"\0\x01\0\0", "a frame of 65536 bytes; at most 100"),
            (b"\0\0\0\x05\0\0\0\x02x", "shorter than its header"),
            (b"\0\0\0\x05\0\0\0\x03x", "frame type 3"),
        ] {
            let mut buffer = FrameBuffer::new(100);
            buffer.space().extend_from_slice(bytes);
            let error = buffer.next().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
