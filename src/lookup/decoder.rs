//! A client's bytes, cut into what they consist of: the magic, lines, and bodies after a length.
//! Pure, and the same for every way the bytes may arrive in.

use crate::limits::{LOOKUPD_BODY_BYTES_MAX, LOOKUPD_LINE_BYTES_MAX};

/// What has arrived and has not been taken yet: at most one chunk more than the longest unit.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
    expected: Expected,
}

/// A whole piece of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Unit {
    /// The first four bytes of a connection.
    Magic([u8; 4]),
    /// A line without its line feed.
    Line(Vec<u8>),
    /// A body without its length.
    Body(Vec<u8>),
}

/// What will never be a whole piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No line feed within [`LOOKUPD_LINE_BYTES_MAX`].
    LineTooLong,
    /// A length below 0 or above [`LOOKUPD_BODY_BYTES_MAX`].
    BodySize(i32),
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// The magic.
    #[default]
    Magic,
    /// A command's line.
    Line,
    /// The length of a body.
    BodySize,
    /// A body of so many bytes.
    Body(usize),
}

impl Decoder {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole piece; `None` when it has not arrived yet.
    ///
    /// # Errors
    /// A [`Fault`], after which nothing more can be made of the input.
    pub fn next_unit(&mut self) -> Result<Option<Unit>, Fault> {
        let unit = loop {
            match self.expected {
                Expected::Magic => {
                    let Some(magic) = self.take_word() else { break None };
                    self.expected = Expected::Line;
                    break Some(Unit::Magic(magic));
                }
                Expected::Line => break self.take_line()?.map(Unit::Line),
                Expected::BodySize => {
                    let Some(size) = self.take_word() else { break None };
                    let size = i32::from_be_bytes(size);
                    let known = usize::try_from(size).ok();
                    let known = known.filter(|bytes| *bytes <= LOOKUPD_BODY_BYTES_MAX);
                    self.expected = Expected::Body(known.ok_or(Fault::BodySize(size))?);
                }
                Expected::Body(bytes) => {
                    let Some(body) = self.rest().get(..bytes).map(<[u8]>::to_vec) else {
                        break None;
                    };
                    self.taken += bytes;
                    self.expected = Expected::Line;
                    break Some(Unit::Body(body));
                }
            }
        };
        if self.taken == self.bytes.len() {
            // Most of a connection's life is waiting: it keeps no memory meanwhile.
            (self.bytes, self.taken) = (Vec::new(), 0);
        }
        Ok(unit)
    }

    /// The line was that of a command with a body.
    pub fn expect_body(&mut self) {
        self.expected = Expected::BodySize;
    }

    /// What an input that ends here is short of.
    pub fn expected(&self) -> Expected {
        self.expected
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn take_word(&mut self) -> Option<[u8; 4]> {
        let word = *self.rest().first_chunk()?;
        self.taken += word.len();
        Some(word)
    }

    fn take_line(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let rest = self.rest();
        let end = memchr::memchr(b'\n', rest);
        if end.unwrap_or(rest.len()) >= LOOKUPD_LINE_BYTES_MAX {
            return Err(Fault::LineTooLong);
        }
        let line = end.and_then(|end| rest.get(..end)).map(<[u8]>::to_vec);
        self.taken += line.as_ref().map_or(0, |line| line.len() + 1);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All units of an input that arrives in chunks; a line that says `body` is followed by one.
    fn units(chunks: &[&[u8]]) -> (Vec<Unit>, Option<Fault>) {
        let mut decoder = Decoder::default();
        let mut units = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            loop {
                match decoder.next_unit() {
                    Ok(Some(unit)) => {
                        if unit == Unit::Line(b"body".to_vec()) {
                            decoder.expect_body();
                        }
                        units.push(unit);
                    }
                    Ok(None) => break,
                    Err(fault) => return (units, Some(fault)),
                }
            }
        }
        (units, None)
    }

    #[test]
    fn input_is_cut_into_its_pieces() {
        let line = |text: &str| Unit::Line(text.as_bytes().to_vec());
        let input = b"  V1body\n\0\0\0\x03x\nyPING\r\n\nbody\n\0\0\0\0rest";
        let (seen, fault) = units(&[input]);
        let body = |text: &[u8]| Unit::Body(text.to_vec());
        let expected = [
            Unit::Magic(*b"  V1"),
            line("body"),
            body(b"x\ny"),
            line("PING\r"),
            line(""),
            line("body"),
            body(b""),
        ];
        assert_eq!((seen.as_slice(), fault), (&expected[..], None));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_held() {
        let longest = vec![b'x'; LOOKUPD_LINE_BYTES_MAX - 1];
        let (seen, fault) = units(&[b"  V1", &longest, b"\n"]);
        assert_eq!((seen.len(), fault), (2, None));
        let (_, fault) = units(&[b"  V1", &longest, b"x"]);
        assert_eq!(fault, Some(Fault::LineTooLong));
        let sized = |size: i32| units(&[b"  V1body\n", &size.to_be_bytes()]).1;
        let most = i32::try_from(LOOKUPD_BODY_BYTES_MAX).unwrap();
        assert_eq!(sized(most), None);
        for size in [most + 1, i32::MAX, -1, i32::MIN] {
            assert_eq!(sized(size), Some(Fault::BodySize(size)));
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            lines in prop::collection::vec("(body|PING|[a-z ]{0,9})\n", 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..64),
            at in prop::collection::vec(0_usize..128, 0..6),
        ) {
            let mut input = b"  V1".to_vec();
            for line in &lines {
                input.extend_from_slice(line.as_bytes());
                if line == "body\n" {
                    input.extend_from_slice(b"\0\0\0\x02\n\n");
                }
            }
            input.extend_from_slice(&noise);
            let mut cuts: Vec<_> = at.into_iter().map(|at| at.min(input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
            prop_assert_eq!(units(&chunks), units(&[&input]));
        }
    }
}
