//! `import`, of directories that are written here in nsqd's format.

use super::support::{
    DiskQueue, Stored, contents, id, nsq_log, outcome, stdout_of, text, write_metadata,
};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use tempfile::TempDir;

/// Messages by id: attempts and body.
type Held = BTreeMap<String, (u16, Vec<u8>)>;

const FILE_BYTES_MAX: u64 = 4000;

fn messages(numbers: impl Iterator<Item = u64>) -> Vec<Stored> {
    numbers.map(|number| Stored::new(number, 0)).collect()
}

/// Writes a queue of messages of which the first were taken and some of those put back.
fn write_queue(directory: &Path, name: &str, all: &[Stored], taken: usize, back: &[usize]) -> Held {
    let mut queue = DiskQueue::new(directory, name, FILE_BYTES_MAX);
    all.iter().for_each(|message| queue.put(message));
    queue.take(&all[..taken]);
    let mut left = all[taken..].to_vec();
    for (attempts, index) in (1..).zip(back) {
        let message = Stored { attempts, ..all[*index].clone() };
        queue.put(&message);
        left.push(message);
    }
    queue.close();
    held(&left)
}

fn held(messages: &[Stored]) -> Held {
    let entry = |message: &Stored| {
        let id = String::from_utf8(id(message.number).to_vec()).expect("digits");
        (id, (message.attempts, message.body.clone()))
    };
    messages.iter().map(entry).collect()
}

/// What the logs of a directory hold: by `topic:channel`, and by topic for what is in no channel.
fn dumped(data_path: &Path) -> (BTreeMap<String, Held>, usize) {
    let (mut queues, mut lines) = (BTreeMap::<String, Held>::new(), 0);
    let mut behind = BTreeSet::new();
    for line in stdout_of(&["dump", text(data_path)]).lines() {
        lines += 1;
        let message: Value = serde_json::from_str(line).expect("JSON");
        let field = |name: &str| message[name].as_str().expect("text").to_owned();
        let (topic, id, body) = (field("topic"), field("id"), field("body").into_bytes());
        let mut put = |queue: String, attempts| {
            let before =
                queues.entry(queue).or_default().insert(id.clone(), (attempts, body.clone()));
            assert_eq!(before, None, "once in a queue");
        };
        let in_topic = message["in_topic"] == Value::Bool(true);
        if in_topic {
            put(topic.clone(), 0);
        }
        assert!(in_topic || !behind.contains(&topic), "what the topic has not handed out is last");
        behind.extend(in_topic.then(|| topic.clone()));
        for channel in message["channels"].as_array().expect("a list") {
            let attempts =
                channel["attempts"].as_u64().and_then(|n| n.try_into().ok()).expect("a count");
            put(format!("{topic}:{}", channel["channel"].as_str().expect("text")), attempts);
        }
    }
    (queues, lines)
}

/// Two topics with channels that hold different parts of them, one without, one without messages.
fn write_source() -> (TempDir, BTreeMap<String, Held>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let channels: [(&str, &[&str]); 4] = [
        ("orders", &["audit", "billing", "slow"]),
        ("alone", &[]),
        ("paused", &["c"]),
        ("empty", &["e"]),
    ];
    write_metadata(path, &channels);
    let all = messages(1..400);
    let mut expected = BTreeMap::new();
    let mut put = |name: &str, held: Held| expected.insert(name.to_owned(), held);
    put("orders:audit", write_queue(path, "orders:audit", &all, 399, &[]));
    put("orders:billing", write_queue(path, "orders:billing", &all, 250, &[3, 100, 7]));
    put("orders:slow", write_queue(path, "orders:slow", &all, 0, &[]));
    write_queue(path, "orders", &all, 399, &[]);
    put("alone", write_queue(path, "alone", &messages(5..60), 10, &[]));
    // Paused: what the topic has is every channel's as well.
    let topic = write_queue(path, "paused", &messages(430..450), 3, &[]);
    let channel = write_queue(path, "paused:c", &messages(450..500), 20, &[1]);
    put("paused:c", channel.into_iter().chain(topic.clone()).collect());
    put("paused", topic);
    write_queue(path, "empty", &[], 0, &[]);
    write_queue(path, "gone:c", &messages(1..5), 0, &[]);
    expected.retain(|_, held| !held.is_empty());
    (directory, expected)
}

