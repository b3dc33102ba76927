//! What the daemon writes: frames of three types, appended to a connection's output.
//!
//! ```text
//! frame    [int32 size][int32 type][size - 4 bytes]       size counts the type, not itself
//! message  [int64 timestamp][uint16 attempts][16 bytes id][body]      in a frame of type 2
//! ```

use super::error::ProtocolError;
use super::message::{MessageId, encode_id};
use zerocopy::byteorder::big_endian::{I64, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Type of a frame that answers a command, and of heartbeats.
pub const FRAME_TYPE_RESPONSE: u32 = 0;
/// Type of a frame that carries an error's text.
pub const FRAME_TYPE_ERROR: u32 = 1;
/// Type of a frame that carries a message.
pub const FRAME_TYPE_MESSAGE: u32 = 2;

/// Bytes before the body in a message frame.
pub const MESSAGE_FRAME_HEADER_BYTES: usize = size_of::<MessageFrameHeader>();

/// The frame that says `OK`, whole.
pub const OK_FRAME: &[u8; 10] = b"\0\0\0\x06\0\0\0\0OK";

/// The heartbeat, whole.
pub const HEARTBEAT_FRAME: &[u8; 19] = b"\0\0\0\x0f\0\0\0\0_heartbeat_";

/// The answer to CLS, whole.
pub const CLOSE_WAIT_FRAME: &[u8; 18] = b"\0\0\0\x0e\0\0\0\0CLOSE_WAIT";

/// What every frame begins with.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// Bytes after this field.
    pub size: U32,
    /// One of `FRAME_TYPE_*`.
    pub frame_type: U32,
}

/// What every message begins with, on the wire and in the log.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MessageHeader {
    /// When the message was published, UNIX nanoseconds.
    pub timestamp_ns: I64,
    /// Deliveries so far, this one included.
    pub attempts: U16,
    /// 16 hexadecimal digits.
    pub id: [u8; 16],
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct MessageFrameHeader {
    frame: FrameHeader,
    message: MessageHeader,
}

/// Appends a response frame.
pub fn push_response(out: &mut Vec<u8>, response: &[u8]) {
    push_header(out, FRAME_TYPE_RESPONSE, response.len());
    out.extend_from_slice(response);
}

/// Appends an error frame; nothing for the one error that has none.
pub fn push_error(out: &mut Vec<u8>, error: &ProtocolError) {
    if error.has_frame() {
        let mut text = Vec::new();
        error.push_text(&mut text);
        push_header(out, FRAME_TYPE_ERROR, text.len());
        out.extend_from_slice(&text);
    }
}

/// Appends the response `OK`.
#[inline]
pub fn push_ok(out: &mut Vec<u8>) {
    out.extend_from_slice(OK_FRAME);
}

/// Appends a heartbeat.
pub fn push_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(HEARTBEAT_FRAME);
}

/// Appends the response `CLOSE_WAIT`.
pub fn push_close_wait(out: &mut Vec<u8>) {
    out.extend_from_slice(CLOSE_WAIT_FRAME);
}

/// Appends all of a message frame but its body, which must follow: `body_bytes` of it.
///
/// This runs once per delivery: the header is made in registers and appended at once.
#[inline]
pub fn push_message_header(
    out: &mut Vec<u8>,
    timestamp_ns: i64,
    attempts: u16,
    id: u64,
    body_bytes: usize,
) {
    let size = frame_size(size_of::<MessageHeader>() + body_bytes);
    let mut header = MessageFrameHeader {
        frame: FrameHeader { size, frame_type: U32::new(FRAME_TYPE_MESSAGE) },
        message: MessageHeader {
            timestamp_ns: I64::new(timestamp_ns),
            attempts: U16::new(attempts),
            id: [0; 16],
        },
    };
    encode_id(id, &mut header.message.id);
    out.extend_from_slice(header.as_bytes());
}

impl MessageHeader {
    /// The message's id.
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }
}

fn push_header(out: &mut Vec<u8>, frame_type: u32, content_bytes: usize) {
    let header = FrameHeader { size: frame_size(content_bytes), frame_type: U32::new(frame_type) };
    out.extend_from_slice(header.as_bytes());
}

/// The size field of a frame: its type counts, the field itself does not.
#[inline]
fn frame_size(content_bytes: usize) -> U32 {
    let size = size_of::<U32>() + content_bytes;
    // NSQ reads the size as a signed number.
    debug_assert!(i32::try_from(size).is_ok(), "a message is limited to far less than 2 GiB");
    #[expect(clippy::cast_possible_truncation, reason = "a message is far smaller than 2 GiB")]
    U32::new(size as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_frames() {
        let mut out = Vec::new();
        push_response(&mut out, b"{}");
        assert_eq!(out, b"\0\0\0\x06\0\0\0\0{}");
        out.clear();
        push_error(&mut out, &ProtocolError::AuthDisabled);
        assert_eq!(out, b"\0\0\0\x21\0\0\0\x01E_AUTH_DISABLED AUTH disabled");
        out.clear();
        push_error(&mut out, &ProtocolError::BadProtocol);
        assert_eq!(out, b"\0\0\0\x12\0\0\0\x01E_BAD_PROTOCOL");
        out.clear();
        push_message_header(&mut out, 0x0102_0304_0506_0708, 0x090a, 0x0b0c_0d0e_0f10_1112, 3);
        out.extend_from_slice(b"abc");
        let golden = b"\0\0\0\x21\0\0\0\x02\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\
                       0b0c0d0e0f101112abc";
        assert_eq!(out, golden);
    }

    #[test]
    fn constant_frames_are_what_the_general_way_writes() {
        for (push, response) in [
            (push_ok as fn(&mut Vec<u8>), "OK"),
            (push_heartbeat, "_heartbeat_"),
            (push_close_wait, "CLOSE_WAIT"),
        ] {
            let (mut constant, mut general) = (Vec::new(), Vec::new());
            push(&mut constant);
            push_response(&mut general, response.as_bytes());
            assert_eq!(constant, general);
        }
    }

    #[test]
    fn the_error_without_a_frame_writes_nothing() {
        let mut out = Vec::new();
        push_error(&mut out, &ProtocolError::LineTooLong);
        assert!(out.is_empty());
    }

    #[test]
    fn a_written_header_reads_back() {
        let mut out = Vec::new();
        push_message_header(&mut out, -1, u16::MAX, 42, 10);
        let (frame, rest) = FrameHeader::read_from_prefix(&out).unwrap();
        let message = MessageHeader::read_from_bytes(rest).unwrap();
        assert_eq!((frame.size.get(), frame.frame_type.get()), (40, FRAME_TYPE_MESSAGE));
        assert_eq!((message.timestamp_ns.get(), message.attempts.get()), (-1, u16::MAX));
        assert_eq!(message.id().number(), Some(42));
        assert_eq!(out.len(), MESSAGE_FRAME_HEADER_BYTES);
    }
}
