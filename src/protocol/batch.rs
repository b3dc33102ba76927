//! Batches of messages as MPUB carries them, over TCP and over HTTP: `([int32 size][bytes]) × n`.
//!
//! A batch is checked once, while it arrives ([`BatchScan`]); afterwards [`BatchIter`] walks it
//! without checks that could fail.

use super::command::CommandLimits;

/// Why a batch is refused. `ProtocolError` has the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the count of messages.
    CountUnread,
    /// The count is not positive, or more than a body of the largest size could hold.
    CountInvalid {
        /// As on the wire.
        count: i32,
    },
    /// The bytes end before the size of a message.
    SizeUnread {
        /// Which message, from 0.
        index: u32,
    },
    /// The size of a message is not positive.
    SizeInvalid {
        /// Which message, from 0.
        index: u32,
        /// As on the wire.
        size: i32,
    },
    /// A message is larger than `--max-msg-size`.
    MessageTooBig {
        /// As on the wire.
        size: i32,
        /// The limit.
        max: usize,
    },
    /// The bytes end inside a message.
    MessageUnread,
}

/// Checks that `bytes` begin with `count` messages of valid sizes, and returns how many bytes
/// those are. What follows them is not looked at.
///
/// # Errors
/// The first thing wrong with them; NSQ's order.
fn check_batch(bytes: &[u8], count: u32, limits: &CommandLimits) -> Result<usize, BatchError> {
    let mut scan = BatchScan::new(count);
    let bytes_used = scan.feed(bytes, limits.max_msg_size)?;
    if scan.is_complete() { Ok(bytes_used) } else { Err(scan.unread()) }
}

/// Takes apart the body of a binary HTTP `/mpub`, `[int32 count]([int32 size][bytes]) × count`:
/// the count, and exactly the messages, all checked. Bytes after them are ignored, as by NSQ.
///
/// # Errors
/// The first thing wrong with the body; NSQ's order.
pub fn split_batch<'b>(
    body: &'b [u8],
    limits: &CommandLimits,
) -> Result<(u32, &'b [u8]), BatchError> {
    let (count, messages) = body.split_first_chunk().ok_or(BatchError::CountUnread)?;
    let count = check_count(i32::from_be_bytes(*count), limits)?;
    let bytes_used = check_batch(messages, count, limits)?;
    Ok((count, messages.get(..bytes_used).unwrap_or_default()))
}

/// A count is positive, and not more than the smallest messages (one byte and its size) that fit
/// into the largest body beside the count itself.
pub(super) fn check_count(count: i32, limits: &CommandLimits) -> Result<u32, BatchError> {
    let count_max = limits.max_body_size.saturating_sub(4) / 5;
    let checked = u32::try_from(count)
        .ok()
        .filter(|&count| count > 0 && usize::try_from(count).is_ok_and(|count| count <= count_max));
    checked.ok_or(BatchError::CountInvalid { count })
}

/// Checks a batch piece by piece, each byte once, holding none of them (but for a split size).
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchScan {
    count: u32,
    /// Messages whose size has been read.
    sizes_read: u32,
    /// Bytes of the last of them that are still to come.
    message_bytes_left: usize,
    /// The bytes of a size that was cut, from the left.
    size_part: [u8; 4],
    size_part_bytes: u8,
}

impl BatchScan {
    /// A scan of `count` messages, before their first byte.
    pub(super) fn new(count: u32) -> Self {
        Self { count, sizes_read: 0, message_bytes_left: 0, size_part: [0; 4], size_part_bytes: 0 }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Goes over the next piece. Returns how many of its bytes belong to the batch: all of them
    /// unless the batch is complete.
    pub(super) fn feed(&mut self, piece: &[u8], size_max: usize) -> Result<usize, BatchError> {
        let mut rest = piece;
        loop {
            let here = self.message_bytes_left.min(rest.len());
            self.message_bytes_left -= here;
            rest = rest.get(here..).unwrap_or_default();
            if self.message_bytes_left > 0 || self.sizes_read == self.count {
                return Ok(piece.len() - rest.len());
            }
            let Some(size) = self.read_size(&mut rest) else { return Ok(piece.len()) };
            let index = self.sizes_read;
            self.message_bytes_left = check_size(index, size, size_max)?;
            self.sizes_read += 1;
        }
    }

    /// Whether all messages have been seen.
    pub(super) fn is_complete(&self) -> bool {
        self.sizes_read == self.count && self.message_bytes_left == 0
    }

    /// What is wrong if no more bytes come.
    pub(super) fn unread(&self) -> BatchError {
        match self.message_bytes_left {
            0 => BatchError::SizeUnread { index: self.sizes_read },
            _ => BatchError::MessageUnread,
        }
    }

    fn read_size(&mut self, rest: &mut &[u8]) -> Option<i32> {
        if self.size_part_bytes == 0
            && let Some((size, after)) = rest.split_first_chunk()
        {
            *rest = after;
            return Some(i32::from_be_bytes(*size));
        }
        while let Some((byte, after)) = rest.split_first() {
            *self.size_part.get_mut(usize::from(self.size_part_bytes))? = *byte;
            self.size_part_bytes += 1;
            *rest = after;
            if self.size_part_bytes == 4 {
                self.size_part_bytes = 0;
                return Some(i32::from_be_bytes(self.size_part));
            }
        }
        None
    }
}

fn check_size(index: u32, size: i32, max: usize) -> Result<usize, BatchError> {
    match usize::try_from(size) {
        Ok(0) | Err(_) => Err(BatchError::SizeInvalid { index, size }),
        Ok(bytes) if bytes > max => Err(BatchError::MessageTooBig { size, max }),
        Ok(bytes) => Ok(bytes),
    }
}

/// The messages of a checked batch, in order: the offset of each body in the batch, and the body.
#[derive(Debug, Clone)]
pub struct BatchIter<'b> {
    bytes: &'b [u8],
    offset: usize,
}