const REPORT: &str = "\
alone: 45 messages written
  alone: 45 messages
empty: 0 messages written
  empty:e: 0 messages
orders: 399 messages written
  orders:audit: 0 messages
  orders:billing: 152 messages, 3 of them delivered before
  orders:slow: 399 messages
paused: 48 messages written
  paused: 17 messages
  paused:c: 31 messages, 1 of them delivered before
gone:c.diskqueue.000000.dat: of no topic or channel in nsqd.dat, not imported
";

#[test]
fn every_channel_has_its_messages() {
    for backend in ["--plain", "--cores=2"] {
        let (source, expected) = write_source();
        let target = tempfile::tempdir().unwrap();
        let into = target.path().join("new");
        let before = contents(source.path());
        let report = stdout_of(&["import", text(source.path()), "--into", text(&into), backend]);
        assert!(report.starts_with(REPORT), "{report}");
        let sum = "imported 492 messages, 644 with the copies that channels had, of 4 topics from ";
        assert!(report.contains(sum), "{report}");
        assert_eq!(contents(source.path()), before, "nsqd's files are as they were");
        let metadata = |path: &Path| fs::read(path.join("nsqd.dat")).unwrap();
        assert_eq!(metadata(&into), metadata(source.path()));
        assert_eq!(dumped(&into), (expected, 492), "each message once");
        let verdict = stdout_of(&["verify", text(&into)]);
        assert_eq!(verdict.matches(": good (").count(), 3, "{verdict}");
        assert!(!into.join("empty.log").exists());
    }
}

#[test]
fn a_directory_can_be_switched_over_in_place_once() {
    let (source, expected) = write_source();
    let path = source.path();
    let before = contents(path);
    stdout_of(&["import", text(path)]);
    assert_eq!(dumped(path).0, expected);
    let mut after = contents(path);
    after.retain(|(name, _)| name != "nsq_log.imported");
    assert_eq!(after, before, "nsqd's files are as they were");
    for _ in 0..2 {
        let (code, _, stderr) = outcome(&["import", text(path)]);
        assert!(code == 1 && stderr.contains("was imported into before"), "{stderr}");
        assert_eq!(dumped(path).0, expected);
        // The logs themselves are in the way as well.
        let _ = fs::remove_file(path.join("nsq_log.imported"));
        let (code, _, stderr) = outcome(&["import", text(path)]);
        assert!(code == 1 && stderr.contains("is there already"), "{stderr}");
        fs::write(path.join("nsq_log.imported"), "").unwrap();
    }
}

#[test]
fn what_was_cut_off_can_be_repeated() {
    let (source, expected) = write_source();
    let path = source.path();
    let staging = path.join("nsq_log.import.tmp");
    fs::create_dir_all(staging.join("orders.log")).unwrap();
    fs::write(staging.join("orders.log/0000000000000001.segment"), "half").unwrap();
    stdout_of(&["import", text(path)]);
    assert_eq!(dumped(path).0, expected);
    assert!(!staging.exists());
    // Cut off between the moves at the end.
    let ready = path.join("nsq_log.import.ready");
    fs::create_dir(&ready).unwrap();
    for name in ["orders.log", "nsq_log.imported"] {
        fs::rename(path.join(name), ready.join(name)).unwrap();
    }
    let report = stdout_of(&["import", text(path)]);
    assert!(report.starts_with("finished an import that was cut off:\nalone: "), "{report}");
    assert_eq!(dumped(path).0, expected);
    assert!(!ready.exists() && path.join("nsq_log.imported").exists());
}

