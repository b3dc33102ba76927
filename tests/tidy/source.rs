//! Reading our source files, with comments and literals told from code.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories of Rust code, from the root of the repository.
const TREES: [&str; 5] = ["src", "storage", "bench", "nsq_log", "tests"];

/// A Rust file.
pub(super) struct Source {
    /// From the root of the repository, with `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and the contents of literals replaced by spaces; lines and columns
    /// are those of `text`.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The module directly under `src/` that the file belongs to, if any.
    pub(super) fn module(&self) -> Option<&str> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Whether the file lies in this directory.
    pub(super) fn is_under(&self, directory: &str) -> bool {
        self.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
    }

    /// `path:line` of a byte offset.
    pub(super) fn at(&self, offset: usize) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{}:{line}", self.path)
    }

    /// The words of the code with their offsets.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut rest = 0;
        std::iter::from_fn(move || {
            let start = rest + self.code[rest..].find(in_word)?;
            let length = self.code[start..].find(|c| !in_word(c));
            rest = length.map_or(self.code.len(), |length| start + length);
            Some((start, &self.code[start..rest]))
        })
    }
}

/// The root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of ours.
pub(super) fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for tree in TREES {
        collect(&root().join(tree), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a readable source file");
        let path = path.strip_prefix(root()).expect("collected from the root");
        Source::new(&path.display().to_string(), &text)
    };
    let sources: Vec<_> = paths.iter().map(read).collect();
    assert!(sources.len() > 10, "the repository has more than {} files", sources.len());
    sources
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            // Build output and the packages of other languages' clients are not ours.
            let name = path.file_name().unwrap_or_default();
            if name != "target" && name != "node_modules" {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Fails with all that is wrong, a line each.
pub(super) fn report(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n  {}\n", wrong.join("\n  "));
}

/// Replaces comments and the contents of literals by spaces.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut code[at..end.max(at)] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole characters were replaced")
}

/// Where the comment or literal that starts here ends; `at` itself when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let in_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    if rest[0] == b'"' {
        return string_end(bytes, at);
    }
    if !in_word && matches!(rest[0], b'r' | b'b' | b'c') {
        let prefix = rest.iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count();
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        if prefix <= 2 && rest.get(prefix + hashes) == Some(&b'"') {
            let raw = rest[..prefix].contains(&b'r');
            let quote = at + prefix + hashes;
            return if raw {
                raw_string_end(bytes, quote, hashes)
            } else {
                string_end(bytes, quote)
            };
        }
    }
    if rest[0] == b'\'' { character_end(bytes, at) } else { at }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], quote: usize, hashes: usize) -> usize {
    let closing = [b"\"", "#".repeat(hashes).as_bytes()].concat();
    let body = &bytes[quote + 1..];
    let length = body.windows(closing.len()).position(|window| window == closing);
    length.map_or(bytes.len(), |length| quote + 1 + length + closing.len())
}

/// A character literal, or nothing when the quote starts a lifetime.
fn character_end(bytes: &[u8], quote: usize) -> usize {
    match &bytes[quote + 1..] {
        [b'\\', _, rest @ ..] => {
            quote + 3 + rest.iter().position(|b| *b == b'\'').map_or(0, |length| length + 1)
        }
        rest => {
            let first = std::str::from_utf8(&rest[..rest.len().min(4)]);
            let first = match first {
                Ok(text) => text.chars().next(),
                Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()])
                    .ok()
                    .and_then(|text| text.chars().next()),
            };
            let width = first.map_or(1, char::len_utf8);
            if rest.get(width) == Some(&b'\'') { quote + width + 2 } else { quote }
        }
    }
}

#[test]
fn literals_and_comments_are_told_from_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("x(\"a\\\"b\", 'c', '\\'', '\\u{1}')", "x(      ,    ,     ,        )"),
        ("f::<'a>(b\"x\", r#\"a\"b\"#, c\"\")", "f::<'a>(    ,         ,    )"),
        ("'\u{fc}' b'x' for_r\"a\"", "     b    for_r   "),
        ("// it's\n'a: loop {}", "       \n'a: loop {}"),
    ] {
        let seen = blank(text);
        assert_eq!(seen.trim_end(), code.trim_end(), "{text}");
        assert_eq!(seen.len(), text.len(), "{text}");
    }
}
