//! `verify`, `stat` and `dump`, from the outside.

use super::support::{TestLog, contents, outcome, stdout_of, text};
use ringmain_storage::cursors::Retry;
use ringmain_storage::message::EntryHead;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A topic with two channels, and messages of every kind.
fn write_orders(data_path: &Path) -> PathBuf {
    let directory = data_path.join("orders.log");
    let mut log = TestLog::new(&directory, 64 << 10);
    let cursors = ["", "audit", "billing"];
    let [topic, audit, billing] =
        cursors.map(|name| log.log.create_cursor(name.as_bytes(), 1, &mut log.io));
    log.append(&TestLog::head(1), b"finished by both");
    log.append(&TestLog::head(2), "zwölf \"quoted\"\n".as_bytes());
    log.append(&TestLog::head(3), b"\xff\x00");
    let deferred = EntryHead { deliver_at_ns: 5_000_000_000, ..TestLog::head(4) };
    log.append_batch(&[(deferred, b"deferred"), (TestLog::head(5), b""), (TestLog::head(6), b"x")]);
    let mut cursor = |id, done: &[u64]| {
        let cursor = log.log.cursor_mut(id).expect("it was made");
        done.iter().for_each(|sequence| cursor.finish(*sequence));
    };
    cursor(topic, &[1, 2, 3, 4, 5]);
    cursor(audit, &[1]);
    cursor(billing, &[1, 3]);
    let retry = Retry { attempts: 3, deliver_at_ns: 7_000_000_000 };
    log.log.cursor_mut(billing).expect("it was made").set_retry(2, retry);
    log.close();
    directory
}

fn write_two_topics() -> (tempfile::TempDir, PathBuf) {
    let data_path = tempfile::tempdir().expect("a directory");
    let directory = write_orders(data_path.path());
    let mut second = TestLog::new(&data_path.path().join("a.b.log"), 64 << 10);
    second.log.create_cursor(b"c", 1, &mut second.io);
    second.append(&TestLog::head(9), b"other");
    second.close();
    (data_path, directory)
}

const STAT: &str = "\
a.b: 1 message in 1 segment of 65536 bytes, sequences 1 to 1
  channel        depth        tried     deferred   finished below
  c                  1            0            0                1
orders: 6 messages in 1 segment of 65536 bytes, sequences 1 to 6
  not handed to channels yet: 1
  channel        depth        tried     deferred   finished below
  audit              5            0            0                2
  billing            4            1            1                2
";

const STAT_JSON: &str = r#"[
  {
    "topic": "a.b",
    "segments": 1,
    "bytes": 65536,
    "messages": 1,
    "first_sequence": 1,
    "next_sequence": 2,
    "topic_depth": 0,
    "channels": [
      {
        "channel": "c",
        "depth": 1,
        "tried": 0,
        "deferred": 0,
        "low_sequence": 1
      }
    ]
  }
]
"#;

const DUMP: &str = concat!(
    r#"{"topic":"orders","sequence":1,"id":"0000000000000001","timestamp":1000000001,"#,
    r#""channels":[],"body":"finished by both"}"#,
    "\n",
    r#"{"topic":"orders","sequence":2,"id":"0000000000000002","timestamp":1000000002,"#,
    r#""channels":[{"channel":"audit","attempts":0},"#,
    r#"{"channel":"billing","attempts":3,"deliver_at":7000000000}],"#,
    r#""body":"zwölf \"quoted\"\n"}"#,
    "\n",
    r#"{"topic":"orders","sequence":3,"id":"0000000000000003","timestamp":1000000003,"#,
    r#""channels":[{"channel":"audit","attempts":0}],"body_base64":"/wA="}"#,
    "\n",
    r#"{"topic":"orders","sequence":4,"id":"0000000000000004","timestamp":1000000004,"#,
    r#""deliver_at":5000000000,"channels":[{"channel":"audit","attempts":0},"#,
    r#"{"channel":"billing","attempts":0}],"body":"deferred"}"#,
    "\n",
    r#"{"topic":"orders","sequence":5,"id":"0000000000000005","timestamp":1000000005,"#,
    r#""channels":[{"channel":"audit","attempts":0},{"channel":"billing","attempts":0}],"#,
    r#""body":""}"#,
    "\n",
    r#"{"topic":"orders","sequence":6,"id":"0000000000000006","timestamp":1000000006,"#,
    r#""in_topic":true,"channels":[{"channel":"audit","attempts":0},"#,
    r#"{"channel":"billing","attempts":0}],"body":"x"}"#,
    "\n",
);