impl<'b> BatchIter<'b> {
    /// Walks a batch that [`check_batch`] or the decoder has found valid. Over other bytes it
    /// ends at the first message that does not fit.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
}

impl<'b> Iterator for BatchIter<'b> {
    type Item = (usize, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (size, rest) = self.bytes.get(self.offset..)?.split_first_chunk()?;
        let body = rest.get(..usize::try_from(u32::from_be_bytes(*size)).ok()?)?;
        let body_offset = self.offset + size.len();
        self.offset = body_offset + body.len();
        Some((body_offset, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CommandLimits = CommandLimits {
        max_msg_size: 3,
        max_body_size: 25,
        max_rdy_count: 1,
        max_req_timeout_ms: 1,
    };

    const BATCH: &[u8] = b"\0\0\0\x03abc\0\0\0\x01d";

    #[test]
    fn a_batch_is_measured_and_walked() {
        let bytes = [BATCH, b"rest"].concat();
        assert_eq!(check_batch(&bytes, 2, &LIMITS), Ok(12));
        let messages: Vec<_> = BatchIter::new(BATCH).collect();
        assert_eq!(messages, [(4, b"abc".as_slice()), (11, b"d")]);
        let body = [b"\0\0\0\x02", BATCH, b"rest"].concat();
        assert_eq!(split_batch(&body, &LIMITS), Ok((2, BATCH)));
    }

    #[test]
    fn the_first_thing_wrong_is_reported() {
        use BatchError::*;
        let cases: &[(&[u8], BatchError)] = &[
            (b"\0\0\0", CountUnread),
            (b"\0\0\0\0", CountInvalid { count: 0 }),
            (b"\xff\xff\xff\xff", CountInvalid { count: -1 }),
            (b"\0\0\0\x05", CountInvalid { count: 5 }),
            (b"\0\0\0\x04", SizeUnread { index: 0 }),
            (b"\0\0\0\x02\0\0\0\x01a\0\0\0", SizeUnread { index: 1 }),
            (b"\0\0\0\x02\0\0\0\x01a\0\0\0\0", SizeInvalid { index: 1, size: 0 }),
            (b"\0\0\0\x01\x80\0\0\0", SizeInvalid { index: 0, size: i32::MIN }),
            (b"\0\0\0\x01\0\0\0\x04", MessageTooBig { size: 4, max: 3 }),
            (b"\0\0\0\x01\0\0\0\x03ab", MessageUnread),
        ];
        for (body, expected) in cases {
            assert_eq!(split_batch(body, &LIMITS), Err(*expected), "{body:?}");
        }
    }

    #[test]
    fn a_scan_in_pieces_equals_a_scan_of_the_whole() {
        for first in 0..=BATCH.len() {
            for second in first..=BATCH.len() {
                let mut scan = BatchScan::new(2);
                let pieces = [&BATCH[..first], &BATCH[first..second], &BATCH[second..]];
                let used = pieces.map(|piece| scan.feed(piece, 3).unwrap());
                assert_eq!(used.iter().sum::<usize>(), BATCH.len());
                assert!(scan.is_complete());
            }
        }
    }

    #[test]
    fn walking_unchecked_bytes_ends_where_they_stop_making_sense() {
        assert_eq!(BatchIter::new(b"\0\0\0\x01a\xff\xff\xff\xffb").count(), 1);
        assert_eq!(BatchIter::new(b"\0\0").count(), 0);
    }
}
