//! JSON by Go's rules. Read: keys match without regard to case, `null` and unknown keys are
//! skipped, the last of equal keys counts, and a wrong type anywhere refuses the whole. Written:
//! [`json`].

use serde::Serialize;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;
use std::{fmt, io};

/// Reads an object: calls `set` with each key, folded to lower case, and its value as JSON text.
/// `None` when the bytes are no object, or when `set` gives `None` for a value of the wrong type.
///
/// JSON's syntax has been checked then, so that a number which `str::parse` takes for an integer
/// is what Go accepts for one: no fraction, no exponent.
pub fn read_object(body: &[u8], set: impl FnMut(&str, &str) -> Option<()>) -> Option<()> {
    // Go replaces what is not UTF-8; outside of strings it is a syntax error either way.
    let text = String::from_utf8_lossy(body);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Object(set).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()
}

/// A JSON string; `None` when the value is of another type.
pub fn text(value: &str) -> Option<String> {
    let Text(text) = serde_json::from_str(value).ok()?;
    Some(text)
}

/// Go's folding of a key: case, and the two letters beyond ASCII that fold into it.
fn fold_key(key: &str) -> String {
    let fold = |character: char| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => character.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

struct Object<F>(F);

impl<'de, F: FnMut(&str, &str) -> Option<()>> DeserializeSeed<'de> for Object<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str, &str) -> Option<()>> Visitor<'de> for Object<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// `null` in place of the document is an empty one.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            if value.get() != "null" {
                let wrong_type = || serde::de::Error::custom("wrong type");
                (self.0)(&fold_key(&key), value.get()).ok_or_else(wrong_type)?;
            }
        }
        Ok(())
    }
}

/// A JSON string by Go's rules: half a surrogate pair is replaced, not refused.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// JSON as Go writes it: compact, with characters that mean something to HTML escaped.
pub fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, HtmlSafe);
    value.serialize(&mut serializer).expect("values are plain structs and memory takes all bytes");
    bytes
}

struct HtmlSafe;

impl Formatter for HtmlSafe {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        // Nearly all have nothing to escape, and are looked through without a branch per byte.
        let begins_special = |b: u8| matches!(b, b'<' | b'>' | b'&' | 0xe2);
        if !fragment.bytes().fold(false, |any, byte| any | begins_special(byte)) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(special) {
            let (plain, from) = rest.split_at(at);
            let character = from.chars().next().expect("find gives the start of a character");
            CompactFormatter.write_string_fragment(writer, plain)?;
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &from[character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_html_would_read() {
        let text = json(&["<a href=\"x\">&\u{2028}é\n</a>"]);
        let expected = r#"["\u003ca href=\"x\"\u003e\u0026\u2028é\n\u003c/a\u003e"]"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
