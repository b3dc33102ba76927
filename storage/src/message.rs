//! What an entry holds when its log is that of a topic: when to deliver, and the message as NSQ's
//! wire has it, so that it is sent as it was read.
//!
//! ```text
//!  0  i64       deliver at, UNIX nanoseconds; 0 for at once
//!  8  i64       timestamp, UNIX nanoseconds ─┐
//! 16  u16       attempts, 0 in a log         │ wire image
//! 18  16 bytes  id, ASCII hexadecimal        │
//! 34  …         body                        ─┘
//! ```
//!
//! All big-endian, as on the wire. The log itself looks at none of it: daemon and tools share this
//! definition, and no other code of the package uses it.

use zerocopy::big_endian::{I64, U16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an entry before the body.
pub const ENTRY_HEAD_BYTES: usize = 34;

/// Bytes of an entry before its wire image.
pub const DELIVER_AT_BYTES: usize = 8;

/// The name of the cursor that is the topic itself: what it has not finished was not handed to any
/// channel yet. A channel's cursor has the channel's name.
pub const TOPIC_CURSOR: &[u8] = b"";

/// What is said of a message before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    /// Not to be delivered before; UNIX nanoseconds, 0 for at once.
    pub deliver_at_ns: i64,
    /// When it was published, UNIX nanoseconds.
    pub timestamp_ns: i64,
    /// Always 0 in a log: how often it was delivered is each channel's own, see
    /// [`crate::cursors::Retry`].
    pub attempts: u16,
    /// As on the wire: 16 lower-case hexadecimal digits.
    pub id: [u8; 16],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    deliver_at_ns: I64,
    timestamp_ns: I64,
    attempts: U16,
    id: [u8; 16],
}

const _: () = assert!(size_of::<Layout>() == ENTRY_HEAD_BYTES);

/// An entry, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What is said of the message.
    pub head: EntryHead,
    /// The message as it is sent: timestamp, attempts, id, body.
    pub wire_image: &'a [u8],
    /// What was published.
    pub body: &'a [u8],
}

impl EntryHead {
    /// The bytes before the body.
    pub fn encode(&self) -> [u8; ENTRY_HEAD_BYTES] {
        let layout = Layout {
            deliver_at_ns: I64::new(self.deliver_at_ns),
            timestamp_ns: I64::new(self.timestamp_ns),
            attempts: U16::new(self.attempts),
            id: self.id,
        };
        zerocopy::transmute!(layout)
    }
}

impl<'a> Entry<'a> {
    /// Takes an entry apart; `None` when it is too short to hold a message.
    pub fn split(entry: &'a [u8]) -> Option<Self> {
        let (layout, body) = Layout::ref_from_prefix(entry).ok()?;
        let head = EntryHead {
            deliver_at_ns: layout.deliver_at_ns.get(),
            timestamp_ns: layout.timestamp_ns.get(),
            attempts: layout.attempts.get(),
            id: layout.id,
        };
        Some(Self { head, wire_image: entry.get(DELIVER_AT_BYTES..)?, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> EntryHead {
        EntryHead {
            deliver_at_ns: 0x0102_0304_0506_0708,
            timestamp_ns: 0x1112_1314_1516_1718,
            attempts: 0x2122,
            id: *b"0123456789abcdef",
        }
    }

    #[test]
    fn golden_bytes() {
        let expected = [
            &[1, 2, 3, 4, 5, 6, 7, 8][..],
            &[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18],
            &[0x21, 0x22],
            b"0123456789abcdef",
        ];
        assert_eq!(head().encode()[..], expected.concat());
    }

    proptest! {
        #[test]
        fn what_was_put_together_is_taken_apart(
            (deliver_at_ns, timestamp_ns, attempts, id) in any::<(i64, i64, u16, [u8; 16])>(),
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let head = EntryHead { deliver_at_ns, timestamp_ns, attempts, id };
            let bytes = [&head.encode()[..], &body].concat();
            let wire_image = &bytes[8..];
            prop_assert_eq!(Entry::split(&bytes), Some(Entry { head, wire_image, body: &body }));
        }
    }

    #[test]
    fn what_is_too_short_is_no_entry() {
        assert_eq!(Entry::split(&head().encode()[..33]), None);
        assert_eq!(Entry::split(&head().encode()).map(|entry| entry.body), Some(&[][..]));
    }
}
