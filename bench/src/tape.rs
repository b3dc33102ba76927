//! Publishes encoded once, sent again and again.

use std::rc::Rc;

use anyhow::{Context, Result};
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use crate::wire;

/// Commands of one size, one after the other, taken in rotation.
pub(crate) struct Tape {
    bytes: Vec<u8>,
    command_bytes: usize,
    position: usize,
}

impl Tape {
    /// Commands for `topics` in turn, enough of them to send `in_flight` in at most two writes.
    /// `batch` is the number of messages in each MPUB, 0 for PUB.
    pub(crate) fn new(topics: &[String], body: &[u8], batch: u32, in_flight: usize) -> Self {
        let rounds = in_flight.div_ceil(topics.len());
        let mut bytes = Vec::new();
        for topic in std::iter::repeat_n(topics, rounds).flatten() {
            match batch {
                0 => wire::push_publish(&mut bytes, topic, body),
                count => wire::push_multi_publish(&mut bytes, topic, body, count),
            }
        }
        // Topic names of a run are of one length, so all commands are.
        let command_bytes = bytes.len() / (rounds * topics.len());
        Self { bytes, command_bytes, position: 0 }
    }

    /// Sends the next `commands`.
    pub(crate) async fn send(&mut self, stream: &Rc<TcpStream>, commands: usize) -> Result<()> {
        let mut left_bytes = commands * self.command_bytes;
        while left_bytes > 0 {
            let end = self.bytes.len().min(self.position + left_bytes);
            let part = std::mem::take(&mut self.bytes).slice(self.position..end);
            let (result, part) = stream.write_all(part).await;
            self.bytes = part.into_inner();
            result.context("the connection broke while publishing")?;
            left_bytes -= end - self.position;
            self.position = if end == self.bytes.len() { 0 } else { end };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_holds_whole_rounds_of_its_topics() {
        let topics = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let tape = Tape::new(&topics, b"x", 0, 4);
        let one_round = b"PUB a\n\0\0\0\x01xPUB b\n\0\0\0\x01xPUB c\n\0\0\0\x01x";
        assert_eq!(tape.bytes, [&one_round[..], &one_round[..]].concat());
        assert_eq!(tape.command_bytes, 11);
    }
}
