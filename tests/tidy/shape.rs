//! Sizes, module docs, words that must not be there, and the map in the architecture page.

use super::source::{Source, report, root, sources};
use std::fs;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Marks of unfinished work, in pieces so that this file may name them.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("db", "g!")];

/// Names that say nothing of what a thing is.
const EMPTY_WORDS: [&str; 7] =
    ["manager", "handler", "util", "utils", "helper", "helpers", "common"];

fn check(rule: &str, check_file: impl Fn(&Source) -> Vec<String>) {
    let wrong: Vec<String> = sources().iter().flat_map(check_file).collect();
    report(rule, &wrong);
}

#[test]
fn files_say_what_they_own() {
    check("a file opens with //! and a sentence", |source| {
        let first = source.text.lines().next().unwrap_or_default();
        if first.starts_with("//! ") { vec![] } else { vec![source.path.clone()] }
    });
}

#[test]
fn files_are_short() {
    check(&format!("a file has at most {FILE_LINES_MAX} lines"), |source| {
        let count = source.text.lines().count();
        let long = count > FILE_LINES_MAX;
        if long { vec![format!("{}: {count} lines", source.path)] } else { vec![] }
    });
}

#[test]
fn lines_are_short() {
    check(&format!("a line has at most {COLUMNS_MAX} columns"), |source| {
        let long = |(index, line): (usize, &str)| {
            let columns = line.chars().count();
            let place = format!("{}:{}: {columns} columns", source.path, index + 1);
            (columns > COLUMNS_MAX).then_some(place)
        };
        source.text.lines().enumerate().filter_map(long).collect()
    });
}

#[test]
fn functions_are_short() {
    check(&format!("a function has at most {FUNCTION_LINES_MAX} lines"), |source| {
        let long = |(offset, name, lines): (usize, &str, usize)| {
            let place = format!("{}: {name} has {lines} lines", source.at(offset));
            (lines > FUNCTION_LINES_MAX).then_some(place)
        };
        functions(source).into_iter().filter_map(long).collect()
    });
}

#[test]
fn nothing_is_left_for_later() {
    check("no marks of unfinished work, no debug prints", |source| {
        let found = |mark: &str| source.text.find(mark);
        let place = |mark: &&str| Some(format!("{}: {mark}", source.at(found(mark)?)));
        UNFINISHED.iter().filter_map(place).collect()
    });
}

#[test]
fn names_say_something() {
    let declares = ["fn", "struct", "enum", "trait", "type", "mod", "const", "static"];
    check("no getters, managers, handlers, utilities, helpers", |source| {
        let mut wrong = Vec::new();
        let mut before = "";
        for (offset, word) in source.words() {
            if declares.contains(&before) {
                let empty = split(word).any(|part| EMPTY_WORDS.contains(&part.as_str()));
                if empty || before == "fn" && word.starts_with("get_") {
                    wrong.push(format!("{}: {before} {word}", source.at(offset)));
                }
            }
            before = word;
        }
        wrong
    });
}

#[test]
fn the_architecture_page_names_every_module() {
    let page = root().join("docs/ARCHITECTURE.md");
    let page = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("src")).expect("a readable directory") {
        let entry = entry.expect("a readable directory");
        let name = entry.file_name().into_string().expect("names are ASCII");
        let is_named = page.contains(&format!("{name}/")) || page.contains(&format!("`{name}`"));
        if entry.path().is_dir() && !is_named {
            missing.push(format!("src/{name}"));
        }
    }
    report("docs/ARCHITECTURE.md has a word on every module", &missing);
}

/// The words of a snake-case or camel-case name, in lower case.
fn split(name: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    words.into_iter()
}

/// Functions with a body: where they start, their name, and how many lines they take.
fn functions(source: &Source) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (offset, word) in source.words() {
        if let Some(start) = start.take() {
            // `fn(` is a type; a name follows the keyword after a space.
            if source.code[start + 2..offset].trim().is_empty() {
                let lines = body_lines(&source.code[start..]);
                found.extend(lines.map(|lines| (start, word, lines)));
            }
        }
        start = (word == "fn").then_some(offset);
    }
    found
}

/// Lines from here to the end of the first block; `None` for a declaration without one.
fn body_lines(code: &str) -> Option<usize> {
    let mut nested = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.checked_sub(1)?,
            ';' if nested == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(code[..at].matches('\n').count() + 1),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_measured() {
    let text = "fn a(x: [u8; 2]) {\n  if x { 1 }\n}\ntrait T { fn b(); fn c() {} }\n\
                type F = fn(u8);\nfn d<T>()\nwhere\n    T: X,\n{\n    \"}\"\n}\n";
    let source = Source::new("x.rs", text);
    let seen: Vec<_> = functions(&source).into_iter().map(|(_, name, n)| (name, n)).collect();
    assert_eq!(seen, [("a", 3), ("c", 1), ("d", 6)]);
    assert!(split("ConnectionManager").eq(["", "connection", "manager"]));
    assert!(split("get_it").eq(["get", "it"]));
}
