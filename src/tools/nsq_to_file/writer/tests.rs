//! Files in a directory of their own, at given times.

use super::*;
use flate2::read::MultiGzDecoder;
use std::collections::BTreeMap;
use std::io::Read;
use tempfile::TempDir;

fn at(time: &str) -> Zoned {
    format!("2026-11-22T{time}[UTC]").parse().unwrap()
}

fn plan(directory: &Path) -> Plan {
    Plan {
        output_dir: directory.join("out"),
        work_dir: directory.join("out"),
        date_format: "%H".to_owned(),
        gzip_level: None,
        rotate_bytes: 0,
        rotate_interval: Duration::ZERO,
    }
}

fn writer(plan: Plan, format: &str) -> FileWriter {
    FileWriter::new(Arc::new(plan), "[t/c]".to_owned(), format.to_owned())
}

fn write(writer: &mut FileWriter, time: &str, text: &str) {
    if writer.needs_rotation(&at(time)) {
        writer.rotate(&at(time)).unwrap();
    }
    writer.write(text.as_bytes()).unwrap();
}

/// Every file below the directory, decompressed.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inner = files(&entry.path());
            found.extend(inner.into_iter().map(|(path, text)| (format!("{name}/{path}"), text)));
            continue;
        }
        let mut text = String::new();
        let mut file = File::open(entry.path()).unwrap();
        if name.ends_with(".gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            file.read_to_string(&mut text).unwrap();
        }
        found.insert(name, text);
    }
    found
}

#[track_caller]
fn expect(directory: &Path, expected: &[(&str, &str)]) {
    let found = files(directory);
    let found: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_new_date_is_a_new_file_and_files_are_appended_to() {
    let directory = TempDir::new().unwrap();
    for _ in 0..2 {
        let mut writer = writer(plan(directory.path()), "a/t.<DATETIME>.log");
        write(&mut writer, "10:00:00", "one");
        write(&mut writer, "10:59:59", "two");
        write(&mut writer, "11:00:00", "three");
        writer.close().unwrap();
    }
    let ten = "one\ntwo\none\ntwo\n";
    expect(directory.path(), &[("out/a/t.10.log", ten), ("out/a/t.11.log", "three\nthree\n")]);
}

#[test]
fn size_and_age_begin_a_new_revision() {
    let directory = TempDir::new().unwrap();
    let sized = Plan { rotate_bytes: 7, ..plan(directory.path()) };
    let mut writer = self::writer(sized, "t<REV>.log");
    for _ in 0..5 {
        write(&mut writer, "10:00:00", "abc");
    }
    writer.close().unwrap();
    let full = "abc\nabc\n";
    expect(
        directory.path(),
        &[("out/t-000000.log", full), ("out/t-000001.log", full), ("out/t-000002.log", "abc\n")],
    );

    let directory = TempDir::new().unwrap();
    let aged = Plan { rotate_interval: Duration::from_secs(5), ..plan(directory.path()) };
    let mut writer = self::writer(aged, "t<REV>.log");
    write(&mut writer, "10:00:00", "a");
    write(&mut writer, "10:00:05", "b");
    write(&mut writer, "10:00:06", "c");
    writer.close().unwrap();
    expect(directory.path(), &[("out/t-000000.log", "a\nb\n"), ("out/t-000001.log", "c\n")]);
}

#[test]
fn compressed_files_are_readable_at_every_sync_and_never_written_again() {
    let directory = TempDir::new().unwrap();
    let packed = || Plan { gzip_level: Some(6), ..plan(directory.path()) };
    let mut first = writer(packed(), "t<REV>.log.gz");
    write(&mut first, "10:00:00", "one");
    first.sync().unwrap();
    expect(directory.path(), &[("out/t-000000.log.gz", "one\n")]);
    write(&mut first, "10:00:00", "two");
    expect(directory.path(), &[("out/t-000000.log.gz", "one\n")]);
    first.sync().unwrap();
    drop(first);
    let path = directory.path().join("out/t-000000.log.gz");
    let cut = File::options().write(true).open(&path).unwrap();
    cut.set_len(cut.metadata().unwrap().len() - 25).unwrap();
    drop(cut);
    // Another run, which finds the end of a file missing, and one that gets no message.
    let mut second = writer(packed(), "t<REV>.log.gz");
    second.mend();
    write(&mut second, "10:00:00", "three");
    second.close().unwrap();
    let mut third = writer(packed(), "t<REV>.log.gz");
    third.rotate(&at("10:00:00")).unwrap();
    third.close().unwrap();
    expect(
        directory.path(),
        &[
            ("out/t-000000.log.gz", "one\n"),
            ("out/t-000001.log.gz", "three\n"),
            ("out/t-000002.log.gz", ""),
        ],
    );
}

#[test]
fn finished_files_move_and_overwrite_nothing() {
    let directory = TempDir::new().unwrap();
    let work_dir = directory.path().join("work");
    let moved = Plan { work_dir, ..plan(directory.path()) };
    let mut writer = writer(moved, "a/t<REV>.log");
    write(&mut writer, "10:00:00", "one");
    expect(directory.path(), &[("work/a/t-000000.log", "")]);
    // Somebody takes the name meanwhile.
    fs::write(directory.path().join("out/a/t-000000.log"), "theirs").unwrap();
    writer.close().unwrap();
    // Closed and moved, it opens another one for the next message.
    write(&mut writer, "10:00:00", "two");
    writer.close().unwrap();
    expect(
        directory.path(),
        &[
            ("out/a/t-000000.log", "theirs"),
            ("out/a/t-000001.log", "one\n"),
            ("out/a/t-000002.log", "two\n"),
        ],
    );
}