#[test]
fn a_message_that_a_crash_left_twice_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_metadata(path, &[("t", &["a", "b"])]);
    let all = messages(1..50);
    // Positions from before the last deliveries: the same message, and once more with attempts.
    let mut queue = DiskQueue::new(path, "t:a", FILE_BYTES_MAX);
    all.iter().for_each(|message| queue.put(message));
    let again = Stored { attempts: 2, ..all[7].clone() };
    queue.put(&again);
    queue.close();
    // The topic has what it had already handed out.
    write_queue(path, "t", &all[45..], 0, &[]);
    // An id of another body is another message.
    let other = Stored { body: b"other".to_vec(), ..all[0].clone() };
    let in_b = write_queue(path, "t:b", &[other], 0, &[]);
    let report = stdout_of(&["import", text(path)]);
    assert!(report.contains("  t:a: 1 record is copies of others here"), "{report}");
    let (queues, lines) = dumped(path);
    assert_eq!(lines, 50);
    let mut in_a = held(&all);
    in_a.extend(held(&[again]));
    assert_eq!(queues["t:a"], in_a);
    assert_eq!(queues["t"], held(&all[45..]));
    let in_b: Held = in_b.into_iter().chain(held(&all[45..])).collect();
    assert_eq!(queues["t:b"], in_b);
}

#[test]
fn damage_costs_what_it_hits_and_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_metadata(path, &[("t", &["cut", "gone", "lost", "hit"])]);
    let all = messages(1..300);
    let write = |name: &str| write_queue(path, name, &all, 0, &[]);
    let (cut, mut hit, lost) = (write("t:cut"), write("t:hit"), write("t:lost"));
    write("t:gone");
    let last = (0..).map(|n| DiskQueue::new(path, "t:cut", 0).path(n));
    let last = last.take_while(|path| path.exists()).last().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
    // No positions, and one segment with a bad length in it.
    fs::remove_file(DiskQueue::new(path, "t:lost", 0).meta_path()).unwrap();
    let segment = DiskQueue::new(path, "t:hit", 0).path(1);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[0] = 0xff;
    fs::write(&segment, bytes).unwrap();
    fs::remove_file(DiskQueue::new(path, "t:gone", 0).path(1)).unwrap();
    let (code, stdout, _) = outcome(&["import", text(path)]);
    assert_eq!(code, 3, "{stdout}");
    for line in [
        ": the last record is cut off\n",
        "t:lost: without good positions: everything there is read",
        "t:hit.diskqueue.000001.dat: bytes 0 to ",
        "t:gone: 1 of the segments 0 to ",
        "t:cut: nsqd itself had counted 299\n",
    ] {
        assert!(stdout.contains(line), "{line} {stdout}");
    }
    let queues = dumped(path).0;
    let mut all_but_last = cut;
    all_but_last.pop_last();
    assert_eq!(queues["t:cut"], all_but_last);
    assert_eq!(queues["t:lost"], lost);
    hit.retain(|id, _| queues["t:hit"].contains_key(id));
    assert_eq!((queues["t:hit"].len(), &queues["t:hit"]), (298, &hit));
    let gone = &queues["t:gone"];
    assert!(gone.len() < 299 && gone.iter().all(|(id, message)| lost[id] == *message));
}

#[test]
fn what_is_in_use_or_in_the_way_is_refused() {
    let (source, _) = write_source();
    let target = tempfile::tempdir().unwrap();
    let (from, into) = (text(source.path()), text(target.path()));
    let refused = |arguments: &[&str], part: &str| {
        let (code, _, stderr) = outcome(arguments);
        assert!(code == 1 && stderr.contains(part), "{arguments:?}: {code} {stderr}");
    };
    for locked in [source.path(), target.path()] {
        let lock = File::open(locked).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let part = format!("{} is in use by a running nsqd: stop it first", locked.display());
        refused(&["import", from, "--into", into], &part);
    }
    fs::write(target.path().join("nsqd.dat"), "{}").unwrap();
    refused(&["import", from, "--into", into], "takes a directory that no nsqd has used");
    refused(&["import", into, "--into", from], "nsqd.dat is there already");
    fs::remove_file(target.path().join("nsqd.dat")).unwrap();
    refused(&["import", into], "not the data directory of an nsqd");
    refused(&["import", "/nonexistent"], "is not a directory");
    fs::create_dir(target.path().join("orders.log")).unwrap();
    refused(&["import", from, "--into", into], "the topic has a log");
    fs::remove_dir(target.path().join("orders.log")).unwrap();
    // The same directory by another name is the same directory.
    let link = target.path().join("link");
    std::os::unix::fs::symlink(source.path(), &link).unwrap();
    assert!(nsq_log(&["import", from, "--into", text(&link)]).status.success());
    assert!(source.path().join("orders.log").is_dir());
}
