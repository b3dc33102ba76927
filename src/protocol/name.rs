//! Topic and channel names: checked once when they are parsed, never again.
//!
//! A name is 1–64 bytes of `[.a-zA-Z0-9_-]`, optionally ending in `#ephemeral` (which counts
//! towards the 64 and cannot stand alone). It is held inline, so copying one allocates nothing.

use crate::limits::NAME_BYTES_MAX;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The suffix of a topic or channel that never touches the disk and goes with its last user.
pub const EPHEMERAL_SUFFIX: &[u8] = b"#ephemeral";

/// A valid topic name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Name);

/// A valid channel name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Name);

/// Why bytes are not a name; the caller words the error, since NSQ's texts differ by command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

/// The bytes of a name, inline. Bytes past `length` are zero, so the derived ordering is bytewise
/// (no valid byte is zero, so a shorter name sorts before every longer one it begins).
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    length: u8,
}

impl PartialEq for Name {
    /// All bytes at once: a publish compares its topic with the last one, and a call of `memcmp`
    /// costs several times as much.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let (own, others) = (self.bytes.as_chunks::<8>().0, other.bytes.as_chunks::<8>().0);
        let different = own
            .iter()
            .zip(others)
            .fold(0, |all, (a, b)| all | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
        different == 0 && self.length == other.length
    }
}

impl Hash for Name {
    /// The name alone, not the zeros behind it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Name {
    fn parse(bytes: &[u8]) -> Result<Self, InvalidName> {
        let stem = bytes.strip_suffix(EPHEMERAL_SUFFIX).unwrap_or(bytes);
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if stem.is_empty() || !stem.iter().all(valid) {
            return Err(InvalidName);
        }
        let mut name = Self { bytes: [0; NAME_BYTES_MAX], length: 0 };
        name.bytes.get_mut(..bytes.len()).ok_or(InvalidName)?.copy_from_slice(bytes);
        name.length = u8::try_from(bytes.len()).map_err(|_| InvalidName)?;
        Ok(name)
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("parse admits only ASCII")
    }
}

macro_rules! name_type {
    ($type:ident) => {
        impl $type {
            /// Checks and takes over a name from the wire, a query string or a file.
            ///
            /// # Errors
            /// [`InvalidName`] when the bytes do not match NSQ's pattern or are longer than 64.
            pub fn parse(bytes: &[u8]) -> Result<Self, InvalidName> {
                Name::parse(bytes).map(Self)
            }

            /// The name as it came on the wire.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// The name as text; names are ASCII by construction.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Whether the name ends in `#ephemeral`.
            pub fn is_ephemeral(&self) -> bool {
                self.as_bytes().ends_with(EPHEMERAL_SUFFIX)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.as_str())
            }
        }
    };
}

name_type!(TopicName);
name_type!(ChannelName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_and_refused_as_nsq_does() {
        let longest = "a".repeat(64);
        let too_long = "a".repeat(65);
        let long_ephemeral = format!("{}#ephemeral", "a".repeat(54));
        let too_long_ephemeral = format!("{}#ephemeral", "a".repeat(55));
        let cases: &[(&str, bool)] = &[
            ("test", true),
            ("test-with_period.", true),
            ("test#ephemeral", true),
            ("test:ephemeral", false),
            ("#ephemeral", false),
            ("", false),
            ("t$", false),
            ("a b", false),
            ("a#ephemeral#ephemeral", false),
            ("ü", false),
            (&longest, true),
            (&too_long, false),
            (&long_ephemeral, true),
            (&too_long_ephemeral, false),
        ];
        for (text, valid) in cases {
            assert_eq!(TopicName::parse(text.as_bytes()).is_ok(), *valid, "{text}");
            assert_eq!(ChannelName::parse(text.as_bytes()).is_ok(), *valid, "{text}");
        }
    }

    #[test]
    fn names_sort_bytewise() {
        let parse = |text: &str| TopicName::parse(text.as_bytes()).unwrap();
        assert!(parse("a") < parse("aa"));
        assert!(parse("aa") < parse("b"));
        assert!(parse("B") < parse("a"));
    }
}
