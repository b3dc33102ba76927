//! The little of the protocol the workload needs, without an allocation per message.

use crate::support::client::MAGIC;
use crate::support::stream::{Address, Stream};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Bytes of a message frame before the body: size, type, timestamp, attempts, id.
const MESSAGE_HEADER_BYTES: usize = 4 + 4 + 8 + 2 + 16;

/// A frame, borrowed from the connection's buffer.
pub(super) enum Frame<'a> {
    Response(&'a [u8]),
    Error(&'a [u8]),
    Message { attempts: u16, id: [u8; 16], body: &'a [u8] },
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read_ {
    /// More bytes.
    Some,
    /// Nothing within the time allowed.
    Idle,
    /// The connection is over.
    Closed,
}

/// A connection with a receive buffer.
pub(super) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Connects and sends the magic; a read waits at most `patience`.
    pub(super) fn open(address: &Address, patience: Duration) -> io::Result<Self> {
        let mut stream = address.connect()?;
        stream.limit_reads(Some(patience))?;
        stream.write_all(MAGIC)?;
        Ok(Self { stream, buffer: vec![0; 256 * 1024], start: 0, end: 0 })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads once.
    pub(super) fn fill(&mut self) -> Read_ {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        assert!(self.end < self.buffer.len(), "a frame larger than any this test makes");
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Read_::Closed,
            Ok(count) => {
                self.end += count;
                Read_::Some
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Read_::Idle,
                io::ErrorKind::Interrupted => Read_::Some,
                _ => Read_::Closed,
            },
        }
    }

    /// The next whole frame in the buffer.
    pub(super) fn frame(&mut self) -> Option<Frame<'_>> {
        let bytes = &self.buffer[self.start..self.end];
        let size = u32::from_be_bytes(*bytes.first_chunk()?);
        let length = 4 + usize::try_from(size).expect("a 64-bit machine");
        let frame = bytes.get(..length)?;
        self.start += length;
        Some(match frame[7] {
            0 => Frame::Response(&frame[8..]),
            1 => Frame::Error(&frame[8..]),
            _ => Frame::Message {
                attempts: u16::from_be_bytes([frame[16], frame[17]]),
                id: frame[18..34].try_into().expect("sixteen bytes"),
                body: &frame[MESSAGE_HEADER_BYTES..],
            },
        })
    }
}

/// Appends one message: its number, and as many bytes after it as the number says.
pub(super) fn write_body(number: usize, bytes: &mut Vec<u8>) {
    let number = u64::try_from(number).expect("a 64-bit machine");
    let filler = filler(number);
    bytes.extend(u32::try_from(8 + filler).expect("a small body").to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.resize(bytes.len() + filler, fill_byte(number));
}

/// The number in a body, after checking that the rest of the body belongs to it.
pub(super) fn read_body(body: &[u8]) -> usize {
    let number = u64::from_be_bytes(*body.first_chunk().expect("a body starts with its number"));
    assert_eq!(body.len(), 8 + filler(number), "length of message {number}");
    assert!(body[8..].iter().all(|b| *b == fill_byte(number)), "contents of message {number}");
    usize::try_from(number).expect("a 64-bit machine")
}

/// Between 0 and 63 bytes, and for one in 256 messages about a kibibyte.
fn filler(number: u64) -> usize {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let small = usize::try_from(mixed % 64).expect("small");
    if mixed >> 8 == 0 { 1000 + small } else { small }
}

fn fill_byte(number: u64) -> u8 {
    u8::try_from(number % 251).expect("below 251")
}
