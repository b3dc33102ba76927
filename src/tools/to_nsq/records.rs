//! Records of an input, cut at a delimiter. Pure. Empty ones are left out, as nsqd takes none.

use crate::limits::CLIENT_FRAME_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use std::io;

/// What of the input has come and is not yet a record.
#[derive(Debug)]
pub(super) struct Records {
    buffer: BytesMut,
    /// Bytes of the buffer that have come; behind them is space.
    filled: usize,
    delimiter: u8,
}

impl Records {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { buffer: BytesMut::new(), filled: 0, delimiter }
    }

    /// Space for a read.
    pub(super) fn space(&mut self, bytes: usize) -> &mut [u8] {
        self.buffer.resize(self.filled + bytes, 0);
        &mut self.buffer[self.filled..]
    }

    /// So many bytes were read into the space: the records they complete are appended.
    ///
    /// # Errors
    /// A record that no nsqd would take.
    pub(super) fn split(&mut self, bytes: usize, records: &mut Vec<Bytes>) -> io::Result<()> {
        let searched = self.filled;
        self.filled += bytes;
        let Some(end) = memchr::memrchr(self.delimiter, &self.buffer[searched..self.filled]) else {
            if self.filled > CLIENT_FRAME_BYTES_MAX {
                let text = format!("a record of more than {CLIENT_FRAME_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            return Ok(());
        };
        let end = searched + end + 1;
        let whole = self.buffer.split_to(end).freeze();
        self.filled -= end;
        let mut start = 0;
        for at in memchr::memchr_iter(self.delimiter, &whole) {
            if at > start {
                records.push(whole.slice(start..at));
            }
            start = at + 1;
        }
        Ok(())
    }

    /// What is left at the end of the input.
    pub(super) fn last(&mut self) -> Option<Bytes> {
        self.buffer.truncate(self.filled);
        self.filled = 0;
        Some(self.buffer.split().freeze()).filter(|record| !record.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(input: &[u8], sizes: &[usize]) -> Vec<Bytes> {
        let (mut records, mut seen, mut rest) = (Records::new(b'\n'), Vec::new(), input);
        for size in sizes.iter().cycle() {
            let (part, more) = rest.split_at(rest.len().min(*size));
            records.space(64)[..part.len()].copy_from_slice(part);
            records.split(part.len(), &mut seen).unwrap();
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        seen.extend(records.last());
        seen
    }

    #[test]
    fn the_last_record_keeps_its_last_byte() {
        assert_eq!(cut(b"one\n\ntwo\nlastX", &[64]), [&b"one"[..], b"two", b"lastX"]);
        assert!(cut(b"\n\n", &[64]).is_empty());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            input in prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..200),
            sizes in prop::collection::vec(1..65_usize, 1..20),
        ) {
            let lines = input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let expected: Vec<_> = lines.map(<[u8]>::to_vec).collect();
            prop_assert_eq!(cut(&input, &sizes), expected);
        }
    }
}
