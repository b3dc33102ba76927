//! Message ids as they stand on the wire: 16 lowercase hexadecimal digits.
//!
//! Both directions work on eight digits at a time in one register (one digit per byte), since
//! they run once per delivery and once per FIN.

use std::fmt;

/// A message id as a client sends it: 16 bytes, which NSQ does not require to be hexadecimal.
///
/// Aligned so that it travels in whole registers inside of enums; copied a byte off, as it would
/// lie behind a discriminant, it costs several stalled loads per command.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(align(8))]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// The id of a number, as it goes out on the wire.
    pub fn from_number(number: u64) -> Self {
        let mut id = Self([0; 16]);
        encode_id(number, &mut id.0);
        id
    }

    /// The number these digits stand for; `None` if they are not 16 lowercase hexadecimal digits,
    /// and so no id that was ever given out.
    pub fn number(&self) -> Option<u64> {
        let (digits, _) = self.0.as_chunks::<8>();
        let [high, low] = digits else { return None };
        let (high, high_valid) = decode_digits(u64::from_be_bytes(*high));
        let (low, low_valid) = decode_digits(u64::from_be_bytes(*low));
        (high_valid & low_valid).then_some(high << 32 | low)
    }
}

/// Writes a number as 16 lowercase hexadecimal digits.
pub fn encode_id(number: u64, digits: &mut [u8; 16]) {
    let (halves, _) = digits.as_chunks_mut::<8>();
    if let [high, low] = halves {
        *high = encode_digits(number >> 32).to_be_bytes();
        *low = encode_digits(number & 0xffff_ffff).to_be_bytes();
    }
}

const EACH_BYTE: u64 = 0x0101_0101_0101_0101;

/// Spreads 32 bits over eight bytes, one nibble each, and turns each into its digit.
fn encode_digits(number: u64) -> u64 {
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    digits_of_nibbles(nibbles)
}

/// `0..=9` become `'0'..='9'`, `10..=15` become `'a'..='f'`, in every byte.
fn digits_of_nibbles(nibbles: u64) -> u64 {
    // Adding 6 carries into bit 4 exactly for 10 and above; 'a' - 10 is 0x27 above '0'.
    let letters = (nibbles + 0x06 * EACH_BYTE) >> 4 & EACH_BYTE;
    nibbles + 0x30 * EACH_BYTE + letters * 0x27
}

/// The 32 bits of eight digits, and whether all of them were digits.
fn decode_digits(digits: u64) -> (u64, bool) {
    // Bit 6 tells letters from decimal digits; the low nibble of 'a' is 1, so letters add 9. No
    // byte can overflow into its neighbour: 15 + 9 < 256.
    let letters = digits >> 6 & EACH_BYTE;
    let nibbles = (digits & (0x0f * EACH_BYTE)) + letters * 9;
    // Whatever the bytes were, what comes back from their nibbles is digits; so only digits can
    // come back as themselves.
    let valid = digits_of_nibbles(nibbles & (0x0f * EACH_BYTE)) == digits;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    ((pairs | pairs >> 16) & 0xffff_ffff, valid)
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_digits() {
        let id = MessageId::from_number(0x0123_4567_89ab_cdef);
        assert_eq!(&id.0, b"0123456789abcdef");
        assert_eq!(id.number(), Some(0x0123_4567_89ab_cdef));
        assert_eq!(MessageId(*b"0000000000000000").number(), Some(0));
        assert_eq!(MessageId(*b"ffffffffffffffff").number(), Some(u64::MAX));
    }

    #[test]
    fn every_byte_in_every_place_is_a_digit_or_refused() {
        for place in 0..16 {
            for byte in 0..=255u8 {
                let mut digits = [b'0'; 16];
                digits[place] = byte;
                let digit = match byte {
                    b'0'..=b'9' => Some(u64::from(byte - b'0')),
                    b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
                    _ => None,
                };
                let number = digit.map(|digit| digit << (4 * (15 - place)));
                assert_eq!(MessageId(digits).number(), number, "{byte:#x} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn digits_agree_with_formatting(number: u64) {
            let id = MessageId::from_number(number);
            prop_assert_eq!(id.to_string(), format!("{number:016x}"));
            prop_assert_eq!(id.number(), Some(number));
        }

        #[test]
        fn arbitrary_bytes_agree_with_parsing(bytes: [u8; 16]) {
            let digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let text = std::str::from_utf8(&bytes).ok().filter(|_| bytes.iter().all(digit));
            let number = text.map(|text| u64::from_str_radix(text, 16).unwrap());
            prop_assert_eq!(MessageId(bytes).number(), number);
        }
    }
}
