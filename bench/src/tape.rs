//! Publishes encoded once, sent again and again.

use anyhow::Result;

use crate::encode::Encoder;
use crate::link::Link;

/// A tape of bodies of many lengths is cut off here, if it holds enough to be sent.
const TAPE_BYTES_MAX: usize = 1 << 20;

/// Commands one after the other, taken in rotation.
pub(crate) struct Tape {
    bytes: Vec<u8>,
    /// Where each command ends.
    ends: Vec<usize>,
    /// The next command.
    position: usize,
}

impl Tape {
    /// Whole rounds of what `encoder` writes, enough to send `in_flight` in at most two writes.
    pub(crate) fn new(mut encoder: Encoder, in_flight: usize) -> Self {
        let commands = in_flight.next_multiple_of(encoder.round());
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        while ends.len() < commands && (ends.len() < in_flight || bytes.len() < TAPE_BYTES_MAX) {
            encoder.push(&mut bytes, 0);
            ends.push(bytes.len());
        }
        Self { bytes, ends, position: 0 }
    }

    /// Sends the next `commands`.
    pub(crate) async fn send(&mut self, link: &Link, commands: usize) -> Result<()> {
        let mut left = commands;
        while left > 0 {
            let last = self.ends.len().min(self.position + left);
            left -= last - self.position;
            let begin = self.position.checked_sub(1).map_or(0, |before| self.ends[before]);
            let part = begin..self.ends[last - 1];
            let (result, bytes) = link.write(std::mem::take(&mut self.bytes), part).await;
            self.bytes = bytes;
            result?;
            self.position = if last == self.ends.len() { 0 } else { last };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::LoadFlags;
    use crate::scenario::Plan;

    fn tape(body: &str, in_flight: usize) -> Tape {
        let flags = LoadFlags { body_bytes: Some(body.parse().unwrap()), ..LoadFlags::default() };
        let plan = Plan::named("pub", &flags).unwrap();
        let topics = [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
        Tape::new(Encoder::new(&plan, 0, &topics), in_flight)
    }

    #[test]
    fn a_tape_holds_whole_rounds_of_its_topics() {
        let tape = tape("1", 4);
        assert_eq!(tape.ends, [11, 22, 33, 44, 55, 66]);
        assert_eq!(tape.bytes.len(), 66);
        assert_eq!(tape.bytes[33..39], *b"PUB a\n");
    }

    #[test]
    fn a_tape_of_long_bodies_is_cut_off_but_holds_what_is_in_flight() {
        assert_eq!(tape("1000000..1000001", 5).ends.len(), 5);
        assert!(tape("100000..200000", 1).bytes.len() < TAPE_BYTES_MAX + 300_000);
    }
}
