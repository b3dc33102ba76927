//! Numbers of variable length, as the cursors' state is written: seven bits a byte, the lowest
//! first, the eighth bit says that more follow (LEB128).

/// Appends a number.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes().first().map_or(0, |low| low | 0x80));
        value >>= 7;
    }
    bytes.extend(value.to_le_bytes().first());
}

/// Appends a length and that many bytes.
pub(crate) fn put_bytes(bytes: &mut Vec<u8>, text: &[u8]) {
    put(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

/// Takes off the front what was put; `None` where it does not end, or goes beyond 64 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn take_u32(&mut self) -> Option<u32> {
        u32::try_from(self.take()?).ok()
    }

    pub(crate) fn take_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.take()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let cases: [(u64, &[u8]); 5] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (value, expected) in cases {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes, expected);
            let mut input = Input(&bytes);
            assert_eq!(input.take(), Some(value));
            assert!(input.0.is_empty());
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        assert_eq!(Input(&[0x80]).take(), None);
        assert_eq!(Input(&[255; 11]).take(), None);
        assert_eq!(Input(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]).take(), None);
        assert_eq!(Input(&[3, 1, 2]).take_bytes(), None);
        assert_eq!(Input(&[0xff, 0xff, 0xff, 0xff, 0x1f]).take_u32(), None);
        assert_eq!(Input(&[2, 1, 2, 3]).take_bytes(), Some(&[1, 2][..]));
    }
}