#[test]
fn stat_says_what_there_is() {
    let (data_path, directory) = write_two_topics();
    let before = contents(&directory);
    let path = text(data_path.path());
    assert_eq!(stdout_of(&["stat", path]), STAT);
    assert_eq!(stdout_of(&["stat", path, "--json", "--topic", "a.b"]), STAT_JSON);
    assert_eq!(stdout_of(&["stat", text(&directory)]), STAT[STAT.find("orders").unwrap()..]);
    assert_eq!(contents(&directory), before, "nothing is changed");
}

#[test]
fn dump_writes_messages_in_order() {
    let (data_path, directory) = write_two_topics();
    let before = contents(&directory);
    let path = text(data_path.path());
    let lines: Vec<&str> = DUMP.split_inclusive('\n').collect();
    let dump = |more: &[&str]| stdout_of(&[&["dump", path, "--topic=orders"], more].concat());
    assert_eq!(dump(&[]), DUMP);
    assert_eq!(dump(&["--plain"]), DUMP);
    assert_eq!(dump(&["--from=2", "--limit=3"]), lines[1..4].concat());
    assert_eq!(dump(&["--waiting"]), lines[1..].concat());
    let billing = [lines[1], lines[3], lines[4], lines[5]].concat();
    assert_eq!(dump(&["--channel", "billing"]), billing);
    assert_eq!(dump(&["--raw", "--from=4"]), "deferred\n\nx\n");
    assert_eq!(dump(&["--raw", "--null", "--from=4", "--limit=2"]), "deferred\0\0");
    assert_eq!(stdout_of(&["dump", path]).lines().count(), 7);
    assert_eq!(contents(&directory), before, "nothing is changed");
}

#[test]
fn errors_say_what_to_do() {
    let (data_path, _) = write_two_topics();
    let path = text(data_path.path());
    let gone = data_path.path().join("gone");
    for (arguments, code, part) in [
        (vec!["dump", path, "--topic=orders", "--channel=x"], 1, "there are audit, billing"),
        (vec!["stat", path, "--topic", "none"], 1, "has no log of topic none"),
        (vec!["verify", text(&gone)], 1, "No such file or directory"),
        (vec!["dump", path, "--null"], 2, "--raw"),
        (vec![], 2, "Usage: nsq_log"),
    ] {
        let (seen, _, stderr) = outcome(&arguments);
        assert!(seen == code && stderr.contains(part), "{arguments:?}: {seen} {stderr}");
    }
    let lock = File::open(data_path.path()).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    for command in ["verify", "stat", "dump"] {
        let (code, _, stderr) = outcome(&[command, path]);
        assert!(code == 1 && stderr.contains("is in use by a running nsqd"), "{stderr}");
        assert_eq!(outcome(&[command, path, "--live"]).0, 0);
    }
}

#[test]
fn verify_reads_everything() {
    let (data_path, _) = write_two_topics();
    let mut large = TestLog::new(&data_path.path().join("large.log"), 1 << 20);
    large.log.create_cursor(b"c", 1, &mut large.io);
    for number in 0..3000 {
        let length = usize::try_from(number * 7919 % 5000).unwrap();
        large.append(&TestLog::head(number), &vec![7; length]);
    }
    large.close();
    let path = text(data_path.path());
    let expected = "a.b: good (1 segment, 1 message, 1 cursor)\n\
                    large: good (8 segments, 3000 messages, 1 cursor)\n\
                    orders: good (1 segment, 6 messages, 3 cursors)\n";
    assert_eq!(stdout_of(&["verify", path]), expected);
    assert_eq!(stdout_of(&["verify", path, "--plain", "--cores=3"]), expected);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(stdout_of(&["verify", text(empty.path())]), "no logs here\n");
}

