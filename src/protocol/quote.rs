//! Go's quoting of strings (`%q`), which NSQ uses for names in its error texts.

/// Appends `bytes` in double quotes: printable text as it is, everything else escaped, bytes that
/// are not UTF-8 one by one as `\x..`.
pub(super) fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_character(out, character);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

fn push_character(out: &mut Vec<u8>, character: char) {
    let named = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{07}' => "\\a",
        '\u{08}' => "\\b",
        '\u{0c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{0b}' => "\\v",
        _ => "",
    };
    let code = u32::from(character);
    if !named.is_empty() {
        out.extend_from_slice(named.as_bytes());
    } else if is_printable(character) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else if character.is_ascii() {
        out.extend_from_slice(format!("\\x{code:02x}").as_bytes());
    } else if code < 0x1_0000 {
        out.extend_from_slice(format!("\\u{code:04x}").as_bytes());
    } else {
        out.extend_from_slice(format!("\\U{code:08x}").as_bytes());
    }
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space: Go's definition. The
/// standard library has the same table behind `escape_debug`, which also escapes a combining mark
/// at the start of a string; hence the letter in front.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let text = String::from_iter(['a', character]);
    text.escape_debug().nth(1) == Some(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        let cases: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"plain ~", r#""plain ~""#),
            (b"a\"b\\c'd", r#""a\"b\\c'd""#),
            (b"\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            (b"\xff\xc3(\xe2\x82", r#""\xff\xc3(\xe2\x82""#),
            ("ü€😀".as_bytes(), r#""ü€😀""#),
            ("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
            (
                "\u{80}\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}".as_bytes(),
                concat!(r#""\u0080\u00a0\u00ad\u200b\u2028"#, r#"\ufeff""#),
            ),
            ("\u{e000}\u{10ffff}\u{fffd}".as_bytes(), "\"\\ue000\\U0010ffff\u{fffd}\""),
        ];
        for (bytes, quoted) in cases {
            let mut out = Vec::new();
            push_quoted(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), *quoted, "{bytes:?}");
        }
    }
}
