//! Which module may use which, where effects may happen, and where `unsafe` may stand.

use super::source::{Source, report, sources};

/// Modules of `src/` and the other modules each may use. `lib.rs` and `bin` may use all.
const ARROWS: [(&str, &[&str]); 15] = [
    ("limits", &[]),
    ("log", &["limits"]),
    // The levels of durability are the broker's.
    ("options", &["protocol", "broker", "limits", "log"]),
    ("protocol", &["limits"]),
    ("broker", &["protocol", "limits"]),
    ("reactor", &["protocol", "limits"]),
    // A shard's inbox takes the control thread's mail, hence `control`.
    ("server", &["control", "broker", "reactor", "protocol", "limits", "options", "process"]),
    ("control", &["http", "broker", "protocol", "limits", "options", "log", "process"]),
    ("http", &["protocol", "limits", "options"]),
    ("process", &["limits", "log"]),
    // nsqlookupd, which has nothing of nsqd's.
    ("lookup", &["http", "protocol", "limits", "options", "log", "process"]),
    // nsqadmin, which asks daemons over HTTP as the client library does.
    ("admin", &["client", "http", "protocol", "limits", "options", "log", "process"]),
    // Where nsqd is put together.
    (
        "daemon",
        &[
            "server", "control", "http", "broker", "reactor", "protocol", "limits", "options",
            "log", "process",
        ],
    ),
    // The client library: nothing of the daemon but what the wire looks like.
    ("client", &["http", "protocol", "options", "limits"]),
    ("tools", &["client", "http", "protocol", "options", "limits", "log"]),
];

/// Parts that decide and never act: what they do is a function of what they are given.
const PURE: [&str; 7] = [
    "src/protocol",
    "src/broker",
    "storage",
    "src/lookup/registrations",
    "src/lookup/peer",
    "src/lookup/command",
    "src/lookup/decoder",
];

/// The one file in a pure part that acts: it executes the log's requests for tools and tests.
const EXECUTOR: &str = "storage/src/blocking.rs";

/// Effects, clocks, locks and sharing: none of it in the pure parts.
const EFFECTS: [&str; 8] = [
    "std::net",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "Mutex",
    "RefCell",
    "Arc<",
];

#[test]
fn modules_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.is_under("src/bin") && s.path != "src/lib.rs") {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: {module} has no arrows in tests/tidy/arrows.rs", source.path));
            continue;
        };
        for (offset, used) in used_modules(source) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {module} uses {used}", source.at(offset)));
            }
        }
    }
    report("arrows point one way", &wrong);
}

#[test]
fn packages_know_only_what_they_should() {
    let mut wrong = Vec::new();
    for source in sources() {
        // The storage package knows bytes, not NSQ; the bench knows the wire, and the log tool the
        // files, not the daemon.
        let knows = |name: &str| source.words().find(|(_, word)| *word == name).map(|(at, _)| at);
        let stranger = |name: &str| knows(name).map(|at| format!("{}: {name}", source.at(at)));
        if ["storage", "bench", "nsq_log"].iter().any(|package| source.is_under(package)) {
            wrong.extend(stranger("ringmain"));
        }
        let no_storage = ["protocol", "control", "options", "log"];
        if source.module().is_some_and(|module| no_storage.contains(&module)) {
            wrong.extend(stranger("ringmain_storage"));
        }
        // The reactor executes what logs ask for, so it knows their vocabulary of I/O and the
        // buffers that come with it, and nothing of logs themselves. Its tests drive real ones.
        if source.module() == Some("reactor") && !source.path.contains("tests") {
            let known = ["request", "buffer"];
            let beyond = |at: &usize| {
                let rest = &source.code[at + "ringmain_storage".len()..];
                !known.iter().any(|part| rest.starts_with(&format!("::{part}")))
            };
            let uses = source.words().filter(|(_, word)| *word == "ringmain_storage");
            let uses = uses.map(|(at, _)| at).filter(beyond);
            wrong.extend(uses.map(|at| format!("{}: more than the vocabulary", source.at(at))));
        }
    }
    report("packages know only what they should", &wrong);
}

#[test]
fn pure_parts_have_no_effects() {
    let mut wrong = Vec::new();
    let is_part = |source: &Source, part: &str| {
        source.is_under(part) || source.path.strip_suffix(".rs") == Some(part)
    };
    for source in sources().iter().filter(|s| PURE.iter().any(|part| is_part(s, part))) {
        for effect in EFFECTS {
            if source.path == EXECUTOR && effect == "std::fs" {
                continue;
            }
            if let Some(at) = source.code.find(effect) {
                wrong.push(format!("{}: {effect}", source.at(at)));
            }
        }
    }
    report("what decides touches nothing outside", &wrong);
}

#[test]
fn unsafe_stands_in_the_reactor_alone() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.module() != Some("reactor")) {
        let found = source.words().find(|(_, word)| *word == concat!("un", "safe"));
        wrong.extend(found.map(|(at, _)| source.at(at)));
    }
    report("the keyword for unchecked code appears in src/reactor alone", &wrong);
}

/// Modules of `src/` named in paths from the crate, groups included.
fn used_modules(source: &Source) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, word) in source.words() {
        let Some(rest) = source.code[at..].strip_prefix("crate::") else { continue };
        if word == "crate" {
            let names = heads(rest).into_iter().map(|name| (at, name));
            used.extend(names);
        }
    }
    used
}

/// The first segment of every path in what follows `crate::`.
fn heads(rest: &str) -> Vec<String> {
    let segment = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![segment(rest)] };
    let mut heads = vec![segment(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(segment(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    // Macros and items at the root of the crate have no module; an empty one ends a list.
    heads.retain(|head| !head.is_empty());
    heads
}

#[test]
fn paths_are_understood() {
    let text = "use crate::{a::{b, c}, d,};\nfn f() { crate::e::g() } // crate::h\n";
    let source = Source::new("src/x/y.rs", text);
    let used: Vec<_> = used_modules(&source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(used, ["a", "d", "e"]);
    assert_eq!(source.module(), Some("x"));
    assert_eq!(Source::new("src/log.rs", "").module(), Some("log"));
    assert!(source.is_under("src/x") && !source.is_under("src/xy"));
}