#[test]
fn a_killed_daemon_leaves_a_good_log_that_is_not_touched() {
    let data_path = tempfile::tempdir().unwrap();
    let directory = data_path.path().join("t.log");
    let mut log = TestLog::new(&directory, 64 << 10);
    log.log.create_cursor(b"c", 1, &mut log.io);
    for number in 0..100 {
        log.append(&TestLog::head(number), b"body");
    }
    log.kill();
    let before = contents(&directory);
    let path = text(data_path.path());
    for backend in ["--plain", "--cores=1"] {
        let verdict = stdout_of(&["verify", path, backend]);
        assert!(verdict.starts_with("t: good (1 segment, 100 messages"), "{verdict}");
        assert_eq!(stdout_of(&["dump", path, backend]).lines().count(), 100);
    }
    assert!(stdout_of(&["stat", path]).contains(" 100 messages "));
    assert_eq!(contents(&directory), before, "nothing is changed");
}

#[test]
fn without_locked_memory_it_says_so_once_and_reads_plainly() {
    let (data_path, _) = write_two_topics();
    let script = "ulimit -l 64 && exec \"$0\" \"$@\"";
    for command in ["verify", "dump"] {
        let arguments = [command, text(data_path.path())];
        let tool = env!("CARGO_BIN_EXE_nsq_log");
        let limited =
            Command::new("sh").args(["-c", script, tool]).args(arguments).output().unwrap();
        assert!(limited.status.success(), "{limited:?}");
        assert_eq!(String::from_utf8(limited.stdout).unwrap(), stdout_of(&arguments));
        let stderr = String::from_utf8(limited.stderr).unwrap();
        let told = stderr.matches("reading through the page cache instead").count();
        assert_eq!((told, stderr.lines().count()), (1, 1), "{stderr}");
    }
}

#[test]
fn verify_finds_every_flipped_bit() {
    let data_path = tempfile::tempdir().unwrap();
    let directory = write_orders(data_path.path());
    let segment = directory.join("0000000000000001.segment");
    let good = fs::read(&segment).unwrap();
    let data_end = good.len() - 4096;
    let records_end = 1 + good[..data_end].iter().rposition(|byte| *byte != 0).unwrap();
    assert!((4096 + 400..4096 + 1000).contains(&records_end), "{records_end}");
    let in_header = (0..64).step_by(5).chain([4095]);
    let in_copy = (data_end..data_end + 64).step_by(7);
    let places = in_header.chain((4096..records_end).step_by(3)).chain(in_copy);
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&segment, bytes).unwrap();
        let (code, stdout, stderr) = outcome(&["verify", "--plain", text(data_path.path())]);
        assert!(code == 3 && stdout.contains("NOT GOOD"), "{at}: {code} {stdout}{stderr}");
    }
    fs::write(&segment, good).unwrap();
    let checkpoint = directory.join("checkpoint.a");
    let good = fs::read(&checkpoint).unwrap();
    let end = 1 + good.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..end).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&checkpoint, bytes).unwrap();
        // Of the version a flipped bit may make a newer one, but for the checksum.
        let (code, stdout, stderr) = outcome(&["verify", "--plain", text(data_path.path())]);
        assert!(code == 3 && stdout.contains("checkpoint.a: "), "{at}: {code} {stdout}{stderr}");
    }
    fs::write(&checkpoint, good).unwrap();
    assert_eq!(outcome(&["verify", text(data_path.path())]).0, 0);
}

#[test]
fn damage_costs_what_it_hits_and_is_named() {
    let data_path = tempfile::tempdir().unwrap();
    let directory = write_orders(data_path.path());
    let segment = directory.join("0000000000000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(16).position(|part| part == b"finished by both").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let path = text(data_path.path());
    for backend in ["--plain", "--cores=1"] {
        let (code, stdout, _) = outcome(&["verify", path, backend]);
        let start = at - 34 - 32;
        let expected = format!(
            "orders: NOT GOOD (1 segment, 5 messages, 3 cursors)\n  0000000000000001.segment: \
             bytes {start} to {}: damaged, sequence 1 is lost\n",
            start + (32 + 34 + 16_usize).next_multiple_of(8) - 1
        );
        assert_eq!((code, stdout), (3, expected));
        let (code, stdout, stderr) = outcome(&["dump", path, backend]);
        assert_eq!((code, stdout.as_str()), (3, &DUMP[DUMP.find('\n').unwrap() + 1..]));
        assert!(stderr.contains("orders: sequences 1 to 1 are damaged"), "{stderr}");
    }
    // A file that is shorter than its records.
    fs::write(&segment, &bytes[..4096 + 8]).unwrap();
    let (code, stdout, _) = outcome(&["verify", path]);
    assert!(code == 3 && stdout.contains("NOT GOOD (1 segment, 0 messages"), "{stdout}");
}
